"""Gives the exposures of simulated instruments their time: made at their middle, handed out at their end."""

from __future__ import annotations

from collections.abc import Callable

from acquire.acquisition import Expose, Watch
from acquire.clock import Clock
from acquire.instruments import Frame

KeepGoing = Callable[[], bool]
Make = Callable[[int, float, float, KeepGoing], Frame | None]
"""``make(index, t_start_s, t_end_s, keep_going)`` at the middle of an exposure; None if cut."""


def lasting(clock: Clock, duration_s: float, make: Make) -> Expose:
    """An exposure that takes ``duration_s`` on the clock."""

    def expose(index: int, cut: Watch) -> Frame | None:
        start_s = clock.now_s()
        end_s = start_s + duration_s
        # the image is made in the second half of the exposure, when its middle is known
        if not cut.wait_until((start_s + end_s) / 2):
            return None
        frame = make(index, start_s, end_s, lambda: not cut())
        return frame if frame is not None and cut.wait_until(end_s) else None

    return expose
