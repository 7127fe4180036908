"""What the engine writes a run to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.instruments import AnyArray, Description, Frame, FrameMeta, StreamSpec
from acquire.stream.records import Estimate, Note, Quantity, Row


@dataclass(frozen=True, slots=True)
class Continues:
    """What a segment that continues a run says of the segment before it."""

    folder: str
    """Name of that segment's folder."""
    t_end_s: float
    """Its last time."""
    t_offset_s: float
    """What its run time would have been at run time 0 of this one."""
    t_uncertainty_s: float
    """How well that is known; infinite in virtual time, which stands still between runs."""
    steps_done: int
    """Steps of the recipe that are not repeated."""
    rest: bool
    """Whether the first step is what was left of one that was cut off."""
    new_recipe: bool
    """Whether the recipe is not that of the segment before."""
    dose_e_per_nm2: float
    """What the specimen has seen in all segments before."""
    run_time_s: float
    """How long they took together."""


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What is known before the first record."""

    name: str
    recipe_yaml: str
    station_toml: str
    station: str
    instruments: Mapping[str, Description]
    epoch_unix_s: float
    """Unix time at run time 0."""
    clock_rate: float
    """Run seconds per wall second: 1, a simulation's rate, or ``inf`` in virtual time."""
    clock_relation_s: tuple[float, float] = (0.0, 0.0)
    """Offset of the instrument server's clock and its uncertainty (already applied)."""
    specimen: Mapping[str, str] = field(default_factory=dict)
    simulation: Mapping[str, str | float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    continues: Continues | None = None
    """None for a run that continues none."""
    analysis_of: str = ""
    """Folder name of the run whose stored frames were measured again; empty for a run of its own."""


@dataclass(frozen=True, slots=True)
class FrameContext:
    """What the engine adds to a frame when it is recorded; NaN where unknown."""

    temperature_before_celsius: float
    """Last holder reading that began before the exposure did."""
    temperature_after_celsius: float
    """First holder reading after the exposure ended."""
    dose_e_per_nm2: float
    """Electrons per area in this exposure."""
    source_index: int
    """The instrument's own frame number."""
    position_nm: tuple[float, float] = (float("nan"), float("nan"))
    """Where the probe rested (x, y), for spectra."""


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Many consecutive frames of one stream at once, as a fast spectrometer delivers them.

    All arrays have one row per frame and are read-only from now on.
    """

    stream: str
    first_index: int
    data: Mapping[str, AnyArray]
    """Shape (frames, *channel shape) for every channel."""
    t_start_s: NDArray[np.float64]
    t_end_s: NDArray[np.float64]
    context: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Columns by the names of :class:`FrameContext`'s fields, and of the spec's scalars; what is
    left out is NaN."""
    source_index: int = 0
    """The instrument's number of the first frame."""
    spans: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """(frames, 2): own begin and end of channels that were not exposed for the whole frame."""

    def __post_init__(self) -> None:
        for array in self.data.values():
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.t_start_s)

    def contexts(self) -> Iterator[FrameContext]:
        """What the engine knew of each of its frames."""
        unknown = np.full(len(self), np.nan)
        names = ("temperature_before_celsius", "temperature_after_celsius", "dose_e_per_nm2")
        before, after, dose, x, y = (
            self.context.get(name, unknown) for name in (*names, "position_x_nm", "position_y_nm")
        )
        for row in range(len(self)):
            yield FrameContext(
                float(before[row]),
                float(after[row]),
                float(dose[row]),
                self.source_index + row,
                (float(x[row]), float(y[row])),
            )

    def frames(self) -> Iterator[Frame]:
        """Each of its frames."""
        known = {known.name for known in fields(FrameContext)} | {"position_x_nm", "position_y_nm"}
        for row in range(len(self)):
            scalars = {n: float(c[row]) for n, c in self.context.items() if n not in known}
            spans = {n: (float(s[row, 0]), float(s[row, 1])) for n, s in self.spans.items()}
            yield Frame(
                self.stream,
                self.first_index + row,
                {name: array[row] for name, array in self.data.items()},
                float(self.t_start_s[row]),
                float(self.t_end_s[row]),
                FrameMeta(scalars, spans),
            )


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended."""

    outcome: str
    """``completed``, ``aborted`` or ``failed``."""
    cause: str
    """Why, in words; empty when completed."""
    t_end_s: float
    frames: Mapping[str, int]
    """Frames recorded, by stream."""
    steps: tuple[Mapping[str, object], ...] = ()
    """One mapping per executed step: index, text, t_start_s, t_end_s, outcome."""
    dose_e_per_nm2: float = 0.0


class Sink(Protocol):
    """Takes every record of a run, from the thread that made it; an error it raises ends the run.

    ``open`` comes first and ``close`` last. Different streams may be appended to from different
    threads at the same time; one stream is appended to by one thread at a time. Frames of a stream
    come with ``index`` rising by 1, except where ``gap`` said that some are missing.

    Nothing is ever dropped: where a sink writes in the background, what waits is bounded, and
    ``append_frame`` waits for room or raises. What fails in the background is told to
    ``on_failure`` at once, and raised by the next call.
    """

    @property
    def fullness(self) -> float:
        """How much of the room for waiting records is taken: 0 to 1."""

    def on_failure(self, tell: Callable[[StoreError], None]) -> None:
        """Call ``tell``, from any thread, when something could not be written."""

    def open(self, header: RunHeader) -> None:
        """Begin; raises StoreError if the place is taken or cannot be written."""

    def declare_frames(self, kind: str, spec: StreamSpec) -> None:
        """Say what frames of stream ``spec.name`` will look like; kind ``images`` or ``spectra``."""

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Say what estimator ``name`` gives, and the units of its table's columns."""

    def declare_rows(self, table: str, units: Mapping[str, str]) -> None:
        """Say what columns a table stream has, with units (``"text"`` for words).

        Readings of a channel are the table ``channels/NAME``.
        """

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Take a frame for good: it will be on disk, or the run ends."""

    def append_block(self, block: FrameBlock) -> None:
        """Take many consecutive frames of one stream at once."""

    def append_estimate(self, estimate: Estimate) -> None:
        """Take an estimate and its table."""

    def append_row(self, row: Row) -> None:
        """Take a line of a table stream."""

    def gap(
        self,
        stream: str,
        index: int,
        reason: str,
        count: int = 1,
        span_s: tuple[float, float] = (float("nan"), float("nan")),
    ) -> None:
        """Say that ``count`` frames of a stream from ``index`` on are missing, why, and when."""

    def note(self, note: Note) -> None:
        """Write to the journal; on disk when this returns."""

    def close(self, report: RunReport) -> None:
        """End; every record is on the disk and shows to readers when this returns."""
