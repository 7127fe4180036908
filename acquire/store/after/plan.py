"""What smaller images and statistics a run shall have: paths, layouts, coordinates, attributes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.store.after.condensing import Channel, Level, shard_chunks
from acquire.store.after.reduction import can_be_halved, coarse_axis, level_shapes
from acquire.store.layout import (
    FULL,
    IMAGES,
    METADATA_NAME,
    SHARD_CHUNKS,
    SPECTRA,
    ArrayLayout,
    to_text,
)
from acquire.store.settings import CODECS, StoreSettings

Document = Mapping[str, Any]

_MADE = "cell_methods"
"""Attribute, after CF, of every column of statistics."""
_WORDS = {
    "min": ("minimum", "least value of {} in the frame"),
    "max": ("maximum", "greatest value of {} in the frame"),
    "mean": ("mean", "mean of {} over the frame"),
    "total": ("sum", "sum of {} over the spectrum"),
}


@dataclass(frozen=True, slots=True)
class Overview:
    """All that shall be made for a run."""

    root: Path
    channels: tuple[Channel, ...]
    axes: Mapping[str, tuple[ArrayLayout, NDArray[np.float64]]]
    """Coordinates of smaller images by path: layout and values."""
    attributes: Mapping[str, Document]
    """New attributes of groups by path."""
    documents: dict[str, Document] = field(init=False)
    """Metadata of all arrays to be made, by path."""

    def __post_init__(self) -> None:
        documents: dict[str, Document] = {}
        for channel in self.channels:
            documents |= channel.documents()
        documents |= {path: lay.metadata(len(values)) for path, (lay, values) in self.axes.items()}
        object.__setattr__(self, "documents", documents)

    def fingerprint(self) -> str:
        """Another one for everything that makes unfinished work useless."""
        return hashlib.sha256(to_text(self.documents).encode()).hexdigest()

    def fits(self, path: str) -> bool:
        """Whether an array is in the run, whole and as it shall be; it may not show yet."""
        try:
            found = json.loads((self.root / path / METADATA_NAME).read_bytes())
        except (OSError, ValueError):
            return False
        return bool(found == _parsed(self.documents[path]))

    def shown(self) -> set[str]:
        """Paths of the arrays that readers of the run find as they shall be."""
        documents = _consolidated(self.root)
        return {
            path
            for path, document in self.documents.items()
            if documents.get(path) == _parsed(document) and self.fits(path)
        }

    def shows(self) -> bool:
        """Whether readers of the run find all of it."""
        documents = _consolidated(self.root)
        return self.shown() == self.documents.keys() and all(
            documents.get(path, {}).get("attributes") == _parsed(attributes)
            for path, attributes in self.attributes.items()
        )


def _consolidated(root: Path) -> dict[str, Any]:
    document = json.loads((root / METADATA_NAME).read_bytes())
    return dict(document["consolidated_metadata"]["metadata"])


def _parsed(document: Document) -> Any:
    return json.loads(to_text(document))


def plan_overviews(root: Path, group: zarr.Group) -> Overview:
    """What a closed run shall have; ``group`` is its root. Raises StoreError."""
    codec = _codec(group)
    channels: list[Channel] = []
    axes: dict[str, tuple[ArrayLayout, NDArray[np.float64]]] = {}
    attributes: dict[str, Document] = {}
    for kind in (IMAGES, SPECTRA):
        for stream in _groups(group, kind):
            path = f"{kind}/{stream}/{FULL}" if kind == IMAGES else f"{kind}/{stream}"
            found = [_channel(group, path, name, kind, codec) for name in _frames(group, path)]
            channels += found
            columns = [p for c in found for p, _ in c.statistics.values()]
            attributes[path] = _with_coordinates(
                _attributes(group, path), [column.rpartition("/")[2] for column in columns]
            )
            levels = [(channel, level) for channel in found for level in channel.levels]
            for channel, level in levels:
                axes |= _axes(group, channel, level)
                attributes[level.path.rpartition("/")[0]] = {
                    "description": f"means of {level.factor} × {level.factor} pixels of {path}"
                }
            if kind == IMAGES:
                above = f"{kind}/{stream}"
                attributes[above] = _with_levels(_attributes(group, above), levels)
    return Overview(root, tuple(channels), axes, attributes)


def _codec(group: zarr.Group) -> str:
    settings = group.attrs.get("store")
    codec = settings.get("codec") if isinstance(settings, Mapping) else None
    return str(codec) if codec in CODECS else StoreSettings().codec


def _groups(group: zarr.Group, path: str) -> list[str]:
    return sorted(name for name, _ in _group(group, path).groups()) if path in group else []


def _frames(group: zarr.Group, path: str) -> list[str]:
    """Names of the arrays that hold frames."""
    return sorted(name for name, array in _group(group, path).arrays() if array.ndim > 1)


def _group(group: zarr.Group, path: str) -> zarr.Group:
    found = group[path]
    if not isinstance(found, zarr.Group):
        raise StoreError(f"{path} of {group.store_path} should be a group. Is it a run?")
    return found


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    found = group[path]
    if not isinstance(found, zarr.Array):
        raise StoreError(f"{path} of {group.store_path} should be an array. Is it a run?")
    return found


def _attributes(group: zarr.Group, path: str) -> dict[str, Any]:
    return dict(_group(group, path).attrs.asdict())


def _dims(array: zarr.Array[Any]) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or ()
    return tuple(str(name) for name in names)


def _channel(group: zarr.Group, path: str, name: str, kind: str, codec: str) -> Channel:
    array = _array(group, f"{path}/{name}")
    time = _array(group, f"{path}/time")
    rows, *inner = (int(n) for n in array.shape)
    dims = _dims(array)
    chunk_rows = int(array.chunks[0])
    about = array.attrs.asdict()
    levels = []
    if kind == IMAGES and len(inner) == 2 and can_be_halved(array.dtype):
        shapes = level_shapes((inner[0], inner[1]))
        largest = math.prod(next(iter(shapes.values()), (1, 1))) * array.dtype.itemsize
        per_shard = shard_chunks(chunk_rows, largest, SHARD_CHUNKS)
        # every level in shards of equally many frames: one batch makes one of each
        levels = [
            Level(
                factor,
                f"{path.removesuffix(FULL)}{factor}x/{name}",
                ArrayLayout(array.dtype, dims, shape, chunk_rows, 0, codec, per_shard, dict(about)),
            )
            for factor, shape in shapes.items()
        ]
    wanted = ("min", "max", "mean") if kind == IMAGES else ("total",)
    return Channel(
        f"{path}/{name}",
        rows,
        chunk_rows,
        array.dtype.itemsize * math.prod(inner),
        tuple(levels),
        {
            what: (
                f"{path}/{_free_name(group, path, f'{name}_{what}')}",
                _column(what, name, dims, about, int(time.chunks[0])),
            )
            for what in wanted
        },
    )


def _column(
    what: str, name: str, dims: tuple[str, ...], about: Mapping[str, Any], chunk_rows: int
) -> ArrayLayout:
    method, text = _WORDS[what]
    attributes = {
        "units": about.get("units", "1"),
        "long_name": text.format(name.replace("_", " ")),
        _MADE: f"{': '.join(dims[1:])}: {method}",
    }
    return ArrayLayout(
        np.dtype(np.float64), dims[:1], (), chunk_rows, math.nan, attributes=attributes
    )


def _free_name(group: zarr.Group, path: str, name: str) -> str:
    """An instrument may give a number of its own the name of one of our columns."""
    there = _group(group, path)
    while name in there and _MADE not in there[name].attrs:
        name += "_of_frame"
    return name


def _axes(
    group: zarr.Group, channel: Channel, level: Level
) -> dict[str, tuple[ArrayLayout, NDArray[np.float64]]]:
    """Coordinates of a level: the times, and the centres of its pixels."""
    source = channel.path.rpartition("/")[0]
    target = level.path.rpartition("/")[0]
    found = {}
    for dim in level.layout.dims:
        path = f"{source}/{dim}"
        if path not in group:
            continue
        array = _array(group, path)
        values = np.asarray(array[:], np.float64)
        grows = dim == level.layout.dims[0]
        values = values if grows else coarse_axis(values, level.factor)
        layout = ArrayLayout(
            np.dtype(np.float64),
            (dim,),
            chunk_rows=int(array.chunks[0]) if grows else len(values),
            fill=math.nan if grows else 0,
            attributes=array.attrs.asdict(),
        )
        found[f"{target}/{dim}"] = (layout, values)
    return found


def _with_coordinates(attributes: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """So that xarray takes the columns for coordinates, not for data."""
    names = [*str(attributes.get("coordinates", "")).split(), *columns]
    return attributes | {"coordinates": " ".join(dict.fromkeys(names))}


def _with_levels(attributes: dict[str, Any], levels: list[tuple[Channel, Level]]) -> dict[str, Any]:
    """OME-NGFF metadata with all levels of every image."""
    ome = attributes.get("ome")
    if not isinstance(ome, Mapping):
        return attributes
    multiscales = []
    for image in ome.get("multiscales", ()):
        first = image["datasets"][0]
        smaller = [
            level
            for channel, level in levels
            if channel.path.endswith(f"/{first['path']}") and len(image["axes"]) == 3
        ]
        if smaller:
            image = image | {
                "type": "mean",
                "metadata": {
                    "description": "means of 2 × 2 pixels of the next larger level; an odd last "
                    "row or column is left out",
                    "method": "hotstage consolidate",
                },
                "datasets": [first, *(_dataset(first, level) for level in smaller)],
            }
        multiscales.append(image)
    return attributes | {"ome": {**ome, "multiscales": multiscales}}


def _dataset(first: Mapping[str, Any], level: Level) -> dict[str, Any]:
    """The level's entry: its pixels are larger, and the first one's centre lies further inside."""
    scale, translation = (
        dict(transformation) for transformation in first["coordinateTransformations"]
    )
    time, *steps = scale["scale"]
    start, *offsets = translation["translation"]
    inside = (level.factor - 1) / 2
    return {
        "path": "/".join(level.path.split("/")[-2:]),
        "coordinateTransformations": [
            {"type": "scale", "scale": [time, *(step * level.factor for step in steps)]},
            {
                "type": "translation",
                "translation": [
                    start,
                    *(at + step * inside for at, step in zip(offsets, steps, strict=True)),
                ],
            },
        ],
    }
