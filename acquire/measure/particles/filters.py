"""Filters a contrast image so that particles stand out most, and says how high noise alone reaches."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.arrays import (
    in_order,
    middle_below_zero,
    middle_rises,
    noise_by_part,
)
from acquire.measure.particles.background import Film
from acquire.measure.particles.pixels import multiply_by, spread
from acquire.measure.particles.shapes import BlurredDome, blur_row, dome_at
from acquire.measure.particles.smoothing import (
    evenness,
    smooth,
    smooth_evenly,
    smooth_rows,
    wide_mean,
    wide_mean_rows,
)

_SMOOTHINGS = (0.2, 0.32, 0.5)
"""Smoothing tried, as standard deviation over the footprint radius expected."""
_SURROUND = 3.0
"""A band-pass subtracts the mean over this many times the smoothing."""
_TRIAL = 160
_HOPELESS = 0.7
"""A band-pass with less of the best score gets no second trial."""
"""Side of the middle of the image on which filters are compared."""
_SAMPLE = 16384
_TRIAL_SAMPLE = 6000
_EVEN = 0.05
"""Of a film that varies less its level says nothing on its noise."""


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
) -> tuple[NDArray[np.float32], float]:
    """The filtered image and its smoothing, where the expected dome stands out most over the noise."""
    rows, columns = coarse.shape
    top, left = max(0, (rows - _TRIAL) // 2), max(0, (columns - _TRIAL) // 2)
    part = np.ascontiguousarray(coarse[top : top + _TRIAL, left : left + _TRIAL])
    best, best_score = (0.5 * radius, False), 0.0
    step = max(1, int((part.size / _TRIAL_SAMPLE) ** 0.5))
    for smoothing in sorted(_SMOOTHINGS, reverse=True):
        scale = max(smoothing * radius, 0.6)
        top_height = _centre_height(dome.values, scale / radius)
        surround = _centre_height(dome.values, _SURROUND * scale / radius)
        gained = False
        plain, less_surround = noise_of_filters(part, scale, _SURROUND * scale, step)
        for band_pass, height, sigma in (
            (False, top_height, plain),
            (True, top_height - surround, less_surround),
        ):
            score = height / sigma if sigma > 0 else 0.0
            gained = gained or score > best_score
            if score > best_score:
                best, best_score = (scale, band_pass), score
        # the score rises to one maximum, and this one, with what a band-pass may still gain, is past it
        if not gained and score < _HOPELESS * best_score:
            break
    scale, band_pass = best
    if not band_pass:
        return smooth_evenly(coarse, scale), scale
    filtered = smooth(coarse, scale) - wide_mean(coarse, _SURROUND * scale)
    filtered *= evenness(scale, rows)[:, None]
    filtered *= evenness(scale, columns)
    return filtered, scale


@compiled
def _centre_height(values: NDArray[np.float64], blur_over_radius: float) -> float:
    """Height of a dome at its centre after such a blur, over that before it."""
    row, along = blur_row(blur_over_radius)
    return dome_at(values, 0.0, row, along)


@compiled
def noise_of_filters(
    image: NDArray[np.float32], scale: float, surround: float, step: int
) -> tuple[float, float]:
    """σ of an image (y, x) smoothed, and of that less the mean over a wide surround.

    As :func:`negative_side_sigma` gives them of every ``step``-th row and column.
    """
    smoothed = smooth_rows(image, scale, step)
    rest = smoothed - wide_mean_rows(image, surround, step)
    return 1.4826 * below_zero_of(smoothed, step), 1.4826 * below_zero_of(rest, step)


@compiled
def below_zero_of(rows: NDArray[np.float32], step: int) -> float:
    """:func:`middle_below_zero` of rows that are every ``step``-th already."""
    return middle_below_zero(np.ascontiguousarray(rows[:, ::step]), 1)


def even_noise(filtered: NDArray[np.float32], film: Film, factor: int) -> NDArray[np.float32]:
    """Weight by film^p, p from the noise of four parts of the image ordered by the film's level.

    ``filtered`` is ``factor`` times coarser than the image that the film was found in. p is 1/2 for
    shot noise and 0 for texture; a film within 5 % is left as it is.
    """
    step = max(1, int((filtered.size / _SAMPLE) ** 0.5))
    level = np.log(np.maximum(film.nodes, film.floor))
    level -= level.mean()
    power = _power_of_level(filtered, level, film.cell_px / factor, step)
    if power > 0.0:
        multiply_by(filtered, np.exp(np.float32(power) * level), film.cell_px / factor)
    return filtered


@compiled
def _power_of_level(
    filtered: NDArray[np.float32], level: NDArray[np.float32], cell: float, step: int
) -> float:
    """How noise falls with the level, as exp(-p level): p, 0 … ½, and 0 where the level is even.

    ``level`` is given at the centres of cells of ``cell`` pixels; every ``step``-th row and column is
    looked at.
    """
    sample = np.ascontiguousarray(filtered[::step, ::step])
    at = spread(level, cell / step, sample.shape)
    ordered = in_order(at[::4, ::4].copy().ravel())
    ends = np.empty(3, np.float32)
    for k in range(3):
        ends[k] = ordered[(k + 1) * (len(ordered) - 1) // 4]
    middle, noise = noise_by_part(sample, at, ends)
    if middle.max() - middle.min() < _EVEN or noise.min() <= 0.0:
        return 0.0
    x, y = middle - middle.mean(), np.log(noise)
    return min(max(-float((x * y).sum() / (x * x).sum()), 0.0), 0.5)
