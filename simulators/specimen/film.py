"""The film before anything grows: its thickness, texture, anti-phase boundaries and dislocations.

Everything repeats with the period of the simulated region, so that a view that drifts or is shifted
never leaves the film.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator

Array = NDArray[np.float64]

REGION_NM = 2048.0
TILE_NM = 512.0
"""Period of the texture; divides the region, so that both repeat together."""
_TILE_PIXELS = 1024
_BOUNDARY_WAVES = 40
_NEWTON_STEPS = 8
_THERE_NM = 1e-4
"""A point that moved less is on the boundary to 1e-8 nm or so."""
_POINTS_AT_ONCE = 512
"""So many stay in the processor's cache, and BLAS wakes no threads for them."""
SLOPE_PER_UNDULATION = 1.0
"""Steepest relative change of thickness over 256 nm, over the undulation: 256 nm · 2π/2048 nm · 0.9 √2."""
SLOW_STEP_NM = 4.0
"""Of the maps of slow thickness and of the distance to boundaries."""
LINE_SHARE = 0.25
"""Of the pitch of a grating that a raised line takes."""
LINE_HEIGHT = 0.3
"""Of the thickness, for each direction."""
LINE_EDGE_NM = 0.6


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """What a film is made of."""

    thickness_nm: float = 60.0
    level: float = 1.0
    """Relative thickness that images show where nothing changes it; next to 0 for a hole."""
    undulation: float = 0.2
    """Amplitude of the slow change of thickness; 0.2 slopes by up to some 25 % over 256 nm."""
    texture: float = 0.03
    """Relative rms of the fine structure of the intensity."""
    texture_length_nm: float = 1.2
    boundary_spacing_nm: float = 120.0
    """Typical distance between anti-phase boundaries; 0 leaves them out."""
    dislocations_per_um2: float = 600.0
    grating_pitch_nm: float = 0.0
    """Pitch of the raised lines of a calibration grating, along x and y; must divide the region."""


class Film:
    """A periodic film, made from its settings and a seed; raises ValueError for a grating that cannot be."""

    def __init__(self, settings: FilmSettings, seed: int) -> None:
        pitch = settings.grating_pitch_nm
        if pitch < 0 or (pitch and REGION_NM % pitch):
            raise ValueError(
                f"grating_pitch_nm = {pitch} refused: it must divide the region of {REGION_NM:g} nm, "
                "for example 64."
            )
        self.settings = settings
        self._seed = seed
        rng = generator(seed, "film")
        # the slow thickness: three long waves of random direction
        self._slow_k = np.array([(1, 0), (0, 1), (1, -1)], dtype=float) * (2 * math.pi / REGION_NM)
        self._slow_k *= rng.choice([-1.0, 1.0], size=(3, 1))
        self._slow_phase = rng.uniform(0, 2 * math.pi, 3)
        self._slow_amplitude = settings.undulation * np.array([0.6, 0.6, 0.3])
        self._wave_k, self._wave_phase = _boundary_waves(settings.boundary_spacing_nm, rng)
        rng = generator(seed, "dislocations")
        number = rng.poisson(settings.dislocations_per_um2 * REGION_NM**2 / 1e6)
        self.dislocations_nm: Array = rng.uniform(0, REGION_NM, (number, 2))
        """Where dislocations come through the surface; (n, 2)."""

    def relative_thickness(self, x_nm: float, y_nm: float) -> float:
        """Thickness over the nominal one at a point."""
        phases = self._slow_k @ np.array([x_nm, y_nm]) + self._slow_phase
        slow = float(self.settings.level + self._slow_amplitude @ np.cos(phases))
        x, y = (float(self._lines(np.array([at]))[0]) for at in (x_nm, y_nm))
        return slow + x + y

    def thickness_map(self, x_nm: Array, y_nm: Array) -> NDArray[np.float32]:
        """Relative thickness on the grid of columns ``x_nm`` and rows ``y_nm``; float32 (y, x)."""
        slow = self._slow(x_nm, y_nm)
        if self.settings.grating_pitch_nm:
            slow += self._lines(x_nm).astype(np.float32)
            slow += self._lines(y_nm).astype(np.float32)[:, None]
        return slow

    def _slow(self, x_nm: Array, y_nm: Array) -> NDArray[np.float32]:
        # cos(a + b) = cos a cos b - sin a sin b: the waves are sums of outer products
        columns, rows = [np.ones_like(x_nm)], [np.full_like(y_nm, self.settings.level)]
        for (kx, ky), phase, amplitude in zip(
            self._slow_k, self._slow_phase, self._slow_amplitude, strict=True
        ):
            columns += [np.cos(kx * x_nm), np.sin(kx * x_nm)]
            rows += [amplitude * np.cos(ky * y_nm + phase), -amplitude * np.sin(ky * y_nm + phase)]
        left = np.stack(rows, axis=0).astype(np.float32)
        right = np.stack(columns, axis=0).astype(np.float32)
        # not a matrix product: waking the threads of BLAS costs 20 ms on a busy machine, this 1 ms
        return np.asarray(np.einsum("ki,kj->ij", left, right))

    def texture_map(self, x_nm: Array, y_nm: Array, pixel_nm: float) -> NDArray[np.float32]:
        """Texture of unit rms at full resolution, averaged over pixels larger than its tile's; float32 (y, x)."""
        tile = self.texture_tile(pixel_nm)
        size = tile.shape[0]
        i0, i1, iw = _neighbours(y_nm, size)
        j0, j1, jw = _neighbours(x_nm, size)
        band = tile[i0] + (tile[i1] - tile[i0]) * iw[:, None]
        left = band.take(j0, axis=1)
        right = band.take(j1, axis=1)
        right -= left
        right *= jw
        left += right
        return left

    def texture_tile(self, pixel_nm: float) -> NDArray[np.float32]:
        """Texture over its period of ``TILE_NM``, averaged to pixels of at most ``pixel_nm``; float32 (n, n)."""
        level = max(0, min(8, math.floor(math.log2(pixel_nm / (TILE_NM / _TILE_PIXELS)) + 1e-9)))
        return self._pyramid[level]

    @cached_property
    def slow_map(self) -> NDArray[np.float32]:
        """Relative thickness without lines of a grating, over the region in steps of ``SLOW_STEP_NM``; float32 (y, x)."""
        place = _slow_places()
        return self._slow(place, place)

    @cached_property
    def boundary_map(self) -> NDArray[np.float32]:
        """Signed distance to a boundary near by in nm, as :attr:`slow_map`; far away it says only that it is far.

        The field whose zero lines the boundaries are, over the length of its gradient.
        """
        place = _slow_places()
        if not len(self._wave_k):
            return np.full((len(place), len(place)), REGION_NM, np.float32)
        across = place[:, None] * self._wave_k[:, 0]
        down = place[:, None] * self._wave_k[:, 1] + self._wave_phase
        cos_x, sin_x = np.cos(across).astype(np.float32), np.sin(across).astype(np.float32)
        cos_y, sin_y = np.cos(down).astype(np.float32), np.sin(down).astype(np.float32)
        kx, ky = self._wave_k.astype(np.float32).T
        left = np.concatenate([cos_y, sin_y], axis=1)
        value = np.einsum("ik,jk->ij", left, np.concatenate([cos_x, -sin_x], axis=1))
        slopes = [
            np.einsum("ik,jk->ij", left, np.concatenate([k * sin_x, k * cos_x], axis=1))
            for k in (kx, ky)
        ]
        steep = np.maximum(np.hypot(*slopes), np.float32(1e-9))
        return np.asarray(value / steep)

    def boundary_distance_nm(self, x_nm: float, y_nm: float) -> float:
        """Distance to the nearest anti-phase boundary, in nm; exact near it, infinite without any."""
        if not len(self._wave_k):
            return math.inf
        start = np.array([[x_nm, y_nm]])
        foot, on_line = self.project_to_boundary(start)
        return float(np.hypot(*(foot - start)[0])) if on_line[0] else math.inf

    def project_to_boundary(self, points_nm: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Follow the gradient from points (n, 2) to the boundary; says where, and which arrived."""
        if not len(self._wave_k):
            return points_nm, np.zeros(len(points_nm), dtype=bool)
        longest = self.settings.boundary_spacing_nm / 6
        foot = points_nm.copy()
        last = np.zeros(len(foot))
        under_way = np.arange(len(foot))
        for _ in range(_NEWTON_STEPS):
            value, slope = self._boundary_field(foot[under_way])
            square = np.maximum(np.sum(slope**2, axis=1), 1e-12)
            step = -(value / square)[:, None] * slope
            length = np.hypot(step[:, 0], step[:, 1])
            step *= np.minimum(1, longest / np.maximum(length, 1e-12))[:, None]
            foot[under_way] += step
            last[under_way] = np.minimum(length, longest)
            # the next step would be the square of this one
            under_way = under_way[length > _THERE_NM]
        return foot, last < 0.05

    def boundary_direction(self, points_nm: Array) -> Array:
        """Unit vectors (n, 2) along the boundary at points on it; 0 without boundaries."""
        if not len(self._wave_k):
            return np.zeros_like(points_nm)
        _, slope = self._boundary_field(points_nm)
        along = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
        return np.asarray(along / np.maximum(np.hypot(*along.T), 1e-12)[:, None])

    def _lines(self, position_nm: Array) -> Array:
        """Relative height of the lines of a grating across their direction; centred on multiples of the pitch."""
        pitch = self.settings.grating_pitch_nm
        if not pitch:
            return np.zeros_like(position_nm)
        from_line = np.abs(np.mod(position_nm + pitch / 2, pitch) - pitch / 2)
        edge = (LINE_SHARE * pitch / 2 - from_line) / LINE_EDGE_NM
        return np.asarray(LINE_HEIGHT * 0.5 * (1 + np.tanh(edge)))

    def _boundary_field(self, points_nm: Array) -> tuple[Array, Array]:
        """A random field (n,) whose zero lines are the boundaries, and its gradient (n, 2)."""
        field = np.empty((3, len(points_nm)))
        for first in range(0, len(points_nm), _POINTS_AT_ONCE):
            piece = slice(first, first + _POINTS_AT_ONCE)
            # a wave is a power of exp(i 2π x / region) times one of y: two sines per point, not 40
            turns = np.exp(1j * (2 * math.pi / REGION_NM) * points_nm[piece].T)
            waves = _powers(turns[0], self._wave_order[0])
            waves *= _powers(turns[1], self._wave_order[1])
            field[:, piece] = (self._wave_parts @ waves).real
        return field[0], field[1:].T

    @cached_property
    def _wave_order(self) -> NDArray[np.int64]:
        """Of every wave along x and y, in periods per region; (2, n)."""
        return np.rint(self._wave_k.T * (REGION_NM / (2 * math.pi))).astype(np.int64)

    @cached_property
    def _wave_parts(self) -> NDArray[np.complex128]:
        """What every wave adds to the field and to its gradient, as factors of exp(i k x); (3, n)."""
        kx, ky = self._wave_k.T
        parts = np.stack([np.ones_like(kx), 1j * kx, 1j * ky])
        return np.asarray(parts * np.exp(1j * self._wave_phase), np.complex128)

    @cached_property
    def _pyramid(self) -> list[NDArray[np.float32]]:
        rng = generator(self._seed, "texture")
        white = rng.standard_normal((_TILE_PIXELS, _TILE_PIXELS))
        k = np.fft.fftfreq(_TILE_PIXELS, TILE_NM / _TILE_PIXELS) * 2 * math.pi
        half = k[: _TILE_PIXELS // 2 + 1]
        length = self.settings.texture_length_nm
        low_pass = np.exp(-0.5 * length**2 * (k[:, None] ** 2 + half[None, :] ** 2))
        tile = np.fft.irfft2(np.fft.rfft2(white) * low_pass, s=white.shape)
        tile -= tile.mean()
        tile /= tile.std()
        levels = [tile.astype(np.float32)]
        while len(levels) < 9:
            n = levels[-1].shape[0] // 2
            levels.append(levels[-1].reshape(n, 2, n, 2).mean(axis=(1, 3)))
        return levels


def _powers(turn: NDArray[np.complex128], orders: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Integer powers of numbers (m,) on the unit circle, for every order (n,); (n, m)."""
    top = int(np.abs(orders).max())
    table = np.empty((2 * top + 1, len(turn)), dtype=np.complex128)
    table[top] = 1
    for order in range(1, top + 1):
        np.multiply(table[top + order - 1], turn, out=table[top + order])
    table[:top] = table[:top:-1].conj()
    return np.asarray(table[orders + top])


def _slow_places() -> Array:
    """Centres of the squares of a slow map along one axis."""
    return (np.arange(round(REGION_NM / SLOW_STEP_NM), dtype=np.float64) + 0.5) * SLOW_STEP_NM


def _boundary_waves(spacing_nm: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Wave vectors (n, 2) on the region's reciprocal lattice near one length, and phases (n,)."""
    if spacing_nm <= 0:
        return np.zeros((0, 2)), np.zeros(0)
    # lines of a monochromatic Gaussian field of wavelength w have 2.22 / w of length per area
    wanted = REGION_NM / spacing_nm
    top = math.ceil(1.3 * wanted) + 1
    m, n = np.meshgrid(np.arange(0, top + 1), np.arange(-top, top + 1))
    radius = np.hypot(m, n)
    near = (radius > 0.75 * wanted) & (radius < 1.25 * wanted) & (m > 0)
    lattice = np.stack([m[near], n[near]], axis=1).astype(float)
    chosen = rng.choice(len(lattice), size=min(_BOUNDARY_WAVES, len(lattice)), replace=False)
    phases = rng.uniform(0, 2 * math.pi, len(chosen))
    return lattice[np.sort(chosen)] * (2 * math.pi / REGION_NM), phases


def _neighbours(
    position_nm: Array, size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Tile indices on both sides of positions, and the weight of the second."""
    place = np.mod(position_nm * (size / TILE_NM) - 0.5, size)
    first = np.floor(place).astype(np.intp)
    weight = (place - first).astype(np.float32)
    return first % size, (first + 1) % size, weight
