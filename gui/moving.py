"""Goes over to another station: a new window opens on it, and this one closes when that has come up."""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6 import QtCore

from gui.pages.instruments.choosing import StationSheet
from gui.session import StatusSnapshot
from gui.stations import KnownStation, known_stations, open_window_on
from gui.words import tr

if TYPE_CHECKING:
    from gui.window import OperatorWindow

logger = logging.getLogger(__name__)

RECENT = "recent/stations"
_LANE = "stations"


class Moving(QtCore.QObject):
    """Refused while a run, or anything by hand, is on; this window stays if the other cannot open."""

    def __init__(self, window: OperatorWindow) -> None:
        super().__init__(window)
        self._window = window
        self._stop = threading.Event()
        self._button = window.instruments.other
        self._button.clicked.connect(self.choose)
        self._tip = self._button.toolTip()
        self.under_way = ""
        """The station whose window is awaited."""

    def show(self, snapshot: StatusSnapshot) -> None:
        """Offer it, or say why not."""
        why = why_not(snapshot)
        if self.under_way:
            why = tr("waiting for the window on {station}").format(station=self.under_way)
        self._button.setEnabled(not why)
        if self._button.toolTip() != (why or self._tip):
            self._button.setToolTip(why or self._tip)

    def close(self) -> None:
        """Wait no more: the window on the other station comes up, or not, without this one."""
        self._stop.set()

    def choose(self) -> None:
        """Show the stations that are known."""
        window = self._window
        sheet = StationSheet(window, window.session.snapshot().status.station, self.to)
        gone: list[bool] = []
        sheet.destroyed.connect(lambda: gone.append(True))

        def listed(known: list[KnownStation] | None, error: Exception | None) -> None:
            if error is not None:
                window.complain(str(error))
            if not gone:
                sheet.show_stations(known or [], window.settings.paths(RECENT))

        window.session.background.submit(_LANE, known_stations, listed)
        sheet.open()

    def to(self, station: str) -> None:
        """Open a window on a station, by its name or file."""
        window = self._window
        if self.under_way:
            return
        if why := why_not(window.session.snapshot()):
            window.complain(tr("{station} was not opened: {why}").format(station=station, why=why))
            return
        if not all(page.may_close(partial(self.to, station)) for page in window.pages):
            return
        self.under_way = station
        words = tr("Opening a window on {station}; this one closes when its instruments answer …")
        window.telling.tell(words.format(station=station))
        self.show(window.session.snapshot())

        def opened(_: Any, error: Exception | None) -> None:
            self.under_way = ""
            if error is not None:
                words = tr("{station} was not opened, this window stays: {why}")
                window.complain(words.format(station=station, why=error))
                return
            path = Path(station)
            if path.is_absolute():
                window.settings.put_recent(RECENT, path)
            window.close()

        window.session.background.submit(_LANE, lambda: open_window_on(station, self._stop), opened)


def why_not(snapshot: StatusSnapshot) -> str:
    """Why this window may not be left for another station now; empty if it may."""
    status = snapshot.status
    if snapshot.stale:  # nothing can be done here; what goes on is not known, and not touched
        return ""
    if status.state.active:
        return tr("a run is going on: let it end, or abort it")
    if status.by_hand_of:
        return tr("something is on by hand: end it first")
    return ""
