"""What lies where in a run, and the Zarr v3 metadata that says so.

A run folder holds ``run.zarr`` (one Zarr v3 group), ``journal.jsonl``, ``recipe.yaml`` and
``station.toml``; summaries may be put beside them. In the group::

    images/<stream>/                      OME-NGFF 0.5 metadata: one multiscale image per detector
    images/<stream>/full/<detector>       (time, y, x), sharded, one inner chunk per frame
    images/<stream>/2x/<detector>, …      averages of 2 × 2 pixels and so on, made after the run
    spectra/<stream>/<channel>            (time, energy_loss), sharded, one inner chunk per ≤ 0.1 s
    …/time, t_end, dose, …                (time), coordinates of the stream's frames
    holder/, <table>/                     columns over time
    channels/<record>/                    columns over time: readings of a channel
    estimates/<estimator>/                columns over time
    particles/<estimator>/                columns over row
    gaps/                                 columns over row: frames that are missing, and why

Every group carries the consolidated metadata of what is below it, so that a reader gets the shapes
of all arrays of a run, or of one group, from one file, which is replaced whole: they always agree.
Data comes before shapes: chunks are appended to their shards and the shards' indexes brought up to
date; columns are written in place, in rows that no reader knows of yet; then follow the metadata of
the arrays (once a second), of their group, and of the root.

Chunks of frames carry a CRC-32C each, which every Zarr reader checks. Columns are not compressed and
their chunks are filled row by row, so they cannot: theirs stand in ``checksums.jsonl`` beside the
Zarr group, one JSON line ``{"path", "bytes", "crc32c"}`` for every chunk file that is full, and at
the end for all others; the last line for a path counts. ``synced.json``, while a run is written,
says how many rows of each group were on the disk for sure, and since which start of the machine: what
a power cut cannot have touched. ``structure.json`` is a copy of the root's metadata, on the disk for
sure, too: file systems may give a file its name before its contents, so that a power cut can leave
every ``zarr.json`` empty. It follows new arrays, words and attributes, but not the lengths.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc

from acquire.errors import StoreError
from acquire.instruments import AnyArray

FORMAT_KEY = "hotstage_run"
FORMAT_VERSION = 2

ZARR_NAME = "run.zarr"
JOURNAL_NAME = "journal.jsonl"
SUMMARY_NAME = "summary.md"
NOTES_NAME = "notes.jsonl"
"""Notes that people added after the end of the run."""
RECIPE_NAME = "recipe.yaml"
STATION_NAME = "station.toml"
RESERVE_NAME = "reserve.bin"
CHECKSUMS_NAME = "checksums.jsonl"
SYNCED_NAME = "synced.json"
STRUCTURE_NAME = "structure.json"
METADATA_NAME = "zarr.json"

IMAGES = "images"
FULL = "full"
"""The group of an image stream's frames as they were recorded; ``2x``, ``4x``, … stand beside it."""
SPECTRA = "spectra"
ESTIMATES = "estimates"
PARTICLES = "particles"
GAPS = "gaps"
CHANNELS = "channels"
"""Above the tables of channels, which are declared as ``channels/NAME``."""
RESERVED = frozenset({IMAGES, SPECTRA, ESTIMATES, PARTICLES, GAPS, CHANNELS})

COLUMN_CHUNK_ROWS = 4096
"""Rows per chunk of coordinates and tables: 32 kB, made whole and filled row by row."""

FAST_COLUMN_CHUNK_ROWS = 65536
"""The same for streams of more than :data:`FAST_PER_S` frames a second: fewer files."""

FAST_PER_S = 100.0

CHUNK_PERIOD_S = 0.1
"""Frames of about so much time share a chunk, if they are small; readers open fewer of them."""

CHUNK_BYTES = 256 * 1024
"""No more frames share a chunk than fit here, and none that fill a quarter of it."""

SHARD_CHUNKS = 250
"""The most chunks of a shard: its index must fit one page of 4096 bytes, which takes 255."""

SHARD_BYTES = 256 * 2**20
"""About the largest shard, before compression."""

PUBLISH_PERIOD_S = 0.2
"""Wall time between publications."""

ARRAYS_PERIOD_S = 1.0
"""Wall time within which the metadata of single arrays follows that of the groups: replacing a file
costs a file system up to a millisecond, and there are many arrays."""

LOSS_WINDOW_S = 0.5
"""What was appended longer ago than this, in wall time, survives the death of the process: the
period, and as much again for a publication on a busy machine."""

_BLOSC = {"lz4": ("lz4", 5), "zstd": ("zstd", 3)}
_CODECS = {
    name: Blosc(cname=cname, clevel=level, shuffle=Blosc.BITSHUFFLE)
    for name, (cname, level) in _BLOSC.items()
}
_LENGTH = "@length@"
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, whatever follows a dot."""


def check_name(name: str, what: str) -> str:
    """Refuse a name that cannot be a folder on every system; raises StoreError."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be the name of {what}: use letters, digits, '_', '-' and '.'."
        )
    if _DEVICE.fullmatch(name) or name.casefold() == METADATA_NAME:
        raise StoreError(
            f"{name!r} cannot be the name of {what}: it has a meaning of its own on some systems or "
            "in a Zarr group. Choose another one."
        )
    return name


def check_distinct(name: str, others: Iterable[str], what: str) -> None:
    """Refuse a name that many a system takes for one of ``others``; raises StoreError."""
    for other in others:
        if other != name and other.casefold() == name.casefold():
            raise StoreError(
                f"{name!r} cannot be the name of {what}: it differs from {other!r} only by capital "
                "letters, and would share its folder on many systems. Choose another one."
            )


def rows_of_chunk(frame_bytes: int, period_s: float) -> int:
    """How many frames share a chunk when one comes every ``period_s`` seconds; 0 s is unknown."""
    if period_s <= 0 or 4 * frame_bytes > CHUNK_BYTES:
        return 1
    return max(1, min(int(CHUNK_PERIOD_S / period_s), CHUNK_BYTES // max(frame_bytes, 1)))


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Everything about an array but how long it is by now."""

    dtype: np.dtype[Any]
    dims: tuple[str, ...]
    inner_shape: tuple[int, ...] = ()
    """Shape beyond the first dimension."""
    chunk_rows: int = 1
    """Length of a chunk along the first dimension; it spans all others."""
    fill: float = 0
    codec: str = "none"
    """``lz4`` or ``zstd`` (both after bitshuffle), or ``none``."""
    shard_chunks: int = 0
    """Chunks of a shard, each with a checksum; 0: every chunk is a file of its own, without one."""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_frames(
        cls,
        dtype: str,
        dims: tuple[str, ...],
        inner_shape: tuple[int, ...],
        period_s: float,
        codec: str,
        attributes: Mapping[str, Any],
    ) -> ArrayLayout:
        """The layout of images or spectra that come every ``period_s`` seconds."""
        frame_bytes = np.dtype(dtype).itemsize * math.prod(inner_shape)
        rows = rows_of_chunk(frame_bytes, period_s)
        chunks = max(8, min(SHARD_CHUNKS, SHARD_BYTES // max(rows * frame_bytes, 1)))
        return cls(np.dtype(dtype), dims, inner_shape, rows, 0, codec, chunks, dict(attributes))

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of a chunk's numbers as they are stored: little-endian."""
        return self.dtype.newbyteorder("<")

    def metadata(self, length: int | str) -> dict[str, Any]:
        """The contents of the array's ``zarr.json`` when it is ``length`` long."""
        chunk = [self.chunk_rows, *self.inner_shape]
        codecs: list[dict[str, Any]] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            *self._compressor(),
        ]
        if self.shard_chunks:
            checksum = {"name": "crc32c", "configuration": {}}
            sharding = {
                "chunk_shape": chunk,
                "codecs": [*codecs, checksum],
                "index_codecs": [codecs[0], checksum],
                "index_location": "start",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
            chunk = [self.chunk_rows * self.shard_chunks, *self.inner_shape]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [length, *self.inner_shape],
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            # flat keys: a folder per frame would be slower by a fifth
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": self._fill_value(),
            "codecs": codecs,
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }

    def text(self) -> tuple[str, str]:
        """The ``zarr.json`` as text, without the length: what stands before it, and after."""
        head, _, tail = to_text(self.metadata(_LENGTH)).partition(f'"{_LENGTH}"')
        return head, tail

    def _compressor(self) -> list[dict[str, Any]]:
        if self.codec == "none":
            return []
        cname, level = _BLOSC[self.codec]
        configuration = {
            "typesize": self.dtype.itemsize,
            "cname": cname,
            "clevel": level,
            "shuffle": "bitshuffle",
            "blocksize": 0,
        }
        return [{"name": "blosc", "configuration": configuration}]

    def _fill_value(self) -> float | str | bool:
        if np.isnan(self.fill):
            return "NaN"
        return bool(self.fill) if self.dtype.kind == "b" else self.fill

    def chunk_name(self, number: int) -> str:
        """File name of shard or chunk ``number`` along the first dimension."""
        return ".".join(["c", str(number), *("0" for _ in self.inner_shape)])

    @staticmethod
    def column_chunk_name(number: int) -> str:
        """File name of chunk ``number`` of an array of one dimension."""
        return f"c.{number}"

    def compress(self, chunk: AnyArray) -> bytes:
        """The bytes of one whole chunk, without its checksum."""
        stored = np.ascontiguousarray(chunk, dtype=self.stored_dtype)
        return (
            stored.tobytes() if self.codec == "none" else bytes(_CODECS[self.codec].encode(stored))
        )


def group_text(attributes: Mapping[str, Any], below: str = "") -> str:
    """A group's ``zarr.json``; ``below`` is the inside of the JSON object that maps relative paths
    to the metadata of what is below it.
    """
    return (
        f'{{"zarr_format": 3, "node_type": "group", "attributes": {to_text(dict(attributes))}, '
        '"consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata": '
        f"{{{below}}}}}}}"
    )


def to_json(document: Mapping[str, Any]) -> bytes:
    """A metadata document as bytes; refuses numbers that JSON cannot write."""
    return encode_text(to_text(document))


def to_text(document: object) -> str:
    """A metadata document as text; refuses numbers that JSON cannot write."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False)


def encode_text(text: str) -> bytes:
    """Text as it is stored; half a surrogate pair, from an undecodable file name, becomes ``?``."""
    return text.encode(errors="replace")
