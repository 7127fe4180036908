"""Measures the noise of a film with its correlation, and what it does to averages over rings.

Shot noise is white, texture is not: both are read off the autocorrelation of the free film in the
same image. From it follows the covariance of ring averages, which no sample of free places in a
crowded image would give.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from acquire.compiled import compiled

_SAMPLED_ROWS = 32
"""Rows in which pairs of pixels are looked at."""
_LAGS = np.array([0, 1, 2, 3, 5, 8, 12, 18, 28, 48])
_WIDTHS = np.array([0.8, 1.2, 1.8, 2.7, 4.0, 6.0, 9.0, 14.0, 21.0])
_ANGLES = 16


@dataclass(frozen=True)
class FilmNoise:
    """Noise of a contrast image: white variance of a pixel, and isotropic texture covariance."""

    white: float
    texture: NDArray[np.float64]
    """Covariance of two pixels at 0, 1, 2 … pixels from each other, without the white part."""
    gaussians: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """(n, 2) variances and widths (px) of the Gaussians that the texture is the sum of."""

    def power(self, wavenumber: NDArray[np.float64]) -> NDArray[np.float64]:
        """Power spectrum in px² at wavenumbers in rad/px."""
        total = np.full(wavenumber.shape, self.white)
        for variance, width in self.gaussians:
            spread = np.exp(-0.5 * np.square(wavenumber * width))
            total += variance * 2.0 * np.pi * width**2 * spread
        return total

    def ring_texture(self, rings: int, width_px: float) -> NDArray[np.float64]:
        """Covariance (ring, ring) that the texture gives to averages over rings about one centre.

        Empty where there is no texture.
        """
        if not self.texture.any():
            return np.zeros((0, 0))
        return ring_covariance(self.texture, rings, width_px)


@compiled
def ring_covariance(
    texture: NDArray[np.float64], rings: int, width_px: float
) -> NDArray[np.float64]:
    """Mean of an isotropic covariance over pairs of points of two rings, (ring, ring)."""
    shared = np.zeros((rings, rings))
    cosine = np.cos((np.arange(_ANGLES) + 0.5) * (np.pi / _ANGLES))
    last = texture.shape[0] - 1
    for i in range(rings):
        a = (i + 0.5) * width_px
        for j in range(i + 1):
            b = (j + 0.5) * width_px
            if a - b >= last:
                continue
            total = 0.0
            for k in range(_ANGLES):
                apart = np.sqrt(max(a * a + b * b - 2.0 * a * b * cosine[k], 0.0))
                low = int(apart)
                if low < last:
                    share = apart - low
                    total += (1.0 - share) * texture[low] + share * texture[low + 1]
            shared[i, j] = shared[j, i] = total / _ANGLES
    return shared


def film_noise(
    contrast: NDArray[np.float32], free: NDArray[np.bool_], factor: int, reach: int
) -> FilmNoise:
    """Autocorrelation of the free film of a contrast image, averaged over rows and columns.

    ``free`` is ``factor`` times coarser than the image. The white part is what the correlation at
    zero exceeds the continuation of that from one pixel on. A texture that is not above its own
    uncertainty is taken as none. ``reach`` is the largest distance of interest in pixels.
    """
    lags = _LAGS[max(reach, 4) >= _LAGS]
    total, pairs = _correlate(contrast, free, factor, lags, _SAMPLED_ROWS)
    correlation = total / np.maximum(pairs, 1.0)
    uncertainty = correlation[0] / np.sqrt(np.maximum(pairs, 1.0))
    if len(lags) < 4 or correlation[0] <= 0.0 or correlation[1] < 2.0 * uncertainty[1]:
        return FilmNoise(max(float(correlation[0]), 1e-30), np.zeros(1))
    # a sum of Gaussians, unlike a sampled correlation, is a covariance in the plane: no combination
    # of rings can get a negative variance from it
    widths = _WIDTHS[max(reach, 4) >= _WIDTHS]
    shapes = np.exp(-0.5 * np.square(lags[:, None] / widths))
    weight = 1.0 / np.maximum(uncertainty[1:], 1e-30)
    share, _ = optimize.nnls(shapes[1:] * weight[:, None], correlation[1:] * weight)
    top = min(float(share.sum()), 0.999 * float(correlation[0]))
    share *= top / max(float(share.sum()), 1e-30)
    at = np.arange(int(4.0 * float(widths[share > 0].max(initial=1.0))) + 2)
    texture = np.exp(-0.5 * np.square(at[:, None] / widths)) @ share
    gaussians = np.stack([share, widths], axis=1)[share > 0]
    return FilmNoise(max(float(correlation[0]) - top, 1e-30), texture, gaussians)


@compiled
def _correlate(
    contrast: NDArray[np.float32],
    free: NDArray[np.bool_],
    factor: int,
    lags: NDArray[np.int64],
    sampled: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of products and numbers of pairs, by lag, of the pixels of ``sampled`` rows.

    Each is paired with those to its right and below it.
    """
    rows = min(contrast.shape[0], free.shape[0] * factor)
    columns = min(contrast.shape[1], free.shape[1] * factor)
    count = lags.shape[0]
    step = max(1, rows // sampled)
    first = (rows - 1) % step // 2
    here, there = np.empty(columns, np.float32), np.empty(columns, np.float32)
    seen, also = np.empty(columns, np.float32), np.empty(columns, np.float32)
    total, pixels = 0.0, 0.0
    for i in range(first, rows, step):
        _free_row(contrast[i], free[i // factor], factor, np.float32(0.0), here, seen)
        for j in range(columns):
            total += here[j]
            pixels += seen[j]
    mean = np.float32(total / max(pixels, 1.0))
    products = np.zeros((count, columns), np.float32)
    both = np.zeros((count, columns), np.float32)
    for i in range(first, rows, step):
        _free_row(contrast[i], free[i // factor], factor, mean, here, seen)
        for k in range(count):
            n = lags[k]
            _multiply(here, here[n:], products[k])
            _multiply(seen, seen[n:], both[k])
            if n == 0 or i + n >= rows:
                continue
            _free_row(contrast[i + n], free[(i + n) // factor], factor, mean, there, also)
            _multiply(here, there, products[k])
            _multiply(seen, also, both[k])
    sums, pairs = np.zeros(count), np.zeros(count)
    for k in range(count):
        for j in range(columns):
            sums[k] += products[k, j]
            pairs[k] += both[k, j]
    return sums, pairs


@compiled
def _free_row(
    row: NDArray[np.float32],
    free: NDArray[np.bool_],
    factor: int,
    mean: np.float32,
    above: NDArray[np.float32],
    seen: NDArray[np.float32],
) -> None:
    """Fill ``above`` with what a row exceeds the mean by, and ``seen`` with 1; 0 where not free."""
    for block in range(seen.shape[0] // factor):
        value = np.float32(free[block])
        for j in range(block * factor, (block + 1) * factor):
            seen[j] = value
    for j in range(seen.shape[0]):
        above[j] = (row[j] - mean) * seen[j]


@compiled
def _multiply(
    one: NDArray[np.float32], other: NDArray[np.float32], into: NDArray[np.float32]
) -> None:
    """Add the products, as far as ``other`` goes."""
    for j in range(min(one.shape[0], other.shape[0])):
        into[j] += one[j] * other[j]
