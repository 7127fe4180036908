"""A grain boundary of LSTZ: where it is, what is missing at it, and how far its superlattice reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator
from simulators.specimen.film import REGION_NM

Array = NDArray[np.float64]

DEFICITS: Mapping[str, float] = MappingProxyType({"Sr": 0.26, "Ta": 0.11, "Zr": 0.07, "O": 0.0})
"""Share of each element that is missing in the middle of the boundary [GB]; Li is not given."""
FORMULA: Mapping[str, float] = MappingProxyType(
    {"Li": 0.375, "Sr": 0.4375, "Ta": 0.75, "Zr": 0.25, "O": 3.0}
)
CELL_NM = 0.391
"""Pseudocubic lattice parameter, with which the superlattice's reach is counted."""
SUPERLATTICE_CELLS = 17
_NUMBERS = {"Li": 3, "Sr": 38, "Ta": 73, "Zr": 40, "O": 8}
_RUTHERFORD = 1.7  # exponent of the atomic number in high-angle scattering


@dataclass(frozen=True, slots=True)
class GrainBoundary:
    """A straight, vertical boundary through the film at one x, repeated with the region."""

    x_nm: float
    width_nm: float = 0.8
    """Standard deviation of the profile of composition."""

    def distance_nm(self, x_nm: Array) -> Array:
        """Signed distance from the boundary, positive to the right."""
        half = REGION_NM / 2
        return np.asarray(np.mod(x_nm - self.x_nm + half, REGION_NM) - half)

    def relative(self, element: str, x_nm: Array) -> Array:
        """Concentration of an element over that in the grain; raises KeyError for one it does not hold."""
        if element not in FORMULA:
            raise KeyError(f"{element!r} is not in the film; there are {', '.join(FORMULA)}.")
        profile = np.exp(-0.5 * (self.distance_nm(x_nm) / self.width_nm) ** 2)
        return np.asarray(1 - DEFICITS.get(element, 0.0) * profile)

    def per_cell(self, x_nm: Array) -> dict[str, Array]:
        """Atoms of every element in a unit cell at places along x."""
        return {name: share * self.relative(name, x_nm) for name, share in FORMULA.items()}

    def high_angle_scattering(self, x_nm: Array) -> Array:
        """Intensity to high angles over that of the grain: atoms weighted with Z^1.7."""
        weights = {name: number**_RUTHERFORD for name, number in _NUMBERS.items()}
        whole = sum(FORMULA[name] * weight for name, weight in weights.items())
        cells = self.per_cell(x_nm)
        return np.asarray(sum(cells[name] * weights[name] for name in cells) / whole)

    @property
    def scattering_loss(self) -> float:
        """Relative loss of scattering to high angles in the middle; beside it as the profile of composition."""
        return 1 - float(self.high_angle_scattering(np.array([self.x_nm]))[0])

    @property
    def superlattice_reach_nm(self) -> float:
        """How far from the boundary the A sites are ordered."""
        return SUPERLATTICE_CELLS * CELL_NM

    def superlattice(self, x_nm: Array) -> Array:
        """Order of the alternating A sites: from 1 at the boundary to 0 at 17 cells from it."""
        part = np.abs(self.distance_nm(x_nm)) / (SUPERLATTICE_CELLS * CELL_NM)
        return np.where(part < 1, np.cos(math.pi / 2 * np.minimum(part, 1.0)), 0.0)


def grain_boundary(seed: int) -> GrainBoundary:
    """A boundary within 20 nm of the origin, so that an unshifted field shows it."""
    return GrainBoundary(float(generator(seed, "grain boundary").uniform(-20, 20)) % REGION_NM)
