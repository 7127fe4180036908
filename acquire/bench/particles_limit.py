"""The Cramér-Rao limit: how well any unbiased method can size a particle on an image of counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acquire.bench.particle_solids import Array, Solid, draw

_CENTRES = ((0.0, 0.0), (0.25, 0.1), (0.5, 0.5))
"""Places within a pixel (y, x) over which the limit is averaged."""


def poisson_limit(mean: Callable[[Array], Array], at: Array, steps: Array) -> Array:
    """Least standard deviation (n,) of n parameters of a Poisson image, all of them free.

    ``mean`` gives the expected counts, ``at`` the true parameters (n,), ``steps`` what each is varied by
    for central differences. The Fisher information is Σ ∂µ/∂a ∂µ/∂b / µ over the pixels.
    """
    slopes = []
    for i, step in enumerate(steps):
        by = np.zeros(len(at))
        by[i] = step
        slopes.append((mean(at + by) - mean(at - by)).ravel() / (2.0 * step))
    table = np.array(slopes)
    information = (table / mean(at).ravel()) @ table.T
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))


def diameter_limit(
    diameter_nm: float,
    dose: float,
    *,
    solid: Solid = Solid.DOME,
    pixel_nm: float = 0.25,
    contrast_per_nm: float = 0.1,
    probe_sigma_nm: float = 0.2,
    window_px: int = 128,
) -> float:
    """Least σ(d)/d of one particle on flat film, at ``dose`` detected electrons per pixel of film.

    Free are what a fit has to find: radius, height, level of the film, and both coordinates of the
    centre; the probe and the form are known. The height does not follow from the radius.
    """
    radius = diameter_nm / solid.diameter_per_radius / pixel_nm
    sigma = probe_sigma_nm / pixel_nm

    def mean(at: Array) -> NDArray[np.float64]:
        r, height, level, y, x = at
        image = np.zeros((window_px, window_px))
        draw(image, solid, (y, x), r, sigma)
        return np.asarray(level * (1.0 + height * image / (r * solid.peak)))

    found = []
    for y, x in _CENTRES:
        middle = 0.5 * window_px
        height = contrast_per_nm * radius * pixel_nm * solid.peak
        at = np.array([radius, height, dose, middle + y, middle + x])
        steps = np.array([0.02, 1e-3 * height, 1e-3 * dose, 0.02, 0.02])
        found.append(poisson_limit(mean, at, steps)[0] / radius)
    return float(np.mean(found))
