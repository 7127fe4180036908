"""What every part of the particle bench shares: its effort, its seeds, and how an image is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.bench.particle_scenes import Scene
from acquire.bench.particle_solids import Array
from acquire.bench.particles_score import Score, score_discs
from acquire.bench.verdicts import Verdict
from acquire.measure.particles import (
    ParticleMeasurement,
    ParticleOptions,
    measure_particles,
)


@dataclass
class Bench:
    """How much is done, from which seed, and what was seen."""

    seed: int
    share: float = 1.0
    """Of the full number of frames; a quick run does little of each."""
    tell: Callable[[str], None] = lambda text: None
    verdicts: list[Verdict] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    """By row: all numbers behind it."""
    notes: list[str] = field(default_factory=list)

    def count(self, full: int) -> int:
        """How many frames are made of ``full`` ones; two at least."""
        return max(2, round(self.share * full))

    def seeds(self, what: str, count: int) -> Iterator[int]:
        """Seeds for something by name: others for another name, the same for the same run's seed."""
        name = [self.seed, *what.encode()]
        return iter(np.random.SeedSequence(name).generate_state(count, np.uint32).tolist())

    def add(
        self, section: str, what: str, value: str, goal: str, good: bool | None, **numbers: Any
    ) -> None:
        """A row of the table, and the numbers behind it."""
        met = None if good is None else bool(good)
        self.verdicts.append(Verdict(section, what, value, goal, met))
        if numbers:
            self.measured[f"{section}: {what}"] = numbers
        self.tell(what)


@dataclass(frozen=True, slots=True)
class Measured:
    """One image's result beside its truth."""

    result: ParticleMeasurement
    score: Score
    count: float
    mean_nm: float
    true_mean_nm: float


def options_for(scene: Scene, **more: Any) -> ParticleOptions:
    """Defaults, and what an operator knows: the probe."""
    return ParticleOptions(probe_sigma_nm=scene.settings.probe_sigma_nm, **more)


def measure_scene(
    scene: Scene, image: NDArray[Any], options: ParticleOptions | None = None
) -> Measured:
    """Measure one image of a scene and score it."""
    options = options or options_for(scene)
    result = measure_particles(image, scene.settings.pixel_nm, options)
    table = result.table
    radius = np.asarray(table["diameter_nm"]) / options.shape.diameter_per_radius
    discs = np.column_stack([table["y_nm"], table["x_nm"], radius])
    score = score_discs(scene, discs, np.asarray(table["border"]) != 0)
    whole = scene.particles.diameter_nm[scene.whole]
    return Measured(
        result,
        score,
        result.values["count"].value,
        result.values["mean_diameter"].value,
        float(whole.mean()) if len(whole) else math.nan,
    )


def percent(value: float, digits: int = 2) -> str:
    """A share with its sign, as in the table."""
    return f"{100.0 * value:+.{digits}f} %"


def middle(values: Sequence[float] | Array) -> float:
    """Mean of what is finite; NaN where nothing is."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else math.nan


def share_finite(values: Sequence[float] | Array) -> float:
    """Share of numbers that are finite."""
    return float(np.isfinite(np.asarray(values, np.float64)).mean())
