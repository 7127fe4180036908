"""Two-step crystallisation: a crystal comes and goes in a droplet until it is larger than critical.

Whether a particle is crystalline follows from its size and from a count of attempts that runs with
temperature, by a hash and without memory, so that it can be asked at any time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.specimen.sites import Sites

Array = NDArray[np.float64]

_FIRST, _LAST = 0.2, 0.5
"""Share of the attempts that find a crystal, where crystals first appear and just below critical."""
_GOLDEN = 0x9E3779B97F4A7C15


def crystalline(sites: Sites, diameter_nm: Array, attempts: float, seed: int) -> NDArray[np.bool_]:
    """Which particles are crystals now; bool (n,).

    Args:
        sites: of all particles.
        diameter_nm: of all particles, 0 for none.
        attempts: elapsed attempts, each of which a droplet may begin or end as a crystal.
        seed: of the specimen.
    """
    below = sites.critical_nm - sites.first_crystal_nm
    part = np.clip((diameter_nm - sites.first_crystal_nm) / np.maximum(below, 1e-9), 0.0, 1.0)
    chance = np.where(part > 0, _FIRST + (_LAST - _FIRST) * part, 0.0)
    number = np.arange(len(sites), dtype=np.uint64)
    # every particle has attempts of its own
    turn = np.floor(attempts + uniform(number, seed, 0)).astype(np.uint64)
    fluctuates = uniform(number, seed, 1, turn) < chance
    return np.asarray((diameter_nm >= sites.critical_nm) | fluctuates)


def orientation_rad(ids: NDArray[np.intp], seed: int) -> Array:
    """Direction of the lattice fringes of particles in the image, 0 to π."""
    return np.asarray(uniform(ids.astype(np.uint64), seed, 2) * np.pi)


def uniform(
    number: NDArray[np.uint64], seed: int, what: int, turn: NDArray[np.uint64] | int = 0
) -> Array:
    """Random numbers in [0, 1) that depend on the arguments only (SplitMix64); float64 (n,)."""
    z = number * np.uint64(_GOLDEN) + np.uint64(seed) + (np.uint64(what) << np.uint64(56))
    z = _mix(z) + np.asarray(turn, dtype=np.uint64) * np.uint64(_GOLDEN)
    return np.asarray((_mix(z) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
