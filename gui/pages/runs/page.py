"""Stored runs: browse them, look at one at any moment of its time, or compare several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6 import QtCore, QtWidgets

from gui.aside import Aside
from gui.pages.page import Page
from gui.pages.runs.adding import NoteAdder
from gui.pages.runs.browser import Browser
from gui.pages.runs.compare import CompareView
from gui.pages.runs.replay import ReplayView
from gui.replay.desk import Desk
from gui.session import Session
from gui.settings import Settings
from gui.widgets.export import Exporter
from gui.words import tr

if TYPE_CHECKING:
    from gui.replay.listing import RunLine

_CLOSE_WITHIN_S = 0.5
_EXPORT_TICK_MS = 200


class RunsPage(Page):
    """Reads stores in worker threads only, and changes nothing in them; notes are added beside."""

    title = tr("Runs")
    key = "Ctrl+4"
    replay_changed = QtCore.Signal()
    """Stored data came to the front of the page, or left it."""
    continue_wanted = QtCore.Signal(str)
    """Asks what going on with the run in a folder would do."""
    _told = QtCore.Signal(str, int, object)

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__(session, settings)
        self._desk = Desk(lambda kind, serial, piece: self._told.emit(kind, serial, piece))
        self.browser = Browser(self._desk, settings)
        self._aside = Aside()
        self._exporter = Exporter(self._aside, settings)
        self.replay = ReplayView(settings, self._aside, self._exporter)
        self.compare = CompareView(self._desk, settings, self._exporter)
        self.stack = QtWidgets.QStackedWidget()
        for view in (self.browser, self.replay, self.compare):
            self.stack.addWidget(view)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.stack)
        self._told.connect(self.browser.take)
        self._told.connect(self.compare.take)
        self.browser.opened.connect(self.open_run)
        self.browser.compared.connect(self._compare)
        self.browser.continued.connect(self.continue_wanted)
        self.replay.left.connect(self._back)
        self.replay.refused.connect(self.complained)
        self.compare.left.connect(self._back)
        self.compare.opened.connect(self.open_run)
        self.compare.refused.connect(self.complained)
        self.replay.told.connect(self.told)
        self.notes = NoteAdder(
            self, session, self.replay.look_again, self.complained.emit, self.told.emit
        )
        self.replay.note_wanted.connect(self.notes.write)
        self._exporter.complained.connect(self.complained)
        self._exporter.told.connect(self.told)
        self._exports = QtCore.QTimer(self)
        self._exports.setInterval(_EXPORT_TICK_MS)
        self._exports.timeout.connect(self._exporter.tick)
        self._exports.start()

    @property
    def replaying(self) -> bool:
        """Whether stored data, and not the list of runs, are in front on this page."""
        return self.stack.currentWidget() is not self.browser

    def open_run(self, path: Path) -> None:
        """Look at a run."""
        self._show(self.replay)
        self.replay.open(path)

    def entered(self) -> None:
        """List what there is."""
        if self.stack.currentWidget() is self.browser:
            self.browser.entered()

    def left(self) -> None:
        """Stop what moves by itself."""
        self.browser.left()
        self.replay.transport.stop()

    def keep(self) -> None:
        """Remember the layout and end the workers; called once."""
        self.replay.keep()
        self.compare.keep()
        self._exports.stop()
        self._aside.close()
        self._desk.close(_CLOSE_WITHIN_S)

    def _compare(self, lines: list[RunLine]) -> None:
        self._show(self.compare)
        self.compare.show_runs([line.path for line in lines])

    def _back(self) -> None:
        self.replay.close_run()
        self._show(self.browser)
        self.browser.entered()

    def _show(self, view: QtWidgets.QWidget) -> None:
        self.browser.left()
        self.stack.setCurrentWidget(view)
        self.replay_changed.emit()
