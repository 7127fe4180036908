"""The engine host: an engine in a process of its own, that windows and scripts attach to and may leave."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from acquire.engine.checked import CheckReport
from acquire.engine.checking import Checker
from acquire.engine.continuation import (
    Continuation,
    plan_continuation,
    prepare_continuation,
    take_up,
)
from acquire.engine.core import Engine
from acquire.engine.experiment import Experiment, leave_pages, prepare, run_stored
from acquire.engine.host_looks import METHODS as LOOK_METHODS
from acquire.engine.host_manual import A_RUN_IS_ON, HandService, named
from acquire.engine.host_manual import METHODS as HAND_METHODS
from acquire.engine.host_manual import OBSERVERS as HAND_OBSERVERS
from acquire.engine.station_view import ContinuationView
from acquire.engine.status import HOST_OBJECT_ID, NOT_STARTED, EngineState, EngineStatus
from acquire.errors import HotstageError, LinkError
from acquire.recipe import Ramp, Recipe
from acquire.remote import HardDaemon, server_tls
from acquire.station import OpenStation

logger = logging.getLogger(__name__)

METHODS = (
    "status",
    "check",
    "start",
    "continuation",
    "continue_run",
    "pause",
    "resume",
    "hold",
    "abort",
    "mark",
    "note",
    "confirm",
    "heater_off",
    "clear_fault",
    *LOOK_METHODS,
    *HAND_METHODS,
)
OBSERVERS = ("status", *LOOK_METHODS, *HAND_OBSERVERS)
"""What who may only look is served."""
PAGES_S = 10.0
MOST_STEPS = 200
"""Of a continuation that are told."""
END_S = 30.0
"""Wall seconds that a host which is told to end waits for its run to be safe and stored."""


class HostService(HandService):
    """What a host serves: the calls of :class:`acquire.engine.status.HostApi`, ready for the wire."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._checker = Checker(engine.station.station)
        self._starting = threading.Lock()
        self._running = threading.Event()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._not_run = ""
        """Why the last run that was started never came to be."""

    def status(self) -> EngineStatus:
        """See HostApi.status."""
        status = self._with_station(self._engine.status)
        if self._not_run and not status.state.active:
            return replace(status, state=EngineState.FAILED, cause=self._not_run)
        return status

    def check(self, recipe_yaml: str) -> CheckReport:
        """See HostApi.check."""
        return self._checker.check(recipe_yaml)

    def start(self, recipe_yaml: str, folder: str, who: str = "") -> None:
        """See HostApi.start."""
        self._start(
            named(who),
            lambda: prepare(self._engine, Recipe.parse(recipe_yaml), Path(folder).absolute()),
        )

    def continuation(self, folder: str) -> ContinuationView:
        """See HostApi.continuation."""
        if self._running.is_set():
            raise HotstageError("a run is going on; wait for its end, or abort it.")
        found = self._continuation(folder)
        targets = [float(step.to) for step in found.remaining if isinstance(step, Ramp)]
        return ContinuationView(
            str(found.run),
            found.ended,
            tuple(step.text for step in found.done),
            tuple(map(str, found.remaining[:MOST_STEPS])),
            max(targets, default=math.nan),
        )

    def continue_run(self, folder: str, who: str = "") -> None:
        """See HostApi.continue_run."""

        def make() -> Experiment:
            # the heater goes off first: what the run goes on from is what it will find
            self._manual.end("a run is continued")
            return prepare_continuation(self._engine, self._continuation(folder))

        self._start(named(who), make)

    def _continuation(self, folder: str) -> Continuation:
        for thread in self._threads:  # it may be that its pages are still being written
            thread.join(PAGES_S)
        station = self._engine.station
        return plan_continuation(take_up(Path(folder).absolute(), station.station), station)

    def _start(self, who: str, make: Callable[[], Experiment]) -> None:
        """Check what is to be run, end what is on by hand, and begin."""
        if not self._starting.acquire(blocking=False):
            raise HotstageError("a run is being started already.")
        try:
            with self._helm.commanding(who):
                if self._running.is_set():
                    raise HotstageError("a run is going on; wait for its end, or abort it.")
            experiment = replace(make(), by=who)
            with self._helm.commanding(who):  # somebody else may have taken control meanwhile
                self._begin(experiment)
        finally:
            self._starting.release()

    def _begin(self, experiment: Experiment) -> None:
        if self._ending.is_set():
            raise HotstageError("the engine host is ending; nothing was started.")
        self._running.set()  # from here on nothing is done by hand any more
        self._not_run = ""
        self._manual.end("a run begins")
        thread = threading.Thread(
            target=self._carry_out, args=(experiment,), name="run", daemon=True
        )
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()

    def _carry_out(self, experiment: Experiment) -> None:
        try:
            run_stored(self._engine, experiment)
        except Exception as error:
            logger.exception("the run could not be started")
            self._not_run = f"{NOT_STARTED}: {error}"
            return
        finally:
            self._running.clear()
        try:
            leave_pages(self._engine, experiment)
        except Exception:
            logger.exception("the run's pages could not be written")

    def pause(self, who: str = "") -> None:
        """See HostApi.pause."""
        with self._helm.commanding(name := named(who)):
            self._engine.pause(f"paused by {name}", by=name)

    def resume(self, who: str = "") -> None:
        """See HostApi.resume."""
        with self._helm.commanding(name := named(who)):
            self._engine.resume(by=name)

    def hold(self, who: str = "") -> None:
        """See HostApi.hold."""
        name = named(who)
        self._engine.hold(f"temperature held by {name}", by=name)

    def abort(self, reason: str, who: str = "") -> None:
        """See HostApi.abort."""
        name = named(who)
        self._engine.abort(f"{reason} ({name})", by=name)

    def mark(self, text: str, who: str = "") -> None:
        """See HostApi.mark."""
        self._engine.mark(text, by=named(who))

    def note(self, text: str, who: str = "") -> None:
        """See HostApi.note."""
        self._engine.note(text, by=named(who))

    def confirm(self, who: str = "") -> None:
        """See HostApi.confirm."""
        with self._helm.commanding(name := named(who)):
            self._engine.confirm(by=name)

    def heater_off(self, reason: str, who: str = "") -> None:
        """See HostApi.heater_off."""
        self._manual.switched_off()  # what is under way by hand sees it before it is done
        try:
            self._engine.heater_off(f"{reason} ({named(who)})")
        finally:
            self._manual.switched_off()
        if trouble := self._watch.server_trouble:
            raise LinkError(
                f"the engine's way to the heater is cut: the instrument server: {trouble}. Whether "
                "the heater is off is not known."
            )

    def clear_fault(self, who: str = "") -> None:
        """See HostApi.clear_fault."""
        with self._helm.commanding(name := named(who)):
            if self._engine.state.active:
                self._engine.clear_fault()
            else:
                self._manual.clear_fault()
            self._note_control(f"heater fault cleared by {name}")

    def _busy(self) -> str:
        if self._ending.is_set():
            return "the engine host is ending; nothing can be done by hand."
        return A_RUN_IS_ON if self._running.is_set() or self._engine.state.active else ""

    @property
    def busy(self) -> bool:
        """Whether a run, or the writing of its pages, goes on."""
        return any(thread.is_alive() for thread in self._threads)

    def end(self, reason: str) -> None:
        """Abort the run, if one is on or about to be, and wait until it is safe and stored."""
        self._ending.set()
        self._checker.close()
        self._helm.close()
        if self._engine.state.active:
            self._engine.abort(reason)
        self._manual.close()
        give_up = time.monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))
            if thread.is_alive():
                logger.error("the run did not end within %s s", END_S)
        self._watch.close()


class EngineHost:
    """Serves one engine until it is closed.

    Args:
        station: open; the host closes it at its own end.
        listen: ``HOST:PORT`` on this machine, or ``tls://HOST:PORT`` with the identity that the
            station file names; port 0 takes a free one.
    """

    def __init__(self, station: OpenStation, listen: str = "127.0.0.1:0") -> None:
        self.station = station
        self.engine = Engine(station, "hotstage host")
        self.service = HostService(self.engine)
        self._daemon = HardDaemon(
            listen,
            name="engine-host",
            on_disconnect=self.service.disconnected,
            tls=server_tls(station.station, listen),
        )
        self._daemon.register(HOST_OBJECT_ID, self.service, METHODS, OBSERVERS)
        self._daemon.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._daemon.address

    def wait(self, ending: threading.Event, linger_s: float | None) -> None:
        """Serve until ``ending`` is set, or for ``linger_s`` wall s without any client and run.

        A ``linger_s`` of None serves for ever.
        """
        last_used = time.monotonic()
        while not ending.wait(0.2):
            if self._daemon.clients or self.service.busy:
                last_used = time.monotonic()
            elif linger_s is not None and time.monotonic() - last_used > linger_s:
                return

    def close(self, reason: str = "the engine host ends") -> None:
        """End the run safely, then everything else."""
        try:
            self.service.end(reason)
        finally:
            self._daemon.close()
            self.station.close()
