"""Carries out the steps of a plan, one function per kind of step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Protocol

from acquire.engine.context import RunContext
from acquire.engine.dose import Beat, image_dose, spot_dose
from acquire.engine.estimating import Judged
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder, ScanRecorder
from acquire.errors import InstrumentError, RecipeError, RunAborted
from acquire.instruments import HolderState, Spectrometer, StreamSpec
from acquire.recipe import (
    ConditionWatch,
    Hold,
    Image,
    LineScan,
    Mark,
    Outcome,
    Ramp,
    Spectrum,
    SpectrumSettings,
    Step,
    WaitForOperator,
)
from acquire.units import show

ARRIVED_CELSIUS = 0.05
"""A ramp has ended when the setpoint is this close to its target."""
POLL_S = 0.25


class RunLoop(Protocol):
    """What the engine offers to a step that is being carried out."""

    def wait(self, timeout_s: float) -> float:
        """Wait in run time until something happens or the time is up; returns seconds paused.

        Raises the error that ends the run. Pauses, if the operator asks for one.
        """

    def ask(self, message: str) -> None:
        """Wait until the operator confirms."""

    def request_pause(self, reason: str) -> None:
        """Pause at the next wait."""

    def beam(self, *, on: bool) -> None:
        """Un-blank or blank the beam."""

    @property
    def interrupted(self) -> bool:
        """Whether a pause or an end is asked for."""

    def checkpoint(self) -> float:
        """Pause or end the run here if asked to; never waits otherwise; returns seconds paused."""


class Actions:
    """The steps' way into the instruments, for one run."""

    def __init__(
        self, run: RunContext, monitor: HolderMonitor, scans: list[ScanRecorder], loop: RunLoop
    ) -> None:
        self._run = run
        self._monitor = monitor
        self._scans = scans
        self._loop = loop
        self._watch: ConditionWatch | None = None
        self._recorders: dict[str, FrameRecorder] = {}
        self.progress = math.nan
        """How far the present step is, 0 to 1."""
        self.beam_taken = False
        """Whether a step has the beam for itself."""
        self.ramp_target: Ramp | None = None
        """The ramp under way, to be taken up again after a pause."""

    def execute(self, step: Step) -> Outcome:
        """Carry out one step; raises what ends the run."""
        self.progress = 0.0
        started = self._run.now_s()
        handlers: dict[type[Step], Callable[..., str]] = {
            Ramp: self._ramp,
            Hold: self._hold,
            Image: self._image,
            LineScan: self._line_scan,
            Spectrum: self._spectrum,
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

    # ----------------------------------------------------------------------------- images

    def _image(self, step: Image) -> str:
        run = self._run
        exposure = step.scan.exposure(step.every)
        dose = image_dose(run.probe_current_pa, exposure)
        with self._beam(str(step)):
            done = 0
            while done < step.frames:
                self._demand_dose(dose)
                spec = run.station.scan.arm(exposure, step.frames - done)
                beat, before = Beat(run.clock.now_s(), step.every), done
                try:
                    recorder = self._recorder("images", step.name, spec)
                    for frame in run.station.scan.frames(run.stop):
                        beat.took(frame)
                        run.dose.add_image(dose)
                        recorder.record(frame, dose)
                        done += 1
                        self.progress = done / step.frames
                        if self._loop.interrupted:
                            break
                        if done < step.frames:
                            self._demand_dose(dose)
                finally:
                    run.station.scan.disarm()
                if run.stop.is_set() and beat.exposing(run.clock.now_s()):
                    run.dose.add_image(dose)
                if done == before:
                    self._demand_reason("scan", step.name)
                self._loop.checkpoint()
        return "done"

    # ---------------------------------------------------------------------------- spectra

    def _line_scan(self, step: LineScan) -> str:
        (x0, y0), (x1, y1) = step.from_, step.to
        spacing = math.hypot(x1 - x0, y1 - y0) / (step.points - 1)
        self._spectra(step, step.name, step.spectra, step.positions_nm(), step.points, spacing)
        return "done"

    def _spectrum(self, step: Spectrum) -> str:
        self._spectra(step, step.name, step.spectra, repeat(step.at, step.frames), step.frames, 1.0)
        return "done"

    def _spectra(
        self,
        step: Step,
        name: str,
        settings: SpectrumSettings,
        positions_nm: Iterable[tuple[float, float]],
        count: int,
        spacing_nm: float,
    ) -> None:
        run = self._run
        spectrometer = run.station.spectrometer
        if spectrometer is None:
            raise RecipeError(
                f"'{step}' needs a spectrometer, and station {run.station.station.name!r} has none."
            )
        corner_x, corner_y = self._corner_nm()
        dose = spot_dose(run.probe_current_pa, settings.dwell_time, spacing_nm)
        with self._beam(str(step)):
            taken = spectrometer.tune(settings.setting())
            run.note("spectrometer", f"tuned for {name}", {"setting": repr(taken)})
            for number, (x, y) in enumerate(positions_nm):
                self._demand_dose(dose)
                run.station.scan.park(corner_x + x, corner_y + y)
                began_s = run.now_s()
                while not self._one_spectrum(spectrometer, name, settings, dose, (x, y)):
                    self._demand_reason("spectrometer", name)
                    seen = min(1.0, (run.now_s() - began_s) / settings.dwell_time)
                    run.dose.add_spot((x, y), dose * seen, spacing_nm)
                    self._loop.checkpoint()
                    self._demand_dose(dose)
                    began_s = run.now_s()
                run.dose.add_spot((x, y), dose, spacing_nm)
                self.progress = (number + 1) / count
                self._loop.checkpoint()

    def _one_spectrum(
        self,
        spectrometer: Spectrometer,
        name: str,
        settings: SpectrumSettings,
        dose: float,
        position_nm: tuple[float, float],
    ) -> bool:
        """Take one spectrum; False if the exposure was cut."""
        spec = spectrometer.arm(settings.exposure(), 1)
        try:
            recorder = self._recorder("spectra", name, spec)
            for frame in spectrometer.frames(self._run.stop):
                recorder.record(frame, dose, position_nm)
                return True
        finally:
            spectrometer.disarm()
        return False

    def _corner_nm(self) -> tuple[float, float]:
        """Top left corner of the recorded scan, from the scan's origin."""
        stream = self._run.recipe.scan_stream
        scan = self._run.recipe.record[stream].scan if stream is not None else None
        if scan is None:
            return 0.0, 0.0
        exposure = scan.exposure()
        height = exposure.pixel_size_nm * exposure.shape[0]
        x, y = exposure.center_nm
        return x - exposure.field_of_view_nm / 2, y - height / 2

    # ----------------------------------------------------------------------------- others

    def _wait_for_operator(self, step: WaitForOperator) -> str:
        self._loop.ask(step.message)
        return "done"

    def _mark(self, step: Mark) -> str:
        self._run.note("mark", step.text)
        return "done"

    # ---------------------------------------------------------------------------- helpers

    def _recorder(self, kind: str, name: str, spec: StreamSpec) -> FrameRecorder:
        if name not in self._recorders:
            self._recorders[name] = FrameRecorder(self._run, self._monitor, kind, name, spec)
        recorder = self._recorders[name]
        if recorder.spec.channels != spec.channels:
            raise RecipeError(
                f"the stream {name!r} was begun with other settings; give this step another 'name'."
            )
        recorder.new_acquisition()
        return recorder

    def _demand_reason(self, instrument: str, name: str) -> None:
        """Without a frame there must be a pause or an end, else the step would try for ever."""
        if not (self._run.stop.is_set() or self._loop.interrupted):
            raise InstrumentError(
                f"the {instrument} ended the exposure for {name!r} by itself, without a frame."
            )

    def _demand_dose(self, dose_e_per_nm2: float) -> None:
        if not self._run.allow_dose(dose_e_per_nm2):
            self._loop.checkpoint()

    @contextmanager
    def _beam(self, reason: str) -> Iterator[None]:
        """Have the beam alone: recorded scans rest meanwhile."""
        self.beam_taken = True
        for scan in self._scans:
            scan.suspend(reason, cut=False)
        self._loop.checkpoint()
        if not self._scans:
            self._loop.beam(on=True)
        yield
        # not in a finally: when a step ends the run, recording must not begin again
        self.beam_taken = False
        if not self._scans:
            self._loop.beam(on=False)
        for scan in self._scans:
            scan.resume()
