"""Conducts one run: prepares it, follows its plan, pauses it, and ends it safely whatever happens."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from acquire.engine.actions import Actions
from acquire.engine.beam import Beam
from acquire.engine.beside import Beside, BetweenFrames
from acquire.engine.channels import ChannelTask
from acquire.engine.checks import check_step, problems, quantities
from acquire.engine.clocks import ClockLog
from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.dosing import DoseBooks
from acquire.engine.ending import await_heater_off, leaving
from acquire.engine.estimating import EstimatorTask, Judged
from acquire.engine.exposing import Exposures
from acquire.engine.header import run_header
from acquire.engine.links import LinkWatch
from acquire.engine.monitor import HolderMonitor
from acquire.engine.pausing import Pausing
from acquire.engine.preparing import EstimatorMaker, make_recorders
from acquire.engine.progress import Progress
from acquire.engine.safekeeper import Safekeeper
from acquire.engine.saturating import NO_RECORDS, saturated
from acquire.engine.spectra_recording import SpectraRecorder
from acquire.engine.status import EngineState
from acquire.errors import FaultError, RecipeError, RunAborted
from acquire.instruments import HolderState
from acquire.recipe import Plan, Ramp, Record, Regulate, Repeat, Step
from acquire.stream import RunReport

logger = logging.getLogger(__name__)


class Conductor:
    """One run, made when it starts and kept, for its status, until the next one."""

    def __init__(
        self,
        run: RunContext,
        progress: Progress,
        enter: Callable[[EngineState], None],
    ) -> None:
        self.run = run
        self.progress = progress
        self.monitor: HolderMonitor | None = None
        self.actions: Actions | None = None
        self.prompt = ""
        """What the operator is asked to confirm."""
        self._dispatcher = run.dispatcher
        self._events = run.dispatcher.events
        self._enter = enter
        self._beside = Beside()
        self._estimators: list[EstimatorTask] = []
        self._channels: list[ChannelTask] = []
        self._disk = DiskWatch(run, progress.folder)
        self._dose = DoseBooks(run)
        self._scan_link = LinkWatch(run, "scan")
        self._safekeeper: Safekeeper | None = None
        self._beam = Beam(run, self._scan_link, self._wait_for_link)
        self.pausing = Pausing(
            run, self._beam, self._beside, enter, self._sleep, self._raise_if_ending
        )

    def conduct(self, plan: Plan | None, make: EstimatorMaker, commander: str) -> RunReport:
        """Carry the run out from taking control to giving it back; never raises."""
        run = self.run
        opened = in_control = frozen = False
        try:
            run.station.control.take(commander)
            in_control = True
            self._safekeeper = Safekeeper(run, self._make_safe)
            run.sink.on_failure(run.fail)
            run.sink.open(run_header(run))
            opened = True
            self._prepare(make)
            if math.isfinite(run.clock.rate):
                # to look for garbage among all that was imported takes 90 ms, in any thread
                gc.collect()
                gc.freeze()
                frozen = True
            self._raise_if_ending()
            self._enter(EngineState.RUNNING)
            # without a recorded scan it is blanked, but for the steps that need it
            self.beam(on=self._beside.lit)
            self._beside.resume()
            self._follow(plan if plan is not None else run.recipe.plan())
        except RunAborted as end:
            run.abort(str(end))
        except Exception as error:  # noqa: BLE001  every end of a run goes through _finish
            run.fail(error)
        except BaseException as end:  # noqa: BLE001  Ctrl-C in a script, or its exit
            run.abort(leaving(end))
        try:
            return self._finish(opened=opened, in_control=in_control)
        finally:
            if frozen:
                gc.unfreeze()

    # --------------------------------------------------------------------------- preparing

    def _prepare(self, make: EstimatorMaker) -> None:
        run, recipe, station = self.run, self.run.recipe, self.run.station
        words = f"preparing {recipe.name!r} on station {station.station.name!r}"
        started = {"by": run.by} if run.by else {}
        run.note("run", f"{words}, started by {run.by}" if run.by else words, started)
        for line in run.preface:
            run.note("by hand", line)
        found = problems(recipe, station)
        if found and run.enforce:
            raise found[0]
        run.violations.extend(map(str, found))
        self._foresee(recipe.distinct_steps(), recipe.record)
        safe = recipe.safe_state.holder()
        station.holder.arm_safe_state(safe)
        run.note(
            "armed", "safe state of the holder", {"instrument": "holder", "state": asdict(safe)}
        )
        self._clocks = ClockLog(run)
        self.monitor = monitor = HolderMonitor(run, recipe.holder_period_s, self._beat)
        if monitor.latest.state is HolderState.TRIPPED:
            raise FaultError(
                f"the heater is tripped: {monitor.latest.fault} Clear the fault before a run."
            )
        run.quantities = quantities(recipe, station)
        watched = make_recorders(
            run,
            monitor,
            self._disk,
            make,
            self._on_estimate,
            self._beside.scans,
            self._estimators,
        )
        exposures = Exposures(run, monitor, self._disk, self._beside, self, watched)
        if records := recipe.recorded_spectra:
            frames = BetweenFrames(self._beside.scans)
            self._beside.spectra = SpectraRecorder(
                run, records, frames, self._beam, exposures.beside
            )
        self.actions = Actions(run, monitor, exposures, self)
        for name, record in recipe.channels.items():
            self._channels.append(ChannelTask(run, name, record, self._on_estimate))

    def _foresee(self, steps: Iterable[Step], records: Mapping[str, Record] = NO_RECORDS) -> None:
        """Say what would go wrong and yet is not refused."""
        if self.run.enforce:
            for text in saturated(steps, self.run.station, records):
                self.run.warn(text)

    def _beat(self) -> None:
        """Look after what may go wrong slowly, whenever the holder was read."""
        self._disk.look()
        self._dose.look()
        self._clocks.look()
        for task in self._estimators:
            task.check()
        for channel in self._channels:
            channel.check()

    def _on_estimate(self, judged: Judged) -> None:
        self.run.estimates[judged.estimate.estimator] = judged.estimate
        if self.actions is not None:
            self.actions.judge(judged)
        self._dispatcher.emit(self._events.estimated, judged.estimate)

    # --------------------------------------------------------------------------- following

    def _follow(self, plan: Plan) -> None:
        run, progress, actions = self.run, self.progress, self.actions
        assert actions is not None
        try:
            step = next(plan)
        except StopIteration:
            return
        while True:
            self.checkpoint()
            if not isinstance(step, Step) or isinstance(step, Repeat):
                raise RecipeError(
                    f"a script yielded {step!r}, which is not a step. Yield what ramp(), hold() and "
                    "their like return; repeat with a loop."
                )
            if run.enforce:
                self._check(step)
            progress.begin(step)
            number = progress.index + 1
            self._dispatcher.emit(self._events.step_started, progress.index, progress.text)
            settings = step.model_dump(mode="json", by_alias=True)
            run.note(
                "action", f"begin step {number}: {step}", {"kind": step.kind, "settings": settings}
            )
            result: str | None = None
            try:
                outcome = actions.execute(step)
                result = outcome.result
            finally:
                progress.end(result)
            run.note("action", f"end step {number}: {result}")
            self._dispatcher.emit(self._events.step_finished, progress.index, result)
            try:
                step = plan.send(outcome)
            except StopIteration:
                return

    def _check(self, step: Step) -> None:
        run = self.run
        if isinstance(step, Ramp | Regulate):
            check_step(step, run.recipe, run.station)
        else:
            self._scan_link.insist(lambda: self._check_apart(step), self._wait_for_link)

    def _check_apart(self, step: Step) -> None:
        check_step(step, self.run.recipe, self.run.station)
        self._foresee([step])

    @property
    def interrupted(self) -> bool:
        """Whether a pause or an end is asked for."""
        return self.run.ending or self.pausing.asked

    def wait(self, timeout_s: float) -> float:
        """Wait in run time until something happens or the time is up; returns seconds paused."""
        paused_s = self.checkpoint()
        if timeout_s > 0:
            self._sleep(timeout_s)
            paused_s += self.checkpoint()
        return paused_s

    def _sleep(self, timeout_s: float) -> None:
        self.run.wake.wait(timeout_s)
        self.run.wake.clear()
        if self.monitor is not None:
            self.monitor.check()

    def checkpoint(self) -> float:
        """Raise what ends the run, or pause if asked to; returns seconds paused."""
        self._raise_if_ending()
        assert self.actions is not None
        return self.pausing.stay(self.actions)

    def request_pause(self, reason: str, kind: str = "pause") -> None:
        """Pause at the next wait; kind ``hold`` leaves recording and beam on."""
        self.pausing.ask(reason, kind)

    def ask(self, message: str) -> None:
        """Wait until the operator confirms."""
        self.prompt = message
        self.run.note("prompt", message)
        try:
            while self.prompt:
                self.wait(1.0)
        finally:
            self.prompt = ""

    def _raise_if_ending(self) -> None:
        if self.run.failure is not None:
            raise self.run.failure
        if self.run.abort_reason is not None:
            raise RunAborted(self.run.abort_reason)

    def confirm(self) -> None:
        """Answer what is asked."""
        self.prompt = ""
        self.run.wake.set()

    # -------------------------------------------------------------------------- finishing

    def _finish(self, *, opened: bool, in_control: bool) -> RunReport:
        run = self.run
        self._enter(EngineState.FINISHING)
        if self._safekeeper is not None:
            self._safekeeper.release()
        reason = self._reason()
        if self.monitor is not None:
            self.monitor.finishing = True
        if in_control:  # else the instruments are somebody else's, and busy
            # safety before data: the heater first, then the beam, then everything that records
            self._safely(lambda: run.station.holder.make_safe(reason))
            self._safely(self._beam.blank)
        for close in self._beside.closers():
            self._safely(close)
        if in_control:
            # also tells, by its refusal, whether an emergency off is behind what went wrong
            self._safely(run.station.scan.disarm)
            # a recorder that found its lost scan again at that very moment may have un-blanked it
            self._safely(self._beam.blank)
        if self.monitor is not None:
            monitor = self.monitor
            self._safely(lambda: await_heater_off(run, monitor))
        for task in self._estimators:
            self._safely(task.close)
        for channel in self._channels:
            self._safely(channel.close)
        if self.monitor is not None:
            self._safely(self.monitor.close)
        if in_control:
            self._safely(lambda: run.station.make_safe(reason))
        if opened:
            self._safely(self._dose.close)
            final, cause = run.ended()
            self._safely(lambda: run.note("run", f"{final.value}{': ' if cause else ''}{cause}"))
            self._safely(lambda: run.sink.close(self._report()))
        if self._safekeeper is not None:
            self._safely(self._safekeeper.close)
        if in_control:
            self._safely(run.station.control.release)
        return self._report()

    def _reason(self) -> str:
        return str(self.run.failure or self.run.abort_reason or "the run is complete")

    def _make_safe(self) -> None:
        """Do the first that every end of a run does, while the run's own thread is held up."""
        self._enter(EngineState.FINISHING)
        try:
            self.run.station.holder.make_safe(self._reason())
        finally:
            self._beam.blank()

    def _report(self) -> RunReport:
        run = self.run
        final, cause = run.ended()
        return RunReport(
            final.value,
            cause,
            run.now_s(),
            dict(run.frames),
            tuple(self.progress.done),
            run.dose.total_e_per_nm2,
        )

    def _safely(self, what: Callable[[], object]) -> None:
        """Do one part of the safe end; if it fails the run has failed, and the rest is still done."""
        try:
            what()
        except Exception as error:
            logger.exception("while ending the run")
            self.run.fail(error)
        except BaseException as end:  # noqa: BLE001  impatience must not keep the rest from its end
            self.run.abort(leaving(end))

    # ------------------------------------------------------------------------------- beam

    @property
    def beam_on(self) -> bool:
        """Whether the beam was un-blanked, and not blanked since."""
        return self._beam.on

    @property
    def beam_since_s(self) -> float:
        """Run time at which the beam was un-blanked last."""
        return self._beam.since_s

    def beam(self, *, on: bool, briefly: bool = False) -> None:
        """Un-blank or blank the beam; tries again as the recipe allows if the scan is lost."""
        self._beam.switch(on=on, briefly=briefly)

    def _wait_for_link(self, timeout_s: float) -> None:
        """Wait for an instrument in the middle of something that no pause may interrupt."""
        self._raise_if_ending()
        self._sleep(timeout_s)
        self._raise_if_ending()
