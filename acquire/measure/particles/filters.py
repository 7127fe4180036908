"""Filters a contrast image so that particles stand out most, and says how high noise alone reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.arrays import negative_side_sigma
from acquire.measure.particles.shapes import BlurredDome

_SMOOTHINGS = (0.2, 0.32, 0.5)
"""Smoothing tried, as standard deviation over the footprint radius expected."""
_SURROUND = 3.0
"""A band-pass subtracts the mean over this many times the smoothing."""


def seed_threshold(smoothed: NDArray[np.float32], sigma: float, false_islands: float) -> float:
    """Threshold, in σ, that maxima of the noise exceed ``false_islands`` times in this image.

    Expected number of maxima of a Gaussian field above u σ in an area A, for high u:
    A λ u exp(-u²/2) / (2π)^(3/2), λ the geometric mean of the gradients' variances over σ²
    (Adler 1981, The Geometry of Random Fields, ch. 6).
    """
    if sigma == 0.0:
        return np.inf
    below = smoothed[1:, 1:] < 0  # the film alone; a particle's flank is no noise
    gradients = [
        (smoothed[1:, 1:] - other)[below] for other in (smoothed[:-1, 1:], smoothed[1:, :-1])
    ]
    deviations = [1.4826 * float(np.median(np.abs(g[::2]))) / sigma for g in gradients]
    rate = smoothed.size * deviations[0] * deviations[1] / (2 * np.pi) ** 1.5
    u = 5.0
    for _ in range(30):
        u = float(np.sqrt(2.0 * np.log(max(rate * u / false_islands, 20.0))))
    return u


def best_filter(
    coarse: NDArray[np.float32], dome: BlurredDome, radius: float
) -> tuple[NDArray[np.float32], float, float]:
    """The filtered image, its smoothing and its noise, where the expected dome stands out most."""
    best: tuple[NDArray[np.float32], float, float] | None = None
    best_score = 0.0
    for share in _SMOOTHINGS:
        scale = max(share * radius, 0.6)
        surround = _SURROUND * scale
        smooth, even = _smooth(coarse, scale)
        wide = _wide_mean(coarse, surround)
        centre = [float(dome(np.zeros(1), np.array([radius]), s)[0]) for s in (scale, surround)]
        for filtered, height in ((smooth, centre[0]), (smooth - wide, centre[0] - centre[1])):
            filtered = filtered * even
            sigma = negative_side_sigma(filtered[::2, ::2])
            if best is None or (sigma > 0 and height / sigma > best_score):
                best = (filtered, scale, sigma)
                best_score = height / sigma if sigma > 0 else 0.0
    assert best is not None
    return best


def even_noise(filtered: NDArray[np.float32], film: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weight by film^p, p from the noise of four parts of the image ordered by the film's level.

    p is 1/2 for shot noise and 0 for texture; a film within 5 % is left as it is.
    """
    level = np.log(film)
    level -= level.mean()
    sample, at = filtered[::2, ::2].ravel(), level[::2, ::2].ravel()
    ends = np.quantile(at[::4], [0.25, 0.5, 0.75])
    part = np.searchsorted(ends, at)
    middle = np.array([at[part == k].mean() if (part == k).any() else 0.0 for k in range(4)])
    noise = np.array([negative_side_sigma(sample[part == k]) for k in range(4)])
    if np.ptp(middle) < 0.05 or noise.min() <= 0:
        return filtered
    power = float(np.clip(-np.polyfit(middle, np.log(noise), 1)[0], 0.0, 0.5))
    return np.asarray(filtered * np.exp(power * level), dtype=np.float32)


def _smooth(
    coarse: NDArray[np.float32], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gaussian mean over the pixels that there are, and what makes its noise even up to the border.

    Repeating or mirroring pixels beyond the border instead would double the noise there.
    """
    total = ndimage.gaussian_filter(coarse, scale, mode="constant", truncate=3.0)
    share, even = [], []
    for length in coarse.shape:
        ones = np.ones(length, np.float32)
        inside = ndimage.gaussian_filter1d(ones, scale, mode="constant", truncate=3.0)
        squared = ndimage.gaussian_filter1d(ones, scale / np.sqrt(2.0), mode="constant")
        share.append(inside)
        even.append(inside / np.sqrt(squared))
    return (
        np.asarray(total / (share[0][:, None] * share[1]), dtype=np.float32),
        np.asarray(even[0][:, None] * even[1], dtype=np.float32),
    )


def _wide_mean(coarse: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Two box means: a triangle of the Gaussian's variance, at a cost that does not grow with scale."""
    size = 2 * round((np.sqrt(6.0 * scale**2 + 1.0) - 1.0) / 2.0) + 1
    share = []
    for length in coarse.shape:
        ones = np.ones(length, np.float32)
        for _ in range(2):
            ones = ndimage.uniform_filter1d(ones, size, mode="constant")
        share.append(ones)
    for _ in range(2):
        coarse = ndimage.uniform_filter(coarse, size, mode="constant")
    return np.asarray(coarse / (share[0][:, None] * share[1]), dtype=np.float32)
