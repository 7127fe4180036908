"""Time for everything that waits: a wall clock, a virtual clock, and the relation between two clocks.

Code that runs under a clock never calls :mod:`time` or :mod:`threading` waits: it sleeps, waits for
signals and starts tasks through its clock, and so runs unchanged on the wall clock and, exactly
repeatably, in virtual time. No plain lock may be held across a clock wait.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)


class Signal(Protocol):
    """A flag that tasks of one clock can wait for (as :class:`threading.Event`, in clock seconds)."""

    def set(self) -> None:
        """Raise the flag and wake everyone who waits for it."""

    def clear(self) -> None:
        """Lower the flag."""

    def is_set(self) -> bool:
        """Whether the flag is up."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the flag is up or ``timeout_s`` clock seconds have passed; True if it is up."""


class Task(Protocol):
    """A thread of work started by a clock."""

    @property
    def name(self) -> str:
        """The name it was started with."""

    def is_alive(self) -> bool:
        """Whether it still runs."""

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended or ``timeout_s`` clock seconds have passed; True if it has ended."""


@runtime_checkable
class Clock(Protocol):
    """Source of time, waits and tasks; times are seconds since the clock's own zero."""

    @property
    def rate(self) -> float:
        """Clock seconds per wall second: 1 for real time, ``inf`` for virtual time."""

    @property
    def epoch_unix_s(self) -> float:
        """Unix time at the clock's zero."""

    def now_s(self) -> float:
        """Seconds since the clock's zero; never decreases."""

    def sleep(self, duration_s: float) -> None:
        """Wait for ``duration_s`` clock seconds."""

    def signal(self) -> Signal:
        """A new lowered flag that this clock's tasks can wait for."""

    def spawn(self, target: Callable[[], None], name: str) -> Task:
        """Start ``target`` as a task of this clock."""

    def enrolled(self, name: str) -> AbstractContextManager[None]:
        """Context in which the calling thread is a task of this clock and may wait on it."""


def finite_rate(clock: Clock) -> float:
    """Clock seconds per wall second, 1 for virtual time, to turn wall seconds into waits."""
    return clock.rate if math.isfinite(clock.rate) else 1.0


# ----------------------------------------------------------------------------- wall clock


class WallClock:
    """Real time, optionally running ``rate`` times faster (for simulators only)."""

    def __init__(self, rate: float = 1.0) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise HotstageError(f"clock rate {rate!r} refused: it must be a finite number above 0.")
        self._rate = rate
        self._zero = time.monotonic()
        self._epoch = time.time()

    @property
    def rate(self) -> float:
        """Clock seconds per wall second."""
        return self._rate

    @property
    def epoch_unix_s(self) -> float:
        """Unix time at the clock's zero."""
        return self._epoch

    def now_s(self) -> float:
        """Seconds since the clock was made, times its rate."""
        return (time.monotonic() - self._zero) * self._rate

    def sleep(self, duration_s: float) -> None:
        """Wait for ``duration_s`` clock seconds."""
        if duration_s > 0:
            time.sleep(duration_s / self._rate)

    def signal(self) -> Signal:
        """A new lowered flag."""
        return _WallSignal(self._rate)

    def spawn(self, target: Callable[[], None], name: str) -> Task:
        """Start ``target`` in a daemon thread."""
        return _WallTask(target, name, self._rate)

    @contextmanager
    def enrolled(self, name: str) -> Iterator[None]:
        """Do nothing: any thread may wait on a wall clock."""
        yield


class _WallSignal:
    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._event = threading.Event()
        self.set = self._event.set
        self.clear = self._event.clear
        self.is_set = self._event.is_set

    set: Callable[[], None]
    clear: Callable[[], None]
    is_set: Callable[[], bool]

    def wait(self, timeout_s: float | None = None) -> bool:
        return self._event.wait(None if timeout_s is None else max(0.0, timeout_s) / self._rate)


class _WallTask:
    def __init__(self, target: Callable[[], None], name: str, rate: float) -> None:
        self._rate = rate
        self._thread = threading.Thread(target=_logged(target, name), name=name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._thread.name

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float | None = None) -> bool:
        self._thread.join(None if timeout_s is None else max(0.0, timeout_s) / self._rate)
        return not self._thread.is_alive()


def _logged(target: Callable[[], None], name: str) -> Callable[[], None]:
    def run() -> None:
        try:
            target()
        except Exception:
            logger.exception("task %s ended with an error", name)

    return run


# -------------------------------------------------------------------------- virtual clock


@dataclass(eq=False)
class _Participant:
    name: str
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    waits_for: _VirtualSignal | None = None
    ticket: int = 0  # bumped at every wake-up, so that old heap entries are recognised as stale


class VirtualClock:
    """Time that jumps to the next thing that is due; exactly repeatable.

    Tasks are real threads, but only the one that holds the baton runs. When it waits, the next
    ready task runs, in the order in which they became ready; when none is ready, time jumps to the
    earliest deadline. So the same program gives the same order of events every time. While no thread
    is enrolled (:meth:`enrolled`), time stands still and spawned tasks wait.
    """

    def __init__(self, start_s: float = 0.0, epoch_unix_s: float = 0.0) -> None:
        self._now = start_s
        self._epoch = epoch_unix_s
        self._lock = threading.Lock()
        self._running: _Participant | None = None
        self._ready: deque[_Participant] = deque()
        self._sleeping: list[tuple[float, int, _Participant, int]] = []
        self._sequence = itertools.count()
        self._enrolled = 0
        self._local = threading.local()

    @property
    def rate(self) -> float:
        """Infinite: virtual time costs no wall time."""
        return math.inf

    @property
    def epoch_unix_s(self) -> float:
        """The Unix time given for the clock's zero."""
        return self._epoch

    def now_s(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def sleep(self, duration_s: float) -> None:
        """Let other tasks run until ``duration_s`` virtual seconds have passed."""
        self._block(self._me(), duration_s)

    def signal(self) -> Signal:
        """A new lowered flag."""
        return _VirtualSignal(self)

    def spawn(self, target: Callable[[], None], name: str) -> Task:
        """Start ``target`` as a task that runs when the present one first waits."""
        task = _VirtualTask(self, name)
        participant = _Participant(name)
        logged = _logged(target, name)

        def run() -> None:
            participant.baton.acquire()
            self._local.participant = participant
            try:
                logged()
            finally:
                task.finished.set()
                self._leave()

        with self._lock:
            self._ready.append(participant)
        threading.Thread(target=run, name=name, daemon=True).start()
        with self._lock:
            if self._running is None:
                self._dispatch()
        return task

    @contextmanager
    def enrolled(self, name: str) -> Iterator[None]:
        """Make the calling thread a task of this clock; entering it again changes nothing."""
        if getattr(self._local, "participant", None) is not None:
            yield
            return
        participant = _Participant(name)
        with self._lock:
            self._enrolled += 1
            self._ready.append(participant)
            if self._running is None:
                self._dispatch()
        participant.baton.acquire()
        self._local.participant = participant
        try:
            yield
        finally:
            self._local.participant = None
            with self._lock:
                self._enrolled -= 1
            self._leave()

    def _me(self) -> _Participant:
        participant = getattr(self._local, "participant", None)
        if not isinstance(participant, _Participant):
            raise HotstageError(
                f"thread {threading.current_thread().name!r} cannot wait on the virtual clock: "
                "enter `with clock.enrolled(name):` first."
            )
        return participant

    def _leave(self) -> None:
        with self._lock:
            self._running = None
            self._dispatch()

    def _block(
        self, me: _Participant, timeout_s: float | None, signal: _VirtualSignal | None = None
    ) -> None:
        """Hand the baton on until the signal or the deadline wakes us."""
        with self._lock:
            if signal is not None:
                if signal.is_set():  # a foreign thread may have raised it a moment ago
                    return
                signal.waiters.append(me)
                me.waits_for = signal
            if timeout_s is not None:
                due = self._now + max(0.0, timeout_s)
                heapq.heappush(self._sleeping, (due, next(self._sequence), me, me.ticket))
            ticket, self._running = me.ticket, None
            self._dispatch()
        try:
            me.baton.acquire()
        except BaseException:  # Ctrl-C: it may only go on from here when it is its turn
            with self._lock:
                if me.ticket == ticket:  # nothing has woken us yet
                    self._wake(me)
                    if self._running is None:
                        self._dispatch()
            me.baton.acquire()
            raise

    def _wake(self, participant: _Participant) -> None:
        """Mark a waiting participant ready (lock held)."""
        self._unhook(participant)
        self._ready.append(participant)

    def _unhook(self, participant: _Participant) -> None:
        """Let nothing else wake a participant that is woken now (lock held)."""
        participant.ticket += 1
        if participant.waits_for is not None:
            participant.waits_for.waiters.remove(participant)
            participant.waits_for = None

    def _dispatch(self) -> None:
        """Give the baton to the next task (lock held, nobody running)."""
        if self._enrolled == 0:
            return
        if self._ready:
            self._running = self._ready.popleft()
            self._running.baton.release()
            return
        while self._sleeping:
            due, _, participant, ticket = heapq.heappop(self._sleeping)
            if ticket != participant.ticket:
                continue
            self._unhook(participant)
            self._now = max(self._now, due)
            self._running = participant
            participant.baton.release()
            return


class _VirtualSignal:
    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._flag = False
        self.waiters: list[_Participant] = []
        self._foreign = threading.Event()

    def set(self) -> None:
        with self._clock._lock:
            self._flag = True
            self._foreign.set()
            for waiter in list(self.waiters):
                self._clock._wake(waiter)
            if self._clock._running is None:
                self._clock._dispatch()

    def clear(self) -> None:
        self._flag = False
        self._foreign.clear()

    def is_set(self) -> bool:
        return self._flag

    def wait(self, timeout_s: float | None = None) -> bool:
        if getattr(self._clock._local, "participant", None) is None:
            # a thread outside virtual time can only wait for the flag, in wall time
            return self._foreign.wait(timeout_s)
        if self._flag:
            return True
        self._clock._block(self._clock._me(), timeout_s, self)
        return self._flag


class _VirtualTask:
    def __init__(self, clock: VirtualClock, name: str) -> None:
        self._name = name
        self.finished = clock.signal()

    @property
    def name(self) -> str:
        return self._name

    def is_alive(self) -> bool:
        return not self.finished.is_set()

    def join(self, timeout_s: float | None = None) -> bool:
        return self.finished.wait(timeout_s)


# ------------------------------------------------------------------- relation of two clocks


@dataclass(frozen=True, slots=True)
class ClockRelation:
    """How a remote clock maps to ours: ``local = remote + offset_s``, known to ``uncertainty_s``."""

    offset_s: float
    uncertainty_s: float

    def to_local(self, remote_s: float) -> float:
        """The local time of a remote time stamp, in seconds."""
        return remote_s + self.offset_s


def relate(local: Clock, ping: Callable[[], float], rounds: int = 15) -> ClockRelation:
    """Measure the relation to a remote clock of the same rate.

    ``ping`` asks for the remote clock's present time in seconds. The round with the shortest
    way there and back counts; the remote read its clock within it, so half of it bounds the error
    (Cristian 1989, Distrib. Comput. 3:146).
    """
    best = ClockRelation(0.0, math.inf)
    for _ in range(rounds):
        before = local.now_s()
        remote = ping()
        after = local.now_s()
        half = (after - before) / 2
        if half < best.uncertainty_s:
            best = ClockRelation(before + half - remote, half)
    return best
