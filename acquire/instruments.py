"""What an instrument is: protocols, requests, readings, frames, limits.

Every driver implements one of these protocols; every simulator answers through them or on a wire
below a driver. Times ``t_*`` are seconds on the clock of the station that the instrument belongs
to; the engine relates them to the run. All methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from acquire.clock import Signal

AnyArray = NDArray[Any]


# ------------------------------------------------------------------------- descriptions


@dataclass(frozen=True, slots=True)
class Limit:
    """A closed range that a quantity must stay in, and who demands it."""

    quantity: str
    """Standard name: ``temperature``, ``ramp_rate``, ``field_of_view``, ``dwell_time``, …"""
    low: float
    high: float
    unit: str
    source: str
    """Where a person can change it: ``driver``, or a file with its key."""


@dataclass(frozen=True, slots=True)
class Description:
    """What an instrument says of itself."""

    role: str
    model: str
    driver: str
    serial: str = ""
    simulated: bool = False
    limits: tuple[Limit, ...] = ()
    detectors: tuple[str, ...] = ()
    details: Mapping[str, str | float] = field(default_factory=dict)
    """Facts that belong into the metadata of a run: beam energy (``beam_energy_kev``),
    ``convergence_semi_angle_mrad``, ``probe_current_pa``, detector angles, chip name, …"""


@dataclass(frozen=True, slots=True)
class Axis:
    """A regular axis of an array: ``offset + step · index`` in ``unit``."""

    offset: float
    step: float
    unit: str


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """One array of a frame: detector image, core-loss or low-loss spectrum."""

    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    """Standard dimension names: ``("y", "x")`` or ``("energy_loss",)``."""
    axes: Mapping[str, Axis]
    """One for every dim."""
    unit: str = "counts"
    long_name: str = ""


@dataclass(frozen=True, slots=True)
class ScalarSpec:
    """A number that accompanies every frame of a stream."""

    unit: str
    long_name: str


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What the frames of an armed acquisition look like."""

    name: str
    channels: Mapping[str, ChannelSpec]
    scalars: Mapping[str, ScalarSpec] = field(default_factory=dict)
    frame_period_s: float = 0.0
    """About the time from frame to frame; 0 if it is not known. The store packs by it."""


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """What is known of one frame beside its data."""

    scalars: Mapping[str, float] = field(default_factory=dict)
    """One float for every ``StreamSpec.scalars``."""
    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Own (t_start_s, t_end_s) of channels that were not exposed for the whole frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One exposure: every channel of it, read-only, with its time span."""

    stream: str
    index: int
    """Counts from 0. An instrument counts all frames it ever took, over all its acquisitions, so
    that a jump within one acquisition is a lost frame; a run counts the frames of one stream."""
    data: Mapping[str, AnyArray]
    t_start_s: float
    t_end_s: float
    meta: FrameMeta = field(default_factory=FrameMeta)

    def __post_init__(self) -> None:
        for array in self.data.values():
            array.setflags(write=False)


# ------------------------------------------------------------------------------- holder


class HolderState(StrEnum):
    """What a heating holder is doing."""

    OFF = "off"
    """Heater output off: the safe state is reached."""
    RAMPING = "ramping"
    HOLDING = "holding"
    MAKING_SAFE = "making_safe"
    """On its way to OFF by the armed safe state; commands are refused until it is there."""
    TRIPPED = "tripped"
    """Output off and a fault latched."""


@dataclass(frozen=True, slots=True)
class HolderReading:
    """One reading of a heating holder; NaN where the device cannot tell."""

    t_s: float
    measured_celsius: float
    setpoint_celsius: float
    """The setpoint in force now; during a ramp it moves."""
    target_celsius: float
    """Where the present ramp ends."""
    power_mw: float
    resistance_ohm: float
    state: HolderState
    fault: str = ""


@dataclass(frozen=True, slots=True)
class RampRequest:
    """A linear change of setpoint."""

    target_celsius: float
    rate_celsius_per_s: float


@dataclass(frozen=True, slots=True)
class SafeState:
    """How a heater is brought to its safe state when nobody commands it any more.

    ``cool_rate_celsius_per_s`` of None switches the output off at once; a rate cools linearly to
    ``cool_to_celsius`` first. A trip always switches off at once.
    """

    cool_rate_celsius_per_s: float | None = None
    cool_to_celsius: float = 25.0


@runtime_checkable
class Instrument(Protocol):
    """What every instrument can do."""

    def describe(self) -> Description:
        """Identity, limits and facts for the metadata."""

    def make_safe(self, reason: str) -> None:
        """Bring the instrument to its safe state; idempotent, returns at once, never raises."""


@runtime_checkable
class HeatingHolder(Instrument, Protocol):
    """A holder whose specimen temperature follows a setpoint."""

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if ``ramp`` would refuse the request; never moves anything."""

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a linear ramp from the present setpoint and return at once.

        Raises:
            LimitError: beyond a limit; nothing changes.
            FaultError: a fault is latched.
        """

    def hold(self) -> None:
        """Freeze the setpoint where it is now."""

    def read(self) -> HolderReading:
        """Read temperature, setpoint, power, resistance and state, now."""

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed from now on."""

    def clear_fault(self) -> None:
        """Unlatch a fault whose cause is gone; raises FaultError while it persists."""


# --------------------------------------------------------------------------------- scan


@dataclass(frozen=True, slots=True)
class ScanExposure:
    """How a scanned image is taken."""

    detectors: tuple[str, ...]
    shape: tuple[int, int]
    """Rows, columns."""
    field_of_view_nm: float
    """Width of the image; the pixels are square."""
    dwell_time_s: float
    frame_period_s: float = 0.0
    """Time from start to start; 0 is back to back. Between frames the instrument keeps the beam off
    the field (blanked, or parked beside it), so that the specimen sees no dose that is not counted."""
    center_nm: tuple[float, float] = (0.0, 0.0)
    """Position (x, y) of the image's centre relative to the scan's origin."""

    @property
    def pixel_size_nm(self) -> float:
        """Width of a pixel in nm."""
        return self.field_of_view_nm / self.shape[1]

    @property
    def scan_time_s(self) -> float:
        """Time that the beam dwells on pixels in one frame, in s; a scan adds its flyback."""
        return self.shape[0] * self.shape[1] * self.dwell_time_s


@runtime_checkable
class Scan(Instrument, Protocol):
    """A scan generator with its detectors; image coordinates are x to the right, y down, in nm."""

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if ``arm`` would refuse the exposure."""

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Prepare ``frames`` exposures (None: until stopped) and say what they will look like.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed already.
        """

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames in order, none left out.

        Ends after the armed number, or within 0.25 s of wall time after ``stop`` is set; an
        exposure that is cut yields nothing. Frame data is uint16, channels are the detectors.
        """

    def disarm(self) -> None:
        """End the acquisition; idempotent."""

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point, for spectra.

        Coordinates are relative to the scan's origin, as ``ScanExposure.center_nm`` is; a point of
        an image has ``x_nm = center_x + (column + 0.5 - columns / 2) · pixel_size``, likewise y.
        """

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move the field of view by a scan shift, relative to the present one."""

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam."""

    def blanked(self) -> bool:
        """Whether the beam is blanked now."""


# ------------------------------------------------------------------------- spectrometer


@dataclass(frozen=True, slots=True)
class SpectrometerSetting:
    """Where the spectrometer looks."""

    energy_offset_ev: float
    """Energy loss at the first core-loss channel."""
    dispersion_ev: float
    """Energy per channel."""
    channels: int = 2048
    dual: bool = True
    """Whether a low-loss spectrum is recorded with every core-loss spectrum."""
    off_axis_mrad: float = 0.0
    """Angle between the probe's axis and the entrance aperture's; above 0 for dark-field vibrational
    spectra. A spectrometer that cannot move it refuses all but 0."""


@dataclass(frozen=True, slots=True)
class SpectrumExposure:
    """How a spectrum is taken."""

    dwell_time_s: float
    """Of the core-loss spectrum: all of its parts together."""
    low_loss_dwell_time_s: float = 1e-3
    """Of every low-loss read."""
    low_loss_reads: int = 1
    """Low-loss spectra that are read in turn with as many equal parts of the core-loss dwell, each
    before its part. With more than one, ``low_loss`` is (reads, energy) of the dimensions
    ``("low_loss_read", "energy_loss")``, and a channel ``low_loss_time`` of the dimensions
    ``("low_loss_read", "span")`` tells begin and end of every read in s since the frame's start. A
    spectrometer that cannot do it refuses all but 1."""


@runtime_checkable
class Spectrometer(Instrument, Protocol):
    """An EELS spectrometer; frames have channels ``core_loss`` and, if dual, ``low_loss``.

    One that takes thousands a second may be :class:`~acquire.bursts.Bursts`, too.
    """

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if ``tune`` would refuse the setting."""

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set energy offset and dispersion; returns what the device really took."""

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare ``frames`` spectra of the parked probe, as :meth:`Scan.arm`."""

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra, as :meth:`Scan.frames`."""

    def disarm(self) -> None:
        """End the acquisition; idempotent."""


@runtime_checkable
class ChecksExposure(Protocol):
    """A spectrometer that can tell before it is tuned what it would refuse to expose."""

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if ``arm`` would refuse the exposure once it is tuned so; moves nothing."""


@runtime_checkable
class Channel(Instrument, Protocol):
    """Any set of scalars: resistance, pressure, gas flow.

    What it gives is known before it is read: its description's details hold the unit of every value
    under the value's own name (``{"resistance": "Ω"}``, ``"1"`` for a plain number). A name is of
    letters, digits and ``_``; a unit is one that :mod:`acquire.units` knows. No other detail may be
    a text that is a unit: further facts are numbers, or words such as a firmware.
    """

    def read(self) -> Mapping[str, float]:
        """The present values by name, measured between the call and its return; NaN for one that is not known.

        Raises:
            InstrumentError: it cannot be measured now; a later call may.
            LinkError: the device does not answer.
        """


# ---------------------------------------------------------------------------- simulation


@runtime_checkable
class Simulation(Protocol):
    """Simulated far ends that share one specimen, and the truth about it.

    Estimators never see one: the truth is for tests, for calibration and for export beside a run.
    """

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """In-process instruments by role: ``holder``, ``scan``, ``spectrometer``, channel names."""

    def describe(self) -> Mapping[str, str | float]:
        """Facts for the metadata: simulator, specimen, seed."""

    def truth(self, stream: str, index: int) -> Mapping[str, Any]:
        """What really was in one frame, by the instrument's own stream name and frame index.

        JSON-ready: ``mean_diameter_nm``, ``count``, ``particles`` (a list of dicts with ``id``,
        ``x_nm``, ``y_nm``, ``diameter_nm`` …), ``drift_nm``, ``dose_e_per_nm2``.

        Raises:
            KeyError: no such frame is remembered.
        """

    def expected(self) -> Mapping[str, float]:
        """What a perfect measurement would say now, by quantity name, for preflight only."""
