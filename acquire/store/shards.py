"""Appends chunks to Zarr v3 shards that are valid, and as long as they were said to be, at every moment.

A shard file begins with its index: for every chunk its offset and length, and a CRC-32C of that
(Zarr v3, ``sharding_indexed`` with ``index_location: start``). Chunks are appended behind it, each
with a CRC-32C of its own; the index is rewritten in place now and then. It fits one page of memory,
so that neither a reader nor a killed writer ever sees half of it. A chunk that grows, because its
last rows had not come yet, is appended anew as a whole and the index is pointed to it; where its
older rows have been there for long, not before the disk has their new place.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.files import make_folder, store_error
from acquire.store.layout import LOSS_WINDOW_S, ArrayLayout
from acquire.store.pool import OpenFiles, WritePool

MISSING = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""

IDLE_FLUSHES = 25
"""An array's file is closed after so many publications without a new chunk."""

TOGETHER_BYTES = 2**20
"""Small chunks that wait are written together up to about so much: a lock and a call of the system
for each would cost a tenth of the speed."""

TOGETHER_CHUNKS = 250
"""No more than these: a system takes some 1000 pieces in one call."""

HEAVY_BYTES = 8 * 2**20
"""So much in one file is brought to the disk at once, and not when the sync window ends: a file that
is synced takes no bytes meanwhile, and 40 MB of it hold the writer up for 80 ms."""

POSITIONED = hasattr(os, "pwritev")
"""Whether several threads can write to one file at once, each at its own place; not on Windows."""


class _Shard:
    """One open file; its array's lock is held around all calls but ``write``."""

    def __init__(self, path: Path, chunks: int, files: OpenFiles) -> None:
        self.path = path
        self._files = files
        self._may_stay_open = False
        self.entries: NDArray[np.uint64] = np.full((chunks, 2), MISSING, "<u8")
        self.full_chunks = 0
        self.end = 0
        self.writing = 0
        """Chunks that threads are writing now; the file must stay open for them."""
        self.dirty = False
        self.sync_first = False
        """Whether the index lets go of bytes that may be all that a power cut would leave of a chunk."""
        self.idle = 0
        self._positioning = threading.Lock()
        self._file: FileIO | None = None
        self._create()

    def _create(self) -> None:
        try:
            self._file = self.path.open("xb", buffering=0)
            self._may_stay_open = self._files.take()
        except OSError as error:
            raise store_error(self.path, error) from error
        self.end = index_size(len(self.entries))
        self.write_index()

    def reserve(self, size: int) -> tuple[FileIO, int]:
        """The file, and where in it the next ``size`` bytes belong; ``writing`` rises by one.

        What is never written there stays a hole that no index points to.
        """
        file, offset = self._opened(), self.end
        self.end += size
        self.writing += 1
        return file, offset

    def write(self, file: FileIO, offset: int, *parts: bytes) -> None:
        """Write at a place, without the lock: other threads write elsewhere in the file meanwhile."""
        try:
            if POSITIONED:
                done = os.pwritev(file.fileno(), parts, offset)
                if done == sum(map(len, parts)):
                    return
                parts, offset = (b"".join(parts)[done:],), offset + done
            with self._positioning:
                file.seek(offset)
                for part in parts:
                    view = memoryview(part)
                    while view:
                        view = view[file.write(view) :]
        except OSError as error:
            raise store_error(self.path, error) from error

    def write_index(self) -> None:
        """Bring the index up to date, in place."""
        file = self._opened()
        data = index_bytes(self.entries)
        try:
            if self.sync_first:
                os.fsync(file.fileno())
            # in one call, unless the disk is full: no reader sees a part of a page
            with self._positioning:
                file.seek(0)
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        except OSError as error:
            raise store_error(self.path, error) from error
        self.dirty = self.sync_first = False

    def close(self) -> None:
        """Close the file, unless a thread writes to it now."""
        if self._file is not None and not self.writing:
            self._file.close()
            self._file = None
            if self._may_stay_open:
                self._may_stay_open = False
                self._files.give_back()

    def rest(self) -> None:
        """Close the file between two writes if too many others are open."""
        if not self._may_stay_open:
            self.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            try:
                self._file = self.path.open("r+b", buffering=0)
                self._may_stay_open = self._files.take()
            except OSError as error:
                raise store_error(self.path, error) from error
        return self._file


@dataclass(frozen=True, slots=True)
class _Packed:
    """A chunk as it is stored."""

    number: int
    rows: int
    payload: bytes
    checksum: bytes

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.checksum)


class ShardedArray:
    """An array that grows along its first axis, chunk by chunk, in shards.

    One thread appends, the threads of the pool write, and one (the publisher) calls ``flush``.
    """

    def __init__(self, folder: Path, layout: ArrayLayout, pool: WritePool) -> None:
        if not 1 <= layout.shard_chunks <= 255:
            raise StoreError(f"a shard holds 1 to 255 chunks, not {layout.shard_chunks}.")
        self.folder = folder
        self.layout = layout
        self.rows = 0
        """Rows appended."""
        self.bytes_written = 0
        """Bytes of chunks on the disk."""
        self._pool = pool
        self._lock = threading.Lock()
        self._shards: dict[int, _Shard] = {}
        self._complete = 0
        """Chunks 0 to this are written and full."""
        self._ready_rows = 0
        """Rows without a hole before them that are written."""
        self._ahead: dict[int, int] = {}
        """Rows of chunks that are written but follow one that is not, or that are not full."""
        self._partial_since: dict[int, float] = {}
        """When the first version of a chunk was written that was not full."""
        self._unsynced: set[Path] = set()
        self._heavy: dict[Path, int] = {}
        """Bytes written to files since they were asked for as heavy."""
        self._block: AnyArray | None = None
        self._filled = 0
        self._offered = 0
        """Rows of the block that were given to the pool already."""
        self._spare: deque[AnyArray] = deque(maxlen=4)
        self._waiting: deque[tuple[int, AnyArray, int, bool]] = deque()
        """Chunks that the pool is to write: number, array, rows, whether the array is our own."""
        self._filling = threading.Lock()
        make_folder(folder)

    # ------------------------------------------------------------------------- appending

    def append(self, rows: AnyArray) -> None:
        """Add rows, shape (n, *inner_shape); they are kept, or copied where they might still change.

        Raises:
            StoreError: something of this store could not be written before.
        """
        with self._filling:
            self._append(rows)

    def _append(self, rows: AnyArray) -> None:
        step = self.layout.chunk_rows
        at, count = 0, len(rows)
        if self._filled == 0 and count >= step and keepable(rows, self.layout):
            while count - at >= step:
                self._submit(self.rows // step, rows[at : at + step], step)
                self.rows += step
                at += step
        while at < count:
            if self._block is None:
                self._block = self._spare.pop() if self._spare else self._new_block()
            n = min(count - at, step - self._filled)
            self._block[self._filled : self._filled + n] = rows[at : at + n]
            self._filled += n
            self.rows += n
            at += n
            if self._filled == step:
                self._submit((self.rows - 1) // step, self._block, step, own=True)
                self._block, self._filled, self._offered = None, 0, 0

    def offer_partial(self) -> None:
        """Let the rows of a chunk that is not full yet be written, too, unless rows come just now."""
        if self._filled == self._offered or not self._filling.acquire(blocking=False):
            return
        try:
            if self._block is not None and self._filled > self._offered:
                block = self._new_block()
                block[: self._filled] = self._block[: self._filled]
                block[self._filled :] = self.layout.fill
                self._offered = self._filled
                number = (self.rows - 1) // self.layout.chunk_rows
                self._submit(number, block, self._filled, own=True)
        finally:
            self._filling.release()

    def _new_block(self) -> AnyArray:
        layout = self.layout
        return np.empty((layout.chunk_rows, *layout.inner_shape), layout.stored_dtype)

    def _submit(self, number: int, chunk: AnyArray, rows: int, *, own: bool = False) -> None:
        self._waiting.append((number, chunk, rows, own))
        self._pool.submit(self._store_some, chunk.nbytes)

    # ------------------------------------------------------- writing, in a thread of the pool

    def _store_some(self) -> None:
        """Write what waits first, and small chunks behind it in one go.

        Nothing, if the chunk that this call was meant for went with those before it.
        """
        packed: list[_Packed] = []
        nbytes = 0
        while nbytes < TOGETHER_BYTES and len(packed) < TOGETHER_CHUNKS:
            try:
                number, chunk, rows, own = self._waiting.popleft()
            except IndexError:
                break
            payload = self.layout.compress(chunk)
            packed.append(_Packed(number, rows, payload, crc_bytes(payload)))
            nbytes += chunk.nbytes
            if own:
                self._spare.append(chunk)
        by_shard: dict[int, list[_Packed]] = {}
        for item in packed:
            by_shard.setdefault(item.number // self.layout.shard_chunks, []).append(item)
        for number_of_shard, chunks in by_shard.items():
            self._store(number_of_shard, chunks)

    def _store(self, number_of_shard: int, chunks: list[_Packed]) -> None:
        """Append chunks to their shard, then note where they are."""
        with self._lock:
            # a later, fuller version of a chunk may have been quicker
            chunks = [chunk for chunk in chunks if self._is_news(chunk)]
            if not chunks:
                return
            shard = self._shards.get(number_of_shard)
            if shard is None:
                path = self.folder / self.layout.chunk_name(number_of_shard)
                shard = self._shards[number_of_shard] = self._new_shard(path)
            size = sum(chunk.size for chunk in chunks)
            file, offset = shard.reserve(size)
        try:
            shard.write(file, offset, *(p for c in chunks for p in (c.payload, c.checksum)))
        except BaseException:
            with self._lock:
                shard.writing -= 1
            raise
        with self._lock:
            shard.writing -= 1
            shard.idle = 0
            self.bytes_written += size
            self._unsynced.add(shard.path)
            self._heavy[shard.path] = self._heavy.get(shard.path, 0) + size
            shard.rest()
            for chunk in chunks:
                if self._is_news(chunk):
                    self._mind_older(chunk, shard)
                    # only now: the index must never point to what is not there
                    shard.entries[chunk.number % self.layout.shard_chunks] = offset, chunk.size
                    shard.full_chunks += chunk.rows == self.layout.chunk_rows
                    shard.dirty = True
                    self._ahead[chunk.number] = chunk.rows
                offset += chunk.size
            self._advance()

    def _is_news(self, chunk: _Packed) -> bool:
        """Whether no version of a chunk with as many rows is written."""
        return chunk.number >= self._complete and chunk.rows > self._ahead.get(chunk.number, 0)

    def _mind_older(self, chunk: _Packed, shard: _Shard) -> None:
        """Let rows that came long ago survive a power cut when those that follow replace their chunk.

        The system may bring the index to the disk before what it points to.
        """
        now = time.monotonic()
        if now - self._partial_since.setdefault(chunk.number, now) > LOSS_WINDOW_S:
            shard.sync_first = True

    def _new_shard(self, path: Path) -> _Shard:
        return _Shard(path, self.layout.shard_chunks, self._pool.files)

    def _advance(self) -> None:
        step = self.layout.chunk_rows
        while self._ahead.get(self._complete) == step:
            del self._ahead[self._complete]
            self._partial_since.pop(self._complete, None)
            self._complete += 1
        self._ready_rows = self._complete * step + self._ahead.get(self._complete, 0)

    # ------------------------------------------------------------------------ publishing

    def flush(self) -> int:
        """Bring the indexes up to date; returns how many rows a reader can have now."""
        with self._lock:
            for number, shard in list(self._shards.items()):
                if shard.dirty:
                    shard.write_index()
                    shard.rest()
                    self._unsynced.add(shard.path)
                else:
                    shard.idle += 1
                if shard.full_chunks == len(shard.entries) and not shard.writing:
                    shard.close()
                    del self._shards[number]
                    self._heavy.pop(shard.path, None)  # the rest of it can wait for the window
                elif shard.idle >= IDLE_FLUSHES:
                    shard.close()
            return self._ready_rows

    def take_unsynced(self) -> set[Path]:
        """Files that were written to since this was asked last."""
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
            return paths

    def take_heavy(self) -> set[Path]:
        """Files that took more than :data:`HEAVY_BYTES` since they were asked for here."""
        with self._lock:
            paths = {path for path, nbytes in self._heavy.items() if nbytes > HEAVY_BYTES}
            for path in paths:
                del self._heavy[path]
            return paths

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for shard in self._shards.values():
                shard.close()


def index_bytes(entries: NDArray[np.uint64]) -> bytes:
    """An index as it stands at the start of a shard: (chunks, 2) offsets and lengths, CRC-32C."""
    data = entries.tobytes()
    return data + crc_bytes(data)


def index_size(chunks: int) -> int:
    """Bytes that the index of a shard takes."""
    return chunks * 16 + 4


def read_index(path: Path, chunks: int) -> NDArray[np.uint64]:
    """The index of a shard file: shape (chunks, 2), offset and length, :data:`MISSING` where none.

    Raises:
        StoreError: it cannot be read, or its checksum is wrong.
    """
    size = index_size(chunks)
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) < size or crc_bytes(data[:-4]) != data[-4:]:
        raise StoreError(f"the index of the shard {path} is damaged: its checksum does not match.")
    return np.frombuffer(data[:-4], "<u8").reshape(chunks, 2)


def crc_bytes(data: bytes) -> bytes:
    """The CRC-32C of ``data`` as Zarr's ``crc32c`` codec appends it."""
    return struct.pack("<I", google_crc32c.value(data))


def keepable(array: AnyArray, layout: ArrayLayout) -> bool:
    """Whether an array can be kept without a copy: as it is stored, and nobody can change it."""
    if array.dtype != layout.stored_dtype or not array.flags.c_contiguous:
        return False
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)
