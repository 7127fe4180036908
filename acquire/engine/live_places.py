"""Where the specimen lies in the newest images, so that a viewer can hold it still."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from acquire.instruments import Frame
from acquire.stream import Estimate

KEPT_FRAMES = 64
"""Of each stream; an estimate of an older frame places nothing."""
_X, _Y = "drift_x", "drift_y"


@dataclass(frozen=True, slots=True)
class Place:
    """How far the specimen lies to the right and down of where the first image had it, in nm."""

    index: int = -1
    """The frame that was placed; -1 if none was."""
    x_nm: float = math.nan
    y_nm: float = math.nan


class Places:
    """Drift less scan shift, frame by frame: what is left of it in the image."""

    def __init__(self) -> None:
        self._shifts: dict[str, deque[tuple[int, float, float]]] = {}
        self._places: dict[str, deque[Place]] = {}

    def took(self, frame: Frame) -> None:
        """Remember the scan shift of a frame; one without was not shifted."""
        kept = self._shifts.setdefault(frame.stream, deque(maxlen=KEPT_FRAMES))
        scalars = frame.meta.scalars
        kept.append(
            (frame.index, scalars.get("scan_shift_x", 0.0), scalars.get("scan_shift_y", 0.0))
        )

    def told(self, estimate: Estimate) -> None:
        """Take an estimate, of which only a drift that could be told counts."""
        x, y = (_value(estimate, name) for name in (_X, _Y))
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        for index, shift_x, shift_y in reversed(self._shifts.get(estimate.stream, ())):
            if index == estimate.frame_index:
                kept = self._places.setdefault(estimate.stream, deque(maxlen=KEPT_FRAMES))
                kept.append(Place(index, float(x - shift_x), float(y - shift_y)))
                return

    def of(self, stream: str, index: int) -> Place:
        """The place in a frame, or in the newest before it that was placed."""
        for place in reversed(self._places.get(stream, ())):
            if place.index <= index:
                return place
        return Place()


def _value(estimate: Estimate, name: str) -> float:
    """A value of an estimate, also where a recipe's prefix stands before its name."""
    found = (value.value for key, value in estimate.values.items() if key.endswith(name))
    return next(found, math.nan)
