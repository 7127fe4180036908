"""Lattices as images show them: fringes of nickel crystals, of the film and of its superlattice."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulators.imaging.probe import Probe
from simulators.noise import generator
from simulators.specimen.grain_boundary import CELL_NM

Array = NDArray[np.float64]

NICKEL_A_NM = 0.353
FILM_A_NM = 0.3905
NI_111_NM = NICKEL_A_NM / math.sqrt(3)
NI_200_NM = NICKEL_A_NM / 2
NI_HALF_ANGLE_RAD = math.acos(1 / math.sqrt(3))
"""Between {200} and either {111} in the [110] zone of a face-centred lattice: 54.7°."""
_NI_111, _NI_200 = 0.45, 0.3
_FILM_100, _FILM_110, _FILM_200, _HALF = 0.12, 0.08, 0.06, 0.10
_MISORIENTATION_RAD = 0.32


def nickel_waves(angle_rad: Array) -> Array:
    """Wave vectors (n, 3, 2), in 1/nm and (x, y), of crystals seen along [110]: twice {111}, {200}.

    ``angle_rad`` is the direction of {200}, the others are 54.7° to either side of it.
    """
    turn = np.array([NI_HALF_ANGLE_RAD, -NI_HALF_ANGLE_RAD, 0.0])
    direction = np.asarray(angle_rad)[:, None] + turn
    length = 1 / np.array([NI_111_NM, NI_111_NM, NI_200_NM])
    return np.stack([np.cos(direction) * length, np.sin(direction) * length], axis=-1)


def nickel_amplitudes(probe: Probe, pixel_nm: float) -> tuple[float, float]:
    """Modulation of a crystal's own contrast by {111} and by {200}, each."""
    return (
        _NI_111 * probe.transfer(NI_111_NM, pixel_nm),
        _NI_200 * probe.transfer(NI_200_NM, pixel_nm),
    )


def film_amplitudes(
    probe: Probe, pixel_nm: float, a_nm: float = FILM_A_NM
) -> tuple[float, float, float]:
    """Modulation of the film's intensity by {100}, {110} and {200} of the perovskite along [001]."""
    return (
        _FILM_100 * probe.transfer(a_nm, pixel_nm),
        _FILM_110 * probe.transfer(a_nm / math.sqrt(2), pixel_nm),
        _FILM_200 * probe.transfer(a_nm / 2, pixel_nm),
    )


def superlattice_amplitude(probe: Probe, pixel_nm: float) -> float:
    """Modulation by the half-order fringes of fully ordered A sites, of twice the cell."""
    return _HALF * probe.transfer(2 * CELL_NM, pixel_nm)


def film_angles_rad(seed: int, *, grain_boundary: bool) -> tuple[float, float]:
    """Direction of [100] in the image, on the left of a grain boundary and on its right."""
    left = float(generator(seed, "lattice").uniform(-0.1, 0.1))
    return left, left + _MISORIENTATION_RAD if grain_boundary else left
