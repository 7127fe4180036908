"""The course that a recipe plans, by its own figures alone: known at once, before a station has checked it.

Ramps take their difference over their rate, exposures their dwell times; what a condition or an
operator decides is taken to last as long as it may. What instruments need beyond that is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from acquire.engine.checked import Place
from acquire.recipe import (
    Hold,
    Image,
    LineScan,
    Mark,
    Ramp,
    Recipe,
    Regulate,
    Repeat,
    Spectrum,
    SpectrumImage,
    Step,
    When,
)

START_CELSIUS = 25.0
PASSES_DRAWN = 50
"""Passes of a repeat that are drawn; the time of more is added."""
STEPS_DRAWN = 5_000


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One step, as often as it is carried out; times in run seconds."""

    place: Place
    t_start_s: float
    duration_s: float
    exact: bool
    """Whether nothing but the recipe decides how long it takes."""


@dataclass(frozen=True, slots=True)
class Course:
    """Steps in the order of the run, and the temperature as a broken line."""

    parts: tuple[PlannedPart, ...] = ()
    profile_t_s: tuple[float, ...] = ()
    profile_celsius: tuple[float, ...] = ()
    duration_s: float = math.nan

    @property
    def exact(self) -> bool:
        """Whether nothing but the recipe decides how long it takes."""
        return all(part.exact for part in self.parts)


def course_of(recipe: Recipe) -> Course:
    """The course of a recipe, from room temperature."""
    walk = _Walk()
    walk.go(recipe.steps, ("steps",))
    return Course(tuple(walk.parts), tuple(walk.times), tuple(walk.celsius), walk.t_s)


class _Walk:
    def __init__(self) -> None:
        self.parts: list[PlannedPart] = []
        self.t_s, self.now = 0.0, START_CELSIUS
        self.times, self.celsius = [0.0], [START_CELSIUS]

    def go(self, steps: Sequence[Step], at: Place) -> None:
        for index, step in enumerate(steps):
            here = (*at, index)
            if isinstance(step, Repeat):
                self._repeat(step, here)
                continue
            duration_s, exact = self._duration_s(step)
            if len(self.parts) < STEPS_DRAWN:
                self.parts.append(PlannedPart(here, self.t_s, duration_s, exact))
            self._pass_time(step, duration_s)
            if isinstance(step, When):
                key, branch = ("then", step.then) if step.then else ("else", step.else_)
                self.go(branch, (*here, step.kind, key))

    def _repeat(self, step: Repeat, here: Place) -> None:
        begun_s = self.t_s
        for done in range(step.times):
            begun_s = self.t_s
            self.go(step.steps, (*here, step.kind, "steps"))
            if done + 1 >= PASSES_DRAWN or len(self.parts) >= STEPS_DRAWN:
                self.t_s += (step.times - done - 1) * (self.t_s - begun_s)
                self._point()
                return

    def _pass_time(self, step: Step, duration_s: float) -> None:
        if isinstance(step, Regulate):
            low, high = step.between
            bounded = min(max(self.now, low), high)
            self.t_s += min(abs(bounded - self.now) / step.rate, duration_s)
            self.now = bounded
            self._point()
            self.t_s = self.parts[-1].t_start_s + duration_s if self.parts else self.t_s
        else:
            self.t_s += duration_s
        if isinstance(step, Ramp):
            self.now = step.to
        self._point()

    def _point(self) -> None:
        if len(self.times) < 2 * STEPS_DRAWN:
            self.times.append(self.t_s)
            self.celsius.append(self.now)

    def _duration_s(self, step: Step) -> tuple[float, bool]:
        """How long a step takes at most, and whether that is certain."""
        if isinstance(step, Ramp):
            return abs(step.to - self.now) / step.rate, step.until is None
        if isinstance(step, Hold):
            return step.for_, step.until is None
        if isinstance(step, Regulate):
            return step.for_, step.until is None
        if isinstance(step, Image):
            rows, columns = step.scan.exposure().shape
            frame_s = max(step.every, rows * columns * step.scan.dwell_time)
            return step.frames * frame_s, True
        if isinstance(step, LineScan):
            return step.points * step.spectra.exposed_s, True
        if isinstance(step, Spectrum):
            count = step.frames * max(1, len(step.energy_offsets))
            return count * step.spectra.exposed_s, True
        if isinstance(step, SpectrumImage):
            return step.points * step.spectra.exposed_s, step.images is None
        return 0.0, isinstance(step, Mark)
