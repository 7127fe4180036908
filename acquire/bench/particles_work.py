"""What the parts of the particle bench share: how an image is measured, and how figures are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.bench.particle_scenes import Scene
from acquire.bench.particle_solids import Array
from acquire.bench.particles_score import Score, score_discs
from acquire.measure.particles import (
    ParticleMeasurement,
    ParticleOptions,
    measure_particles,
)


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
