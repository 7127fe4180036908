"""Closes the loop on simulated images: whether growth is held, and how late a decision comes."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from acquire.clock import VirtualClock, WallClock
from acquire.engine import Engine
from acquire.engine.estimating import make_estimators
from acquire.engine.expecting import Expecting
from acquire.engine.preparing import EstimatorMaker
from acquire.engine.regulation import TABLE
from acquire.errors import HotstageError
from acquire.instruments import Frame, Simulation
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.store import CountingSink
from acquire.stream import FrameContext, Row, RunReport

STATION = "simulated"
TARGET_NM_PER_MIN = 0.1
SETTLING_S = 480.0
"""Time that the controller has before it is judged."""
JUDGED_S = 600.0
NEAR = 0.2
WINDOW_S = 45.0
"""Over which the estimator averages growth: longer ones lag more than they gain in noise."""
JUDGE_S = 60.0
"""Over which the judge averages it."""

_RECIPE = """
hotstage: 1
name: closed loop
limits: {{temperature: 900 °C}}
record:
  overview: {{scan: {{detectors: [haadf], size: 512, field_of_view: 160 nm, dwell_time: {dwell}}}, every: {every}}}
estimate: {{particles: {{from: overview.haadf, growth_window: {window} s}}}}
steps:
{steps}
"""
_STEERED = """
  - ramp: {{to: 700 °C, rate: 5 °C/s}}
  - hold: {{for: 15 min, until: mean_diameter >= 4 nm for 3 frames}}
  - regulate: {{quantity: growth_rate, target: {target} nm/min, between: [650 °C, 850 °C], for: {duration} s}}
"""
_WATCHED = """
  - regulate: {quantity: growth_rate, target: 0.1 nm/min, between: [30 °C, 60 °C], for: 20 s, rate: 50 °C/s}
"""


@dataclass(frozen=True, slots=True)
class LoopResult:
    """How a steered growth went, in the last ten simulated minutes of it."""

    seed: int
    target_nm_per_min: float
    largest_error: float
    """Largest deviation of the true growth, averaged over a minute, from the target, as a share of it."""
    share_held: float
    """Share of the time in which it was within 20 %."""
    lowest_celsius: float
    highest_celsius: float
    frozen_s: float
    """Of the ten minutes."""
    estimates: int

    @property
    def held(self) -> bool:
        """Whether the growth was within 20 % of the target throughout."""
        return self.largest_error <= NEAR


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """From the end of an exposure to the decision that rests on it, on the wall, in s."""

    frame_period_s: float
    median_s: float
    largest_s: float
    """Without the first two, in which code is compiled and memory is taken."""
    decisions: int


def closed_loop(
    seed: int,
    *,
    target_nm_per_min: float = TARGET_NM_PER_MIN,
    every_s: float = 1.0,
    images: bool = True,
) -> LoopResult:
    """Steer the growth of a simulated specimen in virtual time, and judge it by the truth.

    Args:
        seed: of the specimen and of all noise.
        target_nm_per_min: of the growth rate.
        every_s: from image to image, of 512² pixels over 160 nm.
        images: False puts perfect estimates, as late as real ones, in the place of images.

    Raises:
        HotstageError: the run did not complete.
    """
    steps = _STEERED.format(target=target_nm_per_min, duration=SETTLING_S + JUDGED_S)
    recipe = Recipe.parse(
        _RECIPE.format(dwell="3 µs", every=f"{every_s} s", window=WINDOW_S, steps=steps)
    )
    with _station(seed).open(VirtualClock(), draft=not images) as opened:
        assert opened.simulation is not None
        sink = _Witness(opened.simulation)
        make = make_estimators if images else _perfect(opened.simulation)
        report = _run(opened, recipe, sink, make)
    return sink.judged(seed, target_nm_per_min, float(str(report.steps[-1]["t_end_s"])))


def latency(seed: int, *, every_s: float = 1.0) -> LatencyResult:
    """Measure on the wall clock how late decisions come, with images of 512² pixels.

    Raises:
        HotstageError: the run did not complete.
    """
    recipe = Recipe.parse(
        _RECIPE.format(dwell="1 µs", every=f"{every_s} s", window=WINDOW_S, steps=_WATCHED)
    )
    with _station(seed).open(WallClock()) as opened:
        assert opened.simulation is not None
        sink = _Witness(None)
        _run(opened, recipe, sink, make_estimators)
    late = [float(row.values["latency"]) for row in sink.decisions][2:]
    if not late:
        raise HotstageError("no decision was taken: the estimator gave nothing in 20 s.")
    return LatencyResult(every_s, float(np.median(late)), max(late), len(late))


class _Witness(CountingSink):
    """Keeps what was decided, and what really grew."""

    def __init__(self, simulation: Simulation | None) -> None:
        super().__init__()
        self._simulation = simulation
        self._keeping = threading.Lock()
        self.decisions: list[Row] = []
        self.truth: list[tuple[float, float]] = []

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Ask for the truth of now."""
        super().append_frame(frame, context)
        if self._simulation is not None:
            growth = self._simulation.expected().get("growth_rate", math.nan)
            with self._keeping:
                self.truth.append((frame.t_end_s, growth))

    def append_row(self, row: Row) -> None:
        """Keep what was decided."""
        super().append_row(row)
        if row.table == TABLE:
            with self._keeping:
                self.decisions.append(row)

    def judged(self, seed: int, target: float, end_s: float) -> LoopResult:
        """The last ten minutes."""
        t_s, growth = np.array(self.truth).T
        late = np.flatnonzero((t_s >= end_s - JUDGED_S) & (t_s <= end_s))
        minute = np.array([_mean_before(t_s, growth, t_s[at]) for at in late])
        error = np.abs(minute / target - 1)
        rows = [row for row in self.decisions if row.t_s >= end_s - JUDGED_S]
        setpoint = [float(row.values["setpoint"]) for row in rows]
        frozen = [bool(row.values["frozen"]) for row in rows]
        return LoopResult(
            seed,
            target,
            float(np.nanmax(error)),
            float(np.mean(error <= NEAR)),
            min(setpoint),
            max(setpoint),
            float(np.mean(frozen)) * JUDGED_S,
            len(rows),
        )


def _mean_before(t_s: NDArray[np.float64], values: NDArray[np.float64], end_s: float) -> float:
    return float(np.nanmean(values[(t_s > end_s - JUDGE_S) & (t_s <= end_s)]))


def _perfect(simulation: Simulation) -> EstimatorMaker:
    return lambda recipe, specs: {
        name: Expecting(name, inner, simulation, WINDOW_S)
        for name, inner in make_estimators(recipe, specs).items()
    }


def _station(seed: int) -> Station:
    station = Station.load(STATION)
    simulation = station.file.simulation
    assert simulation is not None
    changed = simulation.model_copy(update={"seed": seed})
    return replace(station, file=station.file.model_copy(update={"simulation": changed}))


def _run(opened: OpenStation, recipe: Recipe, sink: _Witness, make: EstimatorMaker) -> RunReport:
    report = Engine(opened, "hotstage bench").run(recipe, sink, make=make)
    if report.outcome != "completed":
        raise HotstageError(f"the run of the bench {report.outcome}: {report.cause}")
    return report
