"""Particle tables with known truth: growth, drift, misses, false islands and merges, without images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.measure.tracking import Sightings

Array = NDArray[np.float64]

FOOTPRINT = 2 ** (1 / 3)


def sizing_error(diameter_nm: Array, dose: float = 20.0) -> Array:
    """σ of a diameter in nm as measured: 1.2 % at 8.8 nm and 7.6 % at 3.83 nm for a dose of 20."""
    power = math.log(7.6 / 1.2) / math.log(8.8 / 3.83)
    share = 0.012 * (diameter_nm / 8.8) ** -power * math.sqrt(20 / dose)
    return np.asarray(diameter_nm * share)


@dataclass(frozen=True)
class Merge:
    """From a frame on, ``small`` is part of ``large``; it has come to touch it by then."""

    frame: int
    small: int
    large: int


@dataclass
class MadeSeries:
    """Particles at random places that do not overlap, in a field that drifts over them."""

    rng: np.random.Generator
    count: int = 52
    side_nm: float = 256.0
    mean_nm: float = 8.8
    spread: float = 0.3
    margin_nm: float = 0.0
    """Particles lie at random in the field and so far around it."""
    growth: Callable[[float], float] = lambda t_s: 1.0
    """Factor of all diameters over time."""
    step_s: float = 1.0
    drift_nm_per_s: tuple[float, float] = (0.0, 0.0)
    motion_nm2_per_s: float = 0.0
    place_sigma_nm: float = 0.1
    dose: float = 20.0
    misses: float = 0.0
    false: float = 0.0
    common_error: float = 0.0
    """Relative error of all diameters of a frame together."""
    merges: list[Merge] = field(default_factory=list)
    born: dict[int, int] = field(default_factory=dict)
    """Frame in which a particle appears, where not at the beginning."""
    gone: dict[int, int] = field(default_factory=dict)
    """Frame in which it disappears."""

    def __post_init__(self) -> None:
        rng, low, high = self.rng, -self.margin_nm, self.side_nm + self.margin_nm
        sizes = np.exp(rng.normal(0.0, self.spread, self.count))
        self.start_nm = sizes * self.mean_nm / sizes.mean()
        places: list[Array] = []
        while len(places) < self.count:
            place, radius = rng.uniform(low, high, 2), 0.8 * self.start_nm[len(places)]
            apart = [float(np.hypot(*(place - other))) for other in places]
            if all(a > radius + 0.8 * s for a, s in zip(apart, self.start_nm, strict=False)):
                places.append(place)
        self.places_nm = np.array(places)

    def touching_pairs(self, number: int, at: Callable[[int], int]) -> None:
        """Put ``number`` particles beside others, to merge with them in frames ``at(i)``."""
        for i in range(number):
            a, b = 2 * i, 2 * i + 1
            small, large = (a, b) if self.start_nm[a] < self.start_nm[b] else (b, a)
            angle = self.rng.uniform(0, 2 * np.pi)
            apart = 0.5 * FOOTPRINT * (self.start_nm[a] + self.start_nm[b]) + 0.3
            self.places_nm[small] = self.places_nm[large] + apart * np.array(
                [math.sin(angle), math.cos(angle)]
            )
            self.merges.append(Merge(at(i), small, large))

    def frames(self, number: int) -> list[tuple[float, Sightings, NDArray[np.int64]]]:
        """Time, sightings and the true particle of each row (-1: false) of so many frames."""
        rng, made = self.rng, []
        places = self.places_nm.copy()
        volume = self.start_nm**3
        alive = np.array([self.born.get(i, 0) == 0 for i in range(self.count)])
        for k in range(number):
            t_s = k * self.step_s
            for i, frame in self.born.items():
                alive[i] |= frame == k
            for i, frame in self.gone.items():
                alive[i] &= frame != k
            for merge in self.merges:
                if merge.frame == k:
                    share = volume[merge.small] / (volume[merge.small] + volume[merge.large])
                    towards = places[merge.small] - places[merge.large]
                    places[merge.large] = places[merge.large] + share * towards
                    volume[merge.large] += volume[merge.small]
                    alive[merge.small] = False
            if self.motion_nm2_per_s:
                step = math.sqrt(2 * self.motion_nm2_per_s * self.step_s)
                places = places + rng.normal(0, step, places.shape)
            made.append((t_s, *self._look(places, volume, alive, t_s)))
        return made

    def _look(
        self, places: Array, volume: Array, alive: NDArray[np.bool_], t_s: float
    ) -> tuple[Sightings, NDArray[np.int64]]:
        rng = self.rng
        diameter = volume ** (1 / 3) * self.growth(t_s)
        shown = places + t_s * np.array(self.drift_nm_per_s)
        reach = 0.5 * FOOTPRINT * diameter[:, None]
        inside = ((shown > 0) & (shown < self.side_nm)).all(axis=1)
        whole = ((shown > reach) & (shown < self.side_nm - reach)).all(axis=1)
        here = np.flatnonzero(alive & inside & (rng.random(self.count) >= self.misses))
        sigma = sizing_error(diameter[here], self.dose)
        measured = diameter[here] + sigma * rng.normal(size=len(here))
        measured *= 1 + self.common_error * rng.normal()
        number = rng.poisson(self.false * len(here))
        # an island is small and faint
        size = rng.uniform(0.5, 1.0, number) * self.mean_nm
        at = shown[here] + rng.normal(0, self.place_sigma_nm, (len(here), 2))
        seen = Sightings.of(
            np.concatenate([at, rng.uniform(0, self.side_nm, (number, 2))]),
            np.concatenate([measured, size]),
            np.concatenate([sigma, 0.1 * size]),
            np.concatenate([np.full(len(here), 20.0), rng.uniform(4.5, 6.5, number)]),
            np.concatenate([~whole[here], np.zeros(number, bool)]),
        )
        return seen, np.concatenate([here, np.full(number, -1)])


def wrong_links(tracks: list[NDArray[np.int64]], truth: list[NDArray[np.int64]]) -> tuple[int, int]:
    """Links that join two different particles or fail to join one with itself, and all links due.

    A link is due between successive sightings of a particle that are at most six frames apart.
    """
    last: dict[int, tuple[int, int]] = {}
    owner: dict[int, int] = {}
    wrong = due = 0
    for k, (ids, true) in enumerate(zip(tracks, truth, strict=True)):
        for track, particle in zip(ids.tolist(), true.tolist(), strict=True):
            if particle < 0:
                owner.setdefault(track, -1)
                continue
            if particle in last and k - last[particle][0] <= 6:
                due += 1
                wrong += last[particle][1] != track or owner.get(track) not in (particle, None)
            last[particle] = (k, track)
            owner[track] = particle
    return wrong, due
