"""Says which islands cannot be one dome each, and what the sound ones tell of the common form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.measure.particles.arrays import median_of_few
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.meeting import meeting_pairs
from acquire.measure.particles.size import Sizes
from acquire.measure.particles.starts import cut_by_border

_SUSPECT_CHI2 = 2.0
_CUT_CHI2 = 12.0
"""Rings about a cut particle fit it worse."""
_CLEAR_SNR = 8.0
"""A fainter one is not worth a second look."""
_SUSPECT_STEEPNESS = 0.35
"""A height so far, in its logarithm, from what the radius lets expect is that of several particles."""
_LONG = 0.12
"""So much longer than the circle of its area, and two blocks: not one round particle."""
_NEARLY = 1.1
_FORM_CHI2 = 1.5
"""Where round particles that stand alone fit worse, their form is not the one assumed."""
FEWEST = 5
_SPREADS = (0.06, 0.25)
"""Bounds of how far heights are taken to scatter about the common steepness, in their logarithm."""


def believable(sizes: Sizes) -> NDArray[np.bool_]:
    """Which fits say what is there, and to which size."""
    return np.asarray(
        (sizes.chi2 < _SUSPECT_CHI2)
        & (sizes.height > 0)
        & (sizes.radius_sigma_px < 0.3 * sizes.radius_px)
    )


def pooled_steepness(sizes: Sizes, good: NDArray[np.bool_]) -> tuple[float, float]:
    """The common steepness, contrast per pixel, and how far heights scatter about it; 0 if unknown."""
    clear = good & (sizes.radius_sigma_px < 0.1 * sizes.radius_px) & ~sizes.overlap
    return steepness_of(sizes.radius_px[clear], sizes.height[clear])


def steepness_of(radius: NDArray[np.float64], height: NDArray[np.float64]) -> tuple[float, float]:
    """Median of height over radius and the spread of its logarithm; 0 without any."""
    if len(radius) == 0:
        return 0.0, 0.0
    steep = np.log(height / radius)
    middle = median_of_few(steep)
    if len(radius) < FEWEST:
        return math.exp(middle), _SPREADS[1]
    spread = 1.4826 * median_of_few(np.abs(steep - middle))
    return math.exp(middle), min(max(spread, _SPREADS[0]), _SPREADS[1])


def suspects(
    found: Detection, sizes: Sizes, shape: tuple[int, ...], steepness: float
) -> NDArray[np.bool_]:
    """Which cannot be single domes: by their profile, their outline, their height or a neighbour."""
    cut = cut_by_border(found, shape).any(axis=0)
    height = np.maximum(sizes.height, 1e-30)
    off = np.log(height / (steepness * sizes.radius_px))
    sigma = np.hypot(sizes.height_sigma / height, sizes.radius_sigma_px / sizes.radius_px)
    steep = np.abs(off) > np.maximum(_SUSPECT_STEEPNESS, 3.0 * sigma)
    # the profile of a round one that does not fit tells of its form, not of a second, and the
    # outline of one whose profile fits is spoilt by noise or a neighbour
    odd = np.where(cut, sizes.chi2 > _CUT_CHI2, _length(found) > 0.5) | steep
    odd &= found.peak_snr > _CLEAR_SNR
    return np.asarray(((sizes.chi2 > _SUSPECT_CHI2) & odd) | sizes.overlap, np.bool_)


def _length(found: Detection) -> NDArray[np.float64]:
    """How much longer a mask is than the circle of its area, over what a round particle's may be."""
    length = np.maximum(found.bottom_px - found.top_px, found.right_px - found.left_px)
    across = 2.0 * np.sqrt(found.half_area_px / np.pi)
    return np.asarray((length - across) / (2.0 * found.factor + _LONG * across), np.float64)


def form_holds(
    found: Detection, sizes: Sizes, shape: tuple[int, ...], group: NDArray[np.int64]
) -> bool:
    """Whether round particles that touch none are domes: otherwise nothing is known of others."""
    lonely = (np.bincount(group)[group] == 1) & (_length(found) < 0.5)
    lonely &= ~cut_by_border(found, shape).any(axis=0)
    return not lonely.any() or median_of_few(sizes.chi2[lonely]) < _FORM_CHI2


def close_pairs(sizes: Sizes) -> NDArray[np.int64]:
    """Pairs (n, 2) of particles whose footprints meet, or nearly."""
    return meeting_pairs(sizes.y_px, sizes.x_px, sizes.radius_px, _NEARLY)
