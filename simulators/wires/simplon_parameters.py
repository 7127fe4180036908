"""The parameters of the SIMPLON API: their types, units, ranges, and what changes what.

Sources: DECTRIS SIMPLON API 1.8.0 as its public clients use it (dectris/documentation, LiberTEM-live with
DECTRIS's own DEigerClient, AustralianSynchrotron/ansto-simplon-api). Ranges are those of an ELA as far as
they are public, otherwise inferred.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

READOUT_S = 1e-7
"""Between two exposures; frame_time - count_time is never shorter."""
SHORTEST_S, LONGEST_S = 1e-6, 3600.0
MOST_IMAGES = 2_000_000_000
TRIGGER_MODES = ("ints", "inte", "exts", "exte")
COMPRESSIONS = ("lz4", "bslz4", "none")
_TYPES: dict[str, tuple[type, ...]] = {
    "float": (int, float),
    "uint": (int,),
    "string": (str,),
    "bool": (bool,),
    "list": (list,),
    "any": (object,),
}


class Refused(Exception):
    """A value that a parameter does not take."""


@dataclass(slots=True)
class Parameter:
    """One parameter and its present value."""

    value: Any
    kind: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()
    writable: bool = True

    def take(self, value: Any) -> None:
        """Set it; raises Refused."""
        fits = isinstance(value, _TYPES[self.kind])
        if isinstance(value, bool) and self.kind not in ("bool", "any"):
            fits = False
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise Refused(f"{value!r} is no {self.kind}")
        if self.allowed and value not in self.allowed:
            raise Refused(f"{value!r} is none of {', '.join(self.allowed)}")
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.kind in ("float", "uint") and not low <= value <= high:
            raise Refused(f"{value!r} is not within {low:g} to {high:g}")
        self.value = float(value) if self.kind == "float" else value

    def tell(self) -> dict[str, Any]:
        """What GET replies."""
        found: dict[str, Any] = {
            "value": self.value,
            "value_type": self.kind,
            "access_mode": "rw" if self.writable else "r",
        }
        if self.unit:
            found["unit"] = self.unit
        if self.low is not None:
            found["min"] = self.low
        if self.high is not None:
            found["max"] = self.high
        if self.allowed:
            found["allowed_values"] = list(self.allowed)
        return found


class Parameters:
    """Parameters by name; safe for use by threads.

    Args:
        table: by name.
        after: told the name of one that was set, sets others by it and returns their names.
    """

    def __init__(
        self,
        table: dict[str, Parameter],
        after: Callable[[dict[str, Parameter], str], list[str]] | None = None,
    ) -> None:
        self._table = table
        self._after = after
        self._lock = threading.RLock()

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            return self._table[name].value

    def names(self) -> list[str]:
        """All of them."""
        return sorted(self._table)

    def writable(self, name: str) -> bool:
        """Whether a client may set it."""
        return self._table[name].writable

    def put(self, name: str, value: Any) -> list[str]:
        """Set one; returns the names of all that changed by it. Raises Refused."""
        with self._lock:
            self._table[name].take(value)
            return [name, *(self._after(self._table, name) if self._after else [])]

    def tell(self, name: str) -> dict[str, Any]:
        """What GET replies for one."""
        with self._lock:
            return self._table[name].tell()

    def values(self) -> dict[str, Any]:
        """All values by name, as they are now."""
        with self._lock:
            return {name: parameter.value for name, parameter in self._table.items()}


def detector(
    width: int, height: int, bits: int, shortest_frame_s: float, serial: str
) -> Parameters:
    """The configuration of a detector."""

    def fixed(value: Any, kind: str, unit: str = "") -> Parameter:
        return Parameter(value, kind, unit, writable=False)

    table = {
        "auto_summation": Parameter(True, "bool"),
        "beam_center_x": Parameter(0.0, "float", "px"),
        "beam_center_y": Parameter(0.0, "float", "px"),
        "bit_depth_image": fixed(bits, "uint"),
        "bit_depth_readout": fixed(16, "uint"),
        "compression": Parameter("bslz4", "string", allowed=COMPRESSIONS),
        "count_time": Parameter(0.1, "float", "s", SHORTEST_S, LONGEST_S),
        "counting_mode": Parameter("normal", "string", allowed=("normal",)),
        "countrate_correction_applied": Parameter(False, "bool"),
        "data_collection_date": fixed("", "string"),
        "description": fixed("Dectris ELA", "string"),
        "detector_distance": Parameter(0.0, "float", "m", 0.0, 1e3),
        "detector_number": fixed(serial, "string"),
        "detector_readout_time": fixed(READOUT_S, "float", "s"),
        "eiger_fw_version": fixed("simulated", "string"),
        "flatfield_correction_applied": Parameter(False, "bool"),
        "frame_time": Parameter(0.1 + READOUT_S, "float", "s", shortest_frame_s, LONGEST_S),
        "incident_energy": Parameter(300e3, "float", "eV", 1e3, 1e6),
        "incident_particle_type": fixed("electrons", "string"),
        "nimages": Parameter(1, "uint", low=1, high=MOST_IMAGES),
        "ntrigger": Parameter(1, "uint", low=1, high=MOST_IMAGES),
        "number_of_excluded_pixels": fixed(0, "uint"),
        "pixel_mask_applied": Parameter(False, "bool"),
        "roi_mode": Parameter("disabled", "string", allowed=("disabled",)),
        "sensor_material": fixed("Si", "string"),
        "sensor_thickness": fixed(450e-6, "float", "m"),
        "software_version": fixed("1.8.0", "string"),
        "threshold/1/energy": Parameter(10e3, "float", "eV", 1e3, 1e6),
        "threshold/1/mode": Parameter("enabled", "string", allowed=("enabled",)),
        "threshold/2/mode": Parameter("disabled", "string", allowed=("disabled",)),
        "threshold/difference/mode": Parameter("disabled", "string", allowed=("disabled",)),
        "trigger_mode": Parameter("ints", "string", allowed=TRIGGER_MODES),
        "trigger_start_delay": Parameter(0.0, "float", "s", 0.0, 10.0),
        "virtual_pixel_correction_applied": Parameter(False, "bool"),
        "x_pixel_size": fixed(75e-6, "float", "m"),
        "x_pixels_in_detector": fixed(width, "uint"),
        "y_pixel_size": fixed(75e-6, "float", "m"),
        "y_pixels_in_detector": fixed(height, "uint"),
    }
    return Parameters(table, _times)


def stream() -> Parameters:
    """The configuration of the stream."""
    return Parameters(
        {
            "format": Parameter("legacy", "string", allowed=("legacy", "cbor")),
            "header_appendix": Parameter("", "any"),
            "header_detail": Parameter("basic", "string", allowed=("all", "basic", "none")),
            "image_appendix": Parameter("", "any"),
            "mode": Parameter("disabled", "string", allowed=("enabled", "disabled")),
        }
    )


def monitor() -> Parameters:
    """The configuration of the monitor."""
    return Parameters(
        {
            "buffer_size": Parameter(1, "uint", low=1, high=1),
            "discard_new": Parameter(False, "bool"),
            "mode": Parameter("disabled", "string", allowed=("enabled", "disabled")),
        }
    )


def filewriter() -> Parameters:
    """The configuration of the file writer, which stays disabled: nothing is written."""
    return Parameters(
        {
            "compression_enabled": Parameter(True, "bool"),
            "image_nr_start": Parameter(1, "uint", low=0, high=MOST_IMAGES),
            "mode": Parameter("disabled", "string", allowed=("disabled",)),
            "name_pattern": Parameter("series_$id", "string"),
            "nimages_per_file": Parameter(1000, "uint", low=0, high=MOST_IMAGES),
        }
    )


def statuses(values: Mapping[str, tuple[Any, str]]) -> dict[str, dict[str, Any]]:
    """What GET replies for status values of a kind each."""
    return {
        name: Parameter(value, kind, writable=False).tell()
        for name, (value, kind) in values.items()
    }


def _times(table: dict[str, Parameter], name: str) -> list[str]:
    """Keep frame_time longer than count_time, by the readout: the one that was not set gives way."""
    count, frame = table["count_time"], table["frame_time"]
    if name == "count_time" and frame.value < count.value + READOUT_S:
        frame.value = count.value + READOUT_S
        return ["frame_time"]
    if name == "frame_time" and count.value > frame.value - READOUT_S:
        count.value = max(SHORTEST_S, frame.value - READOUT_S)
        return ["count_time"]
    return []
