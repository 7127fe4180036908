"""The one place in time that all time plots look at."""

from __future__ import annotations

import math

from PySide6 import QtCore

WINDOWS_S = (math.inf, 3600.0, 600.0, 60.0)
"""How much of a run time plots show: all of it, or the last hour, ten minutes, minute."""


class TimeCursor(QtCore.QObject):
    """A time in run seconds that plots share, or none: then they show the present and go with it."""

    moved = QtCore.Signal()
    """The time, or the window, is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.t_s: float | None = None
        self.pinned = False
        """Whether it stays when the mouse goes away."""
        self.window_s = math.inf
        """What is shown of a run up to the present."""

    def look(self, t_s: float) -> None:
        """The mouse is there; nothing happens while a time is pinned."""
        if not self.pinned and math.isfinite(t_s):
            self._set(t_s, False)

    def leave(self) -> None:
        """The mouse has gone."""
        if not self.pinned:
            self._set(None, False)

    def pin(self, t_s: float) -> None:
        """Stay at a time until told otherwise."""
        if math.isfinite(t_s):
            self._set(t_s, True)

    def now(self) -> None:
        """Back to the present."""
        self._set(None, False)

    def show_window(self, window_s: float) -> None:
        """Show so much of the run."""
        if window_s != self.window_s:
            self.window_s = window_s
            self.moved.emit()

    def _set(self, t_s: float | None, pinned: bool) -> None:
        if (t_s, pinned) != (self.t_s, self.pinned):
            self.t_s, self.pinned = t_s, pinned
            self.moved.emit()
