"""Finds the common displacement of particles by letting every near pair vote."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial import KDTree

from acquire.measure.drift.prepared import Prepared

FEWEST_VOTES = 5
_LEAST_SHARE = 0.3
"""Of the smaller set that must agree."""
_BRIGHTEST = 200
"""Particles that take part at most."""
_HEIGHT = 1.5
"""Units of the median deviation that a bump must rise over its surroundings; false ones do no harm."""

Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Vote:
    """What the particles say."""

    place: tuple[float, float]
    """Displacement (y, x), in the unit of the places."""
    sigma: tuple[float, float]
    votes: int


def vote(
    before: Places,
    now: Places,
    reach: float,
    tolerance: float,
    expected: tuple[float, float] = (0.0, 0.0),
    false_rate: float = 1e-3,
) -> Vote | None:
    """Displacement that most pairs agree on; None if fewer than five do, or chance explains them.

    Args:
        before: (n, 2) places (y, x).
        now: (m, 2) places of the same particles later, in any order; some may lack or be new.
        reach: how far from the expected displacement is looked.
        tolerance: how far votes for one displacement may lie apart.
        expected: where to look.
        false_rate: at which unrelated places may pass.
    """
    if min(len(before), len(now)) < FEWEST_VOTES:
        return None
    moves = (now[:, None, :] - before[None, :, :]).reshape(-1, 2)
    moves = moves[np.hypot(*(moves - expected).T) <= reach]
    if len(moves) < FEWEST_VOTES:
        return None
    tree = KDTree(moves)
    counts = np.asarray(tree.query_ball_point(moves, tolerance, return_length=True))
    best = int(np.argmax(counts))
    by_chance = len(moves) * (tolerance / reach) ** 2
    cells = max(1.0, (reach / tolerance) ** 2)
    needed = max(
        FEWEST_VOTES,
        _LEAST_SHARE * min(len(before), len(now)),
        1 + _rarely_exceeded(false_rate / cells, by_chance),
    )
    if counts[best] < needed:
        return None
    agreeing = moves[np.hypot(*(moves - moves[best]).T) <= tolerance]
    middle = np.median(agreeing, axis=0)
    # within the tolerance of their own middle: the first vote may lie at the edge of its cluster
    agreeing = moves[np.hypot(*(moves - middle).T) <= tolerance]
    place = np.median(agreeing, axis=0)
    spread = 1.4826 * np.median(np.abs(agreeing - place), axis=0)
    # a median of n values has π/2 times the variance of their mean
    sigma = np.maximum(spread, 1e-3 * tolerance) * math.sqrt(math.pi / 2 / len(agreeing))
    return Vote(
        (float(place[0]), float(place[1])), (float(sigma[0]), float(sigma[1])), len(agreeing)
    )


def _rarely_exceeded(rate: float, mean: float) -> int:
    """The least count that a Poisson variable exceeds with a chance of at most ``rate``."""
    # not scipy.stats: importing it takes a third of a second, in every process that runs an engine
    count = max(0, math.ceil(special.pdtrik(1 - rate, mean)) - 1)
    while special.pdtrc(count, mean) > rate:
        count += 1
    return count


def bumps(prepared: Prepared, diameter_nm: float, polarity: float = 1.0) -> Places:
    """Places (n, 2) of (y, x) in nm of what stands out of the film, highest first, at most 200.

    A quick look for voting, not a measurement: local extremes of the image less its surroundings,
    each with its centre of mass.

    Args:
        prepared: the image.
        diameter_nm: about the size of a particle.
        polarity: 1 for particles brighter than the film, -1 for darker ones.
    """
    scale = max(0.7, 0.25 * diameter_nm / prepared.step_nm)
    contrast = prepared.contrast * np.float32(polarity)
    smooth = ndimage.gaussian_filter(contrast, scale, mode="nearest", truncate=3.0)
    smooth -= ndimage.uniform_filter(contrast, 2 * math.ceil(4 * scale) + 1, mode="nearest")
    noise = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth))))
    size = 2 * math.ceil(1.5 * scale) + 1
    top = smooth == ndimage.maximum_filter(smooth, size)
    rows, columns = np.nonzero(top & (smooth > _HEIGHT * noise))
    half = math.ceil(1.5 * scale)
    inside = (rows >= half) & (rows < smooth.shape[0] - half)
    inside &= (columns >= half) & (columns < smooth.shape[1] - half)
    rows, columns = rows[inside], columns[inside]
    order = np.argsort(-smooth[rows, columns], kind="stable")[:_BRIGHTEST]
    rows, columns = rows[order], columns[order]
    if not len(rows):
        return np.zeros((0, 2))
    window = np.arange(-half, half + 1)
    patches = smooth[rows[:, None, None] + window[:, None], columns[:, None, None] + window]
    patches = np.maximum(patches - 0.5 * smooth[rows, columns][:, None, None], 0.0)
    mass = patches.sum(axis=(1, 2))
    dy = (patches.sum(axis=2) @ window) / mass
    dx = (patches.sum(axis=1) @ window) / mass
    centres = np.stack([rows + dy, columns + dx], axis=1).astype(np.float64)
    return (centres + 0.5) * prepared.step_nm
