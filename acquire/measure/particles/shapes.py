"""Defines the dome shapes, what their diameter means, and their profile as a blurred probe sees it.

A particle's image is its projected thickness, ``A (1 - r²/R²)^m`` inside the footprint radius R,
convolved with the probe. ``hemisphere`` and ``sphere`` both project to m = 1/2, ``disc`` to m = 0.
The diameter that hotstage reports is that of the sphere of equal volume (ESD):

- ``hemisphere`` (contact angle 90°, flat side on the film): V = 2/3 π R³, ESD = 2 R (1/2)^(1/3);
- ``sphere``: ESD = 2 R;
- ``disc``: its height, and so its volume, is not in its profile; the diameter is the lateral 2 R.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

_RADIUS_STEP = 0.01
_RADIUS_MAX = 5.0
_BLUR_MIN, _BLUR_MAX, _BLUR_COUNT = 0.02, 1.5, 40


class Shape(StrEnum):
    """The solid that a particle is taken for."""

    HEMISPHERE = "hemisphere"
    SPHERE = "sphere"
    DISC = "disc"

    @property
    def exponent(self) -> float:
        """M of its projected thickness (1 - r²/R²)^m."""
        return 0.0 if self is Shape.DISC else 0.5

    @property
    def diameter_per_radius(self) -> float:
        """Equivalent spherical diameter over footprint radius R."""
        return 2.0 * 0.5 ** (1.0 / 3.0) if self is Shape.HEMISPHERE else 2.0


def half_height_radius(exponent: float) -> float:
    """Radius, in units of R, at which (1 - r²/R²)^m has fallen to one half."""
    return 1.0 if exponent == 0.0 else float(np.sqrt(1.0 - 2.0 ** (-1.0 / exponent)))


@dataclass(frozen=True)
class BlurredDome:
    """Values of the dome (1 - ρ²)^m, ρ = r/R, convolved with a Gaussian, on a grid in ρ and blur."""

    exponent: float
    values: NDArray[np.float64]
    """(blur, ρ); 1 at the centre of an unblurred dome."""

    def __call__(
        self,
        radius: NDArray[np.float64],
        footprint: NDArray[np.float64],
        blur: NDArray[np.float64] | float,
    ) -> NDArray[np.float64]:
        """Relative height at ``radius`` of domes of radius ``footprint`` (one length unit, broadcast).

        ``blur`` is the standard deviation of the Gaussian, per axis, in the same unit; its ratio
        to the footprint is held inside 0.02 … 1.5.
        """
        across = np.minimum(radius / footprint, _RADIUS_MAX - 2 * _RADIUS_STEP) / _RADIUS_STEP
        column = across.astype(np.int32)
        across -= column
        ratio = np.clip(np.asarray(blur / footprint, np.float64), _BLUR_MIN, _BLUR_MAX * 0.9999)
        along = np.log(ratio / _BLUR_MIN) * ((_BLUR_COUNT - 1) / np.log(_BLUR_MAX / _BLUR_MIN))
        row = along.astype(np.int32)
        along = along - row
        flat = self.values.ravel()
        start = row * self.values.shape[1] + column
        below = flat[start] * (1.0 - across) + flat[start + 1] * across
        start = start + self.values.shape[1]
        above = flat[start] * (1.0 - across) + flat[start + 1] * across
        return np.asarray(below * (1.0 - along) + above * along)


@lru_cache(maxsize=16)
def blurred_dome(exponent: float) -> BlurredDome:
    """The table for one exponent m ≥ 0.

    The Hankel transform of (1 - ρ²)^m is 2^m Γ(m+1) J_(m+1)(k) / k^(m+1) (Sonine's first finite
    integral); the Gaussian multiplies it by exp(-s² k²/2).
    """
    k = np.linspace(0.0, 5.5 / _BLUR_MIN, 2751)[1:] - 0.05
    step = k[1] - k[0]
    spectrum = (
        2.0**exponent * special.gamma(exponent + 1) * special.jv(exponent + 1, k) / k**exponent
    )
    blur = np.geomspace(_BLUR_MIN, _BLUR_MAX, _BLUR_COUNT)
    damped = spectrum * step * np.exp(-0.5 * np.square(blur[:, None] * k))
    radius = np.arange(0.0, _RADIUS_MAX, _RADIUS_STEP)
    values = damped @ special.j0(k[:, None] * radius)
    values.setflags(write=False)
    return BlurredDome(exponent, values)
