"""What the engine writes a run to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from acquire.instruments import Description, Frame, StreamSpec
from acquire.stream.records import Estimate, Note, Quantity, Row


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
    """Takes every record of a run, in the thread that made it; an error it raises ends the run.

    ``open`` comes first and ``close`` last. Different streams may be appended to from different
    threads at the same time; one stream is appended to by one thread at a time. Frames of a stream
    come with ``index`` rising by 1, except where ``gap`` said that one is missing.
    """

    def open(self, header: RunHeader) -> None:
        """Begin; raises StoreError if the place is taken or cannot be written."""

    def declare_frames(self, kind: str, spec: StreamSpec) -> None:
        """Say what frames of stream ``spec.name`` will look like; kind ``images`` or ``spectra``."""

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Say what estimator ``name`` gives, and the units of its table's columns."""

    def declare_rows(self, table: str, units: Mapping[str, str]) -> None:
        """Say what columns a table stream has, with units (``"text"`` for words)."""

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Write a frame; when this returns, the data has left the process."""

    def append_estimate(self, estimate: Estimate) -> None:
        """Write an estimate and its table."""

    def append_row(self, row: Row) -> None:
        """Write a line of a table stream."""

    def gap(self, stream: str, index: int, reason: str) -> None:
        """Say that frame ``index`` of a stream is missing, and why."""

    def note(self, note: Note) -> None:
        """Write to the journal; on disk when this returns."""

    def close(self, report: RunReport) -> None:
        """End; every record has left the process and shows to readers when this returns."""
