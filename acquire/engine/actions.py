"""Carries out the steps of a plan, one function per kind of step."""

from __future__ import annotations

import math
from collections.abc import Callable

from acquire.engine.context import RunContext
from acquire.engine.estimating import Judged
from acquire.engine.exposing import Exposures
from acquire.engine.monitor import HolderMonitor
from acquire.engine.runloop import RunLoop
from acquire.errors import InstrumentError, RecipeError, RunAborted
from acquire.instruments import HolderState
from acquire.recipe import (
    ConditionWatch,
    Hold,
    Image,
    LineScan,
    Mark,
    Outcome,
    Ramp,
    Spectrum,
    Step,
    WaitForOperator,
)
from acquire.units import show

ARRIVED_CELSIUS = 0.05
"""A ramp has ended when the setpoint is this close to its target."""
POLL_S = 0.25


class Actions:
    """What each kind of step does, for one run."""

    def __init__(
        self, run: RunContext, monitor: HolderMonitor, exposures: Exposures, loop: RunLoop
    ) -> None:
        self._run = run
        self._monitor = monitor
        self._exposures = exposures
        self._loop = loop
        self._watch: ConditionWatch | None = None
        self.progress = math.nan
        """How far the present step is, 0 to 1."""
        self.ramp_target: Ramp | None = None
        """The ramp under way, to be taken up again after a pause."""

    @property
    def beam_taken(self) -> bool:
        """Whether a step has the beam for itself."""
        return self._exposures.beam_taken

    def execute(self, step: Step) -> Outcome:
        """Carry out one step; raises what ends the run."""
        self.progress = 0.0
        started = self._run.now_s()
        handlers: dict[type[Step], Callable[..., str]] = {
            Ramp: self._ramp,
            Hold: self._hold,
            Image: self._expose(self._exposures.image),
            LineScan: self._expose(self._exposures.line_scan),
            Spectrum: self._expose(self._exposures.spectrum),
            WaitForOperator: self._wait_for_operator,
            Mark: self._mark,
        }
        if type(step) not in handlers:
            raise RecipeError(f"a plan yielded {step!r}, which is not a step.")
        result = handlers[type(step)](step)
        self.progress = 1.0
        values = {
            name: value
            for estimate in self._run.estimates.values()
            for name, value in estimate.values.items()
        }
        return Outcome(result, started, self._run.now_s(), values)

    def judge(self, judged: Judged) -> None:
        """Show a new estimate to the condition that a step waits for."""
        watch = self._watch
        if watch is not None and watch.judge(
            judged.estimate, judged.exposure_start_s, self._run.now_s()
        ):
            self._run.wake.set()

    # ------------------------------------------------------------------------ temperature

    def _ramp(self, step: Ramp) -> str:
        start = (self._monitor.fresh() or self._monitor.latest).setpoint_celsius
        distance = abs(step.to - start)
        expected_s = distance / step.rate
        patience_s = expected_s * 1.2 + 10.0
        # the journal or the holder may have held this up, and all may have been made safe meanwhile
        self._loop.checkpoint()
        self.ramp_target = step
        try:
            self._run.station.holder.ramp(step.to, step.rate)
            elapsed_s = 0.0
            while True:
                before = self._run.now_s()
                paused_s = self._loop.wait(min(POLL_S, max(0.01, expected_s - elapsed_s)))
                elapsed_s += self._run.now_s() - before - paused_s
                reading = self._monitor.fresh()
                if reading is not None:  # else what was read before the ramp would be judged
                    left = abs(step.to - reading.setpoint_celsius)
                    self.progress = 1.0 if distance == 0 else min(1.0, 1 - left / distance)
                    if left <= ARRIVED_CELSIUS and reading.state is HolderState.HOLDING:
                        return "done"
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
            self.ramp_target = None

    def _hold(self, step: Hold) -> str:
        run = self._run
        if step.until is None:
            self._wait_for(step.for_, lambda: False)
            return "done"
        step.until.check(run.quantities)
        unit = run.quantities[step.until.quantity].unit
        watch = ConditionWatch(step.until, run.quantities[step.until.quantity], run.now_s())
        self._watch = watch
        try:
            met = self._wait_for(step.for_, lambda: watch.met_by is not None)
        finally:
            self._watch = None
        if met and watch.met_by is not None:
            value = watch.met_by.values[step.until.quantity]
            run.note(
                "condition",
                f"{step.until}: met by frame {watch.met_by.frame_index}, "
                f"{value.value:.3f} ± {value.sigma:.3f} {'' if unit == '1' else unit}".rstrip(),
                {
                    "condition": str(step.until),
                    "stream": watch.met_by.stream,
                    "frame_index": watch.met_by.frame_index,
                    "value": value.value,
                    "sigma": value.sigma,
                    "unit": unit,
                },
            )
            return "met"
        text = f"{step.until}: not met within {show(step.for_, 's')}"
        run.note("condition", text)
        if step.else_ == "abort":
            raise RunAborted(f"{text} (the recipe says to abort then)")
        if step.else_ == "pause":
            self._loop.request_pause(text)
            self._loop.wait(0.0)
        return "time_up"

    def _wait_for(self, duration_s: float, reached: Callable[[], bool]) -> bool:
        elapsed_s = 0.0
        while not reached():
            left = duration_s - elapsed_s
            if left <= 1e-9:
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
