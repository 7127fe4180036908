"""A curve that grows: amortised appending to arrays, and thinning for what a screen can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curve:
    """Columns of equal length over a common abscissa, all float64."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._data = np.empty((1 + len(names), 1024))
        self.count = 0

    def clear(self) -> None:
        """Forget all points."""
        self.count = 0

    def append(self, x: Floats, **columns: Floats) -> None:
        """Add points; a column that is not given becomes NaN."""
        needed = self.count + len(x)
        if needed > self._data.shape[1]:
            grown = np.empty((self._data.shape[0], max(needed, 2 * self._data.shape[1])))
            grown[:, : self.count] = self._data[:, : self.count]
            self._data = grown
        self._data[0, self.count : needed] = x
        for row, name in enumerate(self._names, start=1):
            self._data[row, self.count : needed] = columns.get(name, np.nan)
        self.count = needed

    def halve(self) -> None:
        """Keep every second point, the last one among them."""
        kept = self._data[:, : self.count][:, (self.count - 1) % 2 :: 2].copy()
        self.count = kept.shape[1]
        self._data[:, : self.count] = kept

    @property
    def x(self) -> Floats:
        """The abscissa, a view."""
        return self._data[0, : self.count]

    def column(self, name: str) -> Floats:
        """One column, a view."""
        return self._data[1 + self._names.index(name), : self.count]


def thin(count: int, at_most: int) -> slice:
    """A stride that leaves at most ``at_most`` of ``count`` points."""
    return slice(None, None, max(1, -(-count // at_most)))
