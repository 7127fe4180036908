"""The microscope that the temscript server speaks for: its named values, and STEM images of the simulation.

Names, units and types are those of niermann/temscript 2.1 (BSD), ``base_microscope.py`` and
``microscope.py``: lengths in m, angles in rad, high tension in kV. The STEM detectors are those of the simulation;
brightness and contrast are kept, and change nothing. The stage carries the specimen with it: x and y
move the view the other way. Unverified: the size of a STEM image (``full_size`` over binning; HALF and QUARTER
show the middle of the field with the same pixels), the list of magnifications, and that a positive beam
shift moves the field to larger x and y.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from acquire.clock import Clock, Signal
from acquire.errors import HotstageError
from acquire.instruments import ScanExposure
from simulators.scan import SimulatedScan
from simulators.world import World

VERSION = "2.1.0"
BINNINGS = (1, 2, 4, 8, 16, 32)
SIZES = {"FULL": 1, "HALF": 2, "QUARTER": 4}
MAGNIFICATIONS = tuple(
    round(value, -3)
    for value in (80e3 * 2 ** (step / 2) for step in range(18))  # about as a Titan has them
)
STAGE_LIMITS = {"x": 1e-3, "y": 1e-3, "z": 0.3e-3, "a": math.pi / 6, "b": math.pi / 6}
_NM = 1e-9
_PAIRS = (
    "image_shift",
    "beam_tilt",
    "objective_stigmator",
    "condenser_stigmator",
    "diffraction_shift",
)
_NUMBERS = {
    "defocus": 0.0,
    "intensity": 0.4,
    "illuminated_area": 1e-8,
    "probe_defocus": 0.0,
    "convergence_angle": 0.023,
}
_WHOLE = {"magnification_index": 10, "spot_size_index": 6}
_WORDS = {
    "projection_mode": ("DIFFRACTION", ("IMAGING", "DIFFRACTION")),
    "illumination_mode": ("NANOPROBE", ("NANOPROBE", "MICROPROBE")),
    "condenser_mode": ("PROBE", ("PARALLEL", "PROBE")),
    "dark_field_mode": ("OFF", ("OFF", "CARTESIAN", "CONICAL")),
    "screen_position": ("UP", ("UNKNOWN", "UP", "DOWN")),
    "instrument_mode": ("STEM", ("TEM", "STEM")),
}


class TemMicroscope:
    """Gets and puts named values; one request at a time, as its server has it.

    Args:
        world: the column and what it sees.
        scan: draws the images.
        clock: of the simulation.
        detectors: of the simulation, by the name that the microscope has for them.
        full_size: pixels of an unbinned image of the full field.
        field_times_magnification_nm: width of the full field at a magnification of 1.
        closing: ends an acquisition that runs.
    """

    def __init__(
        self,
        world: World,
        scan: SimulatedScan,
        clock: Clock,
        detectors: Mapping[str, str],
        full_size: int,
        field_times_magnification_nm: float,
        closing: Signal,
    ) -> None:
        self._world = world
        self._scan = scan
        self._clock = clock
        self._detectors = dict(detectors)
        self._full_size = full_size
        self._product_nm = field_times_magnification_nm
        self.closing = closing
        self._values: dict[str, Any] = {
            **dict.fromkeys(_PAIRS, (0.0, 0.0)),
            **_NUMBERS,
            **_WHOLE,
            **{name: word for name, (word, _) in _WORDS.items()},
        }
        self._stage = dict.fromkeys(STAGE_LIMITS, 0.0)
        self._valves_open = True
        self._blanked = world.column.blanked()
        self._rotation = 0.0
        self._acquisition: dict[str, Any] = {
            "image_size": "FULL",
            "dwell_time(s)": 1e-6,
            "binning": 1,
        }
        self._gains = {name: {"brightness": 0.5, "contrast": 0.5} for name in self._detectors}
        self._magnification = 0.0
        self.set_stem_magnification(field_times_magnification_nm / 100.0)

    # --------------------------------------------------------------------------- values

    def get(self, name: str) -> Any:
        """A value by its name; raises KeyError for one that there is not."""
        if name in self._values:
            return self._values[name]
        getters: dict[str, Callable[[], Any]] = {
            "family": lambda: "TITAN",
            "microscope_id": lambda: "simulated",
            "version": lambda: VERSION,
            "voltage": lambda: self._world.settings.beam.energy_kev,
            "vacuum": self._vacuum,
            "column_valves_open": lambda: self._valves_open,
            "stage_holder": lambda: "SINGLE_TILT",
            "stage_status": lambda: "READY",
            "stage_limits": lambda: {axis: (-end, end) for axis, end in STAGE_LIMITS.items()},
            "stage_position": lambda: dict(self._stage),
            "cameras": dict,
            "stem_detectors": self._stem_detectors,
            "stem_available": lambda: True,
            "stem_acquisition_param": lambda: dict(self._acquisition),
            "beam_shift": lambda: self._beam_shift(),
            "beam_blanked": lambda: self._blanked,
            "stem_magnification": lambda: self._magnification,
            "stem_rotation": lambda: self._rotation,
            "projection_sub_mode": lambda: "D",
            "projection_mode_string": lambda: "D",
            "indicated_camera_length": lambda: 0.1,
            "indicated_magnification": lambda: 0.0,
            "objective_excitation": lambda: 85.0,
            "screen_current": lambda: 0.0,
            "state": self._state,
        }
        return getters[name]()

    def put(self, name: str, value: Any) -> None:
        """Set a value by its name; raises KeyError for one that cannot be set, ValueError, TypeError."""
        setters: dict[str, Callable[[Any], None]] = {
            "beam_shift": self._set_beam_shift,
            "beam_blanked": self._set_blanked,
            "stem_magnification": self.set_stem_magnification,
            "stem_rotation": self._set_rotation,
        }
        if name in setters:
            setters[name](value)
        elif name in _PAIRS:
            self._values[name] = _pair(value)
        elif name in _NUMBERS:
            self._values[name] = _number(value)
        elif name in _WHOLE:
            self._values[name] = int(_number(value))
        elif name in _WORDS:
            self._values[name] = _one_of(value, _WORDS[name][1])
        else:
            raise KeyError(f"Unknown endpoint: '{name}'")

    def detector_param(self, name: str) -> dict[str, float]:
        """Brightness and contrast of a STEM detector; raises KeyError."""
        if name not in self._gains:
            raise KeyError(f"No STEM detector with name {name}")
        return dict(self._gains[name])

    def set_detector_param(self, name: str, values: Any, ignore_errors: bool) -> None:
        """Set brightness and contrast; raises KeyError, ValueError, TypeError."""
        rest = dict(values)
        gains = self.detector_param(name)
        for key in gains:
            if key in rest:
                gains[key] = min(1.0, max(0.0, _number(rest.pop(key))))
        _nothing_else(rest, ignore_errors)
        self._gains[name] = gains

    def set_acquisition(self, values: Any, ignore_errors: bool) -> None:
        """Set size, binning and dwell time of STEM images; raises ValueError, TypeError."""
        rest, taken = dict(values), dict(self._acquisition)
        readers: dict[str, Callable[[Any], Any]] = {
            "image_size": lambda size: _one_of(size, tuple(SIZES)),
            "binning": _binning,
            "dwell_time(s)": _dwell,
        }
        for key, reader in readers.items():
            if key not in rest:
                continue
            try:
                taken[key] = reader(rest.pop(key))
            except (TypeError, ValueError):
                if not ignore_errors:
                    raise
        _nothing_else(rest, ignore_errors)
        self._acquisition = taken

    def set_valves_open(self, is_open: bool) -> None:
        """Open or close the column valves."""
        self._valves_open = is_open
        self._apply_blank()

    def set_stage_position(self, position: Mapping[str, Any], method: str) -> None:
        """Drive the axes that are named; raises ValueError."""
        if method not in ("GO", "MOVE"):
            raise ValueError("Unknown movement method.")
        wanted = {axis: _number(value) for axis, value in position.items()}
        for axis, value in wanted.items():
            if abs(value) > STAGE_LIMITS[axis]:
                raise ValueError(f"The position {value} of axis {axis} is out of range.")
        shift = self._beam_shift()
        self._stage.update(wanted)
        self._set_beam_shift(shift)

    def set_stem_magnification(self, value: Any) -> None:
        """Take the nearest magnification that there is."""
        wanted = _number(value)
        if wanted <= 0:
            raise ValueError("The magnification must be above 0.")
        self._magnification = min(MAGNIFICATIONS, key=lambda known: abs(math.log(known / wanted)))

    # --------------------------------------------------------------------------- images

    def acquire(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Images of the detectors, packed for JSON; names that are not known are left out.

        Raises:
            ValueError: they cannot be taken now.
        """
        known = tuple(dict.fromkeys(name for name in names if name in self._detectors))
        if not known:
            return {}
        if self._values["instrument_mode"] != "STEM":
            raise ValueError("STEM detectors need the mode STEM.")
        turns = round(self._rotation / (math.pi / 2))
        if abs(self._rotation - turns * math.pi / 2) > 1e-3:
            raise ValueError("The simulated scan turns by 90 degrees only.")
        exposure = self._exposure(tuple(self._detectors[name] for name in known))
        try:
            self._scan.arm(exposure, 1)
            frames = list(self._scan.frames(self.closing))
        except HotstageError as error:
            raise ValueError(str(error)) from error
        finally:
            self._scan.disarm()
        if not frames:
            raise ValueError("The acquisition was ended.")
        data = frames[0].data
        return {name: _packed(np.rot90(data[self._detectors[name]], -turns)) for name in known}

    def _exposure(self, detectors: tuple[str, ...]) -> ScanExposure:
        part = SIZES[self._acquisition["image_size"]]
        size = self._full_size // part // int(self._acquisition["binning"])
        field_nm = self._product_nm / self._magnification / part
        return ScanExposure(detectors, (size, size), field_nm, self._acquisition["dwell_time(s)"])

    # --------------------------------------------------------------------------- within

    def _vacuum(self) -> dict[str, Any]:
        return {
            "status": "READY",
            "column_valves_open": self._valves_open,
            "pvp_running": False,
            "gauges(Pa)": {},
        }

    def _stem_detectors(self) -> dict[str, Any]:
        about = {"type": "STEM_DETECTOR", "binnings": list(BINNINGS)}
        return {name: dict(about) for name in self._detectors}

    def _state(self) -> dict[str, Any]:
        names = ("family", "microscope_id", "version", "voltage", "beam_blanked", "stage_position")
        return {name: self.get(name) for name in names}

    def _set_blanked(self, value: Any) -> None:
        self._blanked = bool(value)
        self._apply_blank()

    def _apply_blank(self) -> None:
        self._world.column.blank(self._blanked or not self._valves_open)

    def _set_rotation(self, value: Any) -> None:
        self._rotation = _number(value)

    def _beam_shift(self) -> tuple[float, float]:
        x, y = self._world.column.shift()
        return x * _NM + self._stage["x"], y * _NM + self._stage["y"]

    def _set_beam_shift(self, value: Any) -> None:
        wanted, column = _pair(value), self._world.column
        if max(map(abs, wanted)) > 1e-3:
            raise ValueError("The beam shift is out of range.")
        x, y = column.shift()
        column.shift_by(
            (wanted[0] - self._stage["x"]) / _NM - x, (wanted[1] - self._stage["y"]) / _NM - y
        )


def _packed(image: np.ndarray[Any, Any]) -> dict[str, Any]:
    """As temscript's ``pack_array`` writes it."""
    little = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "type": image.dtype.name.upper(),
        "endianness": "LITTLE",
        "encoding": "BASE64",
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _pair(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TypeError(f"{value!r} is not a pair of numbers")
    return _number(value[0]), _number(value[1])


def _one_of(value: Any, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ValueError(f"{value!r} is not one of {', '.join(words)}")
    return str(value)


def _binning(value: Any) -> int:
    if _number(value) not in BINNINGS:
        raise ValueError(f"The binning {value!r} is not available.")
    return int(value)


def _dwell(value: Any) -> float:
    dwell_s = _number(value)
    if not 1e-7 <= dwell_s <= 0.1:
        raise ValueError(f"The dwell time {value!r} is out of range.")
    return dwell_s


def _nothing_else(rest: dict[str, Any], ignore_errors: bool) -> None:
    if rest and not ignore_errors:
        raise ValueError("Unknown keys in parameter dictionary.")
