"""Adds up dose on the points of maps, however many: tiles of a grid that touch and never overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

Edges = tuple[float, float, float, float]
"""Left, top, right, bottom in nm."""
Number = tuple[int, int]
"""Column and row of a tile."""

MOST_TILINGS = 64
"""Grids that are kept apart."""
_SNAP = 1e-4
"""Of a tile, within which its place belongs to the grid."""


@dataclass
class Tiling:
    """One grid: the tiles of it that were exposed, with their dose in e/nm²."""

    first_nm: tuple[float, float]
    """Centre (x, y) of tile (0, 0)."""
    size_nm: tuple[float, float]
    doses: dict[Number, float] = field(default_factory=dict)
    highest: Number = (0, 0)
    """The tile that has seen most."""
    span: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Lowest column and row, highest column and row."""

    def number(self, x_nm: float, y_nm: float, size_nm: tuple[float, float]) -> Number | None:
        """The tile with this centre and size; None if it is not of this grid."""
        found: list[int] = []
        for at, first, size, own in zip(
            (x_nm, y_nm), self.first_nm, size_nm, self.size_nm, strict=True
        ):
            place = (at - first) / own
            if not (math.isclose(size, own, rel_tol=1e-6) and abs(place - round(place)) < _SNAP):
                return None
            found.append(round(place))
        return found[0], found[1]

    def add(self, at: Number, dose: float) -> None:
        """Count a dose on a tile."""
        if not self.doses:
            self.highest, self.span = at, (*at, *at)
        self.doses[at] = self.doses.get(at, 0.0) + dose
        if self.doses[at] > self.doses[self.highest]:
            self.highest = at
        left, top, right, bottom = self.span
        self.span = min(left, at[0]), min(top, at[1]), max(right, at[0]), max(bottom, at[1])

    def edges(self, at: Number) -> Edges:
        """Of one tile."""
        (x, y), (width, height) = self.first_nm, self.size_nm
        x, y = x + at[0] * width, y + at[1] * height
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    def highest_in(self, edges: Edges) -> float:
        """The highest dose of a tile of which an area holds more than an edge."""
        low, high = self._within(edges)
        columns, rows = range(low[0], high[0] + 1), range(low[1], high[1] + 1)
        left, top, right, bottom = self.span
        if low[0] <= left and low[1] <= top and high[0] >= right and high[1] >= bottom:
            return self.doses[self.highest]
        if len(columns) * len(rows) <= len(self.doses):
            return max((self.doses.get((i, j), 0.0) for i in columns for j in rows), default=0.0)
        inside = (dose for (i, j), dose in self.doses.items() if i in columns and j in rows)
        return max(inside, default=0.0)

    def _within(self, edges: Edges) -> tuple[Number, Number]:
        low, high = [], []
        for axis in (0, 1):
            first, size = self.first_nm[axis], self.size_nm[axis]
            low.append(math.floor((edges[axis] - first) / size + 0.5 + _SNAP))
            high.append(math.ceil((edges[axis + 2] - first) / size + 0.5 - _SNAP) - 1)
        return (low[0], low[1]), (high[0], high[1])


class Tiles:
    """All grids of a run. Doses of different grids count as if their worst tiles lay on one another."""

    def __init__(self) -> None:
        self._tilings: list[Tiling] = []

    def __len__(self) -> int:
        return len(self._tilings)

    def add(
        self, position_nm: tuple[float, float], size_nm: tuple[float, float], dose: float
    ) -> bool:
        """Count a dose on one point of a map; False where there is no room for another grid."""
        for tiling in reversed(self._tilings):
            at = tiling.number(*position_nm, size_nm)
            if at is not None:
                tiling.add(at, dose)
                return True
        if len(self._tilings) >= MOST_TILINGS:
            return False
        self._tilings.append(Tiling(position_nm, size_nm))
        self._tilings[-1].add((0, 0), dose)
        return True

    def highest_in(self, edges: Edges | None) -> float:
        """The most that a place within an area can have seen; of all if it is None."""
        if edges is None:
            return sum(tiling.doses[tiling.highest] for tiling in self._tilings)
        return sum(tiling.highest_in(edges) for tiling in self._tilings)

    def worst(self) -> Iterator[Edges]:
        """The tile of each grid that has seen most."""
        for tiling in self._tilings:
            yield tiling.edges(tiling.highest)

    def all(self) -> Iterator[tuple[Edges, float]]:
        """Every tile with its dose."""
        for tiling in self._tilings:
            for at, dose in tiling.doses.items():
                yield tiling.edges(at), dose
