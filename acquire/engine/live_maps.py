"""The maps of a run while they grow: what estimators say of each point, as arrays that can be drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import Frame
from acquire.stream import Estimate

PLACES_KEPT = 4096
"""Spectra whose place on the map is remembered for estimates that are still to come."""


@dataclass(frozen=True, slots=True)
class MapGrid:
    """The points of a map; a line scan is one of one row, whose columns follow the line."""

    stream: str
    shape: tuple[int, int, int]
    """Passes, rows, columns."""
    first_nm: tuple[float, float]
    """Centre (x, y) of the top left point in the field of view of the recorded scan."""
    spacing_nm: tuple[float, float]
    """From column to column, and from row to row; of a line along it, and 0."""

    def details(self) -> dict[str, object]:
        """The same for the journal."""
        passes, rows, columns = self.shape
        return {
            "stream": self.stream,
            "passes": passes,
            "rows": rows,
            "columns": columns,
            "first_x_nm": self.first_nm[0],
            "first_y_nm": self.first_nm[1],
            "spacing_x_nm": self.spacing_nm[0],
            "spacing_y_nm": self.spacing_nm[1],
        }


@dataclass(frozen=True, slots=True)
class LiveMap:
    """A map so far; arrays are (rows, columns), NaN where nothing is known yet."""

    serial: int
    """Rises with every change; pass it back to get only newer ones."""
    stream: str
    first_nm: tuple[float, float]
    """Centre (x, y) of the top left point in the field of view of the recorded scan."""
    spacing_nm: tuple[float, float]
    """From column to column, and from row to row."""
    passes: int
    """That the map will have."""
    taken: NDArray[np.int32]
    """Spectra of each point that are recorded."""
    values: Mapping[str, NDArray[np.float64]]
    """By quantity, and its uncertainty by ``<quantity>_sigma``: the mean of the passes."""
    streams: tuple[str, ...] = ()
    """Every map that can be asked for by now."""


class GrowingMap:
    """One map; whoever uses it holds a lock."""

    def __init__(self, grid: MapGrid) -> None:
        self.grid = grid
        self.serial = 0
        self._taken = np.zeros(grid.shape[1:], np.int32)
        self._places: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._sums: dict[str, NDArray[np.float64]] = {}
        """By quantity (3, rows, columns): number of estimates, sum of values, sum of variances."""

    def took(self, frame: Frame) -> None:
        """A spectrum is recorded."""
        scalars = frame.meta.scalars
        if "map_row" in scalars:
            place = int(scalars["map_row"]), int(scalars["map_column"])
        else:  # a line, whose points come one after the other
            place = 0, min(int(self._taken.sum()), self.grid.shape[2] - 1)
        self._taken[place] += 1
        self._places[frame.index] = place
        if len(self._places) > PLACES_KEPT:
            self._places.popitem(last=False)

    def told(self, estimate: Estimate) -> None:
        """Something was estimated of one of its spectra."""
        place = self._places.get(estimate.frame_index)
        if place is None:
            return
        for name, value in estimate.values.items():
            sums = self._sums.get(name)
            if sums is None:
                sums = self._sums[name] = np.zeros((3, *self.grid.shape[1:]))
            if np.isfinite(value.value):
                sums[(slice(None), *place)] += 1.0, value.value, value.sigma**2

    def copy(self) -> GrowingMap:
        """As it is now, for who looks at it without holding the lock."""
        copied = GrowingMap(self.grid)
        copied.serial = self.serial
        copied._taken = self._taken.copy()
        copied._sums = {name: sums.copy() for name, sums in self._sums.items()}
        return copied

    def view(self, streams: tuple[str, ...]) -> LiveMap:
        """As it is now."""
        values: dict[str, NDArray[np.float64]] = {}
        for name, (count, total, variance) in self._sums.items():
            known = np.where(count > 0, count, np.nan)
            values[name] = total / known
            values[f"{name}_sigma"] = np.sqrt(variance) / known
        return LiveMap(
            self.serial,
            self.grid.stream,
            self.grid.first_nm,
            self.grid.spacing_nm,
            self.grid.shape[0],
            self._taken.copy(),
            values,
            streams,
        )
