"""What a run is made of: frames, readings, estimates and notes, each with its time on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from acquire.bursts import SpectrumBlock
from acquire.instruments import AnyArray, Frame, StreamSpec
from acquire.stream.choice import DetectorChoice


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that an estimator gives: its standard name, unit, and what it is."""

    name: str
    """For example ``mean_diameter``; conditions in recipes use this name."""
    unit: str
    long_name: str
    spoiled_by: tuple[str, ...] = ()
    """Flags of an estimate under which no decision may rest on this quantity."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its standard uncertainty; NaN where it could not be told."""

    value: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an estimator says of one frame."""

    estimator: str
    stream: str
    frame_index: int
    t_s: float
    """End of the frame's exposure, on the frame's clock."""
    values: Mapping[str, Value]
    flags: tuple[str, ...] = ()
    """Reasons to distrust it, as short words: ``few_particles``, ``saturated``, …"""
    table: Mapping[str, AnyArray] = field(default_factory=dict)
    """One row per object (particle): equally long 1-D columns, names with units."""
    choice: DetectorChoice | None = None
    """Which detector it is from, where the estimator has chosen that itself."""


class Estimator(Protocol):
    """Turns frames into estimates; holds state between frames and is called from one thread."""

    quantities: tuple[Quantity, ...]
    columns: Mapping[str, str]
    """Unit of every column of the estimates' tables; empty if it makes none."""

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one frame; None if there is nothing to say yet."""


@runtime_checkable
class MeasuresBlocks(Protocol):
    """What an estimator of spectra may do beside: measure all spectra of a block together.

    Of a burst any other is given the newest spectrum of a block.
    """

    def update_block(self, block: SpectrumBlock) -> Estimate | None:
        """Measure a block of the stream; what it says is said of its last spectrum."""


@runtime_checkable
class Prepares(Protocol):
    """What an estimator may do beside: get ready before a run, however long that takes."""

    def prepare(self) -> None:
        """Return when frames will be measured without delay; a run begins only then.

        What goes wrong here is said by the first frame.
        """


class EstimatorFactory(Protocol):
    """What an entry point of ``hotstage.estimators`` is: called once per run with its options.

    Keyword arguments of a recipe's ``estimate`` entry other than ``from`` arrive as ``options``.
    """

    def __call__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> Estimator:
        """Make the estimator called ``name`` for one channel of a stream; ConfigError if it can't."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table stream: holder readings, channel values."""

    table: str
    t_s: float
    values: Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, for the journal and for people."""

    kind: str
    """``state``, ``action``, ``mark``, ``fault``, ``gap``, ``command``, ``estimator``, …"""
    t_s: float
    text: str
    details: Mapping[str, object] = field(default_factory=dict)
