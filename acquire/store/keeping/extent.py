"""How many rows of each group of a run that was cut off are really on the disk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from acquire.store.keeping.inspect import StoredArray, rows_of
from acquire.store.keeping.integrity import Checks, rows_beyond

Members = Mapping[str, Mapping[str, StoredArray]]


def find_extents(members: Members, synced: Mapping[str, int] | None) -> dict[str, int]:
    """Rows of every group that its columns hold whole, and its blocks beyond what was published.

    What was published is not looked at here but by its checksums, see :func:`cut_faults`.

    Args:
        members: arrays of every group.
        synced: rows by group that were on the disk when the power failed, which nothing beyond can
            be trusted to; None if it did not, so that what was written is there.
    """
    return {
        group: _extent(columns, None if synced is None else synced.get(group, 0))
        for group, columns in members.items()
    }


def _extent(columns: Mapping[str, StoredArray], most: int | None) -> int:
    published = rows_of(columns)
    grown = [array for array in columns.values() if array.grows]
    tables = [array for array in grown if not array.shard_chunks]
    blocks = [array for array in grown if array.shard_chunks]
    if most is not None:
        rows = most
    elif "time" not in columns:
        rows = published
    else:
        rows = _timed(columns["time"], published)
    for array in tables:
        rows = min(rows, _whole(array, rows))
    if rows <= published:
        return rows
    for array in tables:
        rows = min(rows, _known(array, published, rows))
    for array in blocks:
        rows = min(rows, rows_beyond(array, published, rows))
    return rows


def _timed(time: StoredArray, published: int) -> int:
    """Rows that have a time: it is written last, and the rows after hold none."""
    rows = published
    step = time.chunk_rows
    while True:
        values = time.column(rows, (rows // step + 1) * step)
        there = np.isfinite(values)
        rows += len(values) if there.all() else int(np.argmin(there))
        if not there.all():
            break
    if rows > published:
        return rows
    while rows and not np.isfinite(time.column(rows - 1, rows)[0]):
        rows -= 1
    # a column that is gone as a whole is damage, and no reason to hide all else
    return rows or published


def _whole(array: StoredArray, rows: int) -> int:
    """Rows up to the last chunk that is there in its full size."""
    kept = rows
    while kept:
        number = (kept - 1) // array.chunk_rows
        file = array.file(number)
        if file.exists() and (array.codecs != ("bytes",) or _fits(array, number)):
            return kept
        kept = number * array.chunk_rows
    return kept or rows


def _fits(array: StoredArray, number: int) -> bool:
    return array.file(number).stat().st_size == array.chunk_bytes


def _known(array: StoredArray, first: int, last: int) -> int:
    """Rows before the first whose words no metadata know."""
    attributes = array.document.get("attributes", {})
    texts = attributes.get("flag_texts")
    if texts is None and array.dtype.kind != "u":
        return last
    count = len(texts or ())
    for start, values in array.parts(first, last):
        numbers = values.astype(np.uint64)
        bad = numbers >> np.uint64(count) if array.dtype.kind == "u" else numbers >= count
        if bad.any():
            return start + int(np.argmax(bad != 0))
    return last


def cut_faults(members: Members, extents: dict[str, int], checks: Checks) -> None:
    """Take away the rows at the end of each group whose frames are not on the disk."""
    for group, columns in members.items():
        faults = [
            fault
            for name, array in columns.items()
            if array.grows and array.shard_chunks
            for fault in checks[group, name].faults
        ]
        for fault in sorted(faults, key=lambda fault: fault.last, reverse=True):
            if fault.first < extents[group] <= fault.last:
                extents[group] = fault.first
