"""Sizes particles by fitting the radial profile of each with a blurred dome on a free offset.

A threshold's size follows the dose; a profile fit does not. Per particle three numbers are
fitted (radius R, height A, offset b) and the centre; the exponent m of the dome and the blur of the
probe are held, since fitting them per frame makes the mean diameter jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.detect import Detection
from acquire.measure.particles.noise import FilmNoise, film_noise
from acquire.measure.particles.rings import Rings, Windows, cut_windows, ring_means
from acquire.measure.particles.shapes import BlurredDome, half_height_radius

_PIXEL_VARIANCE = 1.0 / 12.0
"""A pixel averages over its square: that much more blur, in px², along each axis."""
_CENTRE_ROUNDS = 3
_RADII = np.geomspace(0.45, 2.2, 17)
_NEAR_RADII = np.geomspace(0.8, 1.25, 7)
_LAST_RADII = np.geomspace(0.9, 1.11, 7)
_BUMP_WIDTHS = np.geomspace(0.25, 1.3, 8)
_STEEPNESS_SPREAD = 0.3
_FINE_RING = 0.5
"""Width of a ring in pixels around small particles: coarser rings blur their edge."""


@dataclass(frozen=True)
class Sizes:
    """Fitted domes, one entry per particle, lengths in pixels."""

    y_px: NDArray[np.float64]
    x_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    """Footprint radius R of the unblurred dome."""
    radius_sigma_px: NDArray[np.float64]
    height: NDArray[np.float64]
    """Contrast A of the unblurred dome at its centre."""
    height_sigma: NDArray[np.float64]
    chi2: NDArray[np.float64]
    """Reduced χ² of the profile."""
    bump_chi2: NDArray[np.float64]
    """χ² (not reduced) by which a smooth bump, a Gaussian, fits worse than the dome."""


def fit_domes(
    contrast: NDArray[np.float32],
    detection: Detection,
    dome: BlurredDome,
    blur_px: float,
) -> Sizes:
    """Fit every detected particle of a contrast image (y, x).

    ``blur_px`` is the standard deviation of the probe's Gaussian along each axis.

    The profiles are weighted by the inverse of their full covariance, from the noise and texture
    of the free film of the same image; where a particle stands, shot noise grows with the signal.
    """
    names = np.arange(1, len(detection) + 1)
    blur = float(np.hypot(blur_px, np.sqrt(_PIXEL_VARIANCE)))
    start = first_radius(detection, dome, blur_px)
    centres = np.stack([detection.y_px, detection.x_px], axis=1)
    reach = 1.7 * start + 3.0 * blur + 4.0
    width = _FINE_RING if reach.max() < 30 else 1.0
    rings = int(np.ceil(float(reach.max()) / width))
    windows = cut_windows(contrast, detection.labels, detection.factor, names, centres, reach)
    noise = film_noise(contrast, _free(detection, contrast.shape), int(reach.max()))
    turn = _whitening(noise, rings, width)
    radius, origin = start, centres.copy()
    for round_number in range(_CENTRE_ROUNDS):
        profile = ring_means(windows, centres, rings, width)
        data = _Data(profile, turn, width)
        grid = _RADII if round_number == 0 else _NEAR_RADII
        radius, height, offset, _ = _best_radius(data, dome, blur, radius, grid)
        centres = _recentre(windows, profile, dome, blur, radius, height, offset, centres)
        shift = centres - origin
        far = np.maximum(np.hypot(shift[:, 0], shift[:, 1]) / (0.4 * start + 1.0), 1.0)
        centres = origin + shift / far[:, None]
    profile = ring_means(windows, centres, rings, width)
    data = _Data(profile, turn, width)
    steepness = _common_steepness(radius, height, _sigmas(data, dome, blur, radius, height, 0.0)[0])
    if steepness > 0.0:
        radius, *_ = _best_radius(data, dome, blur, radius, _RADII, steepness)
    radius, height, offset, chi2 = _best_radius(data, dome, blur, radius, _LAST_RADII, steepness)
    sigma_r, sigma_a = _sigmas(data, dome, blur, radius, height, steepness)
    freedom = np.maximum((profile.count > 0).sum(axis=1) - 3, 1)
    return Sizes(
        centres[:, 0],
        centres[:, 1],
        radius,
        sigma_r,
        height,
        sigma_a,
        chi2 / freedom,
        _bump(data, radius) - chi2,
    )


def _common_steepness(
    radius: NDArray[np.float64], height: NDArray[np.float64], sigma: NDArray[np.float64]
) -> float:
    """Contrast per radius that the well-measured particles share; 0 if fewer than five are.

    Particles of one material and shape have one steepness. It is used loosely, within a factor of
    e^±0.3, to keep faint particles from being fitted as wide and flat pieces of the texture.
    """
    good = (height > 0) & (sigma < 0.25 * radius)
    if np.count_nonzero(good) < 5:
        return 0.0
    ratio = height[good] / radius[good]
    weight = np.square(radius[good] / sigma[good])
    order = np.argsort(ratio, kind="stable")
    below = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(below, 0.5 * below[-1])])


def first_radius(detection: Detection, dome: BlurredDome, blur_px: float) -> NDArray[np.float64]:
    """Footprint radius (px) from the area above half height, less the smoothing."""
    half = np.sqrt(detection.half_area_px / np.pi) / half_height_radius(dome.exponent)
    smear = detection.smoothing_px**2 + blur_px**2
    return np.asarray(np.sqrt(np.maximum(half**2 - 1.5 * smear, 0.25 * half**2 + 0.5)))


def _free(detection: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels of the full image that belong to no particle nor its surroundings."""
    covered = ndimage.binary_dilation(detection.labels > 0, iterations=2)
    rows = np.minimum(np.arange(shape[0]) // detection.factor, covered.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // detection.factor, covered.shape[1] - 1)
    return np.asarray(~covered[rows[:, None], columns], dtype=bool)


def _whitening(noise: FilmNoise, rings: int, width: float) -> NDArray[np.float64]:
    """Matrix (ring, combination) after which the noise of profiles is white, of unit variance."""
    radius = (np.arange(rings, dtype=np.float64) + 0.5) * width
    covariance = noise.covariance(radius, _ring_area(rings, width))
    # the sampled texture is not exactly a covariance: keep it positive
    covariance += np.diag(1e-3 * np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, max(1e-4 * np.diag(covariance).min(), 1e-15))
    return np.asarray(vectors / np.sqrt(values))


def _ring_area(rings: int, width: float) -> NDArray[np.float64]:
    """Pixels of a whole ring."""
    radius = (np.arange(rings, dtype=np.float64) + 0.5) * width
    return np.asarray(2.0 * np.pi * width * radius)


class _Data:
    """Profiles (particle, ring) turned so that their noise is white, of unit variance."""

    def __init__(self, profile: Rings, turn: NDArray[np.float64], width: float) -> None:
        self._turn = turn
        full = _ring_area(profile.mean.shape[1], width)
        # a ring that others have cut, or that lies outside of the window, counts as much less
        self._scale = np.sqrt(np.minimum(profile.count / full, 1.5))
        self.radius_px = profile.radius_px
        self.one = self.whiten(np.ones_like(profile.mean))
        self.ones = np.maximum(np.einsum("pk,pk->p", self.one, self.one), 1e-30)
        mean = self.whiten(profile.mean)
        self.level = np.einsum("pk,pk->p", mean, self.one) / self.ones
        self.mean = mean - self.level[:, None] * self.one
        self.least = np.einsum("pk,pk->p", self.mean, self.mean)

    def whiten(self, profiles: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same combinations of rings for any profile."""
        return np.asarray((profiles * self._scale) @ self._turn)


def _best_radius(
    data: _Data,
    dome: BlurredDome,
    blur: float,
    around: NDArray[np.float64],
    grid: NDArray[np.float64],
    steepness: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Radius of least χ² on a geometric grid, then between grid points by a parabola in log R.

    Height and offset are linear and solved for at each radius (variable projection). With a
    ``steepness`` the χ² is penalised for heights that are far from steepness · R.
    """
    chi2 = np.empty((len(grid), len(around)))
    for i, factor in enumerate(grid):
        tried = around * factor
        height, _, chi2[i] = _linear(data, dome, blur, tried)
        if steepness > 0.0:
            ratio = np.maximum(height, 1e-3 * steepness * tried) / (steepness * tried)
            chi2[i] += np.square(np.log(ratio) / _STEEPNESS_SPREAD)
    best = np.clip(np.argmin(chi2, axis=0), 1, len(grid) - 2)
    column = np.arange(len(around))
    below, here, above = (chi2[best + k, column] for k in (-1, 0, 1))
    bend = below - 2.0 * here + above
    step = np.where(bend > 0, 0.5 * (below - above) / np.where(bend > 0, bend, 1.0), 0.0)
    log_step = np.log(grid[1] / grid[0])
    radius = around * grid[best] * np.exp(np.clip(step, -1.0, 1.0) * log_step)
    radius = np.maximum(radius, 0.5)
    height, offset, least = _linear(data, dome, blur, radius)
    return radius, height, offset, least


def _linear(
    data: _Data,
    dome: BlurredDome,
    blur: float,
    radius: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    shape = dome(data.radius_px, radius[:, None], blur)
    return _line_fit(data, shape)


def _line_fit(
    data: _Data, shape: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Height, offset and χ² of profile = height · shape + offset, per particle."""
    white = data.whiten(shape)
    one, mean = data.one, data.mean
    ones = data.ones
    across = np.einsum("pk,pk->p", white, one) / ones
    white = white - across[:, None] * one
    spread = np.maximum(np.einsum("pk,pk->p", white, white), 1e-30)
    height = np.einsum("pk,pk->p", white, mean) / spread
    chi2 = data.least - height * height * spread
    return height, data.level - height * across, chi2


def _recentre(
    windows: Windows,
    profile: Rings,
    dome: BlurredDome,
    blur: float,
    radius: NDArray[np.float64],
    height: NDArray[np.float64],
    offset: NDArray[np.float64],
    centres: NDArray[np.float64],
) -> NDArray[np.float64]:
    """One Gauss-Newton step of the centres, from all pixels and the fitted profile's slope."""
    step = 0.5
    outer = dome(profile.radius_px + step, radius[:, None], blur)
    inner = dome(np.maximum(profile.radius_px - step, 0.0), radius[:, None], blur)
    slope = height[:, None] * (outer - inner) / (2 * step)
    model = height[:, None] * dome(profile.radius_px, radius[:, None], blur) + offset[:, None]
    at = profile.index
    rest = windows.contrast - model.ravel()[at]
    pull = slope.ravel()[at] * rest
    stiff = np.square(slope).ravel()[at]
    count = windows.particles

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(windows.owner, values, count), dtype=np.float64)

    # moving the centre by +d lowers the distance of pixels on that side: dP/d(centre) = -slope·cos
    px, py = -total(pull * profile.cosine), -total(pull * profile.sine)
    xx = total(stiff * profile.cosine**2)
    yy = total(stiff * profile.sine**2)
    xy = total(stiff * profile.cosine * profile.sine)
    det = xx * yy - xy * xy
    good = det > 1e-9 * np.square(xx + yy)
    det = np.where(good, det, 1.0)
    dx = np.where(good, (yy * px - xy * py) / det, 0.0)
    dy = np.where(good, (xx * py - xy * px) / det, 0.0)
    limit = 0.3 * radius + 0.5
    shrink = np.minimum(1.0, limit / np.maximum(np.hypot(dx, dy), 1e-12))
    return np.asarray(centres + np.stack([dy * shrink, dx * shrink], axis=1))


def _sigmas(
    data: _Data,
    dome: BlurredDome,
    blur: float,
    radius: NDArray[np.float64],
    height: NDArray[np.float64],
    steepness: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """σ of R and A from the information matrix of (R, A, b)."""
    shape = dome(data.radius_px, radius[:, None], blur)
    step = 0.01
    more = dome(data.radius_px, radius[:, None] * (1 + step), blur)
    less = dome(data.radius_px, radius[:, None] * (1 - step), blur)
    by_radius = height[:, None] * (more - less) / (2 * step * radius[:, None])
    jacobian = np.stack([data.whiten(by_radius), data.whiten(shape), data.one], axis=2)
    normal = np.swapaxes(jacobian, 1, 2) @ jacobian
    if steepness > 0.0:
        by_log = np.stack([-1.0 / radius, 1.0 / np.maximum(height, 1e-6), np.zeros_like(radius)], 1)
        normal = normal + by_log[:, :, None] * by_log[:, None, :] / _STEEPNESS_SPREAD**2
    scale = np.sqrt(np.maximum(np.einsum("pii->pi", normal), 1e-30))
    normal = normal / scale[:, :, None] / scale[:, None, :]
    inverse = np.linalg.inv(normal + 1e-9 * np.eye(3))
    sigma = np.sqrt(np.maximum(np.einsum("pii->pi", inverse), 0.0)) / scale
    # shot noise under the particle exceeds that of the bare film
    excess = np.sqrt(1.0 + 0.5 * np.clip(height, 0.0, None))
    return sigma[:, 0] * excess, sigma[:, 1] * excess


def _bump(data: _Data, radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least χ² of a Gaussian of any width on an offset."""
    least = np.full(len(radius), np.inf)
    for width in _BUMP_WIDTHS:
        shape = np.exp(-0.5 * np.square(data.radius_px / (width * radius[:, None])))
        least = np.minimum(least, _line_fit(data, shape)[2])
    return least
