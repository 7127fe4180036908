"""The specimen: a film and the particles on it, under a temperature, at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulators.specimen.budget import NEAR_SURFACE_NM, budget, reduced_share
from simulators.specimen.crystal import crystalline, orientation_rad
from simulators.specimen.domes import FOOTPRINT_PER_DIAMETER, Domes, View, seen
from simulators.specimen.evolution import Evolution
from simulators.specimen.film import SLOPE_PER_UNDULATION, Film
from simulators.specimen.grain_boundary import GrainBoundary, grain_boundary
from simulators.specimen.kinetics import MERGED, NI_PER_NM3, PRESENT, Setting, State
from simulators.specimen.presets import PRESETS, Preset
from simulators.specimen.rates import REDUCTION, Rates, Temperature, lived
from simulators.specimen.resistivity import resistivity_ohm_m
from simulators.specimen.shape import thickness_nm
from simulators.specimen.sites import Sites, empty, lattice, scatter

Array = NDArray[np.float64]


class Specimen:
    """One specimen under one temperature, which is 25 °C until :meth:`under` says more.

    All times are those of the temperature's history, in s, and must have come. Positions of the whole
    region have its origin. Safe for use by several threads.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        temperature: Temperature | None = None,
        *,
        rates: Rates | None = None,
    ) -> None:
        self.preset = preset
        self.seed = seed
        self.film = Film(preset.film, seed)
        self.grain_boundary: GrainBoundary | None = (
            grain_boundary(seed) if preset.grain_boundary else None
        )
        self._budget = budget(preset.film)
        self._fixed = _fixed(preset, seed)
        sites = scatter(preset, self.film, seed) if preset.sites_per_um2 else empty()
        ni = self._budget
        self._setting = Setting(sites, rates or Rates(), ni.boundary, ni.beside, ni.bulk)
        self._live(temperature or lived(), 0.0)

    def under(self, temperature: Temperature, start_s: float = 0.0) -> Specimen:
        """The same specimen, fresh, under a temperature that begins at ``start_s``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._live(temperature, start_s)
        return other

    def _live(self, temperature: Temperature, start_s: float) -> None:
        self._temperature = temperature
        self._evolution = Evolution(self._setting, self.seed, temperature, start_s)

    @property
    def sites(self) -> Sites:
        """Where particles are or can be."""
        return self._setting.sites

    @property
    def ni_total(self) -> float:
        """Nickel atoms of the region of the fresh film."""
        return self._budget.total

    @property
    def steps(self) -> int:
        """How many steps the kinetics have taken so far."""
        return self._evolution.steps

    def state(self, t_s: float) -> State:
        """Particles and reservoirs at a time."""
        return self._evolution.at(t_s)

    def particles(self, t_s: float) -> Domes:
        """All particles of the region at a time, by id."""
        if self._fixed is not None:
            return self._fixed
        state = self.state(t_s)
        which = np.flatnonzero(state.stage == PRESENT)
        diameter = state.diameter_nm
        attempts = self._setting.rates.flicker_per_s * self._temperature.value("flicker", t_s)
        crystals = crystalline(self.sites, diameter, attempts, self.seed)
        return Domes(
            which,
            state.x_nm[which],
            state.y_nm[which],
            diameter[which],
            state.below[which],
            crystals[which],
            orientation_rad(which, self.seed),
            self.sites.z_nm[which],
        )

    def domes(self, view: View, t_s: float, margin_nm: float = 0.0) -> Domes:
        """Particles whose footprint reaches into a view at a time, or to ``margin_nm`` from it."""
        return seen(self.particles(t_s), view, margin_nm)

    def merged(self, t_s: float) -> dict[int, int]:
        """Particles that have gone into others by coalescence until a time: id to id."""
        state = self.state(t_s)
        gone = np.flatnonzero(state.stage == MERGED)
        return dict(zip(gone.tolist(), state.into[gone].tolist(), strict=True))

    def ni_in_particles(self, t_s: float) -> float:
        """Nickel atoms in all particles of the region."""
        if self._fixed is not None:
            return float(NI_PER_NM3 * np.pi / 6 * np.sum(self._fixed.diameter_nm**3))
        return self.state(t_s).particle_ni

    def ni_reduced_fraction(self, t_s: float) -> float:
        """Share of the nickel near the surface that is metal; see :func:`~.budget.reduced_share`."""
        if self._fixed is not None:
            return reduced_share(self.preset.film, self.ni_in_particles(t_s))
        volume = self.state(t_s).volume_nm3
        near = float(volume[self.sites.z_nm < NEAR_SURFACE_NM].sum())
        return reduced_share(self.preset.film, NI_PER_NM3 * near)

    def reduction(self, t_s: float) -> float:
        """How far the film has gone on its way from as grown, 0, to as heat in vacuum leaves it, 1."""
        if self._fixed is not None:
            return 0.0
        lived_s = self._temperature.value(REDUCTION, t_s)
        return -math.expm1(-self._setting.rates.reduction_per_s * lived_s)

    def ni_left_in_film(self, t_s: float) -> float:
        """Share of the film's nickel that is still in it; 1 for fixed particles, which it never held."""
        if self._fixed is not None:
            return 1.0
        return 1 - self.ni_in_particles(t_s) / self.ni_total

    def resistivity_ohm_m(self, t_s: float) -> float:
        """Of the film, at the specimen's temperature."""
        return resistivity_ohm_m(self.ni_reduced_fraction(t_s), self._temperature.celsius(t_s))

    def dome_height_nm(self, x_nm: float, y_nm: float, t_s: float) -> float:
        """Nickel along the beam at a point of the specimen, in nm."""
        domes = self.domes(View((x_nm, y_nm), (1, 1), 1e-6), t_s)
        distance = np.hypot(domes.x_nm, domes.y_nm)
        above, below = thickness_nm(domes.diameter_nm, domes.below, distance)
        return float((above + below).sum())


def named(
    name: str,
    seed: int,
    diameters_nm: Sequence[float] = (),
    *,
    texture: float | None = None,
    slope: float | None = None,
) -> Specimen:
    """A specimen by its preset's name.

    Args:
        name: of the preset.
        seed: of everything random about it.
        diameters_nm: sizes of fixed particles, instead of the preset's.
        texture: relative rms of the film's fine structure, instead of the preset's.
        slope: steepest relative change of thickness over 256 nm, instead of the preset's.

    Raises:
        ValueError: no such preset, or it has no fixed particles.
    """
    return _named(name, seed, tuple(diameters_nm), texture, slope)


@lru_cache(maxsize=8)  # cold, a specimen never changes, so that simulations may share it
def _named(
    name: str,
    seed: int,
    diameters_nm: tuple[float, ...],
    texture: float | None,
    slope: float | None,
) -> Specimen:
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
    film = preset.film
    if texture is not None:
        film = replace(film, texture=texture)
    if slope is not None:
        film = replace(film, undulation=slope / SLOPE_PER_UNDULATION)
    return Specimen(replace(preset, film=film), seed)


def _fixed(preset: Preset, seed: int) -> Domes | None:
    if not preset.fixed_diameters_nm:
        return None
    x, y, diameter = lattice(preset, seed)
    return Domes(np.arange(len(x)), x, y, diameter)
