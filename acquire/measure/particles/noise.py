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
_I0_SMALL = np.array([0.0045813, 0.0360768, 0.2659732, 1.2067492, 3.0899424, 3.5156229, 1.0])
_I1_SMALL = np.array([0.00032411, 0.00301532, 0.02658733, 0.15084934, 0.51498869, 0.87890594, 0.5])
_I0_LARGE = np.array(
    [
        0.00392377,
        -0.01647633,
        0.02635537,
        -0.02057706,
        0.00916281,
        -0.00157565,
        0.00225319,
        0.01328592,
        0.39894228,
    ]
)
_I1_LARGE = np.array(
    [
        -0.00420059,
        0.01787654,
        -0.02895312,
        0.02282967,
        -0.01031555,
        0.00163801,
        -0.00362018,
        -0.03988024,
        0.39894228,
    ]
)
"""Coefficients of polynomials, of the highest power first."""


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


@compiled
def ring_covariance(
    gaussians: NDArray[np.float64], rings: int, width_px: float, harmonic: bool
) -> NDArray[np.float64]:
    """Covariance (ring, ring) of averages over thin rings about one centre, of an isotropic texture.

    ``gaussians`` (n, 2) are the variances and widths (px) of the covariance v exp(-d²/2w²). With
    ``harmonic`` it is that of the first harmonics 2 ⟨c cos⟩ instead. Between points of two rings of
    radii a and b, d² = a² + b² - 2ab cos: the mean of exp(z cos) over the angle is I0(z), and of
    cos exp(z cos) it is I1(z) (NIST DLMF 10.32.1 and 10.32.3), z = ab/w².
    """
    shared = np.zeros((rings, rings))
    apart = np.empty(rings)
    for g in range(gaussians.shape[0]):
        step = width_px / gaussians[g, 1]
        variance = gaussians[g, 0] * (2.0 if harmonic else 1.0)
        for i in range(rings):
            apart[i] = variance * np.exp(-0.5 * (i * step) ** 2)
        for i in range(rings):
            for j in range(i + 1):
                if apart[i - j] > 1e-9 * variance:
                    along = (i + 0.5) * (j + 0.5) * step * step
                    shared[i, j] += apart[i - j] * _damped_bessel(along, harmonic)
    for i in range(rings):
        for j in range(i):
            shared[j, i] = shared[i, j]
    return shared


@compiled
def _damped_bessel(z: float, first: bool) -> float:
    """exp(-z) I0(z), or I1 for I0, for z ≥ 0, to 3e-7 (Abramowitz and Stegun 9.8.1 to 9.8.4)."""
    total = 0.0
    if z < 3.75:
        t = (z / 3.75) ** 2
        for c in _I1_SMALL if first else _I0_SMALL:
            total = total * t + c
        return float(total * np.exp(-z) * (z if first else 1.0))
    t = 3.75 / z
    for c in _I1_LARGE if first else _I0_LARGE:
        total = total * t + c
    return float(total / np.sqrt(z))


def film_noise(
    contrast: NDArray[np.float32], free: NDArray[np.bool_], factor: int, reach: int
) -> FilmNoise:
    """Autocorrelation of the free film of a contrast image, averaged over rows and columns.

    ``free`` is ``factor`` times coarser than the image. The white part is what the correlation at
    zero exceeds the continuation of that from one pixel on. A texture that is not above its own
    uncertainty is taken as none. ``reach`` is the largest distance of interest in pixels.
    """
    # a sum of Gaussians, unlike a sampled correlation, is a covariance in the plane: no combination
    # of rings can get a negative variance from it
    lags, widths = _LAGS[max(reach, 4) >= _LAGS], _WIDTHS[max(reach, 4) >= _WIDTHS]
    total, pairs = _correlate(contrast, free, factor, lags, _SAMPLED_ROWS)
    correlation, uncertainty, shapes, wanted = _to_be_fitted(total, pairs, lags, widths)
    if len(lags) < 4 or correlation[0] <= 0.0 or correlation[1] < 2.0 * uncertainty[1]:
        return FilmNoise(max(float(correlation[0]), 1e-30), np.zeros(1))
    share, _ = optimize.nnls(shapes, wanted)
    white, texture, gaussians = _sum_of_gaussians(share, widths, float(correlation[0]))
    return FilmNoise(white, texture, gaussians)


@compiled
def _to_be_fitted(
    total: NDArray[np.float64],
    pairs: NDArray[np.float64],
    lags: NDArray[np.int64],
    widths: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Correlation and its σ by lag; Gaussians (lag, width) and the correlation from lag 1 on, over σ."""
    count = lags.shape[0]
    correlation = total / np.maximum(pairs, 1.0)
    uncertainty = correlation[0] / np.sqrt(np.maximum(pairs, 1.0))
    shapes, wanted = np.empty((count - 1, widths.shape[0])), np.empty(count - 1)
    for k in range(1, count):
        weight = 1.0 / max(uncertainty[k], 1e-30)
        wanted[k - 1] = weight * correlation[k]
        for n in range(widths.shape[0]):
            shapes[k - 1, n] = weight * np.exp(-0.5 * (lags[k] / widths[n]) ** 2)
    return correlation, uncertainty, shapes, wanted


@compiled
def _sum_of_gaussians(
    share: NDArray[np.float64], widths: NDArray[np.float64], variance: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """White variance, covariance at 0, 1, 2 … pixels, and the Gaussians (n, 2) of which there is a share.

    Some of the ``variance`` of a pixel is always left white.
    """
    top = min(share.sum(), 0.999 * variance)
    scale = top / max(share.sum(), 1e-30)
    widest, many = 1.0, 0
    gaussians = np.empty((widths.shape[0], 2))
    for n in range(widths.shape[0]):
        if share[n] > 0.0:
            gaussians[many, 0], gaussians[many, 1] = scale * share[n], widths[n]
            widest = max(widest, widths[n])
            many += 1
    texture = np.zeros(int(4.0 * widest) + 2)
    for k in range(texture.shape[0]):
        for n in range(many):
            texture[k] += gaussians[n, 0] * np.exp(-0.5 * (k / gaussians[n, 1]) ** 2)
    return max(variance - top, 1e-30), texture, gaussians[:many].copy()


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
    blocks = seen.shape[0] // factor
    if factor == 2:  # both at once, which is several times faster
        for block in range(blocks):
            seen[2 * block] = seen[2 * block + 1] = np.float32(free[block])
    else:
        for k in range(factor):
            for block in range(blocks):
                seen[block * factor + k] = np.float32(free[block])
    for j in range(seen.shape[0]):
        above[j] = (row[j] - mean) * seen[j]


@compiled
def _multiply(
    one: NDArray[np.float32], other: NDArray[np.float32], into: NDArray[np.float32]
) -> None:
    """Add the products, as far as ``other`` goes."""
    for j in range(min(one.shape[0], other.shape[0])):
        into[j] += one[j] * other[j]
