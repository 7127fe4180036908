"""The engine: one open station, one run at a time, and the operator's commands to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from acquire.engine.by_hand import ByHand
from acquire.engine.conductor import Conductor
from acquire.engine.context import RunContext
from acquire.engine.earlier import NOTHING, Earlier
from acquire.engine.estimating import make_estimators
from acquire.engine.events import Dispatcher, EngineEvents
from acquire.engine.live import LiveView
from acquire.engine.preparing import EstimatorMaker
from acquire.engine.progress import Progress, status_of
from acquire.engine.status import NOTE_LENGTH, EngineState, EngineStatus, PlanView
from acquire.errors import HotstageError
from acquire.instruments import HolderReading, SafeState
from acquire.recipe import Plan, Recipe
from acquire.station import OpenStation
from acquire.stream import RunReport, Sink

logger = logging.getLogger(__name__)


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
        self._dispatcher = Dispatcher(self.events)
        self._lock = threading.Lock()
        self._state = EngineState.IDLE
        self._conductor: Conductor | None = None
        self.by_hand = ByHand()
        """What the specimen has seen since the last run began; the next one begins with it."""
        self._early_end: str | None = None
        """Why a run is aborted that has not come into being yet."""

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
        earlier: Earlier = NOTHING,
        by: str = "",
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
            earlier: what a run that this one continues has used up.
            by: who starts it, for the journal.

        Raises:
            HotstageError: a run is going on already.
        """
        with self._lock:
            if self._state.active:
                raise HotstageError("a run is going on; wait for its end, or abort it.")
            self._state = EngineState.PREPARING
            # until there is a new one, commands must not reach the conductor of the run before
            self._conductor, self._early_end = None, None
        with self.station.clock.enrolled("engine"):
            try:
                run = RunContext(
                    self.station, recipe, sink, self.live, self._dispatcher, enforce, earlier, by
                )
                hand, self.by_hand = self.by_hand, ByHand()
                run.begin_with(hand)
                self.live.begin()
                progress = Progress(run, planned or PlanView(recipe.name), folder)
                conductor = self._conduct(run, progress)
            except BaseException:
                self._state = EngineState.IDLE
                raise
            self._hand_over(conductor)
            self._enter(EngineState.PREPARING)
            report = conductor.conduct(plan, make, self._commander)
            self._enter(EngineState(report.outcome))
        self._dispatcher.drain(1.0)
        return report

    def _conduct(self, run: RunContext, progress: Progress) -> Conductor:
        return Conductor(run, progress, self._enter)

    # ---------------------------------------------------------------------------- commands

    def pause(self, reason: str = "paused by the operator", by: str = "") -> None:
        """Pause after or within the present exposure, as the recipe says.

        ``by`` is here and elsewhere who commands, for the journal.
        """
        self._interrupt("pause", reason, by)

    def hold(self, reason: str = "temperature held by the operator", by: str = "") -> None:
        """Freeze the temperature and pause the steps; recording goes on."""
        self._interrupt("hold", reason, by)

    def _interrupt(self, kind: str, reason: str, by: str) -> None:
        conductor = self._active(kind)
        if self._state is not EngineState.RUNNING:
            raise HotstageError(f"the run cannot be paused while it is {self._state.value}.")
        conductor.request_pause(reason, kind)
        conductor.run.note("command", f"{kind}: {reason}", _who(by))

    def resume(self, by: str = "") -> None:
        """Go on after a pause; nothing is replayed."""
        conductor = self._active("resume")
        if not conductor.pausing.asked:
            raise HotstageError("the run is not paused.")
        conductor.run.note("command", f"resume, by {by}" if by else "resume", _who(by))
        conductor.pausing.resume()

    def abort(self, reason: str = "aborted by the operator", by: str = "") -> None:
        """End the run safely, now."""
        if self._end_early(reason):
            return
        conductor = self._active("abort")
        conductor.run.abort(reason)
        with _logged_errors():
            conductor.run.note("command", f"abort: {reason}", _who(by))

    def mark(self, text: str, by: str = "") -> None:
        """Note something in the run's journal."""
        self._active("mark").run.note("mark", text, _who(by))

    def note(self, text: str, by: str = "") -> None:
        """Keep a note of the operator, of many lines if need be, in the run's journal."""
        if len(text) > NOTE_LENGTH:
            raise HotstageError(
                f"a note of {len(text)} characters refused: at most {NOTE_LENGTH}. Keep it in parts."
            )
        self._active("note").run.note("note", text, _who(by))

    def confirm(self, by: str = "") -> None:
        """Answer a ``wait_for_operator`` step."""
        conductor = self._active("confirm")
        if not conductor.prompt:
            raise HotstageError("nothing waits for a confirmation.")
        words = f"confirmed by {by}" if by else "confirmed"
        conductor.run.note("command", f"{words}: {conductor.prompt}", _who(by))
        conductor.confirm()

    def heater_off(self, reason: str = "heater off, by the operator") -> None:
        """Switch the heater off at once and blank the beam; aborts the run if one is on."""
        conductor = self._conductor
        if conductor is not None and self._state.active:
            conductor.run.abort(reason)
        else:
            self._end_early(reason)
        with _logged_errors():  # refused where another commands: then its safe state counts
            self.station.holder.arm_safe_state(SafeState())
        self.station.make_safe(reason)

    def clear_fault(self) -> None:
        """Unlatch a heater fault whose cause is gone; raises FaultError while it persists."""
        self.station.holder.clear_fault()

    def _hand_over(self, conductor: Conductor) -> None:
        with self._lock:
            self._conductor = conductor
            if self._early_end is not None:
                conductor.run.abort(self._early_end)

    def _end_early(self, reason: str) -> bool:
        """Whether a run is only just beginning; it will end before it does anything."""
        with self._lock:
            early = self._conductor is None and self._state.active
            if early:
                self._early_end = reason
            return early

    def _active(self, command: str) -> Conductor:
        conductor = self._conductor
        if conductor is None or not self._state.active:
            raise HotstageError(f"no run is on, so there is nothing to {command}.")
        return conductor

    # ------------------------------------------------------------------------------ status

    @property
    def state(self) -> EngineState:
        """Where the run is."""
        return self._state

    @property
    def run_context(self) -> RunContext | None:
        """What the present run, or the last one, shares with its parts."""
        conductor = self._conductor
        return None if conductor is None else conductor.run

    @property
    def reading(self) -> HolderReading | None:
        """The newest reading of the run's own, its time on the station's clock; None without one."""
        conductor = self._conductor
        if conductor is None or conductor.monitor is None:
            return None
        latest = conductor.monitor.latest
        return replace(latest, t_s=latest.t_s + conductor.run.zero_s)

    @property
    def plan_view(self) -> PlanView:
        """What preflight expects of the present or last run."""
        return self._conductor.progress.planned if self._conductor is not None else PlanView()

    @property
    def status(self) -> EngineStatus:
        """A snapshot for people."""
        station, state, conductor = self.station, self._state, self._conductor
        fields: dict[str, object] = {
            "state": state,
            "station": station.station.name,
            "simulated": station.station.simulated,
            "clock_rate": station.clock.rate,
            "server_address": station.address,
        }
        if conductor is None:
            return status_of(fields)
        actions, monitor = conductor.actions, conductor.monitor
        run_fields = conductor.progress.fields(
            state,
            monitor.latest if monitor is not None else None,
            actions.progress if actions is not None else float("nan"),
        )
        return status_of(
            {
                **fields,
                **run_fields,
                "cause": conductor.run.ended()[1] or conductor.pausing.reason,
                "blanked": not conductor.beam_on,
                "control": station.control.problem() if state.active else "",
                "prompt": conductor.prompt,
            }
        )

    def _enter(self, state: EngineState) -> None:
        if state is self._state and state is not EngineState.PREPARING:
            return
        self._state = state
        self._dispatcher.emit(self.events.state_changed, state.value)


def _who(by: str) -> dict[str, object]:
    return {"by": by} if by else {}


@contextmanager
def _logged_errors() -> Iterator[None]:
    try:
        yield
    except HotstageError as error:
        logger.warning("%s", error)
