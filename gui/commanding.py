"""What Run, Pause, Hold T and Abort do, from their buttons and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gui.starting import what_run_does
from gui.twice import Twice
from gui.words import tr

if TYPE_CHECKING:
    from gui.window import OperatorWindow


class Commanding:
    """Each does what the bar offers at the moment of the press, and else nothing.

    ``new_folder`` names the folder of the next run for a recipe's path.
    """

    def __init__(self, window: OperatorWindow, new_folder: Callable[[Path], Path]) -> None:
        self._window = window
        self._new_folder = new_folder
        self.asking = Twice(
            lambda: window.telling.ask(
                what_run_does(
                    window.recipe.recipe, window.session.hand.view().manual.dose_e_per_nm2
                )
            ),
            self.start,
        )
        """Run says what it does before it does it."""

    def run(self) -> None:
        """Run what one sees, and nothing that is hidden behind another page."""
        window = self._window
        front = window.stack.currentWidget()
        if window.control.refused():
            return
        if front is window.editor:
            window.editor.run_this()
        elif window.topbar.run.isEnabled():
            if front is not window.live:
                window.show_page(window.live)
            self.asking.press(window.recipe.recipe)
        window.take_status()

    def start(self) -> None:
        """Run the recipe that is open, now."""
        window, recipe = self._window, self._window.recipe.recipe
        if recipe is not None and window.topbar.run.isEnabled():
            folder = self._new_folder(recipe.path)
            words = tr("Run {file} into {folder}").format(file=recipe.path.name, folder=folder)
            window.log.say("window", words)
            window.session.start(recipe.text, str(folder))
            window.take_status()

    def pause_or_resume(self) -> None:
        """Pause, or go on: what the button says, even if the state changed since it was drawn."""
        window, session = self._window, self._window.session
        if session.snapshot().status.state.active:
            if window.looking_back:
                words = tr("Space acts on the live run: go to it first (Ctrl+1). L plays here.")
                window.complain(words)
            elif window.control.refused():
                return
        if window.topbar.pause.isEnabled():
            (session.resume if window.topbar.offers_resume else session.pause)()
            window.take_status()

    def hold(self) -> None:
        """Freeze the temperature of the run, or of what is heated by hand."""
        window, session = self._window, self._window.session
        if window.topbar.hold.isEnabled():
            run_is_on = session.snapshot().status.state.active
            (session if run_is_on else session.hand).hold()
            window.take_status()

    def abort(self) -> None:
        """End the run safely, now."""
        self._window.session.abort("aborted by the operator")
        self._window.take_status()
