"""Defines the dome shapes, what their diameter means, and their profile as a blurred probe sees it.

A particle's image is its projected thickness, ``A (1 - r²/R²)^m`` inside the footprint radius R,
convolved with the probe. ``hemisphere`` and ``sphere`` both project to m = 1/2, ``disc`` to m = 0.
The diameter that hotstage reports is that of the sphere of equal volume (ESD):

- ``hemisphere`` (contact angle 90°, flat side on the film): V = 2/3 π R³, ESD = 2 R (1/2)^(1/3);
- ``sphere``: ESD = 2 R;
- ``settled``: a sphere half of which has sunk into the film, ESD = 2 R. Choose it for particles that
  have socketed, as after hours at 900 °C: their footprint is as wide as they are, and the hemisphere
  would call them 21 % too small. The exponent is the same, so the choice moves every diameter by one
  factor and no fit;
- ``disc``: its height, and so its volume, is not in its profile; the diameter is the lateral 2 R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from acquire.compiled import compiled

_RADIUS_STEP = 0.01
_RADIUS_MAX = 5.0
_NODES = 240
_BLUR_MIN, _BLUR_MAX, _BLUR_COUNT = 0.02, 1.5, 40
_DAMPED = 8.7
"""exp(-8.7²/2) is 4·10⁻¹⁷."""
_PIECES = ((0.0, 0.5), (0.5, 1.0), (1.0, 3.0))
"""Ranges of exponents inside which a dome changes smoothly: between them the solid is another."""
_EXPONENT_STEP = 0.05


class Shape(StrEnum):
    """The solid that a particle is taken for."""

    HEMISPHERE = "hemisphere"
    SPHERE = "sphere"
    SETTLED = "settled"
    DISC = "disc"

    @property
    def exponent(self) -> float:
        """M of its projected thickness (1 - r²/R²)^m."""
        return 0.0 if self is Shape.DISC else 0.5

    @property
    def diameter_per_radius(self) -> float:
        """Equivalent spherical diameter over footprint radius R."""
        return 2.0 * 0.5 ** (1.0 / 3.0) if self is Shape.HEMISPHERE else 2.0


def cap_diameter_per_radius(contact_angle_deg: float) -> float:
    """Equivalent spherical diameter over footprint radius R of a spherical cap.

    A cap of contact angle θ has the height h = R tan(θ/2) and the volume π h (3 R² + h²) / 6.
    """
    height = math.tan(0.5 * math.radians(contact_angle_deg))
    return float((height * (3.0 + height * height)) ** (1.0 / 3.0))


def cap_exponent(contact_angle_deg: float) -> float:
    """M of the (1 - r²/R²)^m that is nearest to a spherical cap's thickness, 1/2 at 90°, 1 at 0°.

    Nearest by least squares over the footprint's area, height free.
    """
    angle = math.radians(min(max(contact_angle_deg, 1.0), 90.0))
    inside = (np.arange(400) + 0.5) / 400  # 1 - r²/R² is even in area
    cap = np.sqrt(math.cos(angle) ** 2 + math.sin(angle) ** 2 * inside) - math.cos(angle)

    def lost(exponent: float) -> float:
        shape = inside**exponent
        return float(-np.square(shape @ cap) / (shape @ shape))

    return float(optimize.minimize_scalar(lost, bounds=(0.3, 1.2), method="bounded").x)


def _cap_angle_deg(exponent: float) -> float:
    """Contact angle of the cap with this :func:`cap_exponent`."""
    angles, exponents = _cap_exponents()
    return float(np.interp(exponent, exponents, angles))


@lru_cache(maxsize=1)
def _cap_exponents() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contact angles and their exponents, the exponents rising."""
    angles = np.linspace(90.0, 1.0, 90)
    return angles, np.array([cap_exponent(float(angle)) for angle in angles])


def _cap_spectrum(angle_deg: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """K times the Hankel transform of a cap of unit radius and height, by quadrature."""
    turn, weights, waves = _cap_waves()
    angle = math.radians(angle_deg)
    inside = np.square(np.cos(turn))
    cap = np.sqrt(math.cos(angle) ** 2 + math.sin(angle) ** 2 * inside) - math.cos(angle)
    cap *= weights * np.cos(turn) * np.sin(turn) / (1.0 - math.cos(angle))
    return np.asarray(k * np.einsum("kn,n->k", waves, cap), np.float64)


@lru_cache(maxsize=1)
def _cap_waves() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Nodes φ and weights of a quadrature over 0 … π/2, and J0(k sin φ); for all angles the same.

    ρ = sin φ takes the steep edge out of the integral.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    turn = 0.25 * np.pi * (nodes + 1.0)
    waves = np.asarray(special.j0(_wave_numbers()[:, None] * np.sin(turn)), np.float64)
    return turn, weights * 0.25 * np.pi, waves


def _wave_numbers() -> NDArray[np.float64]:
    return np.asarray(np.linspace(0.0, 5.5 / _BLUR_MIN, 2751)[1:] - 0.05, np.float64)


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.float64]:
    """J0(k ρ) for every wave number and every ρ of the table; 11 MB, the same for all exponents."""
    radius = np.arange(0.0, _RADIUS_MAX, _RADIUS_STEP)
    return np.asarray(special.j0(_wave_numbers()[:, None] * radius), np.float64)


@compiled
def _transformed(
    spectrum: NDArray[np.float64],
    k: NDArray[np.float64],
    waves: NDArray[np.float64],
    blur: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Σ spectrum exp(-blur² k²/2) waves over k, as (blur, ρ), as far as the exponential is not 0.

    Its own loop, and not a product by BLAS, whose last bits depend on the number of threads.
    """
    out = np.zeros((len(blur), waves.shape[1]))
    for b in range(len(blur)):
        row = out[b]
        for i in range(len(k)):
            damped = blur[b] * k[i]
            if damped > _DAMPED:
                break
            share = spectrum[i] * np.exp(-0.5 * damped * damped)
            wave = waves[i]
            for r in range(len(row)):
                row[r] += share * wave[r]
    return out


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


@lru_cache(maxsize=64)
def blurred_dome(exponent: float) -> BlurredDome:
    """The table for one exponent m ≥ 0; 6 ms, and 0.1 s once.

    The Hankel transform of (1 - ρ²)^m is 2^m Γ(m+1) J_(m+1)(k) / k^(m+1) (Sonine's first finite
    integral); the Gaussian multiplies it by exp(-s² k²/2). Between 1/2 and 1 the solid is the
    spherical cap of that :func:`cap_exponent`.
    """
    k = _wave_numbers()
    step = k[1] - k[0]
    if 0.5 < exponent < 1.0:
        spectrum = _cap_spectrum(_cap_angle_deg(exponent), k)
    else:
        spectrum = (
            2.0**exponent * special.gamma(exponent + 1) * special.jv(exponent + 1, k) / k**exponent
        )
    values = _transformed(spectrum * step, k, _waves(), _blurs())
    values.setflags(write=False)
    return BlurredDome(exponent, values)


def dome_between(exponent: float) -> BlurredDome:
    """The same to 10⁻⁴ of the dome's height, in 0.3 ms once its neighbours on a grid are known.

    A cubic through four tables; for a search, which looks at many exponents.
    """
    low, high = next((a, b) for a, b in _PIECES if exponent <= b or b == _PIECES[-1][1])
    count = round((high - low) / _EXPONENT_STEP) + 1
    first = min(max(int((exponent - low) / _EXPONENT_STEP) - 1, 0), count - 4)
    nodes = [round(low + (first + i) * _EXPONENT_STEP, 6) for i in range(4)]
    values = np.zeros_like(blurred_dome(nodes[0]).values)
    for i, node in enumerate(nodes):
        others = [other for j, other in enumerate(nodes) if j != i]
        share = math.prod((exponent - other) / (node - other) for other in others)
        values += share * blurred_dome(node).values
    return BlurredDome(exponent, values)


def _blurs() -> NDArray[np.float64]:
    return np.asarray(np.geomspace(_BLUR_MIN, _BLUR_MAX, _BLUR_COUNT), np.float64)


@compiled
def blur_row(blur_over_radius: float) -> tuple[int, float]:
    """Row of :attr:`BlurredDome.values` below a ratio of blur to footprint, and the share of the next."""
    ratio = min(max(blur_over_radius, _BLUR_MIN), _BLUR_MAX * 0.9999)
    along = np.log(ratio / _BLUR_MIN) * ((_BLUR_COUNT - 1) / np.log(_BLUR_MAX / _BLUR_MIN))
    row = int(along)
    return row, along - row


@compiled
def dome_at(values: NDArray[np.float64], rho: float, row: int, along: float) -> float:
    """Height of the blurred dome at ρ = r/R; ``row`` and ``along`` come from :func:`blur_row`."""
    across = min(rho, _RADIUS_MAX - 2 * _RADIUS_STEP) * (1.0 / _RADIUS_STEP)
    column = np.uint32(across)
    across -= column
    below = values[row, column] * (1.0 - across) + values[row, column + 1] * across
    above = values[row + 1, column] * (1.0 - across) + values[row + 1, column + 1] * across
    return float(below * (1.0 - along) + above * along)
