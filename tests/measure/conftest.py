"""Independent synthetic images: hemispheres drawn pixel by pixel on a sloped, textured film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from acquire.instruments import Axis, ChannelSpec, StreamSpec
from acquire.measure.particles import warm_up

PIXEL_NM = 0.3125
ESD_PER_RADIUS = 2 * 0.5 ** (1 / 3)


@dataclass(frozen=True)
class Scene:
    """Expected counts at a dose of one electron per pixel, and what is in it."""

    mean: NDArray[np.float64]
    places_nm: NDArray[np.float64]
    diameters_nm: NDArray[np.float64]
    side_nm: float

    def image(self, rng: np.random.Generator, dose: float) -> NDArray[np.uint16]:
        return rng.poisson(dose * self.mean).astype(np.uint16)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which domes lie in the image with all of their footprint."""
        radius = self.diameters_nm[:, None] / ESD_PER_RADIUS
        inside = (self.places_nm > radius) & (self.places_nm < self.side_nm - radius)
        return inside.all(axis=1)


def make_scene(
    rng: np.random.Generator,
    diameter_nm: float = 6.0,
    count: int = 20,
    spread: float = 0.15,
    texture: float = 0.03,
    texture_nm: float = 1.0,
    slope: float = 0.3,
    probe_nm: float = 0.2,
    contrast_per_nm: float = 0.1,
    size: int = 512,
    dark: bool = False,
    inset_nm: float = 0.0,
) -> Scene:
    side = size * PIXEL_NM
    diameters = np.exp(rng.normal(0.0, spread, count))
    diameters *= diameter_nm / diameters.mean() if count else 1.0
    radii = diameters / ESD_PER_RADIUS
    places: list[NDArray[np.float64]] = []
    while len(places) < count:
        place = rng.uniform(inset_nm, side - inset_nm, 2)
        gap = radii[: len(places)] + radii[len(places)] + 1.0
        if all(np.hypot(*(place - other)) > g for other, g in zip(places, gap, strict=True)):
            places.append(place)
    height = np.zeros((size, size))
    fine = 4
    for (y, x), radius in zip(places, radii, strict=True):
        box = [
            (max(0, int((c - radius) / PIXEL_NM) - 1), min(size, int((c + radius) / PIXEL_NM) + 2))
            for c in (y, x)
        ]
        ys, xs = (
            (np.arange(low * fine, high * fine) + 0.5) / fine * PIXEL_NM - c
            for (low, high), c in zip(box, (y, x), strict=True)
        )
        dome = np.sqrt(np.clip(radius**2 - ys[:, None] ** 2 - xs**2, 0.0, None))
        (top, bottom), (left, right) = box
        mean = dome.reshape(bottom - top, fine, right - left, fine).mean(axis=(1, 3))
        height[top:bottom, left:right] += mean
    height = ndimage.gaussian_filter(height, probe_nm / PIXEL_NM, mode="nearest")
    rough = ndimage.gaussian_filter(
        rng.normal(size=(size, size)), texture_nm / PIXEL_NM, mode="wrap"
    )
    film = 1 + slope * np.linspace(-0.5, 0.5, size) + texture * rough / rough.std()
    ratio = np.exp(-0.6 * contrast_per_nm * height) if dark else 1 + contrast_per_nm * height
    return Scene(film * ratio, np.array(places).reshape(-1, 2), diameters, side)


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """On a fresh machine an estimator skips frames while it still compiles; here none shall be."""
    warm_up()


@pytest.fixture
def scene() -> Callable[..., Scene]:
    return make_scene


@pytest.fixture
def spec() -> StreamSpec:
    axes = {"y": Axis(0.0, PIXEL_NM, "nm"), "x": Axis(0.0, PIXEL_NM, "nm")}
    image = ChannelSpec("uint16", (512, 512), ("y", "x"), axes)
    spectrum = ChannelSpec("uint16", (64,), ("energy_loss",), {"energy_loss": Axis(0.0, 0.1, "eV")})
    return StreamSpec("overview", {"haadf": image, "abf": image, "core_loss": spectrum})
