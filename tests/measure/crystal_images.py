"""Independent synthetic images at atomic magnification: droplets and crystals on a crystalline film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ESD_PER_RADIUS = 2 * 0.5 ** (1 / 3)
NI_111_NM, NI_200_NM = 0.353 / 3**0.5, 0.353 / 2
FILM_NM = 0.3905


@dataclass(frozen=True)
class Field:
    """Expected counts at a dose of one electron per pixel, and the particles in it."""

    mean: NDArray[np.float64]
    places_nm: NDArray[np.float64]
    radius_nm: float
    crystalline: NDArray[np.bool_]
    pixel_nm: float

    @property
    def radii_nm(self) -> NDArray[np.float64]:
        return np.full(len(self.places_nm), self.radius_nm)

    def image(self, rng: np.random.Generator, dose: float) -> NDArray[np.uint16]:
        return rng.poisson(np.maximum(dose * self.mean, 0)).astype(np.uint16)


def make_field(
    rng: np.random.Generator,
    *,
    crystals: int = 0,
    droplets: int = 0,
    diameter_nm: float = 3.8,
    film: float = 0.1,
    half_order: float = 0.0,
    fringe: float = 0.15,
    angle_rad: float | None = None,
    pixel_nm: float = 0.08,
    size: int = 320,
) -> Field:
    """``film``, ``half_order``: modulation by {100} and by the doubled cell; ``fringe``: of nickel."""
    side = size * pixel_nm
    radius = diameter_nm / ESD_PER_RADIUS
    places: list[NDArray[np.float64]] = []
    while len(places) < crystals + droplets:
        place = rng.uniform(radius + 0.5, side - radius - 0.5, 2)
        if all(np.hypot(*(place - other)) > 2 * radius + 0.8 for other in places):
            places.append(place)
    along = (np.arange(size) + 0.5) * pixel_nm
    y, x = along[:, None], along[None, :]
    turn = rng.uniform(0, np.pi)
    u = 2 * np.pi / FILM_NM * (x * np.cos(turn) + y * np.sin(turn))
    v = 2 * np.pi / FILM_NM * (y * np.cos(turn) - x * np.sin(turn))
    waves = np.cos(u) + np.cos(v) + 0.7 * (np.cos(u + v) + np.cos(u - v))
    waves += 0.5 * (np.cos(2 * u) + np.cos(2 * v))
    rough = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1 / pixel_nm, mode="wrap")
    bare = 1 + 0.03 * rough / rough.std() + film * waves + half_order * np.cos(u / 2)
    nickel = np.zeros((size, size))
    is_crystal = np.arange(len(places)) < crystals
    for place, crystal in zip(places, is_crystal, strict=True):
        dy, dx = y - place[0], x - place[1]
        height = np.sqrt(np.clip(radius**2 - dy**2 - dx**2, 0, None))
        height = ndimage.gaussian_filter(height, 0.1 / pixel_nm)
        lines = np.zeros((size, size))
        if crystal:
            first = rng.uniform(0, np.pi) if angle_rad is None else angle_rad
            for spacing, angle in (
                (NI_111_NM, first),
                (NI_111_NM, first + np.arccos(1 / 3)),
                (NI_200_NM, first + np.arccos(1 / 3) / 2 + np.pi / 2),
            ):
                lines += np.cos(2 * np.pi / spacing * (dx * np.cos(angle) + dy * np.sin(angle)))
        nickel += height * (1 + fringe * lines)
    return Field(
        bare * (1 + 0.1 * nickel),
        np.array(places).reshape(-1, 2),
        radius,
        is_crystal,
        pixel_nm,
    )
