"""What an engine says of itself: states, a frozen status, and the views that a window draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from acquire.engine.live_maps import LiveMap
from acquire.engine.station_view import ContinuationView, StationView
from acquire.instruments import AnyArray, ScanExposure

if TYPE_CHECKING:
    from acquire.engine.checked import CheckReport

NAN = float("nan")
HOST_OBJECT_ID = "hotstage.engine"
"""Under which an engine host is reached on its port."""
NOT_STARTED = "the run could not be started"
"""How the cause begins of a run that never came to be."""
NOTE_LENGTH = 20_000
"""Characters that a note of the operator may have."""


class EngineState(StrEnum):
    """Where a run is; the last three say how it ended."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    FINISHING = "finishing"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        """Whether a run is going on."""
        return self in (
            EngineState.PREPARING,
            EngineState.RUNNING,
            EngineState.PAUSING,
            EngineState.PAUSED,
            EngineState.FINISHING,
        )


@dataclass(frozen=True, slots=True)
class EstimateView:
    """The newest estimate of one quantity."""

    value: float
    sigma: float
    unit: str
    t_s: float


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot of a run; times are run seconds, NaN where unknown."""

    state: EngineState = EngineState.IDLE
    cause: str = ""
    """Why the run ended, or why it is paused; empty when all is well."""
    run_name: str = ""
    folder: str = ""
    station: str = ""
    simulated: bool = False
    clock_rate: float = 1.0
    """Run seconds per wall second."""
    server_address: str = ""
    """The instrument server, for an emergency stop that does not need the engine."""
    t_s: float = 0.0
    step_index: int = -1
    """Index of the present step, from 0; -1 before the first."""
    step_count: int = 0
    step_text: str = ""
    step_progress: float = NAN
    """0 to 1."""
    eta_s: float = NAN
    """Run seconds until the planned end."""
    measured_celsius: float = NAN
    setpoint_celsius: float = NAN
    planned_celsius: float = NAN
    reading_t_s: float = NAN
    """When the temperature was read."""
    holder_state: str = ""
    fault: str = ""
    blanked: bool = True
    beam_known: bool = True
    """False while the scan does not say whether the beam is on: what ``blanked`` tells is old."""
    control: str = ""
    """Empty while this engine holds control, else what is wrong."""
    frames: Mapping[str, int] = field(default_factory=dict)
    """Recorded frames by stream."""
    estimates: Mapping[str, EstimateView] = field(default_factory=dict)
    """By quantity name, for example ``mean_diameter``."""
    dose_e_per_nm2: float = 0.0
    dose_limit_e_per_nm2: float = NAN
    dose_used_up_s: float = NAN
    """Run time at which the limit is reached at the present rate of dose."""
    bytes_written: int = 0
    disk_free_bytes: int = 0
    store_fullness: float = 0.0
    """How much of the room for records that wait to be written is taken, 0 to 1."""
    estimators_off: tuple[str, ...] = ()
    """Estimators that failed, hung or leaked, and were disabled."""
    warnings: tuple[str, ...] = ()
    prompt: str = ""
    """What the operator is asked to confirm; empty if nothing."""
    server: str = ""
    """What is wrong with the instrument server; empty while it answers."""
    commander: str = ""
    """Who has control of the instruments, as their server tells; empty if nobody has."""
    asked_by: str = ""
    """Who asks for control; empty if nobody does."""
    driven_by: str = ""
    """Which window or script has control of this engine; empty if none has."""
    attended: tuple[str, ...] = ()
    """Every window and script that gave a sign of life lately, by its name."""
    by_hand: str = ""
    """What is on by hand, in a few words; empty if nothing is."""
    by_hand_of: str = ""
    """Who has the instruments in hand; empty if nobody has."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of the plan with its expected times, in run seconds."""

    index: int
    text: str
    t_start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan of a run as preflight expects it."""

    name: str = ""
    steps: tuple[PlannedStep, ...] = ()
    profile_t_s: tuple[float, ...] = ()
    profile_celsius: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveImage:
    """The newest frame of an image stream, with the newest estimate made of that stream."""

    serial: int
    """Rises with every frame; pass it back to get only newer ones."""
    stream: str
    index: int
    t_s: float
    pixel_size_nm: float
    detectors: Mapping[str, AnyArray]
    """(y, x) images by detector."""
    estimate_index: int = -1
    """Frame that the particle table was measured on; -1 if there is none."""
    particles: Mapping[str, AnyArray] = field(default_factory=dict)
    """Columns of that table: ``x_nm``, ``y_nm``, ``diameter_nm``, ``id``, flags …"""
    streams: tuple[str, ...] = ()
    """Every image stream that can be asked for by now."""
    place_index: int = -1
    """Frame that ``place_x_nm`` and ``place_y_nm`` were measured on, this one or the last before it
    that could be placed; -1 if none was."""
    place_x_nm: float = NAN
    """How far the specimen lies to the right of where the stream's first image had it: drift less
    scan shift."""
    place_y_nm: float = NAN
    """How far it lies down of there."""


@dataclass(frozen=True, slots=True)
class LiveSpectrum:
    """The newest spectrum: counts by channel and their energy axes."""

    serial: int
    stream: str
    index: int
    t_s: float
    counts: Mapping[str, AnyArray]
    """``core_loss`` and, if recorded, ``low_loss``."""
    energy_ev: Mapping[str, AnyArray]
    """Energy loss of every channel, as tuned and calibrated, by the same keys."""


@dataclass(frozen=True, slots=True)
class LiveNote:
    """A line for the log."""

    t_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LiveSeries:
    """Curves since a cursor: every array is 1-D float64, one element per record."""

    cursor: tuple[int, int, int]
    """Pass it back to get what is newer; (0, 0, 0) gives all that is kept."""
    run: int
    """Changes with every new run: forget the old curves then."""
    t_s: AnyArray
    measured_celsius: AnyArray
    setpoint_celsius: AnyArray
    estimate_t_s: AnyArray
    estimates: Mapping[str, AnyArray]
    """By quantity name and ``<name>_sigma``."""
    notes: tuple[LiveNote, ...]


class HostApi(Protocol):
    """What an engine host offers to windows and scripts; every call returns within its wait.

    ``who`` is how a client calls itself (:mod:`acquire.engine.clients`). One has control: the first
    that commands, until it gives it back, is gone, or another takes it. Commands of others raise
    LeaseError, but for ``heater_off``, ``abort``, ``hold``, ``mark`` and ``note``, and by hand
    ``hold``, ``blank`` and ``end``, which are everybody's. The journal has who commanded.
    """

    def status(self) -> EngineStatus:
        """The present status."""

    def plan(self) -> PlanView:
        """The plan of the present or last run."""

    def image(self, stream: str, after: int = -1, wait_s: float = 0.0) -> LiveImage | None:
        """The newest frame of a stream (``""``: of any) if its serial is above ``after``.

        Waits up to ``wait_s`` wall seconds (at most 1) for one; None if none came.
        """

    def spectrum(self, after: int = -1, wait_s: float = 0.0) -> LiveSpectrum | None:
        """The newest spectrum, as :meth:`image`."""

    def map(self, stream: str = "", after: int = -1, wait_s: float = 0.0) -> LiveMap | None:
        """A map so far (``""``: the one that changed last), as :meth:`image`; None if there is none."""

    def series(self, cursor: tuple[int, int, int] = (0, 0, 0)) -> LiveSeries:
        """What was recorded since a cursor."""

    def check(self, recipe_yaml: str) -> CheckReport:
        """What the host's station foresees of a recipe; asks and moves no instrument, also while a run is on.

        Takes seconds.

        Raises:
            RecipeError: the text is no recipe.
            HotstageError: a newer check took its place, or the station cannot be stood in for.
        """

    def start(self, recipe_yaml: str, folder: str, who: str = "") -> None:
        """Start a run of a recipe into a new folder and return at once.

        Raises:
            RecipeError, StoreError, LimitError: it cannot be run; nothing was moved.
            HotstageError: a run is going on.
        """

    def pause(self, who: str = "") -> None:
        """Pause after or within the present exposure, as the recipe says."""

    def resume(self, who: str = "") -> None:
        """Go on after a pause; nothing is replayed."""

    def hold(self, who: str = "") -> None:
        """Freeze the temperature now and pause the steps; recording goes on. Resume with ``resume``."""

    def abort(self, reason: str, who: str = "") -> None:
        """End the run safely, now."""

    def mark(self, text: str, who: str = "") -> None:
        """Note something in the run's journal."""

    def note(self, text: str, who: str = "") -> None:
        """Keep a note of the operator, of many lines if need be, in the run's journal."""

    def confirm(self, who: str = "") -> None:
        """Answer a ``wait_for_operator`` step."""

    def heater_off(self, reason: str, who: str = "") -> None:
        """Abort, and make the instruments safe at once, also if no run is on."""

    def clear_fault(self, who: str = "") -> None:
        """Unlatch a heater fault whose cause is gone."""

    def continuation(self, folder: str) -> ContinuationView:
        """See what going on with a run that was cut off would do; moves nothing.

        Raises:
            StoreError, ConfigError, RecipeError, LimitError: nothing is left to do, or it cannot be
                gone on with; the message says what can be done instead.
        """

    def continue_run(self, folder: str, who: str = "") -> None:
        """Go on with a run that was cut off, in a new segment; returns and raises as :meth:`start`."""

    def instruments(self) -> StationView:
        """The station's instruments as they last answered, and what is on by hand; asks no device."""

    def attend(self, who: str) -> bool:
        """Sign of life of a client, more often than every 3 wall s; whether it has control.

        Its control ends with the connection of this call, or some seconds after the last one.
        """

    def take_control(self, who: str) -> None:
        """Take control, also from another: what that one has in hand is made safe first, a run goes on."""

    def give_control(self, who: str) -> None:
        """Give control back: what is in hand is made safe, and the next who commands has it."""

    def manual_end(self, who: str) -> None:
        """Heater off, beam blanked; for everybody.

        All other ``manual_`` calls raise HotstageError while a run is on, and what the instruments refuse.
        """

    def manual_heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Ramp to a temperature and hold it; raises LimitError if that is not allowed."""

    def manual_cool(self, who: str, rate_celsius_per_s: float) -> None:
        """Ramp down to 25 °C, then switch the heater off."""

    def manual_hold(self, who: str) -> None:
        """Freeze the temperature where it is."""

    def manual_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        """Let the probe rest with the beam on, for at most 600 wall s, at a point of the scan's frame."""

    def manual_blank(self, who: str) -> None:
        """Blank the beam and end the live view."""

    def manual_view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """Take images that are only shown (stream ``live view``): ``frames`` of them, 0 until stopped.

        Ends by itself after ``for_s``, at most 600 wall s.
        """

    def manual_shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        """Move the field of view over the specimen by a scan shift."""
