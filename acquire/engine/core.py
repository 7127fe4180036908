"""The engine: runs a plan on an open station, obeys its operator, and ends safely whatever happens."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from acquire._version import __version__
from acquire.engine.actions import Actions
from acquire.engine.checks import check_step, problems
from acquire.engine.context import RunContext
from acquire.engine.estimating import EstimatorTask, Judged, known_quantities, make_estimators
from acquire.engine.events import Dispatcher, EngineEvents
from acquire.engine.live import LiveView
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder, ScanRecorder
from acquire.engine.status import EngineState, EngineStatus, EstimateView, PlanView
from acquire.errors import FaultError, HotstageError, RunAborted
from acquire.instruments import Frame, HolderState, StreamSpec
from acquire.recipe import Plan, Recipe, Step
from acquire.station import OpenStation
from acquire.stream import Estimator, RunHeader, RunReport, Sink

logger = logging.getLogger(__name__)

EstimatorMaker = Callable[[Recipe, Mapping[str, StreamSpec]], dict[str, Estimator]]
COOL_PATIENCE_S = 15.0
"""Beyond the time that the armed cooling takes, until a holder that is not off is reported."""


class Engine:
    """Runs recipes and scripts on one open station, one at a time.

    The same class works in a script, in the engine host's process, and under virtual time. Commands
    may come from any thread at any time; they take effect at once or within the exposure under way.
    """

    def __init__(self, station: OpenStation, commander: str = "hotstage engine") -> None:
        self.station = station
        self.live = LiveView()
        self.events = EngineEvents()
        self._commander = commander
        self._dispatcher = Dispatcher()
        self._lock = threading.Lock()
        self._state = EngineState.IDLE
        self._run: RunContext | None = None
        self._monitor: HolderMonitor | None = None
        self._actions: Actions | None = None
        self._scans: list[ScanRecorder] = []
        self._plan_view = PlanView()
        self._folder: Path | None = None
        self._disk = (0.0, 0)
        self._step_index = -1
        self._step_text = ""
        self._step_started_s = 0.0
        self._steps_total = 0
        self._cause = ""
        self._pause_reason = ""
        self._pause_kind: str | None = None
        self._resume = False
        self._prompt = ""
        self._beam_on = False

    # ----------------------------------------------------------------------------- running

    def run(
        self,
        recipe: Recipe,
        sink: Sink,
        plan: Plan | None = None,
        *,
        planned: PlanView | None = None,
        folder: Path | None = None,
        enforce: bool = True,
        make: EstimatorMaker = make_estimators,
    ) -> RunReport:
        """Run a recipe, or a plan under a recipe's header, to its end, and say how it ended.

        Blocks until the instruments are safe and the sink is closed. Refusals, aborts and failures
        are told by the report, not raised.

        Args:
            recipe: header, records, estimators and limits; its steps if ``plan`` is None.
            sink: takes every record; an error that it raises ends the run.
            plan: a script's generator of steps.
            planned: what preflight expects, for progress and ETA.
            folder: where the run is stored, to watch the disk.
            enforce: False lists broken limits of the recipe instead of ending the run.
            make: makes the estimators.

        Raises:
            HotstageError: a run is going on already.
        """
        with self._lock:
            if self._state.active:
                raise HotstageError("a run is going on; wait for its end, or abort it.")
            self._state = EngineState.PREPARING
        with self.station.clock.enrolled("engine"):
            return self._run_all(recipe, sink, plan, planned, folder, enforce, make)

    def _run_all(
        self,
        recipe: Recipe,
        sink: Sink,
        plan: Plan | None,
        planned: PlanView | None,
        folder: Path | None,
        enforce: bool,
        make: EstimatorMaker,
    ) -> RunReport:
        run = RunContext(self.station, recipe, sink, self.live, enforce)
        self.live.begin()
        self._begin(run, planned or PlanView(recipe.name), folder)
        steps: list[Mapping[str, object]] = []
        estimators: list[EstimatorTask] = []
        opened = in_control = False
        try:
            self.station.control.take(self._commander)
            in_control = True
            sink.open(self._header(run))
            opened = True
            self._prepare(run, estimators, make, scripted=plan is not None)
            self._enter(EngineState.RUNNING)
            self._beam(on=True)
            for scan in self._scans:
                scan.resume()
            self._follow(plan if plan is not None else recipe.plan(), steps)
        except RunAborted as end:
            run.abort(str(end))
        except Exception as error:  # noqa: BLE001  every end of a run goes through _finish
            run.fail(error)
        return self._finish(run, estimators, steps, opened, in_control)

    def _begin(self, run: RunContext, planned: PlanView, folder: Path | None) -> None:
        self._run, self._plan_view, self._folder = run, planned, folder
        self._monitor = self._actions = None
        self._scans = []
        self._step_index, self._step_text, self._cause = -1, "", ""
        self._steps_total = len(planned.steps) or sum(1 for _ in run.recipe.flat_steps())
        self._pause_kind, self._resume, self._prompt = None, False, ""
        self._emit_state()

    def _prepare(
        self, run: RunContext, estimators: list[EstimatorTask], make: EstimatorMaker, scripted: bool
    ) -> None:
        station, recipe = self.station, run.recipe
        run.note("run", f"preparing {recipe.name!r} on station {station.station.name!r}")
        found = problems(recipe, station)
        if found and run.enforce:
            raise found[0]
        run.violations.extend(map(str, found))
        station.holder.arm_safe_state(recipe.safe_state.holder())
        self._monitor = monitor = HolderMonitor(run, recipe.holder_period_s)
        if monitor.latest.state is HolderState.TRIPPED:
            raise FaultError(
                f"the heater is tripped: {monitor.latest.fault} Clear the fault before a run."
            )
        run.quantities = known_quantities(recipe)
        specs: dict[str, StreamSpec] = {}
        for name, entry in recipe.record.items():
            if entry.scan is not None:
                specs[name] = station.scan.arm(entry.scan.exposure(entry.every), 1)
                station.scan.disarm()
        listeners: dict[str, list[EstimatorTask]] = {name: [] for name in specs}
        for name, estimator in make(recipe, specs).items():
            task = EstimatorTask(run, name, estimator, self._on_estimate)
            estimators.append(task)
            listeners[recipe.estimate[name].stream].append(task)
        for name, spec in specs.items():
            entry_scan = recipe.record[name].scan
            assert entry_scan is not None
            recorder = FrameRecorder(
                run, monitor, "images", name, spec, self._offer_to(listeners[name])
            )
            exposure = entry_scan.exposure(recipe.record[name].every)
            self._scans.append(ScanRecorder(run, recorder, exposure))
        self._actions = Actions(run, monitor, self._scans, self)

    def _offer_to(self, tasks: list[EstimatorTask]) -> Callable[[Frame], None]:
        def offer(frame: Frame) -> None:
            for task in tasks:
                task.offer(frame)
            self._dispatcher.emit(self.events.frame_recorded, frame)

        return offer

    def _on_estimate(self, judged: Judged) -> None:
        run = self._context()
        run.estimates[judged.estimate.estimator] = judged.estimate
        if self._actions is not None:
            self._actions.judge(judged)
        self._dispatcher.emit(self.events.estimated, judged.estimate)

    def _follow(self, plan: Plan, done: list[Mapping[str, object]]) -> None:
        run, actions = self._context(), self._actions
        assert actions is not None
        step = next(plan, None)
        while step is not None:
            self.checkpoint()
            if run.enforce:
                check_step(step, run.recipe, self.station)
            self._start_step(step)
            started_s = run.now_s()
            record: dict[str, object] = {
                "index": self._step_index,
                "text": str(step),
                "t_start_s": started_s,
                "t_end_s": math.nan,
                "outcome": "interrupted",
            }
            done.append(record)
            run.note("action", f"begin step {self._step_index + 1}: {step}", {"kind": step.kind})
            try:
                outcome = actions.execute(step)
                record["outcome"] = outcome.result
            finally:
                record["t_end_s"] = run.now_s()
            run.note("action", f"end step {self._step_index + 1}: {outcome.result}")
            self._dispatcher.emit(self.events.step_finished, self._step_index, outcome.result)
            try:
                step = plan.send(outcome)
            except StopIteration:
                return

    def _start_step(self, step: Step) -> None:
        self._step_index += 1
        self._steps_total = max(self._steps_total, self._step_index + 1)
        self._step_text = str(step)
        self._step_started_s = self._context().now_s()
        self._dispatcher.emit(self.events.step_started, self._step_index, self._step_text)

    # --------------------------------------------------------------------------- finishing

    def _finish(
        self,
        run: RunContext,
        estimators: list[EstimatorTask],
        steps: list[Mapping[str, object]],
        opened: bool,
        in_control: bool,
    ) -> RunReport:
        self._enter(EngineState.FINISHING)
        reason = str(run.failure or run.abort_reason or "the run is complete")
        safely = _Safely(run)
        if in_control:  # else the instruments are somebody else's, and busy
            # safety before data: the heater first, then the beam, then everything that records
            safely(lambda: self.station.holder.make_safe(reason))
            safely(lambda: self._beam(on=False))
        for scan in self._scans:
            safely(scan.close)
        safely(self._await_heater_off)
        for task in estimators:
            safely(task.close)
        if self._monitor is not None:
            safely(self._monitor.close)
        if in_control:
            safely(lambda: self.station.make_safe(reason))
        final, cause = EngineState.COMPLETED, ""
        if run.failure is not None:
            final, cause = EngineState.FAILED, str(run.failure)
        elif run.abort_reason is not None:
            final, cause = EngineState.ABORTED, run.abort_reason
        if opened:
            safely(lambda: run.note("run", f"{final.value}{': ' if cause else ''}{cause}"))
        report = self._report(run, final, cause, steps)
        if opened:
            try:
                run.sink.close(report)
            except HotstageError as error:
                logger.error("the run could not be closed: %s", error)
                if final is not EngineState.FAILED:
                    final, cause = EngineState.FAILED, str(error)
                    report = self._report(run, final, cause, steps)
        if in_control:
            safely(self.station.control.release)
        self._cause = cause
        self._enter(final)
        self._dispatcher.drain(1.0)
        return report

    def _await_heater_off(self) -> None:
        """Record the way down, until the heater is off or should have been."""
        run, monitor = self._context(), self._monitor
        if monitor is None:
            return
        safe = run.recipe.safe_state.holder()
        patience_s = COOL_PATIENCE_S
        if safe.cool_rate_celsius_per_s is not None:
            span = abs(monitor.latest.setpoint_celsius - safe.cool_to_celsius)
            patience_s += span / safe.cool_rate_celsius_per_s
        deadline_s = run.now_s() + patience_s
        closing = run.clock.signal()
        while monitor.fresh(1.0).state not in (HolderState.OFF, HolderState.TRIPPED):
            if run.now_s() > deadline_s:
                raise FaultError(
                    f"the heater is still {monitor.latest.state.value!r} "
                    f"{patience_s:.0f} s after it was made safe. Switch it off by hand."
                )
            closing.wait(0.2)

    def _report(
        self,
        run: RunContext,
        final: EngineState,
        cause: str,
        steps: list[Mapping[str, object]],
    ) -> RunReport:
        return RunReport(
            final.value,
            cause,
            run.now_s(),
            dict(run.frames),
            tuple(steps),
            run.dose.total_e_per_nm2,
        )

    # ---------------------------------------------------------------- the steps' run loop

    @property
    def interrupted(self) -> bool:
        """Whether a pause or an end is asked for."""
        return self._context().ending or self._pause_kind is not None

    def wait(self, timeout_s: float) -> float:
        """Wait in run time until something happens or the time is up; returns seconds paused."""
        run = self._context()
        paused_s = self.checkpoint()
        if timeout_s > 0:
            run.wake.wait(timeout_s)
            run.wake.clear()
            paused_s += self.checkpoint()
        return paused_s

    def checkpoint(self) -> float:
        """Raise what ends the run, or pause if asked to; returns seconds paused."""
        run = self._context()
        self._raise_if_ending(run)
        if self._pause_kind is None:
            return 0.0
        began_s = run.now_s()
        self._stay_paused(run, self._pause_kind)
        return run.now_s() - began_s

    def ask(self, message: str) -> None:
        """Wait until the operator confirms."""
        run = self._context()
        self._prompt = message
        run.note("prompt", message)
        try:
            while self._prompt:
                self.wait(1.0)
        finally:
            self._prompt = ""

    def request_pause(self, reason: str) -> None:
        """Pause at the next wait, for a reason of the run's own."""
        self._pause_reason = reason
        self._pause_kind = "pause"

    def _raise_if_ending(self, run: RunContext) -> None:
        if run.failure is not None:
            raise run.failure
        if run.abort_reason is not None:
            raise RunAborted(run.abort_reason)

    def _stay_paused(self, run: RunContext, kind: str) -> None:
        actions = self._actions
        assert actions is not None
        settings = run.recipe.pause
        self._enter(EngineState.PAUSING)
        run.note("state", f"pausing: {self._pause_reason}")
        freeze = actions.ramp_target is not None and (
            kind == "hold" or settings.temperature == "hold"
        )
        if freeze:
            self.station.holder.hold()
        if kind == "pause":
            for scan in self._scans:
                scan.suspend("paused", cut=settings.exposure == "cut")
            self._beam(on=False)
        self._enter(EngineState.PAUSED)
        self._cause = self._pause_reason
        while not self._resume:
            self._raise_if_ending(run)
            run.wake.wait(1.0)
            run.wake.clear()
        self._resume = False
        self._pause_kind = None
        run.stop.clear()
        self._raise_if_ending(run)
        if kind == "pause":
            self._beam(on=True)
            if not actions.beam_taken:
                for scan in self._scans:
                    scan.resume()
        target = actions.ramp_target
        if freeze and target is not None:
            self.station.holder.ramp(target.to, target.rate)
        self._cause = ""
        run.note("state", "resumed; nothing is replayed")
        self._enter(EngineState.RUNNING)

    # ---------------------------------------------------------------------------- commands

    def pause(self, reason: str = "by the operator") -> None:
        """Pause after or within the present exposure, as the recipe says."""
        self._interrupt("pause", reason)

    def hold(self, reason: str = "temperature held by the operator") -> None:
        """Freeze the temperature and pause the steps; recording goes on."""
        self._interrupt("hold", reason)

    def _interrupt(self, kind: str, reason: str) -> None:
        run = self._running("pause")
        if self._state is not EngineState.RUNNING:
            raise HotstageError(f"the run cannot be paused while it is {self._state.value}.")
        self._pause_reason = reason
        self._pause_kind = kind
        if kind == "pause" and run.recipe.pause.exposure == "cut":
            run.stop.set()
        run.note("command", f"{kind}: {reason}")
        run.wake.set()

    def resume(self) -> None:
        """Go on after a pause; nothing is replayed."""
        run = self._running("resume")
        if self._pause_kind is None:
            raise HotstageError("the run is not paused.")
        run.note("command", "resume")
        self._resume = True
        run.wake.set()

    def abort(self, reason: str = "by the operator") -> None:
        """End the run safely, now."""
        run = self._running("abort")
        run.abort(reason)
        with _logged_errors():
            run.note("command", f"abort: {reason}")

    def mark(self, text: str) -> None:
        """Note something in the run's journal."""
        self._running("mark").note("mark", text)

    def confirm(self) -> None:
        """Answer a ``wait_for_operator`` step."""
        run = self._running("confirm")
        if not self._prompt:
            raise HotstageError("nothing waits for a confirmation.")
        run.note("command", f"confirmed: {self._prompt}")
        self._prompt = ""
        run.wake.set()

    def heater_off(self, reason: str = "heater off, by the operator") -> None:
        """Make the instruments safe at once, and abort the run if one is on."""
        run = self._run
        if run is not None and self._state.active:
            run.abort(reason)
        self.station.make_safe(reason)

    def clear_fault(self) -> None:
        """Unlatch a heater fault whose cause is gone; raises FaultError while it persists."""
        self.station.holder.clear_fault()

    def _running(self, command: str) -> RunContext:
        run = self._run
        if run is None or not self._state.active:
            raise HotstageError(f"no run is on, so there is nothing to {command}.")
        return run

    def _context(self) -> RunContext:
        assert self._run is not None
        return self._run

    # ------------------------------------------------------------------------------ status

    @property
    def state(self) -> EngineState:
        """Where the run is."""
        return self._state

    @property
    def plan_view(self) -> PlanView:
        """What preflight expects of the present or last run."""
        return self._plan_view

    @property
    def status(self) -> EngineStatus:
        """A snapshot for people."""
        station = self.station
        base = {
            "state": self._state,
            "cause": self._cause,
            "station": station.station.name,
            "simulated": station.station.simulated,
            "clock_rate": station.clock.rate,
            "server_address": station.address,
        }
        run, monitor, actions = self._run, self._monitor, self._actions
        if run is None:
            return EngineStatus(**base)  # type: ignore[arg-type]
        reading = monitor.latest if monitor is not None else None
        written = getattr(run.sink, "bytes_written", 0)
        limit = run.recipe.limits.dose
        return EngineStatus(
            **base,  # type: ignore[arg-type]
            run_name=run.recipe.name,
            folder=str(self._folder or ""),
            t_s=run.now_s(),
            step_index=self._step_index,
            step_count=self._steps_total,
            step_text=self._step_text,
            step_progress=actions.progress if actions is not None else math.nan,
            eta_s=self._eta_s(run),
            measured_celsius=reading.measured_celsius if reading else math.nan,
            setpoint_celsius=reading.setpoint_celsius if reading else math.nan,
            planned_celsius=self._planned_celsius(run),
            reading_t_s=reading.t_s if reading else math.nan,
            holder_state=reading.state.value if reading else "",
            fault=reading.fault if reading else "",
            blanked=not self._beam_on,
            control=station.control.problem() if self._state.active else "",
            frames=dict(run.frames),
            estimates={
                name: EstimateView(value.value, value.sigma, run.quantities[name].unit, e.t_s)
                for e in list(run.estimates.values())
                for name, value in e.values.items()
                if name in run.quantities
            },
            dose_e_per_nm2=run.dose.total_e_per_nm2,
            dose_limit_e_per_nm2=limit if limit is not None else math.nan,
            bytes_written=int(written),
            disk_free_bytes=self._disk_free(),
            warnings=tuple(run.warnings),
            prompt=self._prompt,
        )

    def _planned_time_s(self, run: RunContext) -> float:
        steps = self._plan_view.steps
        if not 0 <= self._step_index < len(steps):
            return math.nan
        step = steps[self._step_index]
        elapsed = run.now_s() - self._step_started_s
        return step.t_start_s + min(elapsed, step.duration_s)

    def _eta_s(self, run: RunContext) -> float:
        steps = self._plan_view.steps
        if not self._state.active or not steps:
            return math.nan
        return steps[-1].t_start_s + steps[-1].duration_s - self._planned_time_s(run)

    def _planned_celsius(self, run: RunContext) -> float:
        times, values = self._plan_view.profile_t_s, self._plan_view.profile_celsius
        at = self._planned_time_s(run)
        if not times or not math.isfinite(at):
            return math.nan
        import numpy as np

        return float(np.interp(at, times, values))

    def _disk_free(self) -> int:
        if self._folder is None:
            return 0
        read_at, free = self._disk
        if time.monotonic() - read_at > 1.0:
            with _logged_errors():
                free = shutil.disk_usage(self._folder).free
            self._disk = (time.monotonic(), free)
        return free

    # ----------------------------------------------------------------------------- helpers

    def _enter(self, state: EngineState) -> None:
        self._state = state
        self._emit_state()

    def _beam(self, *, on: bool) -> None:
        self.station.scan.blank(not on)
        self._beam_on = on

    def _emit_state(self) -> None:
        self._dispatcher.emit(self.events.state_changed, self._state.value)

    def _header(self, run: RunContext) -> RunHeader:
        station, recipe = self.station, run.recipe
        clock = station.clock
        rate = clock.rate if math.isfinite(clock.rate) else 1.0
        return RunHeader(
            name=recipe.name,
            recipe_yaml=recipe.dump(),
            station_toml=station.station.text,
            station=station.station.name,
            instruments={role: i.describe() for role, i in station.instruments.items()},
            epoch_unix_s=clock.epoch_unix_s + run.zero_s / rate,
            clock_rate=clock.rate,
            clock_relation_s=(station.relation.offset_s, station.relation.uncertainty_s),
            specimen=recipe.specimen.model_dump() if recipe.specimen else {},
            simulation=dict(station.simulation.describe()) if station.simulation else {},
            versions={
                "hotstage": __version__,
                "python": platform.python_version(),
                **{
                    name: importlib.metadata.version(name)
                    for name in ("numpy", "scipy", "zarr", "pydantic")
                },
            },
        )


class _Safely:
    """Calls one thing after the other; what fails is logged, fails the run, and stops nothing."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def __call__(self, what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001  the rest of the safe end must be carried out
            logger.error("while ending the run: %s", error)
            self._run.fail(error)


@contextmanager
def _logged_errors() -> Iterator[None]:
    try:
        yield
    except (HotstageError, OSError) as error:
        logger.warning("%s", error)
