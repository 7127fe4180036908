"""The window's one way to the engine host: worker threads on one side, mailboxes for the UI on the other.

Orders and heater-off have their own threads (:mod:`gui.orders`, :mod:`gui.emergency`), and so has
what is large (:mod:`gui.newest`). Every worker has its own connection, so that a call that hangs
holds up nothing else. The UI thread never waits here: it takes what lies in a mailbox, or leaves a
command and returns.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acquire.engine.checked import CheckReport
from acquire.engine.clients import client_name
from acquire.engine.live_maps import LiveMap
from acquire.engine.status import (
    EngineStatus,
    HostApi,
    LiveImage,
    LiveSeries,
    LiveSpectrum,
    PlanView,
)
from gui.background import Background, Done
from gui.emergency import EmergencyLine, EmergencyReport
from gui.hand import ContinuationPlan, HandLine
from gui.newest import Newest
from gui.orders import Connect, OrderEvent, Orders
from gui.polling import keep_polling

logger = logging.getLogger(__name__)

STALE_AFTER_S = 1.0
STATUS_PERIOD_S = 0.1
SERIES_PERIOD_S = 0.2
PLAN_PERIOD_S = 1.0
CLOSE_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The newest status that was received, and how old it is."""

    status: EngineStatus
    age_s: float
    """Wall seconds since it came; infinite before the first."""
    link_error: str
    """Why the host does not answer; empty while it does."""

    @property
    def stale(self) -> bool:
        """Whether what is shown can no longer be taken for the present."""
        return self.age_s > STALE_AFTER_S


@dataclass(frozen=True, slots=True)
class SeriesUpdate:
    """New pieces of the curves; ``fresh`` says that they replace all that was shown before."""

    series: LiveSeries
    fresh: bool


Event = OrderEvent | EmergencyReport | ContinuationPlan


class Session:
    """A window's link to one engine host.

    ``connect`` opens a new connection each time it is called; ``emergency`` asks the instrument
    server at an address to make everything safe, for a reason. Both may block and raise. ``who`` is
    how the host calls this window, by default as the computer knows it.
    """

    def __init__(
        self, connect: Connect, emergency: Callable[[str, str], None], who: str = ""
    ) -> None:
        self._connect = connect
        self.who = who or client_name("window")
        self._stop = threading.Event()
        self._plan_due = threading.Event()
        self._lock = threading.Lock()
        self._status = EngineStatus()
        self._status_at_s = -float("inf")
        self._link_error = "connecting"
        self._plan = PlanView()
        self._newest = Newest(connect, self._stop)
        # one place: the next piece is asked for when the last was taken, so nothing piles up or is lost
        self._series: queue.Queue[SeriesUpdate] = queue.Queue(maxsize=1)
        self._events: deque[Event] = deque(maxlen=256)
        self._orders = Orders(connect, self._events.append, self._stop)
        self.hand = HandLine(connect, self._orders, self._stop, self.who)
        """What needs no run: the instruments, and control by hand."""
        self.background = Background(self._stop, {"check": 2})
        """Work for pages that must not hold up the UI thread."""
        self._emergency = EmergencyLine(connect, emergency, self._events.append, self.who)
        targets: dict[str, Callable[[], None]] = {
            "window-status": self._watch_status,
            "window-series": self._watch_series,
            "window-plan": self._watch_plan,
        }
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in targets.items()
        ]
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------------ what the UI takes

    def snapshot(self) -> StatusSnapshot:
        """The newest status and its age."""
        with self._lock:
            age_s = time.monotonic() - self._status_at_s
            return StatusSnapshot(self._status, age_s, self._link_error)

    def plan(self) -> PlanView:
        """The newest plan."""
        return self._plan

    def take_image(self) -> LiveImage | None:
        """The newest image that was not taken yet; the next is fetched when this is taken."""
        return self._newest.take_image()

    def take_spectrum(self) -> LiveSpectrum | None:
        """The newest spectrum that was not taken yet."""
        return self._newest.take_spectrum()

    def take_map(self) -> LiveMap | None:
        """The newest state of a map that was not taken yet."""
        return self._newest.take_map()

    def take_series(self) -> SeriesUpdate | None:
        """The next piece of the curves, none left out."""
        try:
            return self._series.get_nowait()
        except queue.Empty:
            return None

    def take_events(self) -> list[Event]:
        """What became of commands since the last call, in order."""
        taken: list[Event] = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def in_flight(self) -> tuple[str, ...]:
        """Names of the commands that have not been answered yet."""
        return self._orders.in_flight()

    # ------------------------------------------------------------------ what the UI commands

    @property
    def watched_stream(self) -> str:
        """The stream whose images are taken; ``""`` is any."""
        return self._newest.stream

    def watch_stream(self, stream: str) -> None:
        """Take images of this stream only; ``""`` is any."""
        self._newest.stream = stream

    def look_again(self) -> None:
        """Fetch the newest image, spectrum and map also where they were taken already.

        A window that has cleared its panels for another run would wait for the next ones, which may
        never come: nothing new is recorded in a pause.
        """
        self._newest.look_again()

    def watch_map(self, stream: str) -> None:
        """Take this map only; ``""`` is the one that changed last."""
        self._newest.map_stream = stream

    def start(self, recipe_yaml: str, folder: str) -> None:
        """Start a run of a recipe into a new folder."""
        self._orders.order("Run", lambda host: host.start(recipe_yaml, folder, self.who))

    def mark(self, text: str) -> None:
        """Note something in the journal."""
        self._orders.order("Mark", lambda host: host.mark(text, self.who))

    def confirm(self) -> None:
        """Answer what the run asks its operator."""
        self._orders.order("Continue", lambda host: host.confirm(self.who))

    def clear_fault(self) -> None:
        """Unlatch a heater fault."""
        self._orders.order("Clear fault", lambda host: host.clear_fault(self.who))

    def pause(self) -> None:
        """Pause the run."""
        self._orders.order("Pause", lambda host: host.pause(self.who), urgent=True)

    def resume(self) -> None:
        """Go on after a pause or a hold."""
        self._orders.order("Resume", lambda host: host.resume(self.who), urgent=True)

    def hold(self) -> None:
        """Freeze the temperature now."""
        self._orders.order("Hold T", lambda host: host.hold(self.who), urgent=True)

    def abort(self, reason: str) -> None:
        """End the run safely, now."""
        self._orders.order("Abort", lambda host: host.abort(reason, self.who), urgent=True)

    def heater_off(self, reason: str) -> None:
        """Make the heater safe over both ways at once: instrument server and engine."""
        self._emergency.press(self._status.server_address, reason)

    def check(self, recipe_yaml: str, done: Done) -> None:
        """Have the host's station look ahead; ``done`` is given a CheckReport, or why there is none.

        Of several that wait only the newest is asked for.
        """

        def ask() -> CheckReport:
            host = self._connect()
            try:
                return host.check(recipe_yaml)
            finally:
                host.close()

        self.background.submit("check", ask, done, newest=True)

    def read_recipe(self, path: Path) -> None:
        """Read a recipe file off the UI thread; a :class:`RecipeText` follows among the events."""
        self._orders.read_recipe(path)

    def close(self) -> list[str]:
        """Stop every worker; names those that had not ended within half a second.

        They are daemons in a call that hangs, and end with it. An emergency that is under way goes on.
        """
        self._stop.set()
        self._plan_due.set()
        self.background.wake()
        deadline = time.monotonic() + CLOSE_WITHIN_S
        own = [*self._threads, *self._newest.threads, *self._orders.threads]
        own += [*self.background.threads, self.hand.thread]
        for thread in [*own, *self._emergency.threads()]:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in own if thread.is_alive()]
        if left:
            logger.warning("window closed while a call to the host hangs in %s", ", ".join(left))
        return left

    # ------------------------------------------------------------------ watching

    def _watch_status(self) -> None:
        def poll(host: HostApi) -> None:
            status = host.status()
            if _which_run(status) != _which_run(self._status):
                self._plan_due.set()
            with self._lock:
                self._status = status
                self._status_at_s = time.monotonic()
                self._link_error = ""
            self._stop.wait(STATUS_PERIOD_S)

        def lost(error: str) -> None:
            with self._lock:
                self._link_error = error

        self._keep(poll, lost)

    def _watch_series(self) -> None:
        cursor, run, fresh = (0, 0, 0), -1, True

        def poll(host: HostApi) -> None:
            nonlocal cursor, run, fresh
            series = host.series(cursor)
            if not fresh and series.run != run:
                # the piece may be cut at the old run's cursor: ask again from the beginning
                cursor, fresh = (0, 0, 0), True
                self._newest.begin_anew()
                series = host.series(cursor)
            update = SeriesUpdate(series, fresh)
            while not self._stop.is_set():
                try:
                    self._series.put(update, timeout=0.1)
                except queue.Full:
                    continue
                cursor, run, fresh = series.cursor, series.run, False
                break
            self._stop.wait(SERIES_PERIOD_S)

        def lost(error: str) -> None:
            nonlocal cursor, fresh
            cursor, fresh = (0, 0, 0), True

        self._keep(poll, lost)

    def _watch_plan(self) -> None:
        def poll(host: HostApi) -> None:
            self._plan_due.clear()
            self._plan = host.plan()
            self._plan_due.wait(PLAN_PERIOD_S)

        self._keep(poll, lambda error: None)

    def _keep(self, poll: Callable[[HostApi], None], lost: Callable[[str], None]) -> None:
        keep_polling(self._connect, self._stop, poll, lost)


def _which_run(status: EngineStatus) -> tuple[object, ...]:
    return status.run_name, status.folder, status.state
