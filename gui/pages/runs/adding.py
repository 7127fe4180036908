"""A note that a person adds to a stored run, at the moment that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

from acquire.engine.clients import person_of
from gui import text
from gui.session import Session
from gui.widgets.note_sheet import NoteSheet
from gui.words import tr

_LANE = "notes"


class NoteAdder(QtCore.QObject):
    """Writes it beside the run's journal, in a worker thread; one that is going on gets it by its engine.

    Args:
        owner: over which the sheet is shown.
        session: whose worker writes, and whose engine may have the run under way.
        added: called when the note can be seen in the run.
        complain: is told why it was not kept.
        tell: is told that it was.
    """

    def __init__(
        self,
        owner: QtWidgets.QWidget,
        session: Session,
        added: Callable[[], None],
        complain: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(owner)
        self._session = session
        self._added, self._complain, self._tell = added, complain, tell
        self._about: tuple[Path, float] | None = None
        self.sheet = NoteSheet(
            owner, tip=tr("Keep it beside the run, marked as added later; nothing else is changed")
        )
        self.sheet.allow(True)
        self.sheet.kept.connect(self._keep)

    def write(self, run: Path, t_s: float) -> None:
        """Open the sheet for a note about a moment of a run."""
        self._about = run, t_s
        words = tr("A note for {run} at {time}, added later")
        self.sheet.setWindowTitle(words.format(run=run.name, time=text.clock(t_s)))
        self.sheet.write()

    def _keep(self, words: str) -> None:
        if self._about is None:
            return
        run, t_s = self._about
        status = self._session.snapshot().status
        if status.state.active and Path(status.folder) in (run, *_segments_of(run, status.folder)):
            self._session.hand.note(words)  # with the time of now: its journal goes on
            return
        keep = partial(_keep_in, run, words, t_s, person_of(self._session.who))
        self._session.background.submit(_LANE, keep, partial(self._kept, words))

    def _kept(self, words: str, _: Any, error: Exception | None) -> None:
        if error is not None:
            self._complain(tr("The note was not kept: {why}").format(why=error))
            self.sheet.write(words)
            return
        self._tell(tr("Kept beside the run, marked as added later"))
        self._added()


def _segments_of(run: Path, folder: str) -> tuple[Path, ...]:
    """The folder that is being written, if it continues this run."""
    return (Path(folder),) if Path(folder).parent == run else ()


def _keep_in(run: Path, words: str, t_s: float, by: str) -> None:
    from acquire.store.later import add_later_note
    from acquire.store.later_summary import renew_summaries

    add_later_note(run, words, t_s=t_s, by=by)
    renew_summaries(run)
