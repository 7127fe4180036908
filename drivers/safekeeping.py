"""Switches something off in the background, again and again, until the device has confirmed it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from acquire.clock import Clock, finite_rate
from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

FIRST_PAUSE_WALL_S = 0.02
LONGEST_PAUSE_WALL_S = 0.5


class Safekeeper:
    """A task that waits to be told, so that ``make_safe`` returns at once and is not forgotten.

    Args:
        off: switches off and has it confirmed, bounded in time; raises HotstageError otherwise.
        clock: whose task it is.
        what: the device, for messages.
    """

    def __init__(self, off: Callable[[], None], clock: Clock, what: str) -> None:
        self._off = off
        self._clock = clock
        self._what = what
        self._lock = threading.Lock()
        self._wanted = False
        self._demands = 0
        self._cause = ""
        self._wake = clock.signal()
        self._settled = threading.Event()
        self._settled.set()
        self._closed = clock.signal()
        self._task = clock.spawn(self._run, f"{what}-safekeeper")

    def demand(self) -> None:
        """Switch off, from now on until it is confirmed; returns at once."""
        with self._lock:
            self._wanted = True
            self._demands += 1
            self._settled.clear()
        self._wake.set()

    @property
    def unknown(self) -> str:
        """Why it is not known yet whether it is off; empty if it is, or if nobody wanted it off."""
        with self._lock:
            if not self._wanted:
                return ""
            return self._cause or "the device has not answered yet."

    def close(self, within_wall_s: float) -> str:
        """Wait for the confirmation, then end the task; ``unknown`` as it was left."""
        self._settled.wait(within_wall_s)
        left = self.unknown
        self._closed.set()
        self._wake.set()
        self._task.join(within_wall_s * finite_rate(self._clock))
        return left

    def _run(self) -> None:
        pause = FIRST_PAUSE_WALL_S
        while not self._closed.is_set():
            self._wake.clear()
            if not self._wanted:
                self._wake.wait()
                continue
            demands = self._demands
            try:
                self._off()
            except HotstageError as error:
                self._failed(str(error))
            except Exception as error:
                logger.exception("%s: switching off met an error of its own", self._what)
                self._failed(repr(error))
            else:
                pause = FIRST_PAUSE_WALL_S
                with self._lock:
                    self._cause = ""
                    # one that came meanwhile may be about what was switched on after this
                    if demands == self._demands:
                        self._wanted = False
                        self._settled.set()
                continue
            self._wake.wait(pause * finite_rate(self._clock))
            pause = min(LONGEST_PAUSE_WALL_S, 2 * pause)

    def _failed(self, cause: str) -> None:
        with self._lock:
            if not self._cause:
                logger.warning("%s: it is not known whether it is off: %s", self._what, cause)
            self._cause = cause
