"""Carries out the steps of a plan, one function per kind of step."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

from acquire.engine.context import RunContext
from acquire.engine.estimating import Judged
from acquire.engine.exposing import Exposures
from acquire.engine.monitor import HolderMonitor
from acquire.engine.regulation import Regulation
from acquire.engine.runloop import RunLoop
from acquire.engine.watching import Watching
from acquire.errors import InstrumentError, RecipeError
from acquire.instruments import HolderState
from acquire.recipe import (
    CalibrateEnergy,
    Hold,
    Image,
    LineScan,
    Mark,
    Outcome,
    Ramp,
    Regulate,
    Spectrum,
    SpectrumImage,
    Step,
    WaitForOperator,
    When,
)
from acquire.units import show

ARRIVED_CELSIUS = 0.05
"""A ramp has ended when the setpoint is this close to its target."""
POLL_S = 0.25
LEAST_S = 1e-9
"""Less time than this is none."""


class Actions:
    """What each kind of step does, for one run."""

    def __init__(
        self, run: RunContext, monitor: HolderMonitor, exposures: Exposures, loop: RunLoop
    ) -> None:
        self._run = run
        self._monitor = monitor
        self._exposures = exposures
        self._loop = loop
        self._watching = Watching(run, loop)
        self._regulation = Regulation(run, monitor, loop)
        self.progress = math.nan
        """How far the present step is, 0 to 1."""
        self._ramp_target: Ramp | None = None

    @property
    def ramp_target(self) -> Ramp | None:
        """The ramp under way, to be taken up again after a pause."""
        return self._ramp_target or self._regulation.ramp_target

    @property
    def beam_taken(self) -> bool:
        """Whether a step has the beam for itself."""
        return self._exposures.beam_taken

    @property
    def in_the_dark(self) -> bool:
        """Whether a step has the beam and un-blanks it by itself, for each of its exposures."""
        return self._exposures.in_the_dark

    def execute(self, step: Step) -> Outcome:
        """Carry out one step; raises what ends the run."""
        self.progress = 0.0
        started = self._run.now_s()
        handlers: dict[type[Step], Callable[..., str]] = {
            Ramp: self._ramp,
            Hold: self._hold,
            Regulate: self._regulate,
            When: self._watching.decide,
            Image: self._expose(self._exposures.image),
            LineScan: self._expose(self._exposures.line_scan),
            SpectrumImage: self._expose(self._exposures.spectrum_image),
            Spectrum: self._expose(self._exposures.spectrum),
            CalibrateEnergy: self._expose(self._exposures.calibrate_energy),
            WaitForOperator: self._wait_for_operator,
            Mark: self._mark,
        }
        if type(step) not in handlers:
            raise RecipeError(f"a plan yielded {step!r}, which is not a step.")
        result = handlers[type(step)](step)
        self.progress = 1.0
        values = {
            name: value
            for estimate in tuple(self._run.estimates.values())  # others may add to it
            for name, value in estimate.values.items()
        }
        return Outcome(result, started, self._run.now_s(), values)

    def judge(self, judged: Judged) -> None:
        """Show a new estimate to what the step waits for."""
        self._watching.judge(judged)

    # ------------------------------------------------------------------------ temperature

    def _ramp(self, step: Ramp) -> str:
        if step.until is None:
            self._reach(step, lambda: False)
            return "done"
        with self._watching.watching(step.until) as watch:
            met = self._reach(step, lambda: watch.met)
            if met:
                self._watching.tell_met(watch)
        return "met" if met else "done"

    def _reach(self, step: Ramp, enough: Callable[[], bool]) -> bool:
        """Ramp until the temperature is reached, or it is enough; whether it was enough."""
        start = (self._monitor.fresh() or self._monitor.latest).setpoint_celsius
        distance = abs(step.to - start)
        expected_s = distance / step.rate
        patience_s = expected_s * 1.2 + 10.0
        # the journal or the holder may have held this up, and all may have been made safe meanwhile
        self._loop.checkpoint()
        self._ramp_target = step
        try:
            self._run.station.holder.ramp(step.to, step.rate)
            elapsed_s = 0.0
            while True:
                before = self._run.now_s()
                paused_s = self._loop.wait(min(POLL_S, max(0.01, expected_s - elapsed_s)))
                elapsed_s += self._run.now_s() - before - paused_s
                if enough():
                    self._loop.checkpoint()
                    self._run.station.holder.hold()
                    return True
                reading = self._monitor.fresh()
                if reading is not None:  # else what was read before the ramp would be judged
                    left = abs(step.to - reading.setpoint_celsius)
                    self.progress = 1.0 if distance == 0 else min(1.0, 1 - left / distance)
                    if left <= ARRIVED_CELSIUS and reading.state is HolderState.HOLDING:
                        return False
                    if reading.state in (HolderState.OFF, HolderState.MAKING_SAFE):
                        raise InstrumentError(
                            f"the holder left the ramp to {show(step.to, '°C')} by itself: it is "
                            f"{reading.state.value.replace('_', ' ')}."
                        )
                if elapsed_s > patience_s:
                    raise InstrumentError(
                        f"the ramp to {show(step.to, '°C')} should have taken "
                        f"{show(expected_s, 's')}, but after {show(elapsed_s, 's')} the setpoint is "
                        f"at {show(self._monitor.latest.setpoint_celsius, '°C')}."
                    )
        finally:
            self._ramp_target = None

    def _hold(self, step: Hold) -> str:
        if step.until is None:
            self._wait_for(step.for_, lambda: False)
            return "done"
        with self._watching.watching(step.until) as watch:
            if self._wait_for(step.for_, lambda: watch.met):
                self._watching.tell_met(watch)
                return "met"
        self._watching.tell_not_met(step.until, step.for_, step.else_)
        return "time_up"

    def _regulate(self, step: Regulate) -> str:
        regulation = self._regulation
        self._come_between(step)
        with ExitStack() as stack:
            watch = stack.enter_context(self._watching.watching(step.until)) if step.until else None
            regulation.begin(step)
            stack.enter_context(
                self._watching.listening(lambda judged: regulation.listen(step, judged))
            )
            stack.callback(regulation.forget)
            elapsed_s = 0.0
            while step.for_ - elapsed_s > LEAST_S and not (watch is not None and watch.met):
                before_s = self._run.now_s()
                paused_s = self._loop.wait(min(step.for_ - elapsed_s, 1.0))
                elapsed_s = regulation.go_on(step, before_s, paused_s)
                self.progress = min(1.0, elapsed_s / step.for_)
            regulation.end(step)
            if watch is not None and watch.met:
                self._watching.tell_met(watch)
                return "met"
        if step.until is None:
            return "done"
        self._watching.tell_not_met(step.until, step.for_, step.else_)
        return "time_up"

    def _come_between(self, step: Regulate) -> None:
        """Ramp to where the step may regulate, if the setpoint is beyond."""
        low, high = step.between
        start = (self._monitor.fresh() or self._monitor.latest).setpoint_celsius
        nearest = min(max(start, low), high)
        if nearest != start:
            self._run.note("regulation", f"ramps to {show(nearest, '°C')}, where it may regulate")
            self._reach(Ramp.model_construct(to=nearest, rate=step.rate, until=None), lambda: False)

    def _wait_for(self, duration_s: float, reached: Callable[[], bool]) -> bool:
        elapsed_s = 0.0
        while not reached():
            left = duration_s - elapsed_s
            if left <= LEAST_S:
                return False
            before = self._run.now_s()
            paused_s = self._loop.wait(min(left, 1.0))
            elapsed_s += self._run.now_s() - before - paused_s
            self.progress = min(1.0, elapsed_s / duration_s)
        return True

    # ----------------------------------------------------------------------------- others

    def _expose(self, take: Callable[..., None]) -> Callable[[Step], str]:
        def run(step: Step) -> str:
            take(step, self._show)
            return "done"

        return run

    def _show(self, progress: float) -> None:
        self.progress = progress

    def _wait_for_operator(self, step: WaitForOperator) -> str:
        self._loop.ask(step.message)
        return "done"

    def _mark(self, step: Mark) -> str:
        self._run.note("mark", step.text)
        return "done"
