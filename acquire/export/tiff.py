"""Writes images as TIFF stacks for ImageJ, or as OME-TIFF, by tifffile."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from acquire._version import __version__
from acquire.errors import StoreError
from acquire.export.placing import library
from acquire.export.source import (
    Channel,
    Column,
    LinearAxis,
    began,
    gaps_of,
    mean_interval_s,
    run_facts,
)
from acquire.units import show_bytes

_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_IMAGEJ_BYTES = 2**32 - 2**26
"""What its 32-bit offsets reach, less room for labels."""
_OME_TYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")


def write_imagej(channel: Channel, path: Path) -> None:
    """Write a stack that ImageJ shows with nm per pixel, seconds per frame and a label per slice.

    Raises:
        StoreError: ImageJ's TIFF cannot hold such images, or so many.
    """
    nbytes = channel.count * channel.frame_bytes
    if channel.data.dtype.name not in _IMAGEJ_TYPES:
        raise StoreError(
            f"{channel.stem} holds {channel.data.dtype.name}, and TIFF of ImageJ takes "
            f"{', '.join(_IMAGEJ_TYPES)}: export to ome-tiff."
        )
    if nbytes > _IMAGEJ_BYTES:
        raise StoreError(
            f"{channel.stem} makes {show_bytes(nbytes)}, and TIFF of ImageJ takes "
            f"{show_bytes(_IMAGEJ_BYTES)}: export to ome-tiff."
        )
    y, x = channel.axes
    interval_s = mean_interval_s(channel.times_s)
    metadata: dict[str, Any] = {
        "axes": "TYX",
        "unit": x.unit or "pixel",
        "xorigin": -x.offset / x.step,
        "yorigin": -y.offset / y.step,
        "Labels": _labels(channel),
        "Info": json.dumps(_information(channel), indent=1, ensure_ascii=False),
    }
    if interval_s > 0:
        metadata |= {"finterval": interval_s, "fps": 1 / interval_s, "tunit": "s"}
    tifffile = library("tifffile", "tifffile")
    with tifffile.TiffWriter(path, imagej=True) as file:
        file.write(
            channel.each(),
            shape=channel.data.shape,
            photometric="minisblack",  # else 3 or 4 pixels wide images are taken for colours
            dtype=channel.data.dtype,
            resolution=(1 / abs(x.step), 1 / abs(y.step)),
            metadata=metadata,
        )


def write_ome(channel: Channel, path: Path) -> None:
    """Write an OME-TIFF: physical pixel sizes, start and length of the exposure of every plane.

    Raises:
        StoreError: OME-TIFF cannot hold such images.
    """
    if channel.data.dtype.name not in _OME_TYPES:
        raise StoreError(
            f"{channel.stem} holds {channel.data.dtype.name}, and OME-TIFF takes "
            f"{', '.join(_OME_TYPES)}: export to hspy or nexus."
        )
    y, x = channel.axes
    columns = channel.columns()
    times_s, count = channel.times_s, channel.count
    interval_s = mean_interval_s(times_s)
    metadata: dict[str, Any] = {
        "axes": "TYX",
        "Name": channel.title,
        "AcquisitionDate": began(channel.run).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "Description": "DeltaT counts from the start of the run. Missing frames have no plane; "
        "see frame_index and gaps in the annotation.",
        **_size("X", x),
        **_size("Y", y),
        "Plane": _planes(times_s, columns["t_end"].values - times_s, count),
        "MapAnnotation": {"Namespace": "hotstage", **_annotation(channel, columns)},
    }
    if interval_s > 0:
        metadata |= {"TimeIncrement": interval_s, "TimeIncrementUnit": "s"}
    tifffile = library("tifffile", "tifffile")
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as file:
        file.write(
            channel.each(),
            shape=channel.data.shape,
            photometric="minisblack",  # else 3 or 4 pixels wide images are taken for colours
            dtype=channel.data.dtype,
            resolution=_per_centimetre(x, y),
            resolutionunit="CENTIMETER" if x.unit == "nm" else "NONE",
            software=f"hotstage {__version__}",
            metadata=metadata,
        )


def _size(letter: str, axis: LinearAxis) -> dict[str, Any]:
    found: dict[str, Any] = {f"PhysicalSize{letter}": abs(axis.step)}
    if axis.unit:
        found[f"PhysicalSize{letter}Unit"] = "µm" if axis.unit == "um" else axis.unit
    return found


def _per_centimetre(x: LinearAxis, y: LinearAxis) -> tuple[float, float]:
    factor = 1e7 if x.unit == "nm" else 1.0
    return factor / abs(x.step), factor / abs(y.step)


def _planes(starts_s: Any, exposures_s: Any, count: int) -> dict[str, Any]:
    planes: dict[str, Any] = {}
    if np.isfinite(starts_s).all():
        planes |= {"DeltaT": starts_s.tolist(), "DeltaTUnit": ["s"] * count}
    if np.isfinite(exposures_s).all():
        planes |= {"ExposureTime": exposures_s.tolist(), "ExposureTimeUnit": ["s"] * count}
    return planes


def _annotation(channel: Channel, columns: dict[str, Column]) -> dict[str, str]:
    found = dict(run_facts(channel.run))
    for name in ("frame_index", "temperature_before", "temperature_after", "dose"):
        column = columns[name]
        head = f"{name} [{column.unit}]" if column.unit else name
        found[head] = " ".join(str(value) for value in column.values.tolist())
    return found | {"gaps": json.dumps(_gaps(channel), ensure_ascii=False)}


def _information(channel: Channel) -> dict[str, Any]:
    return {
        **run_facts(channel.run),
        "stream": channel.stream,
        "detector": channel.name,
        "missing frames": _gaps(channel),
    }


def _gaps(channel: Channel) -> list[dict[str, Any]]:
    """As JSON can hold them: no time is null."""
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(gap).items()
        }
        for gap in gaps_of(channel.run, channel.stream)
    ]


def _labels(channel: Channel) -> list[str]:
    columns = channel.columns()
    return [
        f"frame {index}, {time_s:.3f} s" + (f", {celsius:.1f} °C" if math.isfinite(celsius) else "")
        for index, time_s, celsius in zip(
            columns["frame_index"].values.tolist(),
            channel.times_s.tolist(),
            columns["temperature_before"].values.tolist(),
            strict=True,
        )
    ]
