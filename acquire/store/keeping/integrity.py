"""Whether the bytes of a run's arrays are there and are those that were written."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.keeping.inspect import Line, StoredArray
from acquire.store.shards import MISSING, crc_bytes, index_size, read_index

_READ_AGAIN = 20
"""A live reader may meet an index that is just being rewritten."""

_BLOSC = Blosc()
_BLOSC_HEADER = struct.Struct("<4BIII")
"""Versions, flags, type size; bytes before compression, of a block, and after."""

Tick = Callable[[int], None]
"""Told how many bytes were looked at."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows of an array that are not what was written, or may not be."""

    where: str
    """File, relative to the Zarr group."""
    first: int
    last: int
    """Rows from ``first`` up to and without ``last``."""
    text: str


@dataclass(frozen=True, slots=True)
class ArrayCheck:
    """What came out for one array."""

    faults: tuple[Fault, ...]
    chunks: int
    """Chunks that were checked."""
    nbytes: int
    unvouched: tuple[str, ...] = ()
    """Chunk files that no checksum covers as far as they have rows."""


Checks = dict[tuple[str, str], ArrayCheck]
"""By path of the group and name of the array."""


def check_array(
    array: StoredArray, length: int, checksums: Mapping[str, Line], tick: Tick
) -> ArrayCheck:
    """Check the first ``length`` rows of an array, one chunk in memory at a time.

    Chunks in shards against the checksum behind each, without decompressing them; columns against
    those of ``checksums.jsonl``.
    """
    return (
        _check_shards(array, length, tick)
        if array.shard_chunks
        else _check_columns(array, length, checksums, tick)
    )


def bytes_of(array: StoredArray, length: int) -> int:
    """About how many bytes :func:`check_array` will look at."""
    total = 0
    for number in range(array.files(length)):
        file = array.file(number)
        total += file.stat().st_size if file.exists() else 0
    return total


# ------------------------------------------------------------------------------------ shards


def _check_shards(array: StoredArray, length: int, tick: Tick) -> ArrayCheck:
    faults: list[Fault] = []
    chunks = nbytes = 0
    for number in range(array.files(length)):
        start = number * array.file_rows
        stop = min(length, start + array.file_rows)
        name = array.file_name(number)
        try:
            entries = index_of(array, number)
        except StoreError as error:
            missing = not array.file(number).exists()
            text = "the shard is missing" if missing else "the index of the shard is damaged"
            faults.append(Fault(name, start, stop, text + ("" if missing else f": {error}")))
            continue
        with array.file(number).open("rb", buffering=0) as file:
            for within, row in enumerate(range(start, stop, array.chunk_rows)):
                payload, problem = _payload(array, file, entries, within)
                chunks += 1
                nbytes += len(payload)
                tick(len(payload))
                if problem:
                    end = min(stop, row + array.chunk_rows)
                    faults.append(Fault(name, row, end, problem))
    return ArrayCheck(tuple(_joined(faults)), chunks, nbytes)


def index_of(array: StoredArray, number: int) -> AnyArray:
    """The index of a shard, (chunks, 2) offsets and lengths; raises StoreError."""
    for _ in range(_READ_AGAIN - 1):
        try:
            return read_index(array.file(number), array.shard_chunks)
        except StoreError:
            if not array.file(number).exists():
                break
    return read_index(array.file(number), array.shard_chunks)


def _payload(array: StoredArray, file: FileIO, entries: AnyArray, within: int) -> tuple[bytes, str]:
    """The bytes of a chunk without its checksum, and what is wrong with them."""
    offset, size = (int(n) for n in entries[within])
    if offset == MISSING:
        return b"", "the chunk is missing and would read as zeros"
    if offset < index_size(array.shard_chunks) or size < 5 or size > 2 * array.chunk_bytes + 4096:
        return b"", f"the index says that the chunk lies at {offset} and is {size} bytes long"
    file.seek(offset)
    data = _read(file, size)
    if len(data) < size:
        return b"", f"the shard ends {size - len(data)} bytes before the chunk does"
    payload = data[:-4]
    if crc_bytes(payload) != data[-4:]:
        return payload, "the checksum does not match"
    return payload, _misfit(array, payload)


def _read(file: FileIO, size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _misfit(array: StoredArray, payload: bytes) -> str:
    """Why an intact chunk cannot be one of this array; "" if it can."""
    if "blosc" not in array.codecs:
        fits = len(array.codecs) > 2 or len(payload) == array.chunk_bytes
        return "" if fits else f"it holds {len(payload)} bytes, not {array.chunk_bytes}"
    if len(payload) < _BLOSC_HEADER.size:
        return "it is too short for blosc"
    *_, before, _, after = _BLOSC_HEADER.unpack_from(payload)
    if (before, after) == (array.chunk_bytes, len(payload)):
        return ""
    return f"it holds {before} bytes as {after}, not {array.chunk_bytes} as {len(payload)}"


def rows_beyond(array: StoredArray, first: int, last: int) -> int:
    """Up to which row, at most ``last``, an array holds rows from ``first`` on.

    A chunk of several rows that was written before it was full ends in rows of nothing but the fill:
    those do not count, whatever a frame of zeros may have meant.
    """
    row = first
    while row < last:
        number, within = divmod(row // array.chunk_rows, array.shard_chunks)
        try:
            entries = index_of(array, number)
            with array.file(number).open("rb", buffering=0) as file:
                payload, problem = _payload(array, file, entries, within)
        except (StoreError, OSError):
            return row
        if problem:
            return row
        start = row // array.chunk_rows * array.chunk_rows
        held = start + _held(array, payload)
        row = max(row, held)
        if held < start + array.chunk_rows:
            break
    return min(row, last)


def _held(array: StoredArray, payload: bytes) -> int:
    if array.chunk_rows == 1:
        return 1
    data = _BLOSC.decode(payload) if "blosc" in array.codecs else payload
    rows = np.frombuffer(data, array.dtype).reshape(array.chunk_rows, -1)
    (written,) = np.nonzero((rows != array.fill).any(axis=1))
    return int(written[-1]) + 1 if len(written) else 0


# ----------------------------------------------------------------------------------- columns


def _check_columns(
    array: StoredArray, length: int, checksums: Mapping[str, Line], tick: Tick
) -> ArrayCheck:
    faults: list[Fault] = []
    unvouched: list[str] = []
    nbytes = 0
    numbers = range(array.files(length))
    for number in numbers:
        start = number * array.chunk_rows
        stop = min(length, start + array.chunk_rows)
        name = array.file_name(number)
        try:
            data = array.file(number).read_bytes()
        except OSError:
            faults.append(Fault(name, start, stop, "the chunk is missing"))
            continue
        tick(len(data))
        nbytes += len(data)
        if array.codecs == ("bytes",) and len(data) != array.chunk_bytes:
            text = f"the chunk has {len(data)} bytes, not {array.chunk_bytes}"
            faults.append(Fault(name, start, stop, text))
            continue
        line = checksums.get(name)
        if line is None or line.nbytes < (stop - start) * array.row_bytes:
            unvouched.append(name)
        if line is not None and google_crc32c.value(data[: line.nbytes]) != line.crc32c:
            faults.append(Fault(name, start, stop, "the checksum does not match"))
        elif array.words is not None and array.codecs == ("bytes",):
            values = np.frombuffer(data, array.dtype)[: stop - start]
            if len(values) and int(values.max()) >= len(array.words):
                faults.append(Fault(name, start, stop, "it holds words that nobody knows"))
    return ArrayCheck(tuple(_joined(faults)), len(numbers), nbytes, tuple(unvouched))


def _joined(faults: list[Fault]) -> list[Fault]:
    """Faults of the same kind one after the other as one."""
    found: list[Fault] = []
    for fault in faults:
        if found and (found[-1].where, found[-1].text, found[-1].last) == (
            fault.where,
            fault.text,
            fault.first,
        ):
            found[-1] = Fault(fault.where, found[-1].first, fault.last, fault.text)
        else:
            found.append(fault)
    return found
