"""The messages of a DECTRIS stream: version 1 in parts with JSON heads, version 2 in CBOR.

Sources: version 2: dectris/documentation ``stream_v2/README.md``, ``stream_v2/examples/stream2.c`` and ``cbor/dectris-compression-tag.md``.
Version 1: messages as public clients read them (LiberTEM-live, several EIGER receivers): ``dheader-1.0``
with the configuration, ``dimage-1.0`` in four parts, ``dseries_end-1.0``; the shape is (width, height);
``bs32-lz4<`` has the 12 bytes of HDF5's filter at its head, ``lz4<`` is a bare block, ``<`` is raw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from simulators.wires import simplon_codecs as codecs

CHANNEL = "threshold_1"
TICKS_PER_S = 100_000_000
"""Time base of version 2."""
MULTI_DIMENSIONAL = 40
COMPRESSED = 56500
SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Tag 55799 of RFC 8949, 3.4.6: every message begins with it."""
TYPED = {"uint8": 64, "uint16": 69, "uint32": 70}
Parts = list[bytes]


@dataclass(frozen=True, slots=True)
class Series:
    """What all messages of a series share."""

    number: int
    unique: str
    armed: datetime
    config: Mapping[str, Any]
    """Of the detector, as it was when it was armed."""
    header_detail: str
    header_appendix: Any
    image_appendix: Any

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of pixels."""
        return np.dtype(f"<u{self.config['bit_depth_image'] // 8}")

    @property
    def images(self) -> int:
        """How many it has in all."""
        return int(self.config["nimages"]) * int(self.config["ntrigger"])

    @property
    def saturation(self) -> int:
        """The highest count; the one above means no data."""
        return int(np.iinfo(self.dtype).max) - 1


@dataclass(frozen=True, slots=True)
class Image:
    """One exposure; times in s since the series began."""

    number: int
    pixels: NDArray[Any]
    start_s: float
    stop_s: float
    real_s: float


class LegacyMessages:
    """Version 1."""

    def start(self, series: Series) -> Parts:
        """Head and configuration."""
        head = {
            "htype": "dheader-1.0",
            "series": series.number,
            "header_detail": series.header_detail,
        }
        parts = [_json(head)]
        if series.header_detail != "none":
            config = {k: v for k, v in series.config.items() if "/" not in k}
            energy = series.config["threshold/1/energy"]
            parts.append(_json({**config, "threshold_energy": energy}))
        return parts + _appendix(series.header_appendix)

    def image(self, series: Series, image: Image) -> Parts:
        """Four parts, and the appendix."""
        blob, encoding = _encoded_legacy(image.pixels, series.config["compression"])
        heads = (
            {
                "htype": "dimage-1.0",
                "series": series.number,
                "frame": image.number,
                "hash": hashlib.md5(blob, usedforsecurity=False).hexdigest(),
            },
            {
                "htype": "dimage_d-1.0",
                "shape": [image.pixels.shape[1], image.pixels.shape[0]],
                "type": image.pixels.dtype.name,
                "encoding": encoding,
                "size": len(blob),
            },
            {
                "htype": "dconfig-1.0",
                "start_time": round(image.start_s * 1e9),
                "stop_time": round(image.stop_s * 1e9),
                "real_time": round(image.real_s * 1e9),
            },
        )
        first, second, last = map(_json, heads)
        return [first, second, blob, last, *_appendix(series.image_appendix)]

    def end(self, series: Series) -> Parts:
        """The end of a series."""
        return [_json({"htype": "dseries_end-1.0", "series": series.number})]


class CborMessages:
    """Version 2."""

    def start(self, series: Series) -> Parts:
        """One map."""
        config = series.config
        return [
            _cbor(
                series,
                "start",
                {
                    "arm_date": series.armed,
                    "beam_center_x": config["beam_center_x"],
                    "beam_center_y": config["beam_center_y"],
                    "channels": [CHANNEL],
                    "count_time": config["count_time"],
                    "countrate_correction_enabled": config["countrate_correction_applied"],
                    "detector_description": config["description"],
                    "detector_serial_number": config["detector_number"],
                    "detector_translation": [0.0, 0.0, config["detector_distance"]],
                    "flatfield_enabled": config["flatfield_correction_applied"],
                    "frame_time": config["frame_time"],
                    "goniometer": {},
                    "image_dtype": series.dtype.name,
                    "image_size_x": config["x_pixels_in_detector"],
                    "image_size_y": config["y_pixels_in_detector"],
                    "incident_energy": config["incident_energy"],
                    "incident_wavelength": 0.0,
                    "number_of_images": series.images,
                    "pixel_mask_enabled": config["pixel_mask_applied"],
                    "pixel_size_x": config["x_pixel_size"],
                    "pixel_size_y": config["y_pixel_size"],
                    "saturation_value": series.saturation,
                    "sensor_material": config["sensor_material"],
                    "sensor_thickness": config["sensor_thickness"],
                    "threshold_energy": {CHANNEL: config["threshold/1/energy"]},
                    "user_data": series.header_appendix,
                    "virtual_pixel_interpolation_enabled": config[
                        "virtual_pixel_correction_applied"
                    ],
                },
            )
        ]

    def image(self, series: Series, image: Image) -> Parts:
        """One map."""
        return [
            _cbor(
                series,
                "image",
                {
                    "image_id": image.number,
                    "real_time": _rational(image.real_s),
                    "series_date": series.armed,
                    "start_time": _rational(image.start_s),
                    "stop_time": _rational(image.stop_s),
                    "user_data": series.image_appendix,
                    "data": {CHANNEL: _array(image.pixels, series.config["compression"])},
                },
            )
        ]

    def end(self, series: Series) -> Parts:
        """One map."""
        return [_cbor(series, "end", {})]


def _cbor(series: Series, kind: str, fields: Mapping[str, Any]) -> bytes:
    head = {"type": kind, "series_id": series.number, "series_unique_id": series.unique}
    return SELF_DESCRIBED + cbor2.dumps({**head, **fields})


def _array(pixels: NDArray[Any], compression: str) -> cbor2.CBORTag:
    data: Any = pixels.tobytes()
    if compression == "lz4":
        data = cbor2.CBORTag(COMPRESSED, ["lz4", 0, codecs.lz4(pixels)])
    elif compression == "bslz4":
        data = cbor2.CBORTag(COMPRESSED, ["bslz4", pixels.dtype.itemsize, codecs.bslz4(pixels)])
    typed = cbor2.CBORTag(TYPED[pixels.dtype.name], data)
    return cbor2.CBORTag(MULTI_DIMENSIONAL, [list(pixels.shape), typed])


def _encoded_legacy(pixels: NDArray[Any], compression: str) -> tuple[bytes, str]:
    if compression == "lz4":
        return codecs.lz4_block(pixels.tobytes()), "lz4<"
    if compression == "bslz4":
        return codecs.bslz4(pixels), f"bs{8 * pixels.dtype.itemsize}-lz4<"
    return pixels.tobytes(), "<"


def _rational(seconds: float) -> list[int]:
    return [max(0, round(seconds * TICKS_PER_S)), TICKS_PER_S]


def _appendix(appendix: Any) -> Parts:
    return [] if appendix in ("", None) else [_json(appendix)]


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()
