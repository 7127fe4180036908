"""A recipe that is to be run as soon as it is read and the engine answers, or else not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gui import text
from gui.beam import dose_before
from gui.orders import RecipeText
from gui.session import StatusSnapshot
from gui.words import tr

WITHIN_S = 60.0
"""Wall seconds after which nobody counts on it any more: it would heat when nobody looks."""


class Starting:
    """Asked for once, by who opens the window or runs an edited recipe; told why it does not begin."""

    def __init__(self, run: Callable[[], None], complain: Callable[[str], None]) -> None:
        self._run, self._complain = run, complain
        self._wanted: Path | None = None
        self._asked_s = 0.0
        self._ready = False

    def want(self, path: Path | None) -> None:
        """Run this recipe when it has been read; None: whatever was wanted before is not any more."""
        # until this one has been read, another may be shown, and could be started
        self._wanted, self._ready, self._asked_s = path, False, time.monotonic()

    def read(self, recipe: RecipeText) -> None:
        """A recipe has been read."""
        if recipe.path == self._wanted:
            self._ready = not recipe.error
            self._wanted = recipe.path if self._ready else None
        else:
            self._ready = False

    def look(
        self, snapshot: StatusSnapshot, may_run: bool, looking_back: bool, held: str = ""
    ) -> None:
        """Run it, or give it up, when it is known which."""
        if self._wanted is None:
            return
        if looking_back:
            # or it would heat at the moment when somebody leaves the stored run
            self._give_up(tr("a stored run is being looked at"))
        elif self._ready and not snapshot.stale and snapshot.status.state.active:
            # or it would begin by itself at the end of that run
            self._give_up(tr("a run is going on"))
        elif self._ready and not snapshot.stale and held:
            self._give_up(held)
        elif time.monotonic() - self._asked_s > WITHIN_S:
            self._give_up(tr("the engine did not answer in time"))
        elif self._ready and may_run:
            self.want(None)
            self._run()

    def _give_up(self, why: str) -> None:
        name = "" if self._wanted is None else self._wanted.name
        self.want(None)
        self._complain(
            tr("{file} was not started: {why}. Press Run when it may be.").format(
                file=name, why=why
            )
        )


def what_run_does(recipe: RecipeText | None, by_hand_e_per_nm2: float = 0.0) -> str:
    """The consequence of Run, before it is pressed again; what was exposed by hand counts in it."""
    if recipe is None:
        return tr("No recipe is open.")
    words = tr("Run {file}: heats to {hottest} at most, takes about {time}. Press Run again.")
    said = words.format(
        file=recipe.path.name,
        hottest=text.celsius(recipe.hottest_celsius),
        time=text.clock(recipe.duration_s),
    )
    dose = dose_before(by_hand_e_per_nm2, recipe.dose_limit_e_per_nm2)
    return f"{said} {dose}." if dose else said
