"""Synthetic HAADF scenes of particles on a film, with their truth, for scoring what measures them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from acquire.bench.particle_solids import Array, Solid, draw, draw_union
from acquire.errors import ConfigError

MARGIN_NM = 24.0
"""The film goes on around the image, so that particles are cut by its border, and drift brings others."""
GAP_NM = 1.0
"""Between footprints where they must not overlap."""
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What is drawn; the default is the base scene of the reference table."""

    name: str = "base"
    solid: Solid = Solid.DOME
    density_per_um2: float = 3000.0
    mean_diameter_nm: float = 8.8
    """Of the spheres of equal volume; the distribution is lognormal."""
    spread: float = 0.3
    """Coefficient of variation of the diameters."""
    overlap: bool = False
    """Whether places are independent, and the higher particle is seen where two overlap; otherwise
    footprints keep :data:`GAP_NM` apart."""
    slope: float = 0.3
    """Change of the film's level from the left to the right edge, over its mean."""
    texture: float = 0.03
    """Relative rms of the film's level."""
    texture_nm: float = 1.0
    """σ of the Gaussian that smoothed the texture, per axis."""
    contrast_per_nm: float = 0.1
    """Rise over the film's level per nm of nickel."""
    dose: float = 200.0
    """Detected electrons per pixel of film, on average."""
    probe_sigma_nm: float = 0.2
    """Standard deviation of the probe along one axis."""
    pixel_nm: float = 0.25
    size_px: int = 1024

    @property
    def side_nm(self) -> float:
        """Width and height of the image."""
        return self.size_px * self.pixel_nm


@dataclass(frozen=True, slots=True)
class Truth:
    """The particles of a scene, shape (n,) each; places in nm from the image's top-left corner."""

    x_nm: Array
    y_nm: Array
    diameter_nm: Array
    """Of the sphere of equal volume."""
    radius_nm: Array
    """Of the footprint."""

    def __len__(self) -> int:
        return len(self.x_nm)

    def take(self, which: NDArray[np.bool_]) -> Truth:
        """Only some of them."""
        return Truth(
            self.x_nm[which], self.y_nm[which], self.diameter_nm[which], self.radius_nm[which]
        )


@dataclass(frozen=True)
class Scene:
    """A film with particles, seen at one place; images of it differ by their Poisson noise alone."""

    settings: SceneSettings
    particles: Truth
    """Also those around the image."""
    texture: NDArray[np.complex64] = field(repr=False)
    """Fourier transform of the film's texture with its margin, unit rms."""
    displacement_nm: tuple[float, float] = (0.0, 0.0)
    """(y, x) by which the specimen has moved in the image."""

    @cached_property
    def relative(self) -> NDArray[np.float32]:
        """Expected image (y, x) over the mean dose of the film."""
        settings = self.settings
        discs = np.column_stack(
            [self.particles.y_nm, self.particles.x_nm, self.particles.radius_nm]
        )
        discs /= settings.pixel_nm
        sigma_px = settings.probe_sigma_nm / settings.pixel_nm
        if settings.overlap:
            height = draw_union(settings.size_px, settings.solid, discs, sigma_px)
        else:
            height = np.zeros((settings.size_px, settings.size_px))
            for y, x, radius in discs:
                draw(height, settings.solid, (y, x), radius, sigma_px)
        height *= settings.pixel_nm * settings.contrast_per_nm
        height += 1.0
        height *= self._film()
        return height.astype(np.float32)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Which particles have their centre in the image."""
        side = self.settings.side_nm
        y, x = self.particles.y_nm, self.particles.x_nm
        return np.asarray((y >= 0) & (y < side) & (x >= 0) & (x < side))

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Which particles have all of their footprint in the image."""
        side, radius = self.settings.side_nm, self.particles.radius_nm
        places = np.stack([self.particles.y_nm, self.particles.x_nm])
        return np.asarray(((places >= radius) & (places <= side - radius)).all(axis=0))

    def image(
        self, seed: int | np.random.Generator, dose: float | None = None
    ) -> NDArray[np.uint16]:
        """One image (y, x): Poisson counts at ``dose`` (default: the scene's) per pixel of film."""
        mean = self.relative * np.float32(self.settings.dose if dose is None else dose)
        counts = np.random.default_rng(seed).poisson(mean)
        return np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16)

    def mask(self, particle: int) -> NDArray[np.bool_]:
        """Pixels (y, x) whose centre lies in a particle's footprint."""
        at = (np.arange(self.settings.size_px) + 0.5) * self.settings.pixel_nm
        y, x = at - self.particles.y_nm[particle], at - self.particles.x_nm[particle]
        inside = np.square(y)[:, None] + np.square(x) <= self.particles.radius_nm[particle] ** 2
        return np.asarray(inside)

    def moved(self, dy_nm: float, dx_nm: float) -> Scene:
        """The same specimen, film and all, moved in the image by (dy, dx).

        Raises:
            ConfigError: it would move out of what was made around the image.
        """
        dy, dx = self.displacement_nm[0] + dy_nm, self.displacement_nm[1] + dx_nm
        if max(abs(dy), abs(dx)) > MARGIN_NM:
            raise ConfigError(
                f"a scene moved by ({dy:g}, {dx:g}) nm: it goes on for {MARGIN_NM:g} nm around the "
                "image. Move it less."
            )
        truth = self.particles
        there = Truth(truth.x_nm + dx_nm, truth.y_nm + dy_nm, truth.diameter_nm, truth.radius_nm)
        return Scene(self.settings, there, self.texture, (dy, dx))

    def _film(self) -> Array:
        settings = self.settings
        dy, dx = (shift / settings.pixel_nm for shift in self.displacement_nm)
        along = (np.arange(settings.size_px) + 0.5 - dx) / settings.size_px - 0.5
        film = np.broadcast_to(1.0 + settings.slope * along, (settings.size_px, settings.size_px))
        if settings.texture == 0.0:
            return film
        rows = self.texture.shape[0]
        turn_y = np.exp(-2j * np.pi * np.fft.fftfreq(rows) * dy)
        turn_x = np.exp(-2j * np.pi * np.fft.rfftfreq(rows) * dx)
        rough = np.fft.irfft2(self.texture * turn_y[:, None] * turn_x, (rows, rows))
        edge = (rows - settings.size_px) // 2
        seen = slice(edge, edge + settings.size_px)
        return np.asarray(film + settings.texture * rough[seen, seen])


def make_scene(settings: SceneSettings, seed: int) -> Scene:
    """A scene with random places, sizes and texture; the same for the same seed.

    Raises:
        ConfigError: so many particles do not fit beside each other.
    """
    rng = np.random.default_rng(seed)
    side = settings.side_nm + 2.0 * MARGIN_NM
    count = round(settings.density_per_um2 * side * side * 1e-6)
    log_variance = math.log1p(settings.spread**2)
    middle = math.log(settings.mean_diameter_nm) - 0.5 * log_variance
    diameters = np.exp(rng.normal(middle, math.sqrt(log_variance), count))
    radii = diameters / settings.solid.diameter_per_radius
    if settings.overlap:
        places = rng.uniform(0.0, side, (count, 2))
        seen = ~_hidden(places, radii)
        places, diameters, radii = places[seen], diameters[seen], radii[seen]
    else:
        # the largest first: small ones find room between them, and sizes stay as drawn
        order = np.argsort(-radii, kind="stable")
        diameters, radii = diameters[order], radii[order]
        places = _apart(radii, side, rng)
    places -= MARGIN_NM
    truth = Truth(places[:, 1].copy(), places[:, 0].copy(), diameters, radii)
    return Scene(settings, truth, _texture(settings, rng))


def isolated(
    diameter_nm: float,
    seed: int,
    *,
    solid: Solid = Solid.DOME,
    dose: float = 200.0,
    size_px: int = 256,
    pixel_nm: float = 0.25,
) -> Scene:
    """One particle on flat film, near the image's middle: its place within a pixel is random."""
    settings = SceneSettings(
        f"isolated {solid}",
        solid,
        slope=0.0,
        texture=0.0,
        dose=dose,
        size_px=size_px,
        pixel_nm=pixel_nm,
        mean_diameter_nm=diameter_nm,
        spread=0.0,
    )
    rng = np.random.default_rng(seed)
    y, x = (0.5 * size_px + rng.uniform(-0.5, 0.5, 2)) * pixel_nm
    radius = diameter_nm / solid.diameter_per_radius
    truth = Truth(*(np.array([value]) for value in (x, y, diameter_nm, radius)))
    return Scene(settings, truth, _texture(settings, rng))


def _hidden(places: Array, radii: Array) -> NDArray[np.bool_]:
    """Which lie wholly within the footprint of another: they have merged with it and are none."""
    apart = np.hypot(*(places[:, None, :] - places).transpose(2, 0, 1))
    within = apart + radii[:, None] <= radii
    np.fill_diagonal(within, val=False)
    return np.asarray(within.any(axis=1))


def _apart(radii: Array, side: float, rng: np.random.Generator) -> Array:
    """Places (n, 2) of discs that keep apart; ``radii`` fall."""
    places = np.empty((len(radii), 2))
    tree = cKDTree(np.empty((0, 2)))
    rest: list[int] = []
    for i, radius in enumerate(radii):
        if len(rest) >= 64:
            tree, rest = cKDTree(places[:i]), []
        for _ in range(_TRIES):
            place = rng.uniform(0.0, side, 2)
            near = [*tree.query_ball_point(place, radius + radii[0] + GAP_NM), *rest]
            away = np.hypot(*(places[near] - place).T)
            if (away >= radii[near] + radius + GAP_NM).all():
                break
        else:
            raise ConfigError(
                f"{len(radii)} particles do not fit on {side:.3g} nm without touching: lower the "
                "density, or let them overlap."
            )
        places[i] = place
        rest.append(i)
    return places


def _texture(settings: SceneSettings, rng: np.random.Generator) -> NDArray[np.complex64]:
    side = settings.size_px + 2 * math.ceil(MARGIN_NM / settings.pixel_nm)
    if settings.texture == 0.0:
        return np.zeros((side, side // 2 + 1), np.complex64)
    rough = np.fft.rfft2(rng.standard_normal((side, side), np.float32))
    ky, kx = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    k2 = np.square(ky)[:, None] + np.square(kx)
    rough *= np.exp(-2.0 * np.pi**2 * k2 * (settings.texture_nm / settings.pixel_nm) ** 2)
    rough[0, 0] = 0.0
    spread = float(np.std(np.fft.irfft2(rough, (side, side))))
    return np.asarray(rough / spread, np.complex64)


_BASE = SceneSettings()
SCENES: Mapping[str, SceneSettings] = MappingProxyType(
    {
        scene.name: scene
        for scene in (
            _BASE,
            replace(_BASE, name="D 20", dose=20.0),
            replace(_BASE, name="slope 100 %", slope=1.0),
            replace(_BASE, name="795/µm²", density_per_um2=795.0),
            replace(_BASE, name="3.83 nm", mean_diameter_nm=3.83),
            replace(_BASE, name="texture 10 %", texture=0.1),
            replace(_BASE, name="overlapping", density_per_um2=6000.0, overlap=True),
            replace(_BASE, name="51/µm²", density_per_um2=51.0),
            replace(_BASE, name="blank", density_per_um2=0.0),
        )
    }
)
"""The scenes of the reference table by name, and a sparse and an empty one."""
