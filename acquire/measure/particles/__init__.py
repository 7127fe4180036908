"""Particle sizes from detector images: pure functions, and a live estimator on top of them."""

from acquire.measure.particles.background import film_level
from acquire.measure.particles.detect import Detection, Known, detect
from acquire.measure.particles.estimator import EstimatorOptions, ParticleEstimator
from acquire.measure.particles.link import link, view_shift
from acquire.measure.particles.measure import (
    ParticleMeasurement,
    ParticleOptions,
    measure_particles,
)
from acquire.measure.particles.shapes import BlurredDome, Shape, blurred_dome
from acquire.measure.particles.size import Sizes, fit_domes
from acquire.measure.particles.summary import COLUMNS, QUANTITIES, SummaryContext, summarise

__all__ = [
    "COLUMNS",
    "QUANTITIES",
    "BlurredDome",
    "Detection",
    "EstimatorOptions",
    "Known",
    "ParticleEstimator",
    "ParticleMeasurement",
    "ParticleOptions",
    "Shape",
    "Sizes",
    "SummaryContext",
    "blurred_dome",
    "detect",
    "film_level",
    "fit_domes",
    "link",
    "measure_particles",
    "summarise",
    "view_shift",
]
