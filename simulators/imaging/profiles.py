"""Profiles of blurred domes, as tables over the distance from their axis."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e

Array = NDArray[np.float64]

POINTS = 161
"""Of a table, over distances from 0 to R + 5 blurs."""


def dome_tables(radius_nm: Array, blur_nm: float) -> tuple[NDArray[np.float32], Array]:
    """Relative heights of hemispheres convolved with a Gaussian; float32 (n, POINTS), and their reach.

    1 is the centre of an unblurred dome; the last column belongs to the reach, in nm. The volume is
    that of the hemisphere, 2π/3 R³ for a height of R.
    """
    ratios, profiles = _profiles()
    # a particle far smaller than the blur is drawn as the smallest in the table
    ratio = np.clip(blur_nm / np.maximum(radius_nm, 1e-9), ratios[0], ratios[-1])
    place = np.log(ratio / ratios[0]) / math.log(ratios[1] / ratios[0])
    k = np.minimum(place.astype(np.intp), len(ratios) - 2)
    weight = (place - k)[:, None]
    tables = profiles[k] * (1 - weight) + profiles[k + 1] * weight
    return tables.astype(np.float32), np.asarray(radius_nm * (1 + 5 * ratio))


@lru_cache(maxsize=1)
def _profiles() -> tuple[Array, Array]:
    """Blurred unit hemispheres: blur-to-radius ratios (m,), profiles (m, n) over r from 0 to 1 + 5 ratio.

    The convolution of a radial function with a 2-D Gaussian of sigma s is
    ∫ f(t) t/s² exp(-(r-t)²/2s²) i0e(rt/s²) dt.
    """
    ratios = np.geomspace(0.008, 40.0, 88)
    # t = sin φ takes the steep edge of the dome out of the quadrature
    nodes, weights = np.polynomial.legendre.leggauss(600)
    angle = (nodes + 1) * (math.pi / 4)
    t = np.sin(angle)
    height_dt = np.cos(angle) ** 2 * weights * (math.pi / 4)
    profiles = np.empty((len(ratios), POINTS))
    for k, s in enumerate(ratios):
        r = np.linspace(0, 1 + 5 * s, POINTS)[:, None]
        kernel = np.exp(-((r - t) ** 2) / (2 * s * s)) * i0e(r * t / (s * s)) * t / (s * s)
        profiles[k] = kernel @ height_dt
    return ratios, profiles
