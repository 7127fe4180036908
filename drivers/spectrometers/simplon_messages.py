"""The messages of a DECTRIS detector's stream, in both versions, decoded and checked.

Sources: dectris/documentation ``stream_v2/README.md``, ``stream_v2/examples/stream2.c`` and
``cbor/dectris-compression-tag.md`` (version 2: one CBOR map behind the three bytes of self-described CBOR,
arrays by RFC 8746, tag 56500 for compressed bytes; messages of a detector in ``stream_v2/test_data`` of 2023
are read as they should), the public SIMPLON manuals and LiberTEM-live
(version 1: JSON and binary parts; ``shape`` is width, height; ``bs16-lz4<`` has the framing of the HDF5
filter, ``lz4<`` is a bare block; times in ns). EIGER2 manual 1.8.2, 11.1: the highest value of a pixel's type
marks a masked pixel. Unverified: that times of version 1 are relative to the start of the series, and that
its ``countrate_correction_count_cutoff`` is the highest count of a pixel.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from drivers.links import MalformedReply
from drivers.spectrometers.simplon_codecs import unpack

CBOR, LEGACY = "cbor", "legacy"
UNSIGNED = {64: "u1", 65: ">u2", 66: ">u4", 68: "u1", 69: "<u2", 70: "<u4"}
"""Typed arrays of RFC 8746 that a counting detector sends."""
_ARRAY, _COMPRESSED = 40, 56500
_SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Tag 55799 (RFC 8949, 3.4.6), with which every message of a detector begins."""
_LEGACY_TYPES = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4"}
_LEGACY_ENCODING = re.compile(r"(?:(bs(8|16|32))?-?(lz4))?<")

Pixels = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Start:
    """A series has been armed."""

    series: int
    count_s: float | None = None
    """Exposure time of its images, where it is told."""
    full_counts: int | None = None
    """Highest count that a pixel can have, where it is told."""


@dataclass(frozen=True, slots=True)
class End:
    """A series is over."""

    series: int


@dataclass(frozen=True, slots=True)
class Image:
    """One exposure; its times are the detector's own."""

    series: int
    number: int
    """Within the series, from 0."""
    pixels: Pixels
    """(rows, columns)."""
    start_s: float
    stop_s: float
    exposed_s: float | None = None
    """How long it was exposed, where it is told."""


Message = Start | Image | End


def decode(parts: Sequence[bytes], shape: tuple[int, int], threshold: str) -> Message | None:
    """A message of the stream; None for one that says nothing of a series.

    Args:
        parts: of one ZeroMQ message; one part is version 2, several are version 1.
        shape: rows and columns that an image must have.
        threshold: name of the channel of version 2 that is wanted; empty takes the first.

    Raises:
        MalformedReply: it is none, or its image is of another shape or type.
    """
    try:
        if len(parts) == 1 and not parts[0].startswith(b"{"):
            return _cbor(parts[0], shape, threshold)
        return _legacy(parts, shape)
    except MalformedReply:
        raise
    except Exception as error:  # decoders of foreign bytes raise all kinds
        raise MalformedReply(
            f"a message of the stream cannot be read ({type(error).__name__}: {error})."
        ) from error


# ---------------------------------------------------------------------------- version 2


def _cbor(data: bytes, shape: tuple[int, int], threshold: str) -> Message | None:
    # tags stay as they are: bytes are only unpacked when it is known how many they must become
    message = cbor2.loads(data.removeprefix(_SELF_DESCRIBED), strict_hashable_types=True)
    if not isinstance(message, dict):
        raise MalformedReply("a message of the stream is no map.")
    match message.get("type"):
        case "start":
            return _start(_whole(message, "series_id"), message, "saturation_value")
        case "end":
            return End(_whole(message, "series_id"))
        case "image":
            pixels = _channel(message["data"], shape, threshold)
            start_s, stop_s = (_seconds(message[key]) for key in ("start_time", "stop_time"))
            exposed_s = _seconds(message["real_time"]) if "real_time" in message else None
            series, number = _whole(message, "series_id"), _whole(message, "image_id")
            return Image(series, number, pixels, start_s, stop_s, exposed_s)
        case other:
            raise MalformedReply(f"a message of the stream has the unknown type {other!r}.")


def _channel(channels: Any, shape: tuple[int, int], threshold: str) -> Pixels:
    if not isinstance(channels, dict) or not channels:
        raise MalformedReply("an image has no channel.")
    name = threshold or next(iter(channels))
    if name not in channels:
        raise MalformedReply(
            f"an image has no channel {name!r}; it has {', '.join(map(str, channels))}. "
            "Choose one of them (option threshold)."
        )
    array = channels[name]
    if not isinstance(array, cbor2.CBORTag) or array.tag != _ARRAY:
        raise MalformedReply(f"channel {name!r} is no array of several dimensions.")
    dimensions, typed = array.value
    _expect_shape(tuple(dimensions), shape)
    if not isinstance(typed, cbor2.CBORTag) or typed.tag not in UNSIGNED:
        raise MalformedReply(f"channel {name!r} has pixels of a type that is not known here.")
    dtype = np.dtype(UNSIGNED[typed.tag])
    data = typed.value
    if isinstance(data, cbor2.CBORTag) and data.tag == _COMPRESSED:
        algorithm, element, packed = data.value
        data = _unpack(algorithm, element, packed, dtype, shape)
    return _pixels(data, dtype, shape)


def _seconds(rational: Any) -> float:
    numerator, denominator = rational
    if type(numerator) is not int or type(denominator) is not int:
        raise MalformedReply(f"a time of the detector is {rational!r}.")
    return numerator / denominator


# ---------------------------------------------------------------------------- version 1


def _legacy(parts: Sequence[bytes], shape: tuple[int, int]) -> Message | None:
    head = json.loads(parts[0])
    match head["htype"]:
        case "dheader-1.0":
            # without it, the second part is whatever a user has appended
            detailed = head.get("header_detail") in ("basic", "all") and len(parts) > 1
            config = json.loads(parts[1]) if detailed else {}
            return _start(_whole(head, "series"), config, "countrate_correction_count_cutoff")
        case "dseries_end-1.0":
            return End(_whole(head, "series"))
        case "dimage-1.0":
            if len(parts) < 4:
                raise MalformedReply(f"an image came in {len(parts)} parts instead of 4.")
        case _:
            return None
    about, times = json.loads(parts[1]), json.loads(parts[3])
    width, height = about["shape"][:2]
    _expect_shape((height, width), shape)
    if about["type"] not in _LEGACY_TYPES:
        raise MalformedReply(f"an image has pixels of the unknown type {about['type']!r}.")
    dtype = np.dtype(_LEGACY_TYPES[about["type"]])
    data = _decoded(about["encoding"], parts[2], dtype, shape)
    told = [_told(times, key) for key in ("start_time", "stop_time", "real_time")]
    start_s, stop_s, exposed_s = (None if ns is None else 1e-9 * ns for ns in told)
    if start_s is None or stop_s is None:
        raise MalformedReply(f"the times of an image are {str(times)[:80]}.")
    series, number = _whole(head, "series"), _whole(head, "frame")
    pixels = _pixels(data, dtype, shape)
    return Image(series, number, pixels, start_s, stop_s, exposed_s)


def _decoded(encoding: str, data: bytes, dtype: np.dtype[Any], shape: tuple[int, int]) -> bytes:
    found = _LEGACY_ENCODING.fullmatch(encoding)
    if found is None:
        raise MalformedReply(f"an image has the encoding {encoding!r}, which is not known here.")
    shuffled, bits, packed = found.groups()
    if not packed:
        return data
    if shuffled:
        return _unpack("bslz4", int(bits) // 8, data, dtype, shape)
    size = shape[0] * shape[1] * dtype.itemsize
    # a bare block, in the frame that the decoder expects: total size, size of blocks, size of this
    return _unpack("lz4", 0, struct.pack(">QII", size, size, len(data)) + data, dtype, shape)


# --------------------------------------------------------------------------------- both


def _unpack(
    algorithm: Any, element: Any, packed: Any, dtype: np.dtype[Any], shape: tuple[int, int]
) -> bytes:
    wanted = shape[0] * shape[1] * dtype.itemsize
    if not isinstance(packed, bytes) or element not in (0, 1, 2, 4, 8):
        raise MalformedReply(f"an image is compressed with {algorithm!r}, which is not known here.")
    return unpack(packed, str(algorithm), int(element) or dtype.itemsize, wanted)


def _pixels(data: Any, dtype: np.dtype[Any], shape: tuple[int, int]) -> Pixels:
    wanted = shape[0] * shape[1] * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != wanted:
        size = len(data) if isinstance(data, bytes) else "no"
        raise MalformedReply(f"an image came with {size} bytes; {wanted} were expected.")
    pixels: Pixels = np.frombuffer(data, dtype).reshape(shape)
    return pixels


def _expect_shape(found: tuple[Any, ...], shape: tuple[int, int]) -> None:
    if found != shape:
        raise MalformedReply(f"an image has {found} pixels instead of {shape}.")


def _whole(message: dict[str, Any], key: str) -> int:
    value = message.get(key)
    if type(value) is not int or value < 0:
        raise MalformedReply(f"a message of the stream says {key} = {value!r}.")
    return value


def _start(series: int, config: Any, full_counts: str) -> Start:
    count_s, full = _told(config, "count_time"), _told(config, full_counts)
    return Start(series, count_s or None, round(full) if full and full > 0 else None)


def _told(message: Any, key: str) -> float | None:
    """A finite number; None where there is none."""
    value = message.get(key) if isinstance(message, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
