"""Gives the exposures of simulated instruments their time: made at their middle, handed out at their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Expose, ExposeMany, Watch
from acquire.bursts import BLOCK_S, SpectrumBlock
from acquire.clock import Clock, finite_rate
from acquire.instruments import Frame

KeepGoing = Callable[[], bool]
Make = Callable[[int, float, float, KeepGoing], Frame | None]
"""``make(index, t_start_s, t_end_s, keep_going)`` at the middle of an exposure; None if cut."""
Met = TypeVar("Met")

HELD_WALL_S = 0.5
"""Spectra of a burst that a camera holds until somebody takes them; beyond, it waits before the next."""


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


def lasting_blocks(
    clock: Clock,
    frame_s: float,
    meet: Callable[[float], Met],
    make: Callable[[int, NDArray[np.float64], Met], SpectrumBlock],
) -> ExposeMany:
    """Blocks of exposures of ``frame_s`` each, one right after the other however long the making takes.

    Args:
        clock: that they follow.
        frame_s: of one exposure.
        meet: what the probe meets at a time; called in the middle of a block.
        make: ``make(first, starts_s, met)`` at the end of a block.
    """
    at_once = max(1, int(BLOCK_S / frame_s + 1e-9))
    held_s = HELD_WALL_S * finite_rate(clock)
    last_end_s: float | None = None

    def expose(first: int, most: float, cut: Watch) -> SpectrumBlock | None:
        nonlocal last_end_s
        now_s = clock.now_s()
        start_s = now_s if last_end_s is None else max(last_end_s, now_s - held_s)
        count = int(min(most, at_once))
        going_on = cut.wait_until(start_s + count * frame_s / 2)
        met = meet(min(clock.now_s(), start_s + count * frame_s / 2))
        if not (going_on and cut.wait_until(start_s + count * frame_s)):
            count = min(count, max(0, int((clock.now_s() - start_s) / frame_s)))
        last_end_s = start_s + count * frame_s
        starts_s = start_s + frame_s * np.arange(count, dtype=np.float64)
        return make(first, starts_s, met) if count else None

    return expose
