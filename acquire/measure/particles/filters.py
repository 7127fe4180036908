"""Filters a contrast image so that particles stand out most, and says how high noise alone reaches."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.measure.particles.arrays import (
    middle_rises,
    negative_side_sigma,
    noise_by_part,
)
from acquire.measure.particles.background import Film
from acquire.measure.particles.pixels import multiply_by
from acquire.measure.particles.shapes import BlurredDome
from acquire.measure.particles.smoothing import evenness, smooth, wide_mean

_SMOOTHINGS = (0.2, 0.32, 0.5)
"""Smoothing tried, as standard deviation over the footprint radius expected."""
_SURROUND = 3.0
"""A band-pass subtracts the mean over this many times the smoothing."""
_TRIAL = 224
"""Side of the middle of the image on which filters are compared."""
_SAMPLE = 16384
_TRIAL_SAMPLE = 6000


def seed_threshold(rate: float, false_islands: float) -> float:
    """Threshold, in σ, that maxima of noise of such a :func:`peak_rate` exceed ``false_islands`` times."""
    if rate <= 0.0:
        return np.inf
    u, before = 5.0, 0.0
    for _ in range(30):
        if abs(u - before) < 1e-12:
            break
        before, u = u, math.sqrt(2.0 * math.log(max(rate * u / false_islands, 20.0)))
    return u


def peak_rate(smoothed: NDArray[np.float32], sigma: float) -> float:
    """Expected number of maxima of the noise above u σ, over u exp(-u²/2), for high u.

    In an area A it is A λ / (2π)^(3/2), λ the geometric mean of the gradients' variances over σ²
    (Adler 1981, The Geometry of Random Fields, ch. 6). 0 without noise.
    """
    if sigma == 0.0:
        return 0.0
    step = max(1, int((smoothed.size / _SAMPLE) ** 0.5))
    down, across = (1.4826 * rise / sigma for rise in middle_rises(smoothed, step))
    return float(smoothed.size * down * across / (2 * np.pi) ** 1.5)


def best_filter(
    coarse: NDArray[np.float32], dome: BlurredDome, radius: float
) -> tuple[NDArray[np.float32], float, float]:
    """The filtered image, its smoothing and its noise, where the expected dome stands out most."""
    rows, columns = coarse.shape
    top, left = max(0, (rows - _TRIAL) // 2), max(0, (columns - _TRIAL) // 2)
    part = np.ascontiguousarray(coarse[top : top + _TRIAL, left : left + _TRIAL])
    best, best_score = (0.5 * radius, False), 0.0
    scales = np.maximum(np.array(_SMOOTHINGS) * radius, 0.6)
    blurs = np.stack([scales, _SURROUND * scales], axis=1)
    heights = dome(np.zeros(blurs.shape), np.full(blurs.shape, radius), blurs).tolist()
    for (scale, surround), centre in zip(blurs.tolist(), heights, strict=True):
        smoothed = smooth(part, scale)
        wide = wide_mean(part, surround)
        for band_pass, height in ((False, centre[0]), (True, centre[0] - centre[1])):
            sigma = negative_side_sigma(smoothed - wide if band_pass else smoothed, _TRIAL_SAMPLE)
            if sigma > 0 and height / sigma > best_score:
                best, best_score = (scale, band_pass), height / sigma
    scale, band_pass = best
    filtered = smooth(coarse, scale)
    if band_pass:
        filtered -= wide_mean(coarse, _SURROUND * scale)
    filtered *= evenness(scale, rows)[:, None]
    filtered *= evenness(scale, columns)
    return filtered, scale, negative_side_sigma(filtered)


def even_noise(filtered: NDArray[np.float32], film: Film, factor: int) -> NDArray[np.float32]:
    """Weight by film^p, p from the noise of four parts of the image ordered by the film's level.

    ``filtered`` is ``factor`` times coarser than the image that the film was found in. p is 1/2 for
    shot noise and 0 for texture; a film within 5 % is left as it is.
    """
    step = max(1, int((filtered.size / _SAMPLE) ** 0.5))
    level = np.log(np.maximum(film.nodes, film.floor))
    level -= level.mean()
    sample = np.ascontiguousarray(filtered[::step, ::step])
    at = np.ones_like(sample)
    multiply_by(at, level, film.cell_px / (factor * step))
    ends = np.quantile(at[::2, ::2], [0.25, 0.5, 0.75]).astype(np.float32)
    middle, noise = noise_by_part(sample, at, ends)
    if np.ptp(middle) < 0.05 or noise.min() <= 0:
        return filtered
    power = float(np.clip(-np.polyfit(middle, np.log(noise), 1)[0], 0.0, 0.5))
    multiply_by(filtered, np.exp(np.float32(power) * level), film.cell_px / factor)
    return filtered
