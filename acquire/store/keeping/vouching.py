"""Gives a checksum to every chunk file of columns that has none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import google_crc32c

from acquire.store.files import write_whole
from acquire.store.keeping.inspect import Document, Line, StoredArray, read_checksums
from acquire.store.layout import CHECKSUMS_NAME, ZARR_NAME


def complete_checksums(
    run: Path, arrays: Mapping[str, Document], lines: Mapping[str, Line]
) -> int | None:
    """Vouch for every chunk file that nothing vouches for.

    Lines that do not match their file stay: they tell of damage.

    Args:
        run: the run folder.
        arrays: documents of all arrays, by path.
        lines: checksums that are known to be right and take the place of older ones.

    Returns:
        How many lines are new; None if the file was as it should be.

    Raises:
        StoreError: the file cannot be written.
    """
    known, problems = read_checksums(run)
    found = dict(lines)
    for path, document in arrays.items():
        array = StoredArray(run / ZARR_NAME, path, document)
        if array.shard_chunks or array.file_name(0) in lines:
            continue
        for number in range(array.files(array.length)):
            line = _vouch(array, number, known.get(array.file_name(number)))
            if line is not None:
                found[array.file_name(number)] = line
    file = run / CHECKSUMS_NAME
    if not found and not problems and file.read_bytes()[-1:] in (b"", b"\n"):
        return None
    text = "".join(
        json.dumps({"path": path, "bytes": line.nbytes, "crc32c": line.crc32c}) + "\n"
        for path, line in {**known, **found}.items()
    )
    write_whole(file, text.encode(), sync=True)
    return len(found)


def _vouch(array: StoredArray, number: int, line: Line | None) -> Line | None:
    """A new line for a chunk file, if it needs one and the old one does not contradict it."""
    rows = min(array.length - number * array.chunk_rows, array.chunk_rows)
    try:
        data = array.file(number).read_bytes()
    except OSError:
        return None  # what is not there is told as damage
    nbytes = rows * array.row_bytes if array.codecs == ("bytes",) else len(data)
    if line is not None and (
        line.nbytes >= nbytes or google_crc32c.value(data[: line.nbytes]) != line.crc32c
    ):
        return None
    return Line(nbytes, google_crc32c.value(data[:nbytes])) if len(data) >= nbytes else None
