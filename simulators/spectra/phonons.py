"""Vibrations: what a point gains from and loses to phonons at its temperature, as a distribution of energies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.spectra.point import Point

Array = NDArray[np.float64]

BOLTZMANN_EV_PER_K = 8.617333262e-5
ZERO_CELSIUS_K = 273.15
FINEST_STEP_EV = 2.5e-3
"""Bands are left out of axes with coarser steps, which cannot show them."""
REACH_EV = 0.25
_ACOUSTIC_EV = 0.004
"""Below, bands fade as the energy squared, so that the thermal factor does not diverge."""


def distribution(point: Point, energy_ev: Array) -> Array:
    """Mean excitations per eV, losses at positive and gains at negative energies; float64 as ``energy_ev``.

    A band A(E) loses A (1 + n) and gains A n, with the Bose-Einstein number n(E, T): gain over loss is
    exp(-E / kT) at every energy (detailed balance).
    """
    size = np.maximum(np.abs(energy_ev), 1e-9)
    cold = np.zeros_like(size)
    for band, number in point.phonons():
        peak = number / (band.sigma_ev * np.sqrt(2 * np.pi))
        cold += peak * np.exp(-0.5 * ((size - band.energy_ev) / band.sigma_ev) ** 2)
    cold *= -np.expm1(-((size / _ACOUSTIC_EV) ** 2))
    thermal = BOLTZMANN_EV_PER_K * (point.celsius + ZERO_CELSIUS_K)
    bose = 1 / np.expm1(np.minimum(size / thermal, 500.0))
    return np.asarray(cold * np.where(energy_ev > 0, 1 + bose, bose))
