"""Keeps a record of any length in bounded memory: the newest as it came, the older by its extremes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray

Floats = NDArray[np.float64]

MOST_BYTES = 24_000_000
"""What joined rows may take: they travel as one message, which has room for little more than twice that."""
_FOLD = 4
"""Rows of which two are kept: the least and the greatest of every column, in the order they came."""


class ThinnedRecord:
    """Rows of numbers with their times.

    The newest rows, at least ``exact`` of them, are kept as they are. Of what is older so many
    rows in succession are kept as two that the extremes of every column, NaN aside, are among them, in
    their order, and their times right to within the group; groups grow as the record does, all alike.
    At most about ``4 · exact`` rows are kept. A value and
    its σ are two columns: of what is folded they need not be of one row.
    """

    def __init__(self, columns: int, exact: int) -> None:
        if exact < _FOLD or exact % _FOLD:
            raise ValueError(f"exact = {exact} must be a multiple of {_FOLD}")
        self._exact = exact
        self._new = np.empty((2 + columns, 2 * exact))
        self._count = 0
        self._old = np.empty((2 + columns, 0))
        self._folds = 0
        """How often what becomes old is folded."""

    def append(self, number: int, t_s: float, values: list[float]) -> None:
        """Add a row; ``number`` and time rise."""
        if self._count == self._new.shape[1]:
            self._age()
        self._new[0, self._count] = number
        self._new[1, self._count] = t_s
        self._new[2:, self._count] = values
        self._count += 1

    def since(self, number: int) -> Floats:
        """Rows from a number on, a copy: numbers, times, and columns (2 + columns, n)."""
        new = self._new[:, : self._count]
        new = new[:, int(np.searchsorted(new[0], number)) :]
        old = self._old[:, int(np.searchsorted(self._old[0], number)) :]
        return np.concatenate([old, new], axis=1)

    def _age(self) -> None:
        """Let the older half of the exact rows become old."""
        leaving = self._new[:, : self._exact]
        for _ in range(self._folds):
            leaving = folded(leaving)
        self._old = np.concatenate([self._old, leaving], axis=1)
        while self._old.shape[1] > 2 * self._exact:
            self._old = folded(self._old)
            self._folds += 1
        self._new[:, : self._exact] = self._new[:, self._exact :].copy()
        self._count = self._exact


def folded(rows: AnyArray) -> Floats:
    """Half as many rows (2 + columns, n): two for every four, with the extremes of every column.

    Up to three rows that are left over at the end stay as they are.
    """
    groups = rows.shape[1] // _FOLD
    whole = rows[:, : groups * _FOLD].reshape(len(rows), groups, _FOLD)
    found = np.empty((len(rows), groups, 2))
    found[:2] = whole[:2, :, :: _FOLD // 2]  # evenly spaced, so that no step looks like a gap
    values = whole[2:]
    unknown = np.isnan(values)
    least = np.argmin(np.where(unknown, np.inf, values), axis=2)
    most = np.argmax(np.where(unknown, -np.inf, values), axis=2)
    first, second = np.minimum(least, most), np.maximum(least, most)
    for place, which in enumerate((first, second)):
        found[2:, :, place] = np.take_along_axis(values, which[:, :, None], axis=2)[:, :, 0]
    found[2:][unknown.all(axis=2)] = np.nan
    return np.concatenate([found.reshape(len(rows), -1), rows[:, groups * _FOLD :]], axis=1)


def joined(parts: Mapping[tuple[str, ...], Floats]) -> tuple[Floats, dict[str, Floats]]:
    """Rows of several records as one, in the order of their numbers.

    Args:
        parts: by the names of the columns, rows as :meth:`ThinnedRecord.since` gives them.

    Returns:
        times (n,), and every column (n,) by its name, NaN where a record does not have it.
    """
    parts = {names: rows for names, rows in parts.items() if rows.shape[1]}
    names = sorted({name for own in parts for name in own})
    while 8 * (1 + len(names)) * sum(rows.shape[1] for rows in parts.values()) > MOST_BYTES:
        parts = {own: folded(rows) for own, rows in parts.items()}
    if not parts:
        return np.empty(0), {}
    order = np.argsort(np.concatenate([rows[0] for rows in parts.values()]), kind="stable")
    columns = {name: np.full(len(order), np.nan) for name in names}
    start = 0
    for own, rows in parts.items():
        for name, column in zip(own, rows[2:], strict=True):
            columns[name][start : start + rows.shape[1]] = column
        start += rows.shape[1]
    t_s = np.concatenate([rows[1] for rows in parts.values()])
    return t_s[order], {name: column[order] for name, column in columns.items()}
