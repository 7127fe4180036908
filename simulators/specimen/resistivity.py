"""Resistivity of the film, which turns from an insulator into a degenerate metal as nickel is reduced."""

from __future__ import annotations

import math

from simulators.history import BOLTZMANN_EV_PER_K, KELVIN_AT_0_CELSIUS

_INSULATOR_OHM_M = 0.3
_METAL_OHM_M = 2e-5
_BARRIER_EV = 0.15
_AT_K = 298.15
_SCATTERING_PER_K = 1.5e-3
_FULL = 0.66  # share of reduced nickel of the film that was measured


def resistivity_ohm_m(reduced_share: float, celsius: float) -> float:
    """Resistivity at a share of reduced nickel near the surface and a temperature, in Ω m.

    Carriers of the reduced film rise with the square of the share, beside the activated ones of the
    fresh film. At 25 °C a film with 66 % reduced conducts 10⁴ times as well as a fresh one [IMT: above
    10³]. The law between the two ends is a choice of this simulator.
    """
    kelvin = max(celsius + KELVIN_AT_0_CELSIUS, 1.0)
    hopping = math.exp(-_BARRIER_EV / BOLTZMANN_EV_PER_K * (1 / kelvin - 1 / _AT_K))
    fresh = hopping / _INSULATOR_OHM_M
    metal = (reduced_share / _FULL) ** 2 / (
        _METAL_OHM_M * max(1 + _SCATTERING_PER_K * (kelvin - _AT_K), 0.1)
    )
    return 1 / (fresh + metal)
