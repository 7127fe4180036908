"""Rates of everything that heat does to the specimen: barriers, prefactors, and how they were calibrated.

Every process has one barrier and a rate at 900 °C, and is integrated exactly along the temperature
that the specimen has lived through. docs/specimen.md tells where each figure comes from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from simulators.history import (
    BOLTZMANN_EV_PER_K,
    KELVIN_AT_0_CELSIUS,
    NO_FUNCTIONALS,
    Functional,
    OfSample,
    TemperatureHistory,
    ThermalTime,
)

REFERENCE_CELSIUS = 900.0
AMBIENT_CELSIUS = 25.0

# Published [APB]: migration of Ni across, beside and far from a boundary; segregation energies.
ALONG_EV, BESIDE_EV, BULK_EV = 0.68, 3.35, 4.37
TO_BOUNDARY_EV, TO_SURFACE_EV = -0.17, -0.54

LOWERED = 0.4
"""Effective barriers rise above that along a boundary by this share of the published difference."""
BESIDE_EFFECTIVE_EV = ALONG_EV + LOWERED * (BESIDE_EV - ALONG_EV)
BULK_EFFECTIVE_EV = ALONG_EV + LOWERED * (BULK_EV - ALONG_EV)


@dataclass(frozen=True, slots=True)
class Rates:
    """What the specimen does at 900 °C; times and lengths of the mean-field model."""

    along_nm2_per_s: float = 0.38
    """Growth of a particle's volume per diameter, fed along a boundary from a full one."""
    plain: float = 0.8
    """The same for a particle far from boundaries, as a share at 900 °C; its barrier is that beside."""
    dislocation: float = 1.0
    """The same for a particle on a dislocation, as a share at any temperature."""
    crystal: float = 2.5
    """How much faster a stable crystal takes nickel up and gives it off than a droplet."""
    anchored: float = 0.2
    """How well a particle that has settled into the film still exchanges nickel, over one upon it."""
    inside: float = 0.7
    """How well a particle inside the film exchanges nickel, over a fresh one at the surface."""
    coherent: float = 0.6
    """Interface energy of a particle inside the film over that of one at the surface."""
    beside_per_s: float = 8e-3
    """Release of the nickel beside a boundary into it."""
    bulk_per_s: float = 3e-6
    """Release of the nickel of the bulk to where boundaries reach."""
    capillary_nm: float = 4.0
    """4 γ Ω / kT: a particle of diameter d is in equilibrium with exp(capillary / d) of a flat one's."""
    onset_s: float = 0.155
    """Median incubation of a site on a boundary."""
    motion_nm2_per_s: float = 0.05
    """Diffusion of a particle of 3 nm; falls as d⁻⁴ and with the share below the surface."""
    socket_per_s: float = 1.5e-4
    """Sinking into the film until half of the volume is below the surface."""
    flicker_per_s: float = 2.5
    """Attempts of a droplet to crystallise or to melt again."""
    reduction_per_s: float = 1 / 60
    """How fast the titanium of the film approaches the valence that it has in vacuum."""


BARRIERS_EV: Mapping[str, float] = {
    "along": ALONG_EV,
    "along_release": ALONG_EV - TO_SURFACE_EV,
    "beside": BESIDE_EFFECTIVE_EV,
    "beside_release": BESIDE_EFFECTIVE_EV - TO_SURFACE_EV,
    "bulk": BULK_EFFECTIVE_EV,
    "nucleation": 2.5,
    "motion": 1.0,
    "socket": 1.0,
    "flicker": 0.8,
}
"""Barrier of each process of the particles; dissolving a particle into a boundary costs its segregation energy on top."""

REDUCTION, REDUCTION_EV = "reduction", 2.2
"""The film's own, on which no particle depends."""

FLAT_ACTIVITY = math.exp(
    TO_SURFACE_EV / (BOLTZMANN_EV_PER_K * (REFERENCE_CELSIUS + KELVIN_AT_0_CELSIUS))
)
"""Activity in the boundaries that a flat particle is in equilibrium with at 900 °C."""


class Temperature(Protocol):
    """The temperature that a specimen lives through."""

    def celsius(self, t_s: float) -> float:
        """The temperature at a time."""

    def value(self, name: str, t_s: float) -> float:
        """Seconds at 900 °C that would have done the same for a process of ``BARRIERS_EV``."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What each process has lived through, in equivalent seconds at 900 °C."""

    along: float = 0.0
    along_release: float = 0.0
    beside: float = 0.0
    beside_release: float = 0.0
    bulk: float = 0.0
    nucleation: float = 0.0
    motion: float = 0.0
    socket: float = 0.0
    flicker: float = 0.0

    def since(self, earlier: Exposure) -> Exposure:
        """What was added after an earlier moment."""
        return Exposure(*(getattr(self, n) - getattr(earlier, n) for n in _NAMES))


_NAMES = tuple(field.name for field in fields(Exposure))


def exposure(temperature: Temperature, t_s: float) -> Exposure:
    """All processes at a time."""
    return Exposure(*(temperature.value(name, t_s) for name in _NAMES))


def lived(
    knots: Iterable[tuple[float, float]] = (),
    *,
    start_s: float = 0.0,
    cooler_by: float = 0.0,
    more: Mapping[str, Functional] = NO_FUNCTIONALS,
) -> TemperatureHistory:
    """A history that a specimen can live through, from 25 °C through knots (t_s, °C), constant after.

    Args:
        knots: rising in time.
        start_s: when it begins.
        cooler_by: share of the rise above 25 °C by which the sample stays cooler than the knots say.
        more: functionals for others.
    """
    processes = {
        name: OfSample(ThermalTime(barrier, REFERENCE_CELSIUS), cooler_by, AMBIENT_CELSIUS)
        for name, barrier in {**BARRIERS_EV, REDUCTION: REDUCTION_EV}.items()
    }
    history = TemperatureHistory(start_s, AMBIENT_CELSIUS, {**processes, **more})
    history.plan(start_s, knots)
    return history
