"""Condenses one array of frames, batch by batch, into a folder of its own: smaller images, statistics.

A batch is a shard of the smaller images. Every file is written whole, and a batch counts as done when
the caller has noted it after the files are on the disk: whoever is killed continues with the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.after.reduction import (
    compressed_chunk,
    halved,
    image_statistics,
    shard_file,
    spectrum_statistics,
)
from acquire.store.files import make_folder, sync_files, write_whole
from acquire.store.layout import METADATA_NAME, ArrayLayout, to_json

BATCH_BYTES = 64 * 2**20
"""About the largest batch of half-size images, or of frames without any, before compression."""

_PIECE_BYTES = 4 * 2**20
"""About what a thread reads at a time, if a chunk is not larger."""


@dataclass(frozen=True, slots=True)
class Level:
    """Smaller images of one array."""

    factor: int
    path: str
    """In the run's Zarr group."""
    layout: ArrayLayout


@dataclass(frozen=True, slots=True)
class Channel:
    """An array of frames, and what shall be made of it."""

    path: str
    rows: int
    chunk_rows: int
    """Frames in a chunk as it was recorded; one that is damaged costs no other."""
    frame_bytes: int
    levels: tuple[Level, ...]
    statistics: Mapping[str, tuple[str, ArrayLayout]]
    """Path and layout of a column by what it holds (``min``, ``max``, ``mean``; ``total``)."""

    @property
    def nbytes(self) -> int:
        """Bytes of all frames before compression."""
        return self.rows * self.frame_bytes

    @property
    def batch_rows(self) -> int:
        """Frames in a batch: a whole number of chunks."""
        if self.levels:
            return self.chunk_rows * self.levels[0].layout.shard_chunks
        return self.chunk_rows * max(1, BATCH_BYTES // max(1, self.chunk_rows * self.frame_bytes))

    def documents(self) -> dict[str, dict[str, Any]]:
        """Metadata of the arrays to be made, by path."""
        made = [*((x.path, x.layout) for x in self.levels), *self.statistics.values()]
        return {path: layout.metadata(self.rows) for path, layout in made}


def shard_chunks(chunk_rows: int, frame_bytes: int, most: int) -> int:
    """Chunks in a shard of smaller images."""
    return max(1, min(most, BATCH_BYTES // max(1, chunk_rows * frame_bytes)))


@dataclass(slots=True)
class _Piece:
    """What came of some rows."""

    values: dict[str, NDArray[np.float64]]
    chunks: list[list[bytes | None]]
    """By level; None where a chunk could not be read."""
    unreadable: list[int]
    """Rows."""


class Condenser:
    """Condenses one channel; ``tails`` are the statistics of rows that fill no chunk of a column yet."""

    def __init__(
        self,
        channel: Channel,
        array: zarr.Array[Any],
        folder: Path,
        rows: int = 0,
        tails: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.channel = channel
        self.rows = rows
        """Rows that are done."""
        self.tails = {
            name: np.array((tails or {}).get(name, ()), np.float64) for name in channel.statistics
        }
        self._array = array
        self._folder = folder
        for path in channel.documents():
            make_folder(folder / path)

    def batch(self, threads: ThreadPoolExecutor) -> list[int]:
        """Do the next batch; its files are on the disk then. Returns rows that cannot be read.

        Raises:
            StoreError: a file could not be written.
        """
        channel = self.channel
        first, last = self.rows, min(channel.rows, self.rows + channel.batch_rows)
        step = channel.chunk_rows * max(
            1, _PIECE_BYTES // max(1, channel.chunk_rows * channel.frame_bytes)
        )
        spans = [(at, min(last, at + step)) for at in range(first, last, step)]
        pieces = list(threads.map(lambda span: self._condense(*span), spans))
        files = []
        for number, level in enumerate(channel.levels):
            chunks = [chunk for piece in pieces for chunk in piece.chunks[number]]
            name = level.layout.chunk_name(first // channel.batch_rows)
            files.append(self._folder / level.path / name)
            write_whole(files[-1], shard_file(level.layout, chunks))
        for name in channel.statistics:
            values = [self.tails[name], *(piece.values[name] for piece in pieces)]
            files += self._write_column(name, np.concatenate(values), first, last)
        if last == channel.rows:
            files += self._write_documents()
        sync_files(files)
        self.rows = last
        return [row for piece in pieces for row in piece.unreadable]

    def finish_empty(self) -> None:
        """What there is to write for a channel without a row; raises StoreError."""
        sync_files(self._write_documents())

    # ------------------------------------------------------------------- in a thread

    def _condense(self, first: int, last: int) -> _Piece:
        parts = [self._condensed_block(*block) for block in self._blocks(first, last)]
        return _Piece(
            {n: np.concatenate([p.values[n] for p in parts]) for n in self.channel.statistics},
            [[c for p in parts for c in p.chunks[n]] for n in range(len(self.channel.levels))],
            [row for p in parts for row in p.unreadable],
        )

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, int, AnyArray | None]]:
        """Rows at once, or chunk by chunk if not all of them can be read."""
        frames = self._read(first, last)
        step = self.channel.chunk_rows
        if frames is not None or last - first <= step:
            yield first, last, frames
            return
        for at in range(first, last, step):
            yield at, min(last, at + step), self._read(at, min(last, at + step))

    def _read(self, first: int, last: int) -> AnyArray | None:
        """Frames; None if a checksum is wrong, or what is compressed makes no sense."""
        try:
            return np.asarray(self._array[first:last])
        except OSError as error:
            raise StoreError(
                f"{self.channel.path} cannot be read: {error}. Check that the disk answers."
            ) from error
        except (ValueError, RuntimeError):
            return None

    def _condensed_block(self, first: int, last: int, frames: AnyArray | None) -> _Piece:
        channel = self.channel
        count = last - first
        if frames is None:
            nothing = {name: np.full(count, np.nan) for name in channel.statistics}
            missing: list[bytes | None] = [None] * math.ceil(count / channel.chunk_rows)
            return _Piece(nothing, [list(missing) for _ in channel.levels], [*range(first, last)])
        of = spectrum_statistics if "total" in channel.statistics else image_statistics
        values = {name: values for name, values in of(frames).items() if name in channel.statistics}
        chunks: list[list[bytes | None]] = []
        for level in channel.levels:
            frames = halved(frames)
            compress = partial(compressed_chunk, level.layout)
            step = channel.chunk_rows
            chunks.append([compress(frames[at : at + step]) for at in range(0, count, step)])
        return _Piece(values, chunks, [])

    # ----------------------------------------------------------------------- files

    def _write_column(
        self, name: str, values: NDArray[np.float64], first: int, last: int
    ) -> list[Path]:
        """Write the chunks that are full now, and the last one at the end; keep the rest."""
        path, layout = self.channel.statistics[name]
        step = layout.chunk_rows
        number = first // step
        written = []
        while len(values) >= step or (len(values) and last == self.channel.rows):
            chunk = np.full(step, layout.fill, layout.dtype)
            part = values[:step]
            chunk[: len(part)] = part
            written.append(self._folder / path / layout.chunk_name(number))
            write_whole(written[-1], layout.compress(chunk))
            values, number = values[step:], number + 1
        self.tails[name] = values
        return written

    def _write_documents(self) -> list[Path]:
        files = []
        for path, document in self.channel.documents().items():
            files.append(self._folder / path / METADATA_NAME)
            write_whole(files[-1], to_json(document))
        return files
