"""Where the nickel of a film is before it is heated, and what share of it near the surface is reduced."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulators.history import BOLTZMANN_EV_PER_K, KELVIN_AT_0_CELSIUS
from simulators.specimen.film import REGION_NM, FilmSettings
from simulators.specimen.rates import TO_BOUNDARY_EV

NI_PER_NM3_OF_FILM = 1.68
"""0.1 Ni in a unit cell of 0.0595 nm³."""
NI_PER_B_SITE = 0.1
GROWTH_CELSIUS = 700.0
"""At which the film was grown and its boundaries took nickel up."""
BOUNDARY_WIDTH_NM = 0.78
"""Two unit cells."""
BESIDE_NM = 6.0
"""From where, on either side of a boundary, nickel comes to it within hours."""
NEAR_SURFACE_NM = 20.0
"""Depth of film whose nickel counts as near the surface."""
DRAIN_NM = 20.0
"""The nickel that has left the film came from depths distributed as exp(-z / this)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Nickel atoms of the region of a fresh film, by where they are."""

    boundary: float
    beside: float
    bulk: float

    @property
    def total(self) -> float:
        """All nickel."""
        return self.boundary + self.beside + self.bulk


def enrichment() -> float:
    """Nickel on a boundary's sites over that of the bulk at the growth temperature (Langmuir-McLean)."""
    kelvin = GROWTH_CELSIUS + KELVIN_AT_0_CELSIUS
    odds = NI_PER_B_SITE / (1 - NI_PER_B_SITE)
    odds *= math.exp(-TO_BOUNDARY_EV / (BOLTZMANN_EV_PER_K * kelvin))
    return odds / (1 + odds) / NI_PER_B_SITE


def boundary_length_per_nm(settings: FilmSettings) -> float:
    """Length of anti-phase boundary per area of film, in nm/nm²."""
    spacing = settings.boundary_spacing_nm
    # the zero lines of a monochromatic Gaussian field of wavelength w: (2π/w) / (2 √2)
    return math.pi / (math.sqrt(2) * spacing) if spacing > 0 else 0.0


def budget(settings: FilmSettings) -> Budget:
    """The nickel of a fresh film; what the boundaries hold in excess is missing in the bulk."""
    per_volume = NI_PER_NM3_OF_FILM * settings.thickness_nm * REGION_NM**2
    length = boundary_length_per_nm(settings)
    boundary = length * BOUNDARY_WIDTH_NM * enrichment() * per_volume
    beside = min(2 * BESIDE_NM * length, 0.9) * per_volume
    return Budget(boundary, beside, per_volume - boundary - beside)


def reduced_share(settings: FilmSettings, particle_ni: float) -> float:
    """Share of the nickel near the surface that is metal.

    Metal is all of the particles, which stand at the surface; the rest is what the film still holds
    within ``NEAR_SURFACE_NM``, with what has left it taken from depths as ``DRAIN_NM`` says.
    """
    depth = min(NEAR_SURFACE_NM, settings.thickness_nm)
    from_near = math.expm1(-depth / DRAIN_NM) / math.expm1(-settings.thickness_nm / DRAIN_NM)
    fresh = NI_PER_NM3_OF_FILM * depth * REGION_NM**2
    left = max(0.0, fresh - from_near * particle_ni)
    return particle_ni / (particle_ni + left)
