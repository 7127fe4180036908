"""The specimen: a film and the particles on it, at a thermal time, seen in a field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator
from simulators.specimen.film import REGION_NM, Film
from simulators.specimen.kinetics import FixedPopulation, Population, Sites
from simulators.specimen.presets import NI_PER_NM3_OF_FILM, PRESETS, Preset

Array = NDArray[np.float64]

FOOTPRINT_PER_DIAMETER = 2 ** (1 / 3)
"""A hemisphere (contact angle 90°) is this much wider than the sphere of equal volume: R³ = d³/4."""
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
    """Particles in a view: equally long arrays, positions relative to the view's top-left corner."""

    id: NDArray[np.intp]
    x_nm: Array
    y_nm: Array
    diameter_nm: Array
    """Equivalent spherical diameter."""

    @property
    def radius_nm(self) -> Array:
        """Radius of the hemisphere: of its footprint, and its height."""
        return self.diameter_nm * (FOOTPRINT_PER_DIAMETER / 2)

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a perfect measurement of a view gives, over particles of at least ``VISIBLE_NM``."""

    mean_diameter_nm: float
    """Over particles that do not touch the border; NaN if there is none."""
    count: int
    """Of those particles."""
    areal_density_per_um2: float
    """Of particles centred in the view."""


class Specimen:
    """One specimen, made from a preset and a seed; safe for use by several threads."""

    def __init__(self, preset: Preset, seed: int) -> None:
        self.preset = preset
        self.film = Film(preset.film, seed)
        self._population = _populate(preset, self.film, seed)
        area = REGION_NM**2
        self._near_surface_ni = NI_PER_NM3_OF_FILM * preset.near_surface_nm * area

    @property
    def sites(self) -> Sites:
        """Where particles are or will be."""
        return self._population.sites

    def diameters_nm(self, thermal_s: float) -> Array:
        """Equivalent diameters of all particles of the region, by id; 0 where there is none yet."""
        return self._population.diameters_nm(thermal_s)

    def ni_in_particles(self, thermal_s: float) -> float:
        """Nickel atoms in all particles of the region."""
        return self._population.ni_in_particles(thermal_s)

    def ni_reduced_fraction(self, thermal_s: float) -> float:
        """Share of the near-surface nickel that is metal."""
        return self.ni_in_particles(thermal_s) / self._near_surface_ni

    def domes(self, view: View, thermal_s: float, margin_nm: float = 0.0) -> Domes:
        """Particles whose footprint reaches into a view, or to ``margin_nm`` from it."""
        diameter = self.diameters_nm(thermal_s)
        radius = diameter * (FOOTPRINT_PER_DIAMETER / 2) + margin_nm
        width, height = view.size_nm
        reach = float(radius.max(initial=0.0))
        sites = self.sites
        x = np.mod(sites.x_nm - view.origin_nm[0] + reach, REGION_NM) - reach
        y = np.mod(sites.y_nm - view.origin_nm[1] + reach, REGION_NM) - reach
        seen = (diameter > 0) & (x > -radius) & (x < width + radius)
        seen &= (y > -radius) & (y < height + radius)
        which = np.flatnonzero(seen)
        return Domes(which, x[which], y[which], diameter[which])

    def dome_height_nm(self, x_nm: float, y_nm: float, thermal_s: float) -> float:
        """Height of nickel at a point of the specimen, in nm."""
        domes = self.domes(View((x_nm, y_nm), (1, 1), 1e-6), thermal_s)
        square = domes.radius_nm**2 - domes.x_nm**2 - domes.y_nm**2
        return float(np.sqrt(np.maximum(square, 0.0)).sum())


def named(name: str, seed: int, diameters_nm: Sequence[float] = ()) -> Specimen:
    """A specimen by its preset's name; ``diameters_nm`` replaces the sizes of fixed particles.

    Raises:
        ValueError: no such preset, or it has no fixed particles.
    """
    return _named(name, seed, tuple(diameters_nm))


@lru_cache(maxsize=8)  # a specimen never changes, so that simulations may share it
def _named(name: str, seed: int, diameters_nm: tuple[float, ...]) -> Specimen:
    if name not in PRESETS:
        raise ValueError(f"specimen {name!r} is not known; known are: {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    if diameters_nm:
        if not preset.fixed_diameters_nm:
            raise ValueError(
                f"dome_diameters: specimen {name!r} grows its own particles; only "
                "'reference_domes' takes sizes."
            )
        largest = preset.fixed_pitch_nm / FOOTPRINT_PER_DIAMETER * 0.8
        if not all(0 < d <= largest for d in diameters_nm):
            raise ValueError(f"dome_diameters: each must be above 0 and at most {largest:.3g} nm.")
        preset = replace(preset, fixed_diameters_nm=diameters_nm)
    return Specimen(preset, seed)


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


def _populate(preset: Preset, film: Film, seed: int) -> Population | FixedPopulation:
    rng = generator(seed, "sites")
    if preset.fixed_diameters_nm:
        return _lattice(preset, rng)
    number = round(preset.density_per_um2 * REGION_NM**2 / 1e6)
    points, on_boundary = _scatter(number, preset, film, rng)
    median = np.where(on_boundary, preset.onset_s, preset.onset_elsewhere_s)
    onset = median * np.exp(preset.onset_spread * rng.standard_normal(number))
    speed = preset.speed_nm * np.exp(preset.speed_spread * rng.standard_normal(number))
    near_surface = NI_PER_NM3_OF_FILM * preset.near_surface_nm * REGION_NM**2
    sites = Sites(points[:, 0], points[:, 1], onset, speed)
    return Population(sites, near_surface * preset.reachable_share)


def _lattice(preset: Preset, rng: np.random.Generator) -> FixedPopulation:
    """Fixed particles on a jittered square lattice, sizes in turn along rows, shifted from row to row."""
    n = round(REGION_NM / preset.fixed_pitch_nm)
    row, column = np.divmod(np.arange(n * n), n)
    jitter = rng.uniform(-0.08, 0.08, (2, n * n))
    pitch = REGION_NM / n
    sizes = np.array(preset.fixed_diameters_nm)
    return FixedPopulation(
        (column + 0.5 + jitter[0]) * pitch,
        (row + 0.5 + jitter[1]) * pitch,
        sizes[(column + 2 * row) % len(sizes)],
    )


def _scatter(
    number: int, preset: Preset, film: Film, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Points (n, 2) of a hard-core process, most of them on boundaries, and which those are."""
    kept: list[tuple[float, float]] = []
    flags: list[bool] = []
    grid = _HardCore(preset.spacing_nm)
    quota = {True: round(number * preset.boundary_share)}
    quota[False] = number - quota[True]
    for on_boundary in (True, False):
        for _ in range(40):
            if not quota[on_boundary]:
                break
            points = rng.uniform(0, REGION_NM, (2 * number, 2))
            if on_boundary:
                points, arrived = film.project_to_boundary(points)
                points = np.mod(points[arrived], REGION_NM)
            for x, y in points.tolist():
                if quota[on_boundary] and grid.take(x, y):
                    kept.append((x, y))
                    flags.append(on_boundary)
                    quota[on_boundary] -= 1
    if len(kept) < number:
        raise ValueError(
            f"only {len(kept)} of {number} sites fit on the specimen; lower the density or spacing."
        )
    return np.array(kept, dtype=float).reshape(-1, 2), np.array(flags, dtype=bool)


class _HardCore:
    """Remembers points on the periodic region and refuses one that is too close to another."""

    def __init__(self, spacing_nm: float) -> None:
        self._cells = max(1, int(REGION_NM // spacing_nm))
        self._size = REGION_NM / self._cells
        self._square = spacing_nm**2
        self._taken: dict[tuple[int, int], list[tuple[float, float]]] = {}

    def take(self, x: float, y: float) -> bool:
        column, row = int(x / self._size), int(y / self._size)
        half = REGION_NM / 2
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                cell = ((column + i) % self._cells, (row + j) % self._cells)
                for px, py in self._taken.get(cell, ()):
                    dx = (px - x + half) % REGION_NM - half
                    dy = (py - y + half) % REGION_NM - half
                    if dx * dx + dy * dy < self._square:
                        return False
        key = (column % self._cells, row % self._cells)
        self._taken.setdefault(key, []).append((x, y))
        return True
