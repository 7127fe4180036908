"""Finds the film under the particles: a smooth level from the pixels that particles leave free.

The film is estimated on a coarse grid of block means, where particles stand out of the noise; the
image itself is only ever divided by the film, never resampled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.arrays import block_mean, negative_side_sigma

_CUT = 2.5
"""Coarse pixels above this many σ belong to a particle."""
_ROUNDS = 4


def film_level(
    image: NDArray[np.float32], scale_px: float, *, polarity: int = 1
) -> NDArray[np.float32]:
    """The film's level at every pixel of an image (y, x), float32, same unit.

    A quadratic surface takes the slope; a Gaussian of standard deviation ``scale_px`` over the
    free pixels takes what is left. Particles are excluded by sigma clipping on their own side
    only: ``polarity`` 1 when they are brighter than the film, -1 when darker. ``scale_px`` should
    exceed a particle's diameter.
    """
    factor = max(1, min(int(scale_px // 6), min(image.shape) // 16))
    coarse = block_mean(image, factor)
    design = _quadratic(coarse.shape)
    free = np.ones(coarse.shape, dtype=bool)
    film = np.full(coarse.shape, np.median(coarse), dtype=np.float32)
    for round_number in range(_ROUNDS):
        smooth_it = round_number > 0
        film = _surface(coarse, design, free)
        if smooth_it:
            film = film + _free_mean(coarse - film, free, scale_px / factor)
        rest = polarity * (coarse - film)
        # the median of the free side sits on the film even where particles cover half of the field
        rest = rest - _mode(rest[free])
        wanted = rest < _CUT * negative_side_sigma(rest)
        wanted = ~ndimage.binary_dilation(~wanted & (rest > 0))
        if wanted.mean() < 0.1:
            break
        if np.array_equal(wanted, free) and smooth_it:
            break
        free = wanted
    # a film that is nearly dark somewhere would turn noise into any contrast
    floor = 0.02 * float(np.mean(np.abs(coarse)))
    # beyond the outer blocks the level is extrapolated: the floor holds there, too
    return np.maximum(_spread(film, image.shape, factor), np.float32(max(floor, 1e-30)))


def _quadratic(shape: tuple[int, ...]) -> NDArray[np.float64]:
    y = np.linspace(-1.0, 1.0, shape[0])[:, None] + np.zeros(shape)
    x = np.linspace(-1.0, 1.0, shape[1])[None, :] + np.zeros(shape)
    terms = (np.ones(shape), y, x, y * y, x * y, x * x)
    return np.stack([term.ravel() for term in terms], axis=1)


def _surface(
    coarse: NDArray[np.float32], design: NDArray[np.float64], free: NDArray[np.bool_]
) -> NDArray[np.float32]:
    weight = free.ravel()
    rows = design[weight]
    normal = rows.T @ rows + 1e-9 * np.eye(design.shape[1])
    solution = np.linalg.solve(normal, rows.T @ coarse.ravel()[weight].astype(np.float64))
    return np.asarray((design @ solution).reshape(coarse.shape), dtype=np.float32)


def _free_mean(
    rest: NDArray[np.float32], free: NDArray[np.bool_], sigma: float
) -> NDArray[np.float32]:
    """Gaussian mean over free pixels; it returns to zero where none is near."""
    weight = ndimage.gaussian_filter(free.astype(np.float32), sigma, mode="nearest", truncate=3.0)
    total = ndimage.gaussian_filter(
        np.where(free, rest, 0.0).astype(np.float32), sigma, mode="nearest", truncate=3.0
    )
    return np.asarray(total / (weight + 0.02), dtype=np.float32)


def _mode(values: NDArray[np.float32]) -> float:
    """Centre of the film's own distribution: the midpoint of the shortest half."""
    ordered = np.sort(values)
    half = ordered.size // 2
    if half < 8:
        return float(np.median(ordered)) if ordered.size else 0.0
    widths = ordered[half:] - ordered[: ordered.size - half]
    start = int(np.argmin(widths))
    return float(np.median(ordered[start : start + half]))


def _spread(
    coarse: NDArray[np.float32], shape: tuple[int, ...], factor: int
) -> NDArray[np.float32]:
    """Bilinear interpolation of block means back to the pixels, linear beyond the outer blocks."""
    film = coarse
    for axis in (0, 1):
        count = film.shape[axis]
        if count < 2:
            film = np.repeat(film, shape[axis], axis=axis)
            continue
        at = (np.arange(shape[axis], dtype=np.float32) + 0.5) / factor - 0.5
        low = np.clip(at.astype(np.int32), 0, count - 2)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        film = np.take(film, low, axis) * (1 - share) + np.take(film, low + 1, axis) * share
    return np.asarray(film, dtype=np.float32)
