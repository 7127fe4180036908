"""How fast frames are drawn: HAADF and ABF together, in CPU time of one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulators.column import Beam
from simulators.imaging.detectors import DETECTORS
from simulators.imaging.frame import render
from simulators.noise import generator
from simulators.specimen import Specimen, View, lived, named

GOALS_PER_S = {512: 30.0, 1024: 8.0}
_FIELD_NM = {512: 400.0, 1024: 400.0}
_HOT_S, _CELSIUS = 2000.0, 700.0
_FRAMES = 9


@dataclass(frozen=True, slots=True)
class Speed:
    """Frames a second of one core."""

    size: int
    """Pixels along one side."""
    particles: int
    """In the field."""
    frames_per_s: float
    goal_per_s: float

    @property
    def good(self) -> bool:
        """Whether the goal is reached."""
        return self.frames_per_s >= self.goal_per_s


def speeds(tell: Callable[[str], None] = lambda _: None) -> list[Speed]:
    """Draw frames of both sizes in fields of 50 to 300 particles; medians over frames."""
    specimen = named("lsnt_nonstoichiometric", 1).under(lived([(135.0, _CELSIUS)]))
    found = []
    for size, goal in GOALS_PER_S.items():
        tell(f"images of {size}²")
        view = View((0.0, 0.0), (size, size), _FIELD_NM[size] / size)
        number = len(specimen.domes(view, _HOT_S))
        # the first frame compiles, and is not counted
        taken = [_one_s(specimen, view, index) for index in range(_FRAMES + 1)][1:]
        found.append(Speed(size, number, 1 / float(np.median(taken)), goal))
    return found


def _one_s(specimen: Specimen, view: View, index: int) -> float:
    rngs = {name: generator(1, name, index) for name in DETECTORS}
    electrons = Beam().electrons_per_s * 1e-6
    begin_s = time.thread_time()
    render(specimen, _HOT_S, view, electrons, rngs)
    return time.thread_time() - begin_s
