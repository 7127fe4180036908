"""Shapes of particles: a dome on the film that sinks until half of its volume is below the surface.

Above the surface a particle is a hemisphere of its footprint's radius R (contact angle 90°), below it
the half of an ellipsoid. One inside the film is a sphere. With the share s of the volume below, R³ = d³/4 (1 - s), and the depth is
R s/(1 - s): a young droplet is a hemisphere, a settled particle (s = ½) has the footprint of the
sphere of equal volume. In projection the thickness of nickel is hemispherical throughout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILM_PER_NICKEL = 1 / 6
"""What 1 nm of film scatters over what 1 nm of nickel does: 1/60 nm against 0.1 per nm (HAADF)."""


def footprint_radius_nm(diameter_nm: Array, below: Array) -> Array:
    """Radius of the footprint, which is also the height above the surface."""
    return np.asarray(diameter_nm * np.cbrt((1 - below) / 4))


def depth_nm(diameter_nm: Array, below: Array) -> Array:
    """How deep a particle reaches below the surface."""
    return np.asarray(footprint_radius_nm(diameter_nm, below) * below / (1 - below))


def peak_nm(diameter_nm: Array, below: Array) -> Array:
    """Height of the hemispherical profile that an image shows, in nm of nickel upon the film.

    That is all nickel along the beam at the centre, less what the film displaced by it would scatter.
    """
    above = footprint_radius_nm(diameter_nm, below)
    return np.asarray(above * (1 + (1 - FILM_PER_NICKEL) * below / (1 - below)))


def thickness_nm(diameter_nm: Array, below: Array, distance_nm: Array) -> tuple[Array, Array]:
    """Nickel above and below the surface at distances from a particle's axis, in nm."""
    radius = footprint_radius_nm(diameter_nm, below)
    above = np.sqrt(np.maximum(radius**2 - distance_nm**2, 0.0))
    return above, np.asarray(above * below / (1 - below))


def faceting(diameter_nm: Array, below: Array, crystalline: NDArray[np.bool_]) -> Array:
    """From 0, a smooth cap, to 1, a faceted crystal that has settled into the film."""
    return np.where(crystalline, np.clip(2 * below, 0.0, 1.0), 0.0)
