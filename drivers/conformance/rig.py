"""A driver on a far end with fault proxies between them, on a clock, and what its calls took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from acquire.clock import Clock, WallClock
from acquire.errors import HotstageError
from acquire.farends import FarEnd, Shared
from acquire.instruments import Instrument
from acquire.station import DriverContext
from drivers.conformance.proxy import Disturbance, FaultProxy

T = TypeVar("T")

AT_ONCE_S = 0.5
"""Wall seconds in which ``make_safe`` returns, whatever the link does."""
RECOVER_S = 10.0
"""Wall seconds in which a driver works again when its link does, and the device is safe if it was told to be."""
LOOK_S = 0.02


@dataclass(frozen=True)
class Subject:
    """A driver, and the far end that it is tried with."""

    name: str
    start: Callable[[Clock], FarEnd]
    """Starts the far end on a clock."""
    open: Callable[[DriverContext, Mapping[str, str]], Any]
    """Opens the driver on addresses by the names that the far end gives them."""
    is_safe: Callable[[FarEnd], bool]
    """Whether the device is safe, looked up at the far end and not through the driver."""
    role: str = "holder"
    rate: float = 5.0
    """Clock seconds per wall second."""
    longest_call_s: float = 20.0
    """Wall seconds within which every call ends, its exposure aside."""
    late_s: float = 1.5
    """Wall seconds by which a late reply is late."""


@dataclass
class Times:
    """The longest calls, in wall s."""

    calls: int = 0
    refused: int = 0
    """Calls that ended with an error of ours."""
    worst_s: float = 0.0
    recovered_s: float = 0.0
    """Longest time from the end of a disturbance until the driver worked again."""
    safe_s: float = 0.0
    """Longest time from the end of a disturbance until the device was safe."""


@dataclass
class Rig:
    """A far end that runs, proxies before each of its ports, and drivers that are opened on them."""

    subject: Subject
    clock: Clock
    far_end: FarEnd
    proxies: Mapping[str, FaultProxy]
    times: Times = field(default_factory=Times)

    # ------------------------------------------------------------------------- drivers

    def open(self, shared: Shared) -> Any:
        """The driver, opened on the proxies; raises what it raises."""
        context = DriverContext(self.subject.role, self.clock, "conformance", shared)
        return self.subject.open(context, {name: p.address for name, p in self.proxies.items()})

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The driver, opened on a wire that is well, and closed with all it shares."""
        self.well()
        shared = Shared()
        try:
            instrument = self.open(shared)
            try:
                yield instrument
            finally:
                self.well()
                close(instrument)
        finally:
            shared.close()

    # -------------------------------------------------------------------- disturbances

    def next(self, disturbance: Disturbance, times: int = 1) -> None:
        """Disturb the next replies on every port."""
        for proxy in self.proxies.values():
            proxy.next(disturbance, times)

    def unplug(self) -> None:
        """Every connection ends, and every new one."""
        for proxy in self.proxies.values():
            proxy.unplug()

    def silence(self) -> None:
        """Nothing passes any more, in either direction."""
        for proxy in self.proxies.values():
            proxy.silence()

    def well(self) -> None:
        """No disturbance any more."""
        for proxy in self.proxies.values():
            proxy.well()

    @property
    def suffered(self) -> int:
        """Replies that were disturbed by :meth:`next`."""
        return sum(proxy.suffered for proxy in self.proxies.values())

    @property
    def connections(self) -> int:
        """How many connections the driver holds."""
        return sum(proxy.connections for proxy in self.proxies.values())

    def is_safe(self) -> bool:
        """Whether the device is safe."""
        return self.subject.is_safe(self.far_end)

    # -------------------------------------------------------------------------- calls

    def call(self, call: Callable[[], T], what: str, exposure_s: float = 0.0) -> T | HotstageError:
        """The result of a call or the error of ours that it raises; anything else is a failure.

        Args:
            call: into the driver.
            what: it is, for the failure.
            exposure_s: wall seconds that it may take beside what every call may.
        """
        began = time.monotonic()
        result: T | HotstageError
        try:
            result = call()
        except HotstageError as error:
            result = error
            self.times.refused += 1
        except Exception as error:
            raise AssertionError(f"{what} raised {error!r}: raise errors of hotstage.") from error
        took_s = time.monotonic() - began - exposure_s
        if isinstance(result, HotstageError):
            assert len(str(result)) > 20, f"{what} failed with {result!r}, which helps nobody."
        self.times.calls += 1
        self.times.worst_s = max(self.times.worst_s, took_s)
        assert took_s <= self.subject.longest_call_s, (
            f"{what} took {took_s:.1f} s; {self.subject.longest_call_s:g} s are allowed."
        )
        return result

    def make_safe(self, instrument: Instrument, reason: str) -> None:
        """``make_safe``, which returns at once and never raises."""
        began = time.monotonic()
        instrument.make_safe(reason)
        took_s = time.monotonic() - began
        assert took_s <= AT_ONCE_S, (
            f"make_safe() took {took_s:.2f} s ({reason}); it returns at once."
        )

    def until(
        self,
        reached: Callable[[], bool],
        what: str,
        said: Sequence[object] = (),
        within_s: float = RECOVER_S,
    ) -> float:
        """Wall seconds until something is so; fails, with what was ``said``, when it takes too long."""
        began = time.monotonic()
        while not reached():
            words = f" It says: {said[-1]}" if said else ""
            assert time.monotonic() - began < within_s, f"{what}: not within {within_s:g} s.{words}"
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def until_works(self, read: Callable[[], T], what: str) -> T:
        """The first result of a call that raises no error of ours any more."""
        found: list[T] = []
        refused: list[HotstageError] = []

        def works() -> bool:
            result = self.call(read, what)
            if isinstance(result, HotstageError):
                refused.append(result)
                return False
            found.append(result)
            return True

        took_s = self.until(works, f"{what} works again when the link does", refused)
        self.times.recovered_s = max(self.times.recovered_s, took_s)
        return found[-1]

    def until_safe(self, what: str) -> None:
        """Wait until the device is safe, as seen at the far end."""
        took_s = self.until(self.is_safe, f"{what}: the device is safe")
        self.times.safe_s = max(self.times.safe_s, took_s)


@contextmanager
def rig(subject: Subject) -> Iterator[Rig]:
    """A far end that was started, with proxies before it; closed at the end."""
    clock = WallClock(subject.rate)
    with ExitStack() as stack:
        far_end = subject.start(clock)
        stack.callback(far_end.close)
        proxies = {}
        for name, address in far_end.addresses.items():
            proxies[name] = FaultProxy(address, late_s=subject.late_s)
            stack.callback(proxies[name].close)
        yield Rig(subject, clock, far_end, proxies)


def close(instrument: Any) -> None:
    """Close a driver, if it can be closed."""
    ending = getattr(instrument, "close", None)
    if callable(ending):
        ending()


@dataclass(frozen=True)
class Held:
    """What this process holds: threads and open files."""

    threads: frozenset[threading.Thread]
    files: int

    @classmethod
    def now(cls) -> Held:
        """What is held now."""
        process = psutil.Process()
        if sys.platform == "win32":
            files = process.num_handles()
        else:
            files = process.num_fds()
        return cls(frozenset(threading.enumerate()), files)
