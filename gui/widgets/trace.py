"""A curve that grows for hours, kept so that drawing any part of it costs what the screen shows of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FOLD = 4
"""Entries of a level that one entry of the next coarser level stands for."""
LEVELS = 10
"""The coarsest stands for 4⁹ points."""
_GAP = 6.0
"""So many typical intervals without a point are a gap."""
_TYPICAL_OF = 64


class _Level:
    """Entries of one coarseness: a place, and the least and greatest of every column."""

    def __init__(self, columns: int, exact: bool) -> None:
        self.count = 0
        self.done = 0
        """Entries of the finer level that are taken in."""
        self._x = np.empty(256)
        self._low = np.empty((columns, 256))
        self._high = self._low if exact else np.empty((columns, 256))

    @property
    def x(self) -> Floats:
        return self._x[: self.count]

    @property
    def low(self) -> Floats:
        return self._low[:, : self.count]

    @property
    def high(self) -> Floats:
        return self._high[:, : self.count]

    def add(self, x: Floats, low: Floats, high: Floats) -> None:
        end = self.count + len(x)
        if end > len(self._x):
            room = max(end, 2 * len(self._x))
            exact = self._high is self._low
            self._x = _grown(self._x, self.count, room)
            self._low = _grown(self._low, self.count, room)
            self._high = self._low if exact else _grown(self._high, self.count, room)
        self._x[self.count : end] = x
        self._low[:, self.count : end] = low
        if self._high is not self._low:
            self._high[:, self.count : end] = high
        self.count = end

    def take_in(self, finer: _Level, fold: int) -> None:
        """Stand for what the finer level has more, ``fold`` entries for one."""
        groups = (finer.count - self.done) // fold if fold else 0
        if not groups:
            return
        part = slice(self.done, self.done + groups * fold)
        shape = (len(self._low), groups, fold)
        # fmin and fmax pass over what is not known of a column
        self.add(
            finer.x[part][fold // 2 :: fold],
            np.fmin.reduce(finer.low[:, part].reshape(shape), axis=2),
            np.fmax.reduce(finer.high[:, part].reshape(shape), axis=2),
        )
        self.done += groups * fold


class Trace:
    """Columns over a rising time, float64, NaN where not known.

    Where nothing came for six typical intervals and more, an entry of NaN parts the curve, so that no
    line and no band crosses the gap. Beside the points every coarser level holds the least and the
    greatest of four entries of the level below; appending costs as much as what is appended.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self._levels = [_Level(len(self.names), n == 0) for n in range(LEVELS)]
        self._steps = np.empty(0)
        self._last = -np.inf

    def __len__(self) -> int:
        """Points, and one for every gap."""
        return self._levels[0].count

    @property
    def x(self) -> Floats:
        """Times of the points, and of the middles of gaps; a view."""
        return self._levels[0].x

    def column(self, name: str) -> Floats:
        """One column at these times; a view."""
        column: Floats = self._levels[0].low[self.names.index(name)]
        return column

    def append(self, x: Floats, **columns: Floats) -> None:
        """Add points; a column that is not given is NaN. Points that go back in time are left out."""
        values = np.full((len(self.names), len(x)), np.nan)
        for name, column in columns.items():
            values[self.names.index(name)] = column
        keep = np.isfinite(x) & (x >= np.fmax.accumulate(np.concatenate([[self._last], x]))[:-1])
        x, values = x[keep], values[:, keep]
        if not len(x):
            return
        last, start = self._last, 0
        for stop in [*self._gaps_before(x), len(x)]:
            if stop > start:
                self._extend(x[start:stop], values[:, start:stop])
            if stop < len(x):
                before = x[stop - 1] if stop else last
                self._part((before + x[stop]) / 2)
            start = stop
        self._last = float(x[-1])

    def shown(self, low: float, high: float, points: int) -> tuple[Floats, Floats, Floats]:
        """What there is to draw between two times, and one entry more at either side.

        Returns:
            times (n,), and least and greatest (columns, n) from each to the next. ``n`` is between
            ``points`` and about four times as many, or all there are.
        """
        chosen = 0
        for number in range(LEVELS - 1, 0, -1):
            x = self._levels[number].x
            if np.searchsorted(x, high) - np.searchsorted(x, low) >= points:
                chosen = number
                break
        pieces = [self._part_of(self._levels[chosen], 0, low, high)]
        for number in range(chosen, 0, -1):  # the newest are not in the coarser levels yet
            level, finer = self._levels[number], self._levels[number - 1]
            pieces.append(self._part_of(finer, level.done, low, high))
        x, least, most = (np.concatenate(group, axis=-1) for group in zip(*pieces, strict=True))
        return x, least, most

    def at(self, t: float) -> dict[str, float]:
        """Every column at the point nearest to a time; NaN within gaps and outside."""
        x = self.x
        unknown = dict.fromkeys(self.names, np.nan)
        if not len(x) or not x[0] <= t <= x[-1]:
            return unknown
        after = int(np.searchsorted(x, t))
        nearest = after if after == 0 or x[after] - t < t - x[after - 1] else after - 1
        rows = self._levels[0].low
        if x[after] != t and np.isnan(rows[:, [after, after - 1]]).all(axis=0).any():
            return unknown
        return {name: float(self.column(name)[nearest]) for name in self.names}

    # ----------------------------------------------------------------------------- keeping

    def _extend(self, x: Floats, values: Floats) -> None:
        self._levels[0].add(x, values, values)
        for finer, coarser in pairwise(self._levels):
            before = coarser.count
            coarser.take_in(finer, FOLD)
            if coarser.count == before:
                break

    def _part(self, x: float) -> None:
        """Close what is open in every level, and leave a NaN behind it."""
        for finer, coarser in pairwise(self._levels):
            coarser.take_in(finer, FOLD)
            coarser.take_in(finer, finer.count - coarser.done)
        nothing = np.full((len(self.names), 1), np.nan)
        for level in self._levels:
            level.add(np.array([x]), nothing, nothing)
        for finer, coarser in pairwise(self._levels):
            coarser.done = finer.count

    def _gaps_before(self, x: Floats) -> list[int]:
        first = np.isfinite(self._last)
        steps = np.diff(x, prepend=self._last) if first else np.diff(x)
        joined = np.concatenate([self._steps, steps])
        self._steps = joined[-_TYPICAL_OF:]
        if len(joined) < 2:
            return []
        if len(joined) <= 4 * _TYPICAL_OF:
            typical = np.full(len(steps), np.median(joined))
        else:  # the pace may have changed meanwhile
            whole = len(joined) // _TYPICAL_OF
            blocks = joined[-whole * _TYPICAL_OF :].reshape(whole, _TYPICAL_OF)
            paces = np.median(blocks, axis=1)
            paces[1:] = np.maximum(
                paces[1:], paces[:-1]
            )  # where it becomes faster nothing is missing
            middles = np.repeat(paces, _TYPICAL_OF)
            missing = max(0, len(steps) - len(middles))
            typical = np.concatenate([np.repeat(middles[:1], missing), middles[-len(steps) :]])
        found = np.flatnonzero(steps > _GAP * typical)
        return [int(index) + (0 if first else 1) for index in found]

    @staticmethod
    def _part_of(
        level: _Level, start: int, low: float, high: float
    ) -> tuple[Floats, Floats, Floats]:
        x = level.x[start:]
        first = max(0, int(np.searchsorted(x, low)) - 1)
        last = int(np.searchsorted(x, high, side="right")) + 1
        part = slice(start + first, min(start + last, level.count))
        return level.x[part], level.low[:, part], level.high[:, part]


def zigzag(x: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """One line through the least and the greatest of each entry: (n,) or, where they differ, (2 n,)."""
    if low is high or np.array_equal(low, high, equal_nan=True):
        return x, low
    return np.repeat(x, 2), np.stack([low, high], axis=1).ravel()


def _grown(old: Floats, count: int, room: int) -> Floats:
    new = np.empty((*old.shape[:-1], room))
    new[..., :count] = old[..., :count]
    return new
