"""The solids of the bench's scenes, and their images: thickness blurred by the probe, summed over pixels.

Nothing here is shared with what measures: a profile is the radial convolution integral itself, not a
table of Bessel functions, so that an error in one does not hide one in the other.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.special import i0e

Array = NDArray[np.float64]

CAP_ANGLE_RAD = math.radians(53.0)
"""Contact angle of a flat cap."""
DISC_HEIGHT = 0.6
"""Of a disc, over its radius."""
BURIED_SHARE = 5.0 / 6.0
"""What a nm of nickel shows that has displaced a nm of film: the film scatters a sixth of nickel."""
REACH_SIGMAS = 6.0
"""Beyond a footprint and so many σ of the probe there is nothing."""
_NODES = 48
_FINE = 5
"""Points along a pixel where solids overlap."""
_STEP_SIGMAS = 0.2


class Solid(StrEnum):
    """The form of a particle, of a circular footprint of radius R."""

    DOME = "dome"
    """A hemisphere on the film: contact angle 90°."""
    CAP = "cap"
    """A spherical cap with a contact angle of 53°."""
    DISC = "disc"
    """A cylinder of height 0.6 R."""
    SETTLED = "settled"
    """A sphere, half of it below the film's surface."""

    @property
    def diameter_per_radius(self) -> float:
        """Diameter of the sphere of equal volume over R."""
        return 2.0 * math.cbrt(0.75 * self._volume / math.pi)

    @property
    def peak(self) -> float:
        """Greatest thickness over R, in nickel upon the film."""
        return float(self.thickness(np.zeros(1))[0])

    @property
    def _volume(self) -> float:
        """Over R³."""
        if self is Solid.DOME:
            return 2.0 * math.pi / 3.0
        if self is Solid.DISC:
            return math.pi * DISC_HEIGHT
        if self is Solid.SETTLED:
            return 4.0 * math.pi / 3.0
        rise = math.tan(0.5 * CAP_ANGLE_RAD)
        return math.pi * rise * (3.0 + rise**2) / 6.0

    def thickness(self, across: Array) -> Array:
        """Projected thickness over R, in nickel upon the film, at distances ``across`` · R ≤ R."""
        inside = np.maximum(1.0 - np.square(across), 0.0)
        if self is Solid.DOME:
            return np.sqrt(inside)
        if self is Solid.DISC:
            return np.full_like(inside, DISC_HEIGHT)
        if self is Solid.SETTLED:
            return (1.0 + BURIED_SHARE) * np.sqrt(inside)
        sine, cosine = math.sin(CAP_ANGLE_RAD), math.cos(CAP_ANGLE_RAD)
        return (np.sqrt(cosine**2 + sine**2 * inside) - cosine) / sine


def blurred_profile(solid: Solid, radius: float, sigma: float, distance: Array) -> Array:
    """Thickness at distances (n,) from the axis, convolved with a Gaussian of σ per axis; one length unit.

    The convolution of a radial function f with a Gaussian is ∫ f(t) t/σ² exp(-(r-t)²/2σ²) I0e(rt/σ²) dt.
    """
    low = np.maximum(distance - 8.0 * sigma, 0.0)
    high = np.minimum(distance + 8.0 * sigma, radius)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # t = R sin φ takes the steep edge of a dome out of the quadrature
    start = np.arcsin(np.minimum(low / radius, 1.0))
    half = 0.5 * np.maximum(np.arcsin(high / radius) - start, 0.0)
    angle = start[:, None] + half[:, None] * (nodes + 1.0)
    across = np.sin(angle)
    t = radius * across
    r = distance[:, None]
    kernel = np.exp(-np.square(r - t) / (2.0 * sigma**2)) * i0e(r * t / sigma**2) * t / sigma**2
    measure = half[:, None] * weights * radius * np.cos(angle)
    return np.asarray((radius * solid.thickness(across) * kernel * measure).sum(axis=1))


def draw(
    image: Array, solid: Solid, centre_px: tuple[float, float], radius_px: float, sigma_px: float
) -> None:
    """Add a particle's thickness in pixels, averaged over each pixel, to an image (y, x).

    ``centre_px`` is (y, x), pixel i spans i … i + 1; ``sigma_px`` > 0 is the probe's σ per axis. What
    lies outside of the image is left out.
    """
    reach = radius_px + REACH_SIGMAS * sigma_px
    table = np.linspace(0.0, reach + 1.0, max(int((reach + 1.0) / (_STEP_SIGMAS * sigma_px)), 8))
    spline = CubicSpline(table, blurred_profile(solid, radius_px, sigma_px, table))
    top, left = (max(math.floor(c - reach), 0) for c in centre_px)
    bottom, right = (
        min(math.ceil(c + reach), n) for c, n in zip(centre_px, image.shape, strict=True)
    )
    if top >= bottom or left >= right:
        return
    nodes, weights = np.polynomial.legendre.leggauss(3 if sigma_px > 0.4 else 6)
    for v, across in zip(nodes, weights, strict=True):
        y = np.arange(top, bottom) + 0.5 * (v + 1.0) - centre_px[0]
        for u, along in zip(nodes, weights, strict=True):
            x = np.arange(left, right) + 0.5 * (u + 1.0) - centre_px[1]
            r = np.sqrt(np.square(y)[:, None] + np.square(x))
            seen = np.where(r < reach, spline(np.minimum(r, reach)), 0.0)
            image[top:bottom, left:right] += 0.25 * across * along * seen


def draw_union(size_px: int, solid: Solid, discs: Array, sigma_px: float) -> Array:
    """Image (y, x) of particles that share room, so that only the higher counts where they overlap.

    ``discs`` (n, 3) are y, x and radius in pixels. What is joined before the blur has no integral of its
    own, so it is sampled, at points 0.2 px apart: right to 0.3 % of the peak (discs: 3 %, their edge is steep).
    """
    side = size_px + 2 * math.ceil(REACH_SIGMAS * sigma_px)
    edge = (side - size_px) // 2
    height = np.zeros((side * _FINE, side * _FINE), np.float32)
    for y, x, radius in discs:
        spans = [
            (
                max(math.floor((c + edge - radius) * _FINE), 0),
                math.ceil((c + edge + radius) * _FINE),
            )
            for c in (y, x)
        ]
        part = height[slice(*spans[0]), slice(*spans[1])]
        if part.size == 0 or min(spans[0][1], spans[1][1]) <= 0:
            continue
        rows = (spans[0][0] + np.arange(part.shape[0]) + 0.5) / _FINE - edge - y
        columns = (spans[1][0] + np.arange(part.shape[1]) + 0.5) / _FINE - edge - x
        r = np.sqrt(np.square(rows)[:, None] + np.square(columns)) / radius
        one = np.where(r <= 1.0, radius * solid.thickness(r), 0.0)
        np.maximum(part, one.astype(np.float32), out=part)
    blurred = ndimage.gaussian_filter(height, sigma_px * _FINE, truncate=5.0)
    pixels = blurred.reshape(side, _FINE, side, _FINE).mean(axis=(1, 3), dtype=np.float64)
    return np.asarray(pixels[edge : edge + size_px, edge : edge + size_px])
