"""Arms, paces, counts and cuts the exposures of a device, on the station's clock."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError
from acquire.instruments import Frame

Cut = Callable[[], bool]
Expose = Callable[[int, Cut], Frame | None]
"""``expose(index, cut)`` takes one frame; it returns None soon (0.1 s) after ``cut()`` turns true."""
NOTICE_WALL_S = 0.05


@dataclass(eq=False)
class _Armed:
    left: float
    """Exposures still to be taken."""
    reading: bool = False
    ended: bool = False


class Acquisition:
    """The arm, frames, disarm cycle of a device that exposes on request; frames are counted for life."""

    def __init__(self, clock: Clock, what: str) -> None:
        self._clock = clock
        self._what = what
        self._lock = threading.Lock()
        self._armed: _Armed | None = None
        self._taken = 0

    def arm(self, frames: int | None) -> None:
        """Begin; raises InstrumentError if armed already or if ``frames`` is below 1."""
        if frames is not None and frames < 1:
            raise InstrumentError(
                f"{self._what}: {frames} frames cannot be taken; ask for 1 or more."
            )
        with self._lock:
            if self._armed is not None:
                raise InstrumentError(f"the {self._what} is armed already; disarm it first.")
            self._armed = _Armed(math.inf if frames is None else frames)

    def disarm(self) -> None:
        """End; a frames iterator of it ends soon after. Idempotent."""
        with self._lock:
            if self._armed is not None:
                self._armed.ended = True
            self._armed = None

    def armed(self) -> bool:
        """Whether an acquisition is armed."""
        with self._lock:
            return self._armed is not None

    def frames(self, stop: Signal, period_s: float, expose: Expose) -> Iterator[Frame]:
        """Take the armed exposures one by one, from start to start ``period_s`` apart if they fit.

        Raises:
            InstrumentError: not armed, or somebody else reads the frames of this acquisition.
        """
        with self._lock:
            armed = self._armed
            if armed is None:
                raise InstrumentError(f"the {self._what} is not armed; arm it first.")
            if armed.reading:
                raise InstrumentError(f"the frames of the {self._what} are being read already.")
            armed.reading = True
        return self._take(armed, stop, period_s, expose)

    def _take(
        self, armed: _Armed, stop: Signal, period_s: float, expose: Expose
    ) -> Iterator[Frame]:
        def cut() -> bool:
            return armed.ended or stop.is_set()

        due = self._clock.now_s()
        try:
            while armed.left > 0:
                if not self._wait_until(due, armed, stop):
                    return
                now = self._clock.now_s()
                # one late exposure does not delay the next ones, unless a whole period was missed
                beat = due if now - due < period_s else now
                frame = expose(self._taken, cut)
                if frame is None or cut():
                    return
                self._taken += 1
                armed.left -= 1
                due = beat + period_s
                yield frame
        finally:
            armed.reading = False

    def _wait_until(self, t_s: float, armed: _Armed, stop: Signal) -> bool:
        """Wait for a time; False if told to stop or disarmed, before or meanwhile."""
        slice_s = NOTICE_WALL_S * finite_rate(self._clock)
        while True:
            if armed.ended or stop.is_set():
                return False
            remaining = t_s - self._clock.now_s()
            if remaining <= 1e-9:
                return True
            stop.wait(min(remaining, slice_s))
