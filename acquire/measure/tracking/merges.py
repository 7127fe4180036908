"""Judges whether a particle that was lost went into a neighbour, by where it was and by volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MODEL_ERROR = 0.08
"""Relative error of a volume that its σ does not know: two that touch are sized less well."""
_WORST_Z = 3.0
_TELLING = 2.0
"""From this many σ on, the volume alone must say that it was taken up."""
_PLACE_NM = 0.5
_ABRUPT_ODDS = math.log(9.0)


@dataclass(frozen=True, slots=True)
class Sized:
    """Diameters with their σ in nm, before and after; all (n,)."""

    before: Array
    before_sigma: Array
    after: Array
    after_sigma: Array


def taken_up(
    lost_diameter_nm: float,
    lost_sigma_nm: float,
    distance_nm: Array,
    neighbours: Sized,
    footprint_per_diameter: float,
    abrupt: bool = False,
) -> tuple[int, float]:
    """Which neighbour took up a lost particle, and how surely.

    The lost particle's centre must lie where the neighbour now is, or touch it, and the neighbour's
    volume must have grown by that of the lost one within their errors, and not better have stayed
    as it was. Where the lost volume is too small to show in the neighbour's, its centre must lie
    within the neighbour's footprint, unless it is known to have gone abruptly: what dissolves
    fades, and what is missed comes back.

    Args:
        lost_diameter_nm: equivalent spherical diameter of the lost particle, before.
        lost_sigma_nm: its σ.
        distance_nm: (n,) from its last place to the neighbours' places now.
        neighbours: sizes of the neighbours around the loss; NaN where one was not seen.
        footprint_per_diameter: diameter of a footprint over the equivalent spherical one.
        abrupt: it was bright when last seen, and has been looked for often enough.

    Returns:
        Index of the neighbour, or -1; and the probability of a merge against a mere loss.
    """
    if not len(distance_nm):
        return -1, 0.0
    half = footprint_per_diameter / 2
    lost = lost_diameter_nm**3
    grown = neighbours.after**3 - neighbours.before**3
    variance = (3 * neighbours.after**2 * neighbours.after_sigma) ** 2
    variance += (3 * neighbours.before**2 * neighbours.before_sigma) ** 2
    variance += (3 * lost_diameter_nm**2 * lost_sigma_nm) ** 2
    variance += (_MODEL_ERROR * (neighbours.before**3 + lost)) ** 2
    sigma = np.sqrt(variance)
    z_merged, z_same = (grown - lost) / sigma, grown / sigma
    touches = distance_nm <= half * (neighbours.after + lost_diameter_nm) + _PLACE_NM
    inside = distance_nm <= half * neighbours.after + _PLACE_NM
    told = lost / sigma > _TELLING
    fits = touches & (np.abs(z_merged) < _WORST_Z)
    fits &= np.where(told, np.abs(z_merged) < np.abs(z_same), inside | abrupt)
    candidates = np.flatnonzero(fits)
    if not len(candidates):
        return -1, 0.0
    best = int(candidates[np.argmin(np.abs(z_merged[candidates]))])
    # before the volume is looked at, a loss beside a neighbour is about as often a merge as not
    odds = (_ABRUPT_ODDS if abrupt else 0.0) + 0.5 * (
        float(z_same[best]) ** 2 - float(z_merged[best]) ** 2
    )
    return best, 1.0 / (1.0 + math.exp(-min(max(odds, -30.0), 30.0)))


def successor(
    now_diameter_nm: float,
    distance_nm: Array,
    diameter_nm: Array,
    sigma_nm: Array,
    footprint_per_diameter: float,
) -> int:
    """Which of some lost particles goes on as a new one that appeared among them, or -1.

    When two of like size merge, the centre moves by more than a link may. The new particle must
    cover or touch two lost ones, the larger of which goes on, and hold the volume of both.

    Args:
        now_diameter_nm: of the new particle.
        distance_nm: (n,) from it to the lost ones' last places.
        diameter_nm: (n,) of the lost ones.
        sigma_nm: (n,) their σ.
        footprint_per_diameter: diameter of a footprint over the equivalent spherical one.
    """
    reach = footprint_per_diameter / 2 * (now_diameter_nm + 0.5 * diameter_nm) + _PLACE_NM
    close = np.flatnonzero(distance_nm <= reach)
    if len(close) < 2:
        return -1
    whole = now_diameter_nm**3
    best, best_z = -1, _WORST_Z
    for i in close.tolist():
        for j in close.tolist():
            if diameter_nm[j] > diameter_nm[i] or i == j:
                continue
            both = diameter_nm[i] ** 3 + diameter_nm[j] ** 3
            spread = 3 * np.hypot(
                diameter_nm[i] ** 2 * sigma_nm[i], diameter_nm[j] ** 2 * sigma_nm[j]
            )
            z = abs(whole - both) / float(np.hypot(spread, 2 * _MODEL_ERROR * both))
            if z < best_z:
                best, best_z = i, z
    return best
