"""Runs a plan in virtual time on simulated instruments, to tell what it will take and what would stop it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acquire.engine.checks import problems
from acquire.engine.conductor import Conductor
from acquire.engine.context import RunContext
from acquire.engine.core import Engine
from acquire.engine.disk import disk_bytes_per_s, free_bytes
from acquire.engine.earlier import NOTHING, Earlier
from acquire.engine.estimating import make_estimators, spectral_quantities
from acquire.engine.expecting import Expecting, foretells
from acquire.engine.foreseeing import (
    decides,
    judge_regulation,
    lenient,
    unfollowed,
    unmet,
    unrehearsed,
    worst_case,
)
from acquire.engine.progress import Progress
from acquire.engine.regulated import growth_window_s
from acquire.engine.saturating import saturated
from acquire.engine.status import PlannedStep, PlanView
from acquire.engine.tracing import TracingSink, thinned
from acquire.engine.twin import Unknowns, opened_twin
from acquire.errors import HotstageError, RecipeError, RunAborted
from acquire.instruments import StreamSpec
from acquire.recipe import STEPS_AT_MOST, Plan, Recipe, Regulate, Step
from acquire.station import OpenStation, Station
from acquire.store import ASSUMED_COMPRESSION, CountingSink
from acquire.stream import Estimator, Quantity
from acquire.stream.prefix import prefixed
from acquire.units import show_bytes, show_duration

DISK_RESERVE_BYTES = 500_000_000
"""A run must leave so much free."""
PATIENCE_WALL_S = 300.0
"""A script that has not ended by then, in virtual time, is taken to loop for ever."""
WORTH_MEASURING_BYTES_PER_S = 2_000_000
"""Every disk takes so much: it is not measured for a plan that needs less."""
_SPEED_MEND = "Record less, less often, or to a faster disk."
NOT_ALL = "the rest is beyond limits.run_time, and was not rehearsed"


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a run is expected to take, and everything that would stop it."""

    plan: PlanView
    results: tuple[str, ...]
    """How each step is expected to end."""
    duration_s: float
    """Run time, the way down included."""
    wall_s: float
    """The same on the wall, which a simulation's faster clock shortens."""
    dose_e_per_nm2: float
    frames: Mapping[str, int]
    expected_bytes: int
    free_bytes: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    twin: bool
    """Whether simulated instruments stood in for a real station."""
    needed_bytes_per_s: float = math.nan
    """What the disk must take per second on the wall, where the plan is fastest."""
    disk_bytes_per_s: float = math.nan
    """What it takes; NaN where it was not worth measuring, or could not be measured."""
    worst_s: float = math.nan
    """Run time if no condition is met and every decision takes its longer branch; NaN where a recipe
    decides nothing."""

    @property
    def good(self) -> bool:
        """Whether nothing would stop the run."""
        return not self.problems


def preflight(
    recipe: Recipe,
    station: Station,
    plan: Callable[[], Plan] | None = None,
    folder: Path | None = None,
    *,
    earlier: Earlier = NOTHING,
) -> Preflight:
    """Go through a recipe, or a script's plan, without touching any instrument.

    A real station is stood in for by simulated instruments under the same limits; its own drivers
    check the requests again when the run is prepared. Of channels that the simulator has not,
    nothing is foreseen.

    Args:
        recipe: what shall be run.
        station: where.
        plan: makes a script's plan anew.
        folder: where the run will be stored, for the free space.
        earlier: what a run that this one continues has used up of the recipe's limits.

    Raises:
        HotstageError: the station or an estimator cannot be made at all.
    """
    with opened_twin(station, recipe) as (opened, unknowns):
        found = [str(problem) for problem in problems(recipe, opened)]
        if found:
            return _refused(recipe, station, folder, found)
        expected = _rehearse(recipe, station, opened, unknowns, plan, folder, earlier)
    if plan is not None or not decides(tuple(recipe.distinct_steps())):
        return expected
    with opened_twin(station, recipe) as (opened, _):
        return _at_worst(expected, recipe, opened, earlier)


def _rehearse(
    recipe: Recipe,
    station: Station,
    opened: OpenStation,
    unknowns: Unknowns,
    plan: Callable[[], Plan] | None,
    folder: Path | None,
    earlier: Earlier,
) -> Preflight:
    simulation = opened.simulation
    assert simulation is not None

    unforeseen: set[str] = set()

    def make(recipe: Recipe, specs: Mapping[str, StreamSpec]) -> dict[str, Estimator]:
        expected = simulation.expected()
        made: dict[str, Estimator] = {}
        for name, inner in make_estimators(recipe, specs).items():
            entry = recipe.estimate[name]
            mute = [q for q in inner.quantities if not foretells(expected, q.name)]
            unforeseen.update(q.name for q in prefixed(mute, entry.prefix))
            window_s, period_s = growth_window_s(recipe, name), specs[entry.stream].frame_period_s
            made[name] = Expecting(name, inner, simulation, window_s, period_s)
        return made

    sink = TracingSink(1.0 if recipe.store.codec == "none" else ASSUMED_COMPRESSION)
    engine = _Rehearsal(opened)
    engine.scripted = plan is not None

    def learn(step: Step) -> None:
        found = unknowns.learn(step)
        unforeseen.update(found)
        engine.quantities.update(found)

    source = lenient(plan() if plan else recipe.plan(), unforeseen, learn)
    report = engine.run(recipe, sink, source, enforce=False, make=make, earlier=earlier)
    found = list(engine.violations)
    if report.outcome != "completed" and report.cause != NOT_ALL:
        found.append(report.cause)
    free = free_bytes(folder or Path.cwd())
    short = sink.expected_bytes + DISK_RESERVE_BYTES > free
    if short:
        found.append(
            f"the run will take about {show_bytes(sink.expected_bytes)}, and the disk has "
            f"{show_bytes(free)} free of which {show_bytes(DISK_RESERVE_BYTES)} stay in reserve. "
            "Free some space, or record less."
        )
    rate = station.file.simulation.clock_rate if station.file.simulation else 1.0
    needed = sink.needed_bytes_per_s * rate
    # what is left of a disk that is almost full may be what another run lives on
    speed, speed_problems, speed_warnings = _speed(recipe, needed, None if short else folder)
    found.extend(speed_problems)
    known, every = station.in_process, recipe.distinct_steps()
    steps = tuple(_planned(index, step) for index, step in enumerate(report.steps))
    results = tuple(str(step["outcome"]) for step in report.steps)
    times, celsius = thinned(sink.profile)
    return Preflight(
        PlanView(recipe.name, steps, times, celsius),
        results,
        report.t_end_s,
        report.t_end_s / rate,
        report.dose_e_per_nm2,
        dict(report.frames),
        sink.expected_bytes,
        free,
        tuple(found),
        (
            *unmet(engine.carried_out, steps, results, unforeseen),
            *_feedback(engine.carried_out, steps, sink, unforeseen),
            *unfollowed(engine.carried_out, recipe, spectral_quantities(recipe)),
            # of a real camera nothing is known here; it is looked at when the run is prepared
            *(saturated([*every, *engine.carried_out], opened, recipe.record) if known else ()),
            *speed_warnings,
        ),
        twin=not station.in_process,
        needed_bytes_per_s=needed,
        disk_bytes_per_s=speed,
    )


def _at_worst(
    expected: Preflight, recipe: Recipe, opened: OpenStation, earlier: Earlier
) -> Preflight:
    """What is expected, with the duration if no condition is met and every longer branch is taken."""
    engine = _Rehearsal(opened)
    report = engine.run(
        recipe,
        CountingSink(),
        worst_case(recipe.steps),
        enforce=False,
        make=lambda recipe, specs: {},
        earlier=earlier,
    )
    more = [text for text in engine.violations if text not in expected.problems]
    if report.outcome != "completed":
        more.append(report.cause)
    taken = show_duration(report.t_end_s)
    return replace(
        expected,
        worst_s=report.t_end_s,
        warnings=(
            *expected.warnings,
            *(f"at worst, if it decides otherwise and takes {taken}: {text}" for text in more),
        ),
    )


def _speed(
    recipe: Recipe, needed: float, folder: Path | None
) -> tuple[float, list[str], list[str]]:
    """How fast the disk is, and what problems and warnings follow from that."""
    if folder is None or needed < WORTH_MEASURING_BYTES_PER_S:
        return math.nan, [], []
    try:
        speed = disk_bytes_per_s(folder)
    except HotstageError as error:
        return math.nan, [], [str(error)]
    text = (
        f"where it is fastest, the run brings {show_bytes(needed)} per second, and the disk of "
        f"{folder.absolute()} takes {show_bytes(speed)} per second"
    )
    if needed > speed and recipe.store.when_behind == "fail":
        return speed, [f"{text}: it would fail (store.when_behind: fail). {_SPEED_MEND}"], []
    if needed > speed:
        return speed, [], [f"{text}: it will have to wait for the disk. {_SPEED_MEND}"]
    if needed > speed / 2:
        return speed, [], [f"{text}, which is little to spare. {_SPEED_MEND}"]
    return speed, [], []


class _RehearsalConductor(Conductor):
    """A run whose operator confirms at once and never pauses, and that ends in any case."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._give_up_at = time.monotonic() + PATIENCE_WALL_S
        self.scripted = False

    def checkpoint(self) -> float:
        """Raise what ends the rehearsal; a script may loop for ever, a recipe has an end."""
        run = self.run
        if self.scripted:
            longest = run.recipe.limits.run_time
            taken_s = run.now_s() + run.earlier.run_time_s
            if longest is not None and taken_s > longest + 2.0:  # the monitor has told
                raise RunAborted(NOT_ALL)
            if self.progress.index + 1 >= STEPS_AT_MOST:
                raise RecipeError(f"the script has not ended after {STEPS_AT_MOST} steps.")
            if time.monotonic() > self._give_up_at:
                raise RecipeError(
                    f"the script has not ended after {show_duration(run.now_s())} of run time. If "
                    "it may loop for ever, bound the loop; else set limits.run_time."
                )
        return super().checkpoint()

    def ask(self, message: str) -> None:
        """Go on."""

    def request_pause(self, reason: str, kind: str = "pause") -> None:
        """Go on."""


class _Rehearsal(Engine):
    """An engine that lists broken limits, and keeps the steps that it carried out."""

    violations: tuple[str, ...] | list[str] = ()
    carried_out: Sequence[Step] = ()
    scripted = False
    _run_context: RunContext | None = None

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What conditions of the present run may rest on; more may be added while it goes on."""
        return self._run_context.quantities if self._run_context is not None else {}

    def _conduct(self, run: RunContext, progress: Progress) -> Conductor:
        self._run_context = run
        self.violations = run.violations
        self.carried_out = progress.steps
        conductor = _RehearsalConductor(run, progress, self._enter)
        conductor.scripted = self.scripted
        return conductor


def _refused(recipe: Recipe, station: Station, folder: Path | None, found: list[str]) -> Preflight:
    steps = tuple(
        PlannedStep(index, str(step), math.nan, math.nan)
        for index, step in enumerate(recipe.flat_steps())
    )
    return Preflight(
        PlanView(recipe.name, steps),
        ("",) * len(steps),
        math.nan,
        math.nan,
        math.nan,
        {},
        0,
        free_bytes(folder or Path.cwd()),
        tuple(found),
        (),
        twin=not station.in_process,
    )


def _planned(index: int, step: Mapping[str, object]) -> PlannedStep:
    start, end = step["t_start_s"], step["t_end_s"]
    assert isinstance(start, float)
    assert isinstance(end, float)
    return PlannedStep(index, str(step["text"]), start, end - start)


def _feedback(
    carried_out: Sequence[Step],
    steps: tuple[PlannedStep, ...],
    sink: TracingSink,
    unforeseen: Collection[str],
) -> list[str]:
    """What is wrong with the course of regulate steps."""
    found = []
    for step, planned in zip(steps, carried_out, strict=True):
        if isinstance(planned, Regulate):
            if planned.quantity in unforeseen:
                found.append(unrehearsed(step, [planned.quantity]))
                continue
            end_s = step.t_start_s + step.duration_s
            rows = [row for row in sink.regulation if step.t_start_s <= row.t_s <= end_s]
            found += judge_regulation(step, planned, rows)
    return found
