"""Equally long columns that grow in memory until they are written, chunk by chunk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.cf import cf_units, mask_attributes, word_attributes
from acquire.store.layout import COLUMN_CHUNK_ROWS, ArrayLayout, check_distinct, check_name

logger = logging.getLogger(__name__)

MOST_WORDS = 4096
MOST_FLAGS = 62
OTHER = "other"
"""The word for all that come after the most that a column can tell apart."""

Cell = float | int | str | Sequence[str]


class Kind(Enum):
    """What a column holds, and how it is stored."""

    NUMBER = "float64"
    COUNT = "int64"
    WORD = "int16"
    """Words, as their numbers in the column's ``flag_texts``."""
    FLAGS = "uint64"
    """Sets of words, as bits."""

    @property
    def fill(self) -> float:
        """What stands where nothing was given."""
        return np.nan if self is Kind.NUMBER else 0


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Name and meaning of a column."""

    name: str
    kind: Kind = Kind.NUMBER
    unit: str = ""
    long_name: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


class _Column:
    """One column: those of its rows that are not on disk, and the words it has met."""

    def __init__(self, spec: ColumnSpec, dim: str, chunk_rows: int) -> None:
        self.spec = spec
        self.dim = dim
        self.chunk_rows = chunk_rows
        self._layout: tuple[int, ArrayLayout] | None = None
        self.buffer = np.full(64, spec.kind.fill, spec.kind.value)
        # 0 stands for "no word", for rows that were written before the column was known
        self.words: dict[str, int] = {"": 0} if spec.kind is Kind.WORD else {}

    def reserve(self, rows: int) -> None:
        if rows > len(self.buffer):
            grown = np.full(max(rows, 2 * len(self.buffer)), self.spec.kind.fill, self.buffer.dtype)
            grown[: len(self.buffer)] = self.buffer
            self.buffer = grown

    def drop(self, rows: int) -> None:
        rest = self.buffer[rows:]
        self.buffer = np.full(max(64, len(rest)), self.spec.kind.fill, self.buffer.dtype)
        self.buffer[: len(rest)] = rest

    def encode(self, cell: Cell) -> float | int:
        if self.spec.kind is Kind.WORD:
            return self._number(str(cell), MOST_WORDS)
        if self.spec.kind is Kind.FLAGS:
            words = (cell,) if isinstance(cell, str) else cell
            assert isinstance(words, Sequence)
            mask = 0
            for word in words:
                mask |= 1 << self._number(word, MOST_FLAGS)
            return mask
        try:
            if not isinstance(cell, Sequence):  # float("1.5") would pass
                return float(cell) if self.spec.kind is Kind.NUMBER else int(cell)
        except (TypeError, ValueError, OverflowError):
            pass
        raise StoreError(
            f"column {self.spec.name!r} holds numbers, not {cell!r}: declare it as text, or give "
            "NaN where there is no number."
        )

    def _number(self, word: str, most: int) -> int:
        if word not in self.words and len(self.words) >= most - 1:
            word = OTHER
        return self.words.setdefault(word, len(self.words))

    def layout(self) -> ArrayLayout:
        """The same object for as long as no new word came."""
        if self._layout is None or self._layout[0] != len(self.words):
            self._layout = (len(self.words), self._make_layout())
        return self._layout[1]

    def _make_layout(self) -> ArrayLayout:
        spec = self.spec
        attributes: dict[str, Any] = {}
        if spec.kind in (Kind.NUMBER, Kind.COUNT):
            attributes["units"] = cf_units(spec.unit)
        elif spec.kind is Kind.WORD:
            attributes |= word_attributes(self.words)
        else:
            attributes |= mask_attributes(self.words)
        if spec.long_name:
            attributes["long_name"] = spec.long_name
        return ArrayLayout(
            np.dtype(spec.kind.value),
            (self.dim,),
            chunk_rows=self.chunk_rows,
            fill=spec.kind.fill,
            attributes=attributes | dict(spec.attributes),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a table held at one moment."""

    rows: int
    first: int
    """Row of the first entry of ``columns``: all before are on disk."""
    columns: Mapping[str, tuple[ArrayLayout, AnyArray]]
    """Layout and a copy of the rows from ``first`` on."""


class Table:
    """Columns of equal length; its owner's lock must be held around every call.

    Columns that nobody declared are taken when they first come, and hold NaN (or no word) before:
    a record is never refused because somebody forgot to announce a part of it.
    """

    def __init__(
        self, dim: str, specs: Sequence[ColumnSpec] = (), chunk_rows: int = COLUMN_CHUNK_ROWS
    ) -> None:
        self.dim = dim
        self.chunk_rows = chunk_rows
        self.rows = 0
        self._first = 0
        self._columns: dict[str, _Column] = {}
        self._renamed: dict[str, str] = {}
        """Columns that nobody declared, by a name that no folder can have."""
        for spec in specs:
            self.add(spec)

    def add(self, spec: ColumnSpec) -> None:
        """Add a column; one that is there already stays as it is. Raises StoreError for its name."""
        if spec.name not in self._columns:
            check_name(spec.name, "a column")
            check_distinct(spec.name, self._columns, "a column")
            column = _Column(spec, self.dim, self.chunk_rows)
            column.reserve(self.rows - self._first)
            self._columns[spec.name] = column

    def append(self, cells: Mapping[str, Cell]) -> None:
        """Add one row; columns without a cell get their fill value. Raises StoreError, adds nothing."""
        at = self.rows - self._first
        encoded = [
            (column, column.encode(cell))
            for column, cell in ((self._known(name, cell), cell) for name, cell in cells.items())
        ]
        for column in self._columns.values():
            column.reserve(at + 1)
        for column, number in encoded:
            column.buffer[at] = number
        self.rows += 1

    def extend(self, columns: Mapping[str, AnyArray], rows: int) -> None:
        """Add ``rows`` rows of numbers at once; every array is ``rows`` long.

        Raises:
            StoreError: a column does not hold numbers; nothing is added.
        """
        start, stop = self.rows - self._first, self.rows - self._first + rows
        known = [(self._known(name, 0.0), _numbers(name, cells)) for name, cells in columns.items()]
        for column in self._columns.values():
            column.reserve(stop)
        for column, cells in known:
            column.buffer[start:stop] = cells
        self.rows += rows

    def snapshot(self) -> Snapshot:
        """Copies of all rows that are not on disk yet."""
        held = self.rows - self._first
        return Snapshot(
            self.rows,
            self._first,
            {name: (c.layout(), c.buffer[:held].copy()) for name, c in self._columns.items()},
        )

    def written(self, snapshot: Snapshot) -> None:
        """Forget the rows of a snapshot that is on disk now."""
        for column in self._columns.values():
            column.drop(snapshot.rows - self._first)
        self._first = snapshot.rows

    def _known(self, name: str, cell: Cell) -> _Column:
        known = self._columns.get(self._renamed.get(name, name))
        if known is not None:
            return known
        logger.warning("column %r came unannounced and is recorded without a unit", name)
        kind = Kind.WORD if isinstance(cell, str) else Kind.NUMBER
        try:
            self.add(ColumnSpec(name, kind))
        except StoreError:
            self._renamed[name] = f"reported_{len(self._renamed) + 1}"
            self.add(ColumnSpec(self._renamed[name], kind, long_name=name))
        return self._columns[self._renamed.get(name, name)]


def _numbers(name: str, cells: AnyArray) -> AnyArray:
    array = np.asarray(cells)
    if array.dtype.kind not in "biuf":
        raise StoreError(
            f"column {name!r} holds numbers, not {array.dtype} like {array.tolist()[:3]}: give NaN "
            "where there is no number."
        )
    return array
