"""Measures the noise of a film with its correlation, and what it does to averages over rings.

Shot noise is white, texture is not: both are read off the autocorrelation of the free film in the
same image. From it follows the covariance of ring averages, which no sample of free places in a
crowded image would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROW_STEP = 8
_ANGLES = 24


@dataclass(frozen=True)
class FilmNoise:
    """Noise of a contrast image: white variance of a pixel, and isotropic texture covariance."""

    white: float
    texture: NDArray[np.float64]
    """Covariance of two pixels at 0, 1, 2 … pixels from each other, without the white part."""

    def covariance(
        self, radius_px: NDArray[np.float64], counts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Covariance (ring, ring) of averages over rings of these radii and numbers of pixels."""
        angle = (np.arange(_ANGLES) + 0.5) * (np.pi / _ANGLES)
        a, b = np.meshgrid(radius_px, radius_px, indexing="ij")
        apart = np.sqrt(
            np.maximum((a * a + b * b)[:, :, None] - 2.0 * (a * b)[:, :, None] * np.cos(angle), 0.0)
        )
        lags = np.arange(len(self.texture))
        shared = np.interp(apart, lags, self.texture, right=0.0).mean(axis=2)
        return np.asarray(shared + np.diag(self.white / np.maximum(counts, 1.0)))


def film_noise(contrast: NDArray[np.float32], free: NDArray[np.bool_], lags: int) -> FilmNoise:
    """Autocorrelation of the free film of a contrast image, averaged over rows and columns.

    The white part is what the correlation at zero exceeds the continuation from one and two
    pixels apart. A texture that is not above its own uncertainty is taken as none.
    """
    total = np.zeros(lags + 1)
    pairs = np.zeros(lags + 1)
    mean = float(contrast[::2, ::2][free[::2, ::2]].mean()) if free.any() else 0.0
    for image, mask in ((contrast, free), (contrast.T, free.T)):
        mask = mask[::_ROW_STEP]
        rows = np.where(mask, image[::_ROW_STEP] - np.float32(mean), np.float32(0.0))
        weight = mask.astype(np.float32)
        length = 1 << int(np.ceil(np.log2(rows.shape[1] + lags + 1)))
        for values, into in ((rows, total), (weight, pairs)):
            spectrum = np.fft.rfft(values, length, axis=1)
            power = np.square(np.abs(spectrum)).sum(axis=0)
            into += np.fft.irfft(power, length)[: lags + 1]
    correlation = total / np.maximum(pairs, 1.0)
    uncertainty = correlation[0] / np.sqrt(np.maximum(pairs[1], 1.0))
    # a smooth texture falls as a parabola from its top: r(0) = r(1) + (r(1) - r(2)) / 3
    top = correlation[1] + (correlation[1] - correlation[2]) / 3.0
    if correlation[1] < 3.0 * uncertainty:
        return FilmNoise(float(correlation[0]), np.zeros(1))
    texture = correlation.copy()
    texture[0] = min(top, correlation[0])
    gone = np.flatnonzero(texture < 2.0 * uncertainty)
    texture = texture[: int(gone[0]) if gone.size else len(texture)]
    white = max(float(correlation[0] - texture[0]), 1e-3 * float(correlation[0]))
    return FilmNoise(white, np.append(texture, 0.0))
