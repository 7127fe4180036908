"""Carries out ``regulate``: feeds estimates to the controller, and the holder with what it asks for."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

from acquire.engine.context import RunContext
from acquire.engine.estimating import Judged, periods_s
from acquire.engine.monitor import HolderMonitor
from acquire.engine.regulated import check_regulate, window_of
from acquire.engine.regulating import (
    NO_TRUST,
    Freezer,
    GrowthController,
    Tuning,
    effective_celsius,
    relative_sigma,
    wanted_growth,
)
from acquire.engine.runloop import RunLoop
from acquire.engine.slopes import Slope
from acquire.errors import InstrumentError
from acquire.instruments import HolderState
from acquire.recipe import Ramp, Regulate
from acquire.stream import Estimate, Row, Value
from acquire.units import convert, show, show_duration

TABLE = "regulation"
UNITS = {
    "frame": "1",
    "growth": "nm/min",
    "growth_sigma": "nm/min",
    "wanted": "nm/min",
    "size": "nm",
    "target": "nm",
    "temperature": "°C",
    "required": "°C",
    "setpoint": "°C",
    "latency": "s",
    "frozen": "text",
}
"""One row per estimate: what was measured on which frame, the effective temperature behind it, the one that
it would have needed, the setpoint from now on, from the exposure's end to that decision, and why the
temperature is frozen, if it is. ``size`` and ``target`` are NaN where a growth rate is regulated. A
quantity of spectra has a table of its own, ``regulation_QUANTITY``, in which ``size`` is its level and
``growth`` its rate (:mod:`acquire.engine.slopes`), in units of its own."""

BEGUN = "begun"
"""The detail of the journal's line from which on a step's time counts."""
DEADBAND_CELSIUS = 0.05
"""Smaller changes of the setpoint are not worth a command."""
LEAST_RESPONSE_S = 60.0
LEAST_SCALE = 1e-3
"""nm/min, or shares of a level's target per minute, below which no growth is told from none."""


def table_of(step: Regulate) -> tuple[str, dict[str, str]]:
    """The table of a step's decisions, and the units of its columns."""
    if not step.by_slope:
        return TABLE, UNITS
    units = {"nm/min": step.growth_unit, "nm": step.unit}
    return f"{TABLE}_{step.quantity}", {key: units.get(u, u) for key, u in UNITS.items()}


@dataclass
class _Course:
    """What one regulate step has come to."""

    controller: GrowthController
    window_s: float
    response_s: float
    scale: float
    """The largest growth that was wanted so far, in nm/min."""
    commanded_celsius: float
    within_s: float
    """An estimate that is older than this says nothing of now."""
    slope: Slope
    """Of a quantity whose growth no estimator gives."""
    freezer: Freezer = field(default_factory=Freezer)
    elapsed_s: float = 0.0
    """Without pauses."""
    seen_s: float = 0.0
    """When the last estimate came, as ``elapsed_s``."""
    left_out: str = ""
    """What is wrong with the newest estimate, if it is left out of the line through many."""
    frozen_since_s: float = 0.0
    frozen_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @classmethod
    def begun(cls, step: Regulate, window_s: float, celsius: float, within_s: float) -> _Course:
        """At the beginning of a step, at a setpoint."""
        low, high = step.between
        response_s = step.response_time or max(LEAST_RESPONSE_S, window_s)
        tuning = Tuning(low, high, step.rate, step.barrier, response_s, window_s, within_s)
        least = LEAST_SCALE * (step.target_at(math.inf) if step.by_slope else 1.0)
        scale = step.target_at(0.0) if step.is_rate else max(step.slope_at(0.0), least)
        controller = GrowthController(tuning, celsius)
        return cls(controller, window_s, response_s, scale, celsius, within_s, Slope(window_s))


class Regulation:
    """The regulate steps of one run."""

    _course: _Course

    def __init__(self, run: RunContext, monitor: HolderMonitor, loop: RunLoop) -> None:
        self._run = run
        self._monitor = monitor
        self._loop = loop
        self._declared: set[str] = set()
        self.ramp_target: Ramp | None = None
        """Where the holder is on its way to, to be taken up again after a pause."""
        self._inbox: deque[Estimate] = deque(maxlen=1)

    def begin(self, step: Regulate) -> None:
        """Prepare; raises RecipeError if a quantity is not estimated."""
        check_regulate(step, self._run.quantities)
        table, units = table_of(step)
        if table not in self._declared:
            self._run.sink.declare_rows(table, units)
            self._declared.add(table)
        self._inbox.clear()
        start = (self._monitor.fresh() or self._monitor.latest).setpoint_celsius
        recipe = self._run.recipe
        period_s = periods_s(recipe, [step.quantity])[step.quantity]
        window_s = step.window or window_of(step, recipe, period_s)
        self._course = _Course.begun(step, window_s, start, step.within_s(period_s))
        self._run.note(
            TABLE,
            f"waits at {show(start, '°C')} for estimates of {step.quantity} to rely on",
            {BEGUN: True},
        )

    def listen(self, step: Regulate, judged: Judged) -> bool:
        """Take an estimate in for the run's own thread; from the estimator's. False for another's."""
        if step.quantity not in judged.estimate.values:
            return False
        self._inbox.append(judged.estimate)
        return True

    def go_on(self, step: Regulate, before_s: float, paused_s: float) -> float:
        """Take what has come while the run loop waited into account; returns the time regulated.

        Args:
            step: what is regulated.
            before_s: when the wait began, in run time.
            paused_s: how much of it was a pause.
        """
        course = self._course
        if paused_s > 0:
            course.controller.skip(paused_s)
            self._inbox.clear()  # what was measured before the pause says nothing about now
        course.elapsed_s += self._run.now_s() - before_s - paused_s
        self._refuse_lost_heat()
        if self._inbox:
            estimate = self._inbox.pop()
            spoilt = self._spoilt(step, estimate)
            self._weigh(step, estimate, spoilt)
            course.left_out = spoilt if step.by_slope else ""
            if not course.left_out:
                course.seen_s = course.elapsed_s
        if course.elapsed_s - course.seen_s > course.within_s:
            why = f"no estimate has come for {show_duration(course.within_s)}"
            self._freeze(
                f"{why} that can be trusted: {course.left_out}" if course.left_out else why
            )
        return course.elapsed_s

    def forget(self) -> None:
        """Nothing is on its way any more."""
        self.ramp_target = None

    def end(self, step: Regulate) -> None:
        """Hold the temperature of now, and say how it went."""
        course = self._course
        if course.freezer.reason:
            course.frozen_s += course.elapsed_s - course.frozen_since_s
        self._hold()
        latencies = course.latencies_s
        details: dict[str, object] = {"estimates": len(latencies), "frozen_s": course.frozen_s}
        if latencies:
            details["latency_median_s"] = statistics.median(latencies)
            details["latency_max_s"] = max(latencies)
        self._run.note(
            TABLE,
            f"{step.quantity} was regulated for {show_duration(course.elapsed_s)} on "
            f"{len(latencies)} estimates, and frozen for {show_duration(course.frozen_s)} of it",
            details,
        )

    # -------------------------------------------------------------------------- deciding

    def _weigh(self, step: Regulate, estimate: Estimate, spoilt: str) -> None:
        run, course = self._run, self._course
        size = math.nan
        target = math.nan
        if step.by_slope:
            level, growth = self._level(step, estimate, spoilt)
        else:
            level = self._value(estimate, step.quantity, step.unit)
            growth = self._value(estimate, step.growth_quantity, step.growth_unit)
        if step.is_rate:
            wanted = step.target_at(course.elapsed_s)
        else:
            target = step.target_at(course.elapsed_s)
            size = level.value
            slope = step.slope_at(course.elapsed_s)
            wanted = wanted_growth(size, target, slope, course.response_s)
        if math.isfinite(wanted):
            course.scale = max(course.scale, wanted)
        measured = self._monitor.measured(estimate.t_s - course.window_s, estimate.t_s)
        celsius = effective_celsius(
            measured or [self._monitor.latest.measured_celsius], step.barrier
        )
        doubt = spoilt or self._doubt(step, estimate, growth)
        if not math.isfinite(celsius):
            doubt = doubt or f"the temperature during frame {estimate.frame_index} is not known"
        if spoilt and step.by_slope:
            pass  # one spectrum less in a line through many
        elif doubt:
            self._freeze(doubt)
        elif self._trusted(estimate):
            setpoint = course.controller.setpoint(
                estimate.t_s, run.now_s(), celsius, growth, wanted, course.scale
            )
            self._command(setpoint, step.rate)
        latency_s = run.now_s() - estimate.t_s
        course.latencies_s.append(latency_s)
        values: dict[str, float | str] = {
            "frame": float(estimate.frame_index),
            "growth": growth.value,
            "growth_sigma": growth.sigma,
            "wanted": wanted,
            "size": size,
            "target": target,
            "temperature": celsius,
            "required": course.controller.required_celsius,
            "setpoint": course.commanded_celsius,
            "latency": latency_s,
            "frozen": course.freezer.reason,
        }
        run.sink.append_row(Row(table_of(step)[0], run.now_s(), values))

    def _value(self, estimate: Estimate, name: str, unit: str) -> Value:
        value = estimate.values.get(name, Value(math.nan, math.nan))
        known = self._run.quantities[name].unit
        return Value(convert(value.value, known, unit), convert(value.sigma, known, unit))

    def _level(self, step: Regulate, estimate: Estimate, spoilt: str) -> tuple[Value, Value]:
        """The level and the rate of what spectra tell, by all estimates of the window that can be trusted."""
        slope = self._course.slope
        if not spoilt:
            slope.add(estimate.t_s, self._value(estimate, step.quantity, step.unit))
        return slope.fitted()

    def _spoilt(self, step: Regulate, estimate: Estimate) -> str:
        """What is wrong with an estimate itself; empty if nothing is."""
        for name in dict.fromkeys((step.quantity, step.growth_quantity)):
            spoilt = set(self._run.quantities[name].spoiled_by) & set(estimate.flags)
            value = estimate.values.get(name)
            if spoilt:
                return f"{name} of frame {estimate.frame_index} is {', '.join(sorted(spoilt))}"
            if value is None or not math.isfinite(value.value):
                return f"{name} of frame {estimate.frame_index} is not known"
        return ""

    def _doubt(self, step: Regulate, estimate: Estimate, growth: Value) -> str:
        """Why nothing can be decided yet, or on so little; empty if it can."""
        course = self._course
        age_s = self._run.now_s() - estimate.t_s
        if age_s > course.within_s:
            return f"the newest estimate is {show_duration(age_s)} old"
        what = f"the rate of {step.quantity}" if step.by_slope else step.growth_quantity
        if step.by_slope and not math.isfinite(growth.value):
            return f"{what} is not known yet, by the spectra of {show_duration(course.window_s)}"
        # a line has its σ from all of its window, and may be judged by all that is wanted
        scale = 2 * course.scale if step.by_slope else course.scale
        if not relative_sigma(growth, scale) <= NO_TRUST:
            number = f"{growth.value:.3g} ± {growth.sigma:.2g} {step.growth_unit}"
            return f"{what} = {number} is too uncertain"
        return ""

    # ------------------------------------------------------------------ freezing and heat

    def _freeze(self, reason: str) -> None:
        course = self._course
        rested = bool(course.freezer.reason)
        if not course.freezer.bad(reason):
            return
        if not rested:
            course.frozen_since_s = course.elapsed_s
        self._hold()
        self._run.note(
            TABLE, f"frozen at {show(course.commanded_celsius, '°C')}: {reason}", {"frozen": True}
        )

    def _trusted(self, estimate: Estimate) -> bool:
        """Whether it is time to decide again."""
        course = self._course
        if course.freezer.good():
            course.frozen_s += course.elapsed_s - course.frozen_since_s
            course.controller.rest(course.commanded_celsius)
            self._run.note(
                TABLE,
                f"regulates from {show(course.commanded_celsius, '°C')} on, by frame "
                f"{estimate.frame_index}",
                {"frozen": False},
            )
        return not course.freezer.reason

    def _command(self, celsius: float, rate: float) -> None:
        course = self._course
        if abs(celsius - course.commanded_celsius) < DEADBAND_CELSIUS:
            return
        # the journal or the holder may have held this up, and all may have been made safe meanwhile
        paused_s = self._loop.checkpoint()
        if paused_s > 0:
            course.controller.skip(paused_s)
            return
        self.ramp_target = Ramp.model_construct(to=celsius, rate=rate, until=None)
        self._run.station.holder.ramp(celsius, rate)
        course.commanded_celsius = celsius

    def _hold(self) -> None:
        """Freeze the setpoint where it is now."""
        self._loop.checkpoint()
        if self.ramp_target is None:
            return
        self.ramp_target = None
        self._run.station.holder.hold()
        reading = self._monitor.fresh() or self._monitor.latest
        self._course.commanded_celsius = reading.setpoint_celsius

    def _refuse_lost_heat(self) -> None:
        state = self._monitor.latest.state
        if state in (HolderState.OFF, HolderState.MAKING_SAFE):
            raise InstrumentError(
                f"the holder stopped heating by itself: it is {state.value.replace('_', ' ')}."
            )
