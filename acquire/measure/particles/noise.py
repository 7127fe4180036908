"""Measures the noise of a film with its correlation, and what it does to averages over rings.

Shot noise is white, texture is not: both are read off the autocorrelation of the free film in the
same image. From it follows the covariance of ring averages, which no sample of free places in a
crowded image would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from acquire.compiled import compiled

_PAIRS = 12_000
"""Pairs of pixels per direction and lag that are looked at, about."""
_LAGS = np.array([0, 1, 2, 3, 5, 8, 12, 18, 28, 48])
_WIDTHS = np.array([0.8, 1.2, 1.8, 2.7, 4.0, 6.0, 9.0, 14.0, 21.0])
_ANGLES = 16


@dataclass(frozen=True)
class FilmNoise:
    """Noise of a contrast image: white variance of a pixel, and isotropic texture covariance."""

    white: float
    texture: NDArray[np.float64]
    """Covariance of two pixels at 0, 1, 2 … pixels from each other, without the white part."""

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
    step = max(1, contrast.size // _PAIRS) | 1
    total, pairs = _correlate(contrast, free, factor, lags, step)
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
    return FilmNoise(max(float(correlation[0]) - top, 1e-30), texture)


@compiled
def _correlate(
    contrast: NDArray[np.float32],
    free: NDArray[np.bool_],
    factor: int,
    lags: NDArray[np.int64],
    step: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of products and numbers of pairs, by lag, from every ``step``-th pixel along y and x."""
    rows = min(contrast.shape[0], free.shape[0] * factor)
    columns = min(contrast.shape[1], free.shape[1] * factor)
    total = np.zeros(lags.shape[0])
    pairs = np.zeros(lags.shape[0])
    mean, count = 0.0, 0
    for at in range(0, rows * columns, step):
        i, j = at // columns, at % columns
        if free[i // factor, j // factor]:
            mean += contrast[i, j]
            count += 1
    mean /= max(count, 1)
    for at in range(0, rows * columns, step):
        i, j = at // columns, at % columns
        if not free[i // factor, j // factor]:
            continue
        here = contrast[i, j] - mean
        for k in range(lags.shape[0]):
            n = i + lags[k]
            if n < rows and free[n // factor, j // factor]:
                total[k] += here * (contrast[n, j] - mean)
                pairs[k] += 1.0
            n = j + lags[k]
            if k > 0 and n < columns and free[i // factor, n // factor]:
                total[k] += here * (contrast[i, n] - mean)
                pairs[k] += 1.0
    return total, pairs
