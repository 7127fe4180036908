"""What a preflight says of a feedback: whether it reaches its target, and how long all may take at worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from acquire.engine.status import PlannedStep
from acquire.recipe import (
    AnyCondition,
    CalibrateEnergy,
    Hold,
    Image,
    LineScan,
    Plan,
    Ramp,
    Recipe,
    Regulate,
    Repeat,
    Spectrum,
    SpectrumImage,
    Step,
    When,
)
from acquire.stream import Row
from acquire.units import show, show_duration

Array = NDArray[np.float64]

NEAR = 0.2
"""A growth rate within this share of what is wanted is as wanted."""
SETTLED_SHARE = 0.5
"""What is judged of a step: the last part of it."""
AT_BOUND_CELSIUS = 1.0
SWING_CELSIUS = 10.0
"""Turns of the setpoint by less are no oscillation."""
TURNS = 4
LASTING = 0.7
"""An oscillation whose later swings reach this share of the earlier ones does not die away."""


def judge_regulation(step: PlannedStep, planned: Regulate, rows: Sequence[Row]) -> list[str]:
    """What is wrong with a regulate step as it was rehearsed, in words; empty if nothing is.

    Args:
        step: with its number and times.
        planned: the step.
        rows: of the table ``regulation``, made within the step.
    """
    name = f"step {step.index + 1} ({planned})"
    steered = [row for row in rows if not row.values["frozen"]]
    if not steered:
        why = str(rows[-1].values["frozen"]) if rows else "no estimate comes"
        return [f"{name} is not expected to regulate anything: {why}."]
    found = []
    t_s = np.array([row.t_s for row in steered])
    late = t_s >= step.t_start_s + (1 - SETTLED_SHARE) * step.duration_s
    setpoint = _column(steered, "setpoint")
    missed = _missed(planned, steered) & late
    if missed.any() and missed.sum() > NEAR * late.sum():
        found.append(
            f"{name} is not expected to reach its target: {_why(planned, steered, missed)}"
        )
    if _oscillates(setpoint):
        found.append(
            f"{name} is expected to oscillate: the setpoint swings by "
            f"{show(float(np.ptp(setpoint[late])), '°C', 2)}. Set a longer response_time, or a higher "
            "barrier."
        )
    return found


def _missed(planned: Regulate, rows: Sequence[Row]) -> NDArray[np.bool_]:
    if planned.is_rate:
        growth, wanted = _column(rows, "growth"), _column(rows, "wanted")
        return np.abs(growth - wanted) > NEAR * wanted
    size, target = _column(rows, "size"), _column(rows, "target")
    return np.abs(size - target) > NEAR / 4 * target


def _why(planned: Regulate, rows: Sequence[Row], missed: NDArray[np.bool_]) -> str:
    quantity, goal = ("growth", "wanted") if planned.is_rate else ("size", "target")
    unit = planned.unit
    is_, wanted = _column(rows, quantity)[missed], _column(rows, goal)[missed]
    text = f"{planned.quantity} is {show(float(is_[-1]), unit, 3)} instead of "
    text += show(float(wanted[-1]), unit, 3)
    setpoint = _column(rows, "setpoint")[missed]
    for bound, word in zip(planned.between, ("lowest", "highest"), strict=True):
        at = np.abs(setpoint - bound) < AT_BOUND_CELSIUS
        if at.mean() > 0.5:
            t_s = float(np.array([row.t_s for row in rows])[missed][at][0])
            return (
                f"{text}, at {show(bound, '°C')}, the {word} that it allows, from "
                f"{show_duration(t_s)} on."
            )
    return f"{text} at the end, though within its bounds."


def _oscillates(setpoint: Array) -> bool:
    """Whether it goes to and fro without dying away."""
    swings = _swings(setpoint)
    if len(swings) < TURNS:
        return False
    half = len(swings) // 2
    return max(swings[half:]) >= LASTING * max(swings[:half])


def _swings(values: Array) -> list[float]:
    """Sizes of the moves between turning points, those by less than the least not counted."""
    turns: list[float] = [float(values[0])]
    extreme, rising = float(values[0]), 0
    for value in map(float, values[1:]):
        if rising * (value - extreme) >= 0 and rising:
            extreme = value
        elif abs(value - extreme) >= SWING_CELSIUS:
            if rising:
                turns.append(extreme)
            rising, extreme = (1 if value > extreme else -1), value
    turns.append(extreme)
    return [abs(b - a) for a, b in pairwise(turns)][1:-1]


def _column(rows: Sequence[Row], name: str) -> Array:
    return np.array([float(row.values[name]) for row in rows])


# ------------------------------------------------------------------- beyond foreseeing


def lenient(source: Plan, unforeseen: Collection[str], told: Callable[[Step], None]) -> Plan:
    """The same steps, but nothing ends for want of an estimate that only a real run can give.

    Args:
        source: any plan.
        unforeseen: quantities that the simulation says nothing of; asked at every step.
        told: is shown every step before that.
    """
    try:
        step = next(source)
        while True:
            told(step)
            if isinstance(step, Hold | Regulate) and resting_on(step, unforeseen):
                step = step.model_copy(update={"else_": "continue"})
            elif (
                isinstance(step, When) and step.unknown == "abort" and resting_on(step, unforeseen)
            ):
                step = step.model_copy(update={"unknown": "continue"})
            elif isinstance(step, CalibrateEnergy):
                # what simulated spectra tell of the simulated axis says nothing of the real one
                step = step.model_copy(update={"else_": "continue"})
            step = source.send((yield step))
    except StopIteration:
        return
    finally:
        source.close()


def condition_of(step: Step) -> AnyCondition | None:
    """What a step waits for or decides by; None if nothing."""
    if isinstance(step, When):
        return step.condition
    return step.until if isinstance(step, Hold | Ramp | Regulate) else None


def resting_on(step: Step, quantities: Collection[str]) -> list[str]:
    """Those of some quantities by which the condition of a step is judged."""
    condition = condition_of(step)
    if condition is None:
        return []
    return sorted({part.quantity for part in condition.parts} & set(quantities))


def unfollowed(
    carried_out: Iterable[Step], recipe: Recipe, of_spectra: Mapping[str, str]
) -> list[str]:
    """What is to be said where steps rest on spectra of a point that nothing keeps on the specimen.

    ``of_spectra``: the stream of each quantity that spectra tell.
    """
    if any(entry.options.get("correct") == "scan_shift" for entry in recipe.estimate.values()):
        return []
    streams: set[str] = set()
    for step in carried_out:
        told = resting_on(step, of_spectra)
        told += [step.quantity] if isinstance(step, Regulate) else []
        streams |= {of_spectra[name] for name in told if name in of_spectra}
    return [
        f"steps rest on spectra of one point ({name}), and nothing keeps that on the specimen: if it "
        "drifts, a change of place is taken for one of the specimen. Record images and follow them "
        "(estimate: drift: {from: STREAM.DETECTOR, correct: scan_shift})."
        for name in sorted(streams & recipe.recorded_spectra.keys())
    ]


def unmet(
    carried_out: Sequence[Step],
    steps: Sequence[PlannedStep],
    results: Sequence[str],
    unforeseen: Collection[str],
) -> list[str]:
    """What is to be said of the conditions that no estimate met in the rehearsal."""
    found = []
    for own, step, result in zip(carried_out, steps, results, strict=True):
        beyond = resting_on(own, unforeseen)
        if beyond and result in ("time_up", "unknown"):
            found.append(unrehearsed(step, beyond))
        elif result == "time_up":
            found.append(
                f"step {step.index + 1} ({step.text}) is not expected to meet its condition within "
                f"{show_duration(step.duration_s)}."
            )
    return found


def unrehearsed(step: PlannedStep, quantities: Sequence[str]) -> str:
    """What is to be said of a step that rests on what the simulation does not know."""
    return (
        f"step {step.index + 1} ({step.text}) rests on {' and '.join(quantities)}, of which the "
        "simulation says nothing: what follows from that was not rehearsed."
    )


# --------------------------------------------------------------------------- worst case


def decides(steps: Sequence[Step]) -> bool:
    """Whether something that is measured decides what steps follow, or how long they last."""
    return any(isinstance(step, When) for step in steps)


def worst_case(steps: Sequence[Step]) -> Plan:
    """The longest course of a recipe: no condition is met, and every decision takes the longer branch."""
    for step, _ in _longest(steps, math.nan):
        yield step


def _longest(steps: Sequence[Step], celsius: float) -> Iterator[tuple[Step, float]]:
    """Steps without feedback that last as long, each with the temperature after it."""
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.times):
                for inner, after in list(_longest(step.steps, celsius)):
                    yield inner, after
                    celsius = after
        elif isinstance(step, When):
            if step.wait > 0:
                yield Hold.model_construct(for_=step.wait, until=None, else_="continue"), celsius
            branches = [list(_longest(branch, celsius)) for branch in (step.then, step.else_)]
            durations = [_lasting_s(branch, celsius) for branch in branches]
            for inner, after in branches[durations.index(max(durations))]:
                yield inner, after
                celsius = after
        elif isinstance(step, Hold | Regulate):
            if isinstance(step, Regulate):
                low, high = step.between
                celsius = min(max(celsius if math.isfinite(celsius) else 25.0, low), high)
                yield Ramp.model_construct(to=celsius, rate=step.rate, until=None), celsius
            yield Hold.model_construct(for_=step.for_, until=None, else_="continue"), celsius
        elif isinstance(step, Ramp):
            celsius = step.to
            yield step.model_copy(update={"until": None}), celsius
        else:
            yield step, celsius


def _lasting_s(steps: Sequence[tuple[Step, float]], celsius: float) -> float:
    total = 0.0
    for step, after in steps:
        if isinstance(step, Hold):
            total += step.for_
        elif isinstance(step, Ramp):
            start = celsius if math.isfinite(celsius) else 25.0
            total += abs(step.to - start) / step.rate
        elif isinstance(step, Image):
            exposure = step.scan.exposure(step.every)
            rows, columns = exposure.shape
            total += step.frames * max(step.every, rows * columns * exposure.dwell_time_s)
        elif isinstance(step, LineScan):
            total += step.points * step.spectra.exposed_s
        elif isinstance(step, SpectrumImage):
            total += step.least_duration_s
        elif isinstance(step, Spectrum):
            total += step.frames * max(1, len(step.energy_offsets)) * step.spectra.exposed_s
        celsius = after
    return total
