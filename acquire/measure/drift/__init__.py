"""Drift: registration of images and particles, following a specimen, sums of aligned frames."""

from acquire.measure.drift.estimator import DriftEstimator, DriftOptions
from acquire.measure.drift.follow import Followed, Follower
from acquire.measure.drift.motion import Motion
from acquire.measure.drift.prepared import Prepared, prepare
from acquire.measure.drift.register import Registration, register
from acquire.measure.drift.summing import CorrectedSum
from acquire.measure.drift.vote import Vote, bumps, vote

__all__ = [
    "CorrectedSum",
    "DriftEstimator",
    "DriftOptions",
    "Followed",
    "Follower",
    "Motion",
    "Prepared",
    "Registration",
    "Vote",
    "bumps",
    "prepare",
    "register",
    "vote",
]
