"""Crystals and superlattices from local spectra: spots with a stated false-positive rate, and what follows."""

from acquire.measure.crystallinity.critical import CriticalDiameter, critical_diameter
from acquire.measure.crystallinity.estimator import CrystallinityEstimator, CrystallinityOptions
from acquire.measure.crystallinity.following import Follower, Looks, Stable
from acquire.measure.crystallinity.spots import (
    Crystallinity,
    CrystalOptions,
    measure_crystallinity,
)
from acquire.measure.crystallinity.superlattice import (
    Superlattice,
    SuperlatticeOptions,
    measure_superlattice,
)
from acquire.measure.crystallinity.superlattice_estimator import SuperlatticeEstimator

__all__ = [
    "CriticalDiameter",
    "CrystalOptions",
    "Crystallinity",
    "CrystallinityEstimator",
    "CrystallinityOptions",
    "Follower",
    "Looks",
    "Stable",
    "Superlattice",
    "SuperlatticeEstimator",
    "SuperlatticeOptions",
    "critical_diameter",
    "measure_crystallinity",
    "measure_superlattice",
]
