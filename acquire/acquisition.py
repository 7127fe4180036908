"""Arms, paces, counts and cuts the exposures of one instrument, real or simulated, on any clock."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acquire.bursts import SpectrumBlock
from acquire.clock import Clock, Signal
from acquire.errors import InstrumentError
from acquire.instruments import Frame

Cut = Callable[[], bool]
"""Turns true when an exposure under way shall end."""
NOTICE_WALL_S = 0.05
"""How long a wait goes on before it looks whether it was disarmed, in wall seconds."""
_NOTICE_VIRTUAL_S = 1.0


@dataclass(eq=False)
class _Armed:
    left: float
    """Exposures still to be taken."""
    reading: bool = False
    ended: bool = False


class Watch:
    """The :data:`Cut` of one exposure, which can wait for a time, too."""

    def __init__(self, clock: Clock, armed: _Armed, stop: Signal) -> None:
        self._clock = clock
        self._armed = armed
        self._stop = stop
        rate = clock.rate
        self._slice_s = NOTICE_WALL_S * rate if math.isfinite(rate) else _NOTICE_VIRTUAL_S

    def __call__(self) -> bool:
        """Whether it shall end."""
        return self._armed.ended or self._stop.is_set()

    def wait_until(self, t_s: float) -> bool:
        """Wait for a time on the clock; False if the exposure shall end, before or meanwhile."""
        while True:
            if self():
                return False
            remaining = t_s - self._clock.now_s()
            if remaining <= 1e-9:
                return True
            self._stop.wait(min(remaining, self._slice_s))


Expose = Callable[[int, Watch], Frame | None]
"""``expose(index, cut)`` takes one frame; it returns None soon (0.1 s) after ``cut()`` turns true."""
ExposeMany = Callable[[int, float, Watch], SpectrumBlock | None]
"""``expose(first, most, cut)`` takes a block of no more than ``most`` frames, the first of that number.

Soon after ``cut()`` turns true it returns those that are whole, or None.
"""


class Acquisition:
    """The arm, frames, disarm cycle of an instrument; frames are counted over all of its life."""

    def __init__(self, clock: Clock, what: str) -> None:
        self._clock = clock
        self._what = what
        self._lock = threading.Lock()
        self._armed: _Armed | None = None
        self._taken = 0

    def arm(self, frames: int | None) -> Cut:
        """Begin; what it returns tells whether this acquisition was ended since.

        Raises:
            InstrumentError: armed already, or ``frames`` is below 1.
        """
        if frames is not None and frames < 1:
            raise InstrumentError(
                f"{self._what}: {frames} frames cannot be taken; ask for 1 or more."
            )
        with self._lock:
            if self._armed is not None:
                raise InstrumentError(f"the {self._what} is armed already; disarm it first.")
            armed = self._armed = _Armed(math.inf if frames is None else frames)
        return lambda: armed.ended

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
        armed = self._begin_reading()
        return self._take(armed, Watch(self._clock, armed, stop), period_s, expose)

    def blocks(self, stop: Signal, expose: ExposeMany) -> Iterator[SpectrumBlock]:
        """Take the armed exposures block by block; raises as :meth:`frames`."""
        armed = self._begin_reading()
        return self._take_blocks(armed, Watch(self._clock, armed, stop), expose)

    def _begin_reading(self) -> _Armed:
        with self._lock:
            armed = self._armed
            if armed is None:
                raise InstrumentError(f"the {self._what} is not armed; arm it first.")
            if armed.reading:
                raise InstrumentError(f"the frames of the {self._what} are being read already.")
            armed.reading = True
        return armed

    def _take_blocks(
        self, armed: _Armed, cut: Watch, expose: ExposeMany
    ) -> Iterator[SpectrumBlock]:
        try:
            while armed.left > 0 and not cut():
                block = expose(self._taken, armed.left, cut)
                with self._lock:
                    if block is None or armed.ended:
                        return
                    self._taken += len(block)
                armed.left -= len(block)
                yield block
        finally:
            armed.reading = False

    def _take(self, armed: _Armed, cut: Watch, period_s: float, expose: Expose) -> Iterator[Frame]:
        due = self._clock.now_s()
        try:
            while armed.left > 0:
                if not cut.wait_until(due):
                    return
                now = self._clock.now_s()
                # one late exposure does not delay the next ones, unless a whole period was missed
                beat = due if now - due < period_s else now
                frame = expose(self._taken, cut)
                # counted before it is disarmed or not at all: the next acquisition counts on from there
                with self._lock:
                    if frame is None or cut():
                        return
                    self._taken += 1
                armed.left -= 1
                due = beat + period_s
                yield frame
        finally:
            armed.reading = False
