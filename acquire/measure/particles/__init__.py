"""Particle sizes from detector images: pure functions, and a live estimator on top of them."""

from acquire.measure.particles.background import Film, film_level, find_film
from acquire.measure.particles.calibrate import ShapeCalibration, ShapePool, calibrate_shape
from acquire.measure.particles.channels import (
    ChannelScore,
    choose_channel,
    score_channels,
    settle_channel,
)
from acquire.measure.particles.choosing import ChoosingParticles
from acquire.measure.particles.detect import Detection, Known, detect
from acquire.measure.particles.distributions import SizeDistribution, fit_lognormal, fit_lsw
from acquire.measure.particles.estimator import ParticleEstimator, with_segmenter
from acquire.measure.particles.live_options import EstimatorOptions
from acquire.measure.particles.live_quantities import LIVE_COLUMNS, LIVE_QUANTITIES
from acquire.measure.particles.measure import ParticleMeasurement, measure_particles
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import Segmenter
from acquire.measure.particles.shapes import BlurredDome, Shape, blurred_dome
from acquire.measure.particles.size import Sizes, fit_domes
from acquire.measure.particles.summary import COLUMNS, QUANTITIES, SummaryContext, summarise
from acquire.measure.particles.warm import warm_up

__all__ = [
    "COLUMNS",
    "LIVE_COLUMNS",
    "LIVE_QUANTITIES",
    "QUANTITIES",
    "BlurredDome",
    "ChannelScore",
    "ChoosingParticles",
    "Detection",
    "EstimatorOptions",
    "Film",
    "Known",
    "ParticleEstimator",
    "ParticleMeasurement",
    "ParticleOptions",
    "Segmenter",
    "Shape",
    "ShapeCalibration",
    "ShapePool",
    "SizeDistribution",
    "Sizes",
    "SummaryContext",
    "blurred_dome",
    "calibrate_shape",
    "choose_channel",
    "detect",
    "film_level",
    "find_film",
    "fit_domes",
    "fit_lognormal",
    "fit_lsw",
    "measure_particles",
    "score_channels",
    "settle_channel",
    "summarise",
    "warm_up",
    "with_segmenter",
]
