"""Remembers which scan shift was in force when, so that every frame can be told its own."""

from __future__ import annotations

import threading
from collections import deque

from acquire.stream.shifting import AppliedShift

REMEMBERED = 10_000
"""Shifts; a frame that is older than all of them is told the oldest."""
UNTOUCHED_SHARE = 0.02
"""A shift within this share of an exposure's beginning or end leaves it whole: some lines at most."""


class ShiftLog:
    """The total scan shift of a run over time, from zero at its beginning; any thread may use it.

    Times are run times. Whoever shifts the scan within a run tells it here; a shift that somebody
    makes by hand is not known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moves: deque[tuple[float, float, float, float]] = deque(maxlen=REMEMBERED)
        """Begin and end of the shift, and the total from then on."""
        self._before = (0.0, 0.0)

    @property
    def present(self) -> tuple[float, float]:
        """Total shift (x, y) in nm, now."""
        with self._lock:
            return self._moves[-1][2:] if self._moves else self._before

    def moved(self, begun_s: float, done_s: float, dx_nm: float, dy_nm: float) -> None:
        """Add a shift that was made between two times."""
        x_nm, y_nm = self.present
        with self._lock:
            if len(self._moves) == REMEMBERED:
                self._before = self._moves[0][2:]
            self._moves.append((begun_s, done_s, x_nm + dx_nm, y_nm + dy_nm))

    def during(self, start_s: float, end_s: float) -> AppliedShift:
        """The shift in the middle of an exposure, and whether it held throughout."""
        edge_s = UNTOUCHED_SHARE * (end_s - start_s)
        middle_s = (start_s + end_s) / 2
        steady = True
        with self._lock:
            for begun_s, done_s, x_nm, y_nm in reversed(self._moves):
                if begun_s < end_s - edge_s and done_s > start_s + edge_s:
                    steady = False
                if (begun_s + done_s) / 2 <= middle_s:
                    return AppliedShift(x_nm, y_nm, steady)
            return AppliedShift(*self._before, steady)
