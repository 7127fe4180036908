"""Where particles can be: where boundaries or dislocations meet the surface, elsewhere on it, inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator
from simulators.specimen.film import REGION_NM, Film
from simulators.specimen.presets import Preset

Array = NDArray[np.float64]

BOUNDARY, DISLOCATION, PLAIN, INSIDE = 0, 1, 2, 3
_ONSET = {BOUNDARY: 1.0, DISLOCATION: 1.3, PLAIN: 2.5, INSIDE: 1.0}
"""Median incubation over that of a boundary at the surface."""
_INSIDE_NM = (6.0, 45.0)
_GIVE_UP = 2e-3  # of the sites placed in one round of trials
CRITICAL_NM = 3.83
"""Equivalent diameter above which a crystal is stable [APB]."""
CRITICAL_SPREAD_NM = 0.08
FIRST_CRYSTAL_NM = 3.0
"""Where a crystal first appears in a droplet."""
_FIRST_CRYSTAL_SPREAD_NM = 0.1


@dataclass(frozen=True, slots=True)
class Sites:
    """Possible particles and how they behave; equally long arrays, id = place in the array."""

    x_nm: Array
    y_nm: Array
    kind: NDArray[np.int8]
    """``BOUNDARY``, ``DISLOCATION`` or ``PLAIN`` at the surface; ``INSIDE`` the film, on a boundary."""
    z_nm: Array
    """Depth below the surface; 0 at it."""
    along: Array
    """Direction (n, 2) of the boundary that a particle walks along; 0 where it may walk anywhere."""
    onset: Array
    """Incubation over the median one on a boundary."""
    uptake: Array
    """How well it is fed, around 1."""
    critical_nm: Array
    first_crystal_nm: Array

    def __len__(self) -> int:
        return len(self.x_nm)


def scatter(preset: Preset, film: Film, seed: int) -> Sites:
    """Sites of a preset on its film; raises ValueError if they do not fit."""
    rng = generator(seed, "sites")
    number = round(preset.sites_per_um2 * REGION_NM**2 / 1e6)
    quota = {
        BOUNDARY: round(number * preset.boundary_share),
        DISLOCATION: round(number * preset.dislocation_share),
        INSIDE: round(number * preset.inside_share),
    }
    quota[PLAIN] = number - sum(quota.values())
    points, kinds = _place(quota, preset.spacing_nm, film, rng)
    kind = np.array(kinds, dtype=np.int8)
    n = len(kind)
    factor = np.choose(kind, [_ONSET[k] for k in range(len(_ONSET))])
    along = film.boundary_direction(points)
    along[kind != BOUNDARY] = 0.0
    return Sites(
        x_nm=points[:, 0],
        y_nm=points[:, 1],
        kind=kind,
        z_nm=np.where(kind == INSIDE, rng.uniform(*_INSIDE_NM, n), 0.0),
        along=along,
        onset=factor * np.exp(preset.onset_spread * rng.standard_normal(n)),
        uptake=np.exp(preset.uptake_spread * rng.standard_normal(n)),
        critical_nm=CRITICAL_NM + CRITICAL_SPREAD_NM * rng.standard_normal(n),
        first_crystal_nm=FIRST_CRYSTAL_NM + _FIRST_CRYSTAL_SPREAD_NM * rng.standard_normal(n),
    )


def lattice(preset: Preset, seed: int) -> tuple[Array, Array, Array]:
    """Fixed particles (x, y, diameter) on a jittered square lattice, sizes in turn along rows."""
    rng = generator(seed, "sites")
    n = round(REGION_NM / preset.fixed_pitch_nm)
    row, column = np.divmod(np.arange(n * n), n)
    jitter = rng.uniform(-0.08, 0.08, (2, n * n))
    pitch = REGION_NM / n
    sizes = np.array(preset.fixed_diameters_nm)
    return (
        (column + 0.5 + jitter[0]) * pitch,
        (row + 0.5 + jitter[1]) * pitch,
        sizes[(column + 2 * row) % len(sizes)],
    )


def _place(
    quota: dict[int, int], spacing_nm: float, film: Film, rng: np.random.Generator
) -> tuple[Array, list[int]]:
    """Points (n, 2) of a hard-core process, kind by kind, and their kinds."""
    kept: list[tuple[float, float]] = []
    kinds: list[int] = []
    grid = _HardCore(spacing_nm)
    number = sum(quota.values())
    for kind, wanted in quota.items():
        left, gained = wanted, number
        while left and gained > _GIVE_UP * number:
            before = left
            points = rng.uniform(0, REGION_NM, (2 * number, 2))
            if kind in (BOUNDARY, INSIDE):
                points, arrived = film.project_to_boundary(points)
                points = np.mod(points[arrived], REGION_NM)
            elif kind == DISLOCATION:
                points = rng.permutation(film.dislocations_nm)
            for x, y in points.tolist():
                if left and grid.take(x, y):
                    kept.append((x, y))
                    kinds.append(kind)
                    left -= 1
            gained = before - left
    if len(kept) < number:
        raise ValueError(
            f"only {len(kept)} of {number} sites fit on the specimen; lower the density or spacing."
        )
    return np.array(kept, dtype=float).reshape(-1, 2), kinds


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


def empty() -> Sites:
    """No site at all."""
    none = np.zeros(0)
    return Sites(
        none, none, np.zeros(0, dtype=np.int8), none, np.zeros((0, 2)), none, none, none, none
    )
