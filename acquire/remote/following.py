"""Follows a server's clock for as long as it is connected: its offset from ours, and how well that is known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from acquire.clock import Clock, ClockRelation, relate
from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

FOLLOW_S = 3.0
"""Wall seconds from one look at the server's clock to the next; each is one small question."""
DRIFT = 1e-4
"""Two computers' clocks run apart by no more: quartz is within 50 ppm. One that is being set is not,
which shows as a contradiction."""
SLEW = 0.01
"""A time stamp may lose so much of the time since the one before it, so that none ever goes back."""


class ClockFollower:
    """The relation to a server's clock, measured again every few seconds from a thread of its own.

    A look bounds the offset to half the time that the question took; what was known before does so,
    too, less sharply the older it is. Both together give the relation (the intersection of Marzullo,
    1984); where they contradict each other a clock was set, and the new look counts alone.

    Args:
        local: our clock.
        ping: asks for the server clock's present time in s; raises HotstageError.
        relation: as measured when connecting.
        every_s: wall seconds.
    """

    def __init__(
        self,
        local: Clock,
        ping: Callable[[], float],
        relation: ClockRelation,
        *,
        every_s: float = FOLLOW_S,
    ) -> None:
        self._local = local
        self._ping = ping
        self._relation = relation
        self._measured_s = local.now_s()
        self._tell: list[Callable[[ClockRelation], None]] = []
        self._every_s = every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="clock-follower", daemon=True)

    @property
    def relation(self) -> ClockRelation:
        """As of the last look."""
        return self._relation

    def on_change(self, tell: Callable[[ClockRelation], None]) -> None:
        """Call ``tell`` with every new relation, from the thread that measured it; before the start."""
        self._tell.append(tell)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look(self) -> None:
        """Measure once; what is asked in vain changes nothing but the uncertainty."""
        try:
            seen = relate(self._local, self._ping, rounds=1)
        except HotstageError as error:
            logger.debug("the server's clock could not be read: %s", error)
            return
        now_s = self._local.now_s()
        age_s = now_s - self._measured_s
        before = self._relation
        merged = merge(before, seen, DRIFT * age_s)
        self._relation, self._measured_s = merged, now_s
        moved_s = merged.offset_s - before.offset_s
        if abs(moved_s) > before.uncertainty_s + merged.uncertainty_s + DRIFT * age_s:
            logger.warning("the clocks were set apart by %+.6f s in %.1f s", moved_s, age_s)
        for tell in self._tell:
            tell(merged)

    def close(self) -> None:
        """Stop looking; idempotent."""
        self._closing.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def _follow(self) -> None:
        while not self._closing.wait(self._every_s):
            self.look()


def merge(before: ClockRelation, seen: ClockRelation, drifted_s: float) -> ClockRelation:
    """What two measurements say together, the older of which may be off by ``drifted_s`` more by now."""
    reach_s = before.uncertainty_s + drifted_s
    low = max(before.offset_s - reach_s, seen.offset_s - seen.uncertainty_s)
    high = min(before.offset_s + reach_s, seen.offset_s + seen.uncertainty_s)
    if low > high:
        return seen
    return ClockRelation((low + high) / 2, (high - low) / 2)


class StreamTimes:
    """Maps the time stamps of one stream to our clock, so that what rises there rises here.

    A new relation that puts the server's clock further ahead counts at once; one that would put
    stamps back is followed slowly, by ``SLEW`` of the time that has passed. From any thread.
    """

    def __init__(self, relation: Callable[[], ClockRelation]) -> None:
        self._relation = relation
        self._lock = threading.Lock()
        self._offset_s: float | None = None
        self._last_s = 0.0

    def offset_s(self, remote_s: float) -> float:
        """What to add to this stamp, and to all others of the same record."""
        wanted = self._relation().offset_s
        with self._lock:
            if self._offset_s is None:
                self._offset_s, self._last_s = wanted, remote_s
            passed_s = max(0.0, remote_s - self._last_s)
            self._offset_s = max(wanted, self._offset_s - SLEW * passed_s)
            self._last_s = max(self._last_s, remote_s)
            return self._offset_s
