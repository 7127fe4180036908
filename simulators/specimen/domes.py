"""Particles as images and truth see them: a view, the domes in it, and what a perfect measurement gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from simulators.specimen import shape
from simulators.specimen.film import REGION_NM

Array = NDArray[np.float64]

FOOTPRINT_PER_DIAMETER = 2 ** (1 / 3)
"""A fresh dome (contact angle 90°) is this much wider than the sphere of equal volume: R³ = d³/4."""
VISIBLE_NM = 2.0
"""Least equivalent diameter that a statement about the particles in an image includes."""


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of the specimen: pixel (row i, column j) is centred on origin + (j + ½, i + ½) pixels."""

    origin_nm: tuple[float, float]
    """Specimen coordinates (x, y) of the image's top-left corner."""
    shape: tuple[int, int]
    pixel_nm: float

    @property
    def size_nm(self) -> tuple[float, float]:
        """Width and height."""
        return self.shape[1] * self.pixel_nm, self.shape[0] * self.pixel_nm


@dataclass(frozen=True, slots=True)
class Domes:
    """Particles: equally long arrays; positions are relative to a view's top-left corner.

    What is not given is that of a fresh crystalline dome that stands on the film.
    """

    id: NDArray[np.intp]
    x_nm: Array
    y_nm: Array
    diameter_nm: Array
    """Equivalent spherical diameter: of the sphere of the particle's whole volume."""
    below: Array = field(default_factory=lambda: np.zeros(()))
    """Share of the volume below the film's surface, 0 to ½."""
    crystalline: NDArray[np.bool_] = field(default_factory=lambda: np.ones((), dtype=bool))
    """Crystal, or amorphous droplet."""
    angle_rad: Array = field(default_factory=lambda: np.zeros(()))
    """Direction of a crystal's {200} fringes' wave vector in the image, from x towards y."""
    z_nm: Array = field(default_factory=lambda: np.zeros(()))
    """Depth of the centre of a particle inside the film, which is a sphere; 0 for those at the surface."""

    def __post_init__(self) -> None:
        for name in ("below", "crystalline", "angle_rad", "z_nm"):
            whole = np.broadcast_to(getattr(self, name), np.shape(self.id))
            object.__setattr__(self, name, whole)

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Domes:
        return Domes(*(getattr(self, f.name)[which] for f in fields(self)))

    @property
    def radius_nm(self) -> Array:
        """Of the footprint; also the height above the surface of those that are at it."""
        return shape.footprint_radius_nm(self.diameter_nm, self.below)

    @property
    def depth_nm(self) -> Array:
        """How deep each reaches below the surface."""
        return self.z_nm + shape.depth_nm(self.diameter_nm, self.below)

    @property
    def faceting(self) -> Array:
        """From 0, a smooth cap, to 1, a faceted crystal."""
        return shape.faceting(self.diameter_nm, self.below, self.crystalline)

    @property
    def peak_nm(self) -> Array:
        """Nickel at the centre as an image sees it; see :func:`~simulators.specimen.shape.peak_nm`."""
        return shape.peak_nm(self.diameter_nm, self.below)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a perfect measurement of a view gives, over particles of at least ``VISIBLE_NM``."""

    mean_diameter_nm: float
    """Over particles that do not touch the border; NaN if there is none."""
    count: int
    """Of those particles."""
    areal_density_per_um2: float
    """Of particles centred in the view."""


def seen(domes: Domes, view: View, margin_nm: float = 0.0) -> Domes:
    """Of particles in the region's coordinates, those that reach into a view or to ``margin_nm`` from it."""
    radius = domes.radius_nm + margin_nm
    width, height = view.size_nm
    reach = float(radius.max(initial=0.0))
    x = np.mod(domes.x_nm - view.origin_nm[0] + reach, REGION_NM) - reach
    y = np.mod(domes.y_nm - view.origin_nm[1] + reach, REGION_NM) - reach
    inside = (x > -radius) & (x < width + radius) & (y > -radius) & (y < height + radius)
    return replace(domes, x_nm=x, y_nm=y)[np.flatnonzero(inside)]


def touches_border(domes: Domes, view: View) -> NDArray[np.bool_]:
    """Which footprints cross the edge of the view; bool (n,)."""
    width, height = view.size_nm
    x, y, r = domes.x_nm, domes.y_nm, domes.radius_nm
    return (x < r) | (y < r) | (x > width - r) | (y > height - r)


def summarise(domes: Domes, view: View) -> Summary:
    """The truth about a view in three numbers."""
    width, height = view.size_nm
    visible = domes.diameter_nm >= VISIBLE_NM
    whole = domes.diameter_nm[visible & ~touches_border(domes, view)]
    x, y = domes.x_nm, domes.y_nm
    inside = visible & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return Summary(
        float(whole.mean()) if len(whole) else math.nan,
        len(whole),
        float(inside.sum()) / (width * height) * 1e6,
    )
