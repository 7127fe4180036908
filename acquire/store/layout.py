"""What lies where in a run, and the Zarr v3 metadata that says so.

A run folder holds ``run.zarr`` (one Zarr v3 group), ``journal.jsonl``, ``recipe.yaml`` and
``station.toml``; summaries may be put beside them. In the group::

    images/<stream>/<detector>            (time, y, x), one chunk per frame
    spectra/<stream>/<channel>            (time, energy_loss), one chunk per spectrum
    …/<stream>/time, t_end, dose, …       (time), coordinates of the stream's frames
    holder/, <table>/                     columns over time
    estimates/<estimator>/                columns over time
    particles/<estimator>/                columns over row
    gaps/                                 columns over row: frames that are missing, and why

Every group carries the consolidated metadata of what is below it, so that a reader gets the shapes
of all arrays of a run, or of one group, from one file, which is replaced whole: they always agree.
Data comes before shapes: columns are written in place, in rows that no reader knows of yet; then
follow the metadata of the arrays (once a second), of their group, and of the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc

from acquire.errors import StoreError
from acquire.instruments import AnyArray

FORMAT_KEY = "hotstage_run"
FORMAT_VERSION = 1

ZARR_NAME = "run.zarr"
JOURNAL_NAME = "journal.jsonl"
RECIPE_NAME = "recipe.yaml"
STATION_NAME = "station.toml"
RESERVE_NAME = "reserve.bin"
METADATA_NAME = "zarr.json"

IMAGES = "images"
SPECTRA = "spectra"
ESTIMATES = "estimates"
PARTICLES = "particles"
GAPS = "gaps"
RESERVED = frozenset({IMAGES, SPECTRA, ESTIMATES, PARTICLES, GAPS})

COLUMN_CHUNK_ROWS = 1024
"""Rows per chunk of coordinates and tables: 8 kB, made whole and filled row by row."""

PUBLISH_PERIOD_S = 0.2
"""Wall time between publications."""

ARRAYS_PERIOD_S = 1.0
"""Wall time within which the metadata of single arrays follows that of the groups: replacing a file
costs a file system up to a millisecond, and there are many arrays."""

LOSS_WINDOW_S = 0.5
"""What was appended longer ago than this, in wall time, survives the death of the process: the
period, and as much again for a publication on a busy machine."""

_CODEC = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?")


def check_name(name: str, what: str) -> str:
    """Refuse a name that cannot be a folder on every system; raises StoreError."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be the name of {what}: use letters, digits, '_', '-' and '.'."
        )
    return name


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
    compressed: bool = True
    """Columns are not: their rows are written in place, beyond what readers know of."""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self, length: int) -> dict[str, Any]:
        """The contents of the array's ``zarr.json`` when it is ``length`` long."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [length, *self.inner_shape],
            "data_type": self.dtype.name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.chunk_rows, *self.inner_shape]},
            },
            # flat keys: a folder per frame would be slower by a fifth
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": self._fill_value(),
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                *([self._codec()] if self.compressed else []),
            ],
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }

    def _codec(self) -> dict[str, Any]:
        configuration = {
            "typesize": self.dtype.itemsize,
            "cname": "lz4",
            "clevel": 5,
            "shuffle": "bitshuffle",
            "blocksize": 0,
        }
        return {"name": "blosc", "configuration": configuration}

    def _fill_value(self) -> float | str | bool:
        if np.isnan(self.fill):
            return "NaN"
        return bool(self.fill) if self.dtype.kind == "b" else self.fill

    def chunk_name(self, number: int) -> str:
        """File name of chunk ``number`` along the first dimension."""
        return ".".join(["c", str(number), *("0" for _ in self.inner_shape)])

    def encode(self, chunk: AnyArray) -> bytes:
        """The bytes of one whole chunk."""
        stored = np.ascontiguousarray(chunk, dtype=self.dtype.newbyteorder("<"))
        return bytes(_CODEC.encode(stored)) if self.compressed else stored.tobytes()


def group_metadata(
    attributes: Mapping[str, Any], below: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The contents of a group's ``zarr.json``; ``below`` maps relative paths to theirs."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(attributes),
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(below or {}),
        },
    }


def to_json(document: Mapping[str, Any]) -> bytes:
    """A metadata document as bytes; refuses numbers that JSON cannot write.

    Half a surrogate pair, as undecodable file names hold them, becomes a question mark.
    """
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode(errors="replace")
