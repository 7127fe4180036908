"""Simulated tables of particles over time, with who is who and which have merged: no images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.bench.particle_scenes import SceneSettings, make_scene
from acquire.bench.particle_solids import Array

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What an imperfect measurement of every frame does to the truth."""

    missed: float = 0.03
    """Share of particles that are not found in a frame."""
    false: float = 0.03
    """Found ones that are none, over the number of particles."""
    size_sigma: float = 0.01
    """Relative error of a diameter."""
    place_sigma_nm: float = 0.1
    walk_nm: float = 0.1
    """Each particle's own step from frame to frame, per axis."""
    drift_nm: float = 1.0
    """Step of the whole view from frame to frame, per axis."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame's table and its truth."""

    places_nm: Array
    """(n, 2) as (y, x)."""
    diameter_nm: Array
    sigma_nm: Array
    border: NDArray[np.bool_]
    who: Ints
    """Number of the true particle; -1 for a false one."""
    in_view: Ints
    """Numbers of all true particles whose centre is in the image, found or not."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A particle that went into another in a frame."""

    frame: int
    lost: int
    into: int
    inside: bool
    """Whether both lay well within the image."""


@dataclass
class Series:
    """Frames in the order of time, and the merges between them."""

    side_nm: float
    frames: list[Seen] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)


def make_series(
    seed: int,
    frames: int,
    *,
    settings: SceneSettings | None = None,
    disturbance: Disturbance | None = None,
    merges: int = 0,
    losses: int = 0,
    growth: float = 1.5,
) -> Series:
    """A field of particles that grow by a factor, drift, walk, merge with a neighbour or dissolve.

    Those that are to merge are brought beside their nearest neighbour at the beginning, so that
    footprints touch; volume is conserved, and the larger one stays. ``losses`` dissolve: they are gone
    from a frame on, and no other takes up their volume.
    """
    settings = settings or SceneSettings()
    disturbance = disturbance or Disturbance()
    rng = np.random.default_rng(seed)
    truth = make_scene(settings, seed).particles
    places = np.column_stack([truth.y_nm, truth.x_nm])
    diameter = truth.diameter_nm.copy()
    per_radius = settings.solid.diameter_per_radius
    side = settings.side_nm
    partners = _pair(places, diameter / per_radius, merges, side, rng)
    paired = np.unique(partners)
    free = np.setdiff1d(np.arange(len(places)), paired)
    dissolving = rng.choice(free, min(losses, len(free)), replace=False)
    when = rng.integers(frames // 6, max(frames - 20, frames // 6 + 1), len(partners))
    gone_at = dict(
        zip(dissolving.tolist(), rng.integers(5, frames, len(dissolving)).tolist(), strict=True)
    )
    alive = np.ones(len(places), bool)
    made = Series(side)
    for k in range(frames):
        places += rng.normal(0.0, disturbance.drift_nm, 2)
        walk = rng.normal(0.0, disturbance.walk_nm, places.shape)
        walk[paired] = 0.0
        places += walk
        diameter *= growth ** (1.0 / frames)
        for lost, into in partners[when == k].tolist():
            inside = _within(places[[lost, into]], side, 2.0 * diameter[[lost, into]].max())
            volumes = diameter[[lost, into]] ** 3
            places[into] = (places[[lost, into]] * volumes[:, None]).sum(axis=0) / volumes.sum()
            diameter[into] = np.cbrt(volumes.sum())
            alive[lost] = False
            made.merges.append(Merge(k, lost, into, bool(inside.all())))
        alive[[one for one, at in gone_at.items() if at == k]] = False
        made.frames.append(_look(places, diameter, alive, per_radius, side, disturbance, rng))
    return made


def _within(places: Array, side: float, edge: float) -> NDArray[np.bool_]:
    return np.asarray(np.minimum(places, side - places).min(axis=1) > edge)


def _pair(
    places: Array, radius: Array, count: int, side: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows (lost, into) of particles that now touch; moves the smaller one of each pair."""
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for into in rng.permutation(len(places)).tolist():
        if len(pairs) == count:
            break
        apart = np.hypot(*(places - places[into]).T)
        apart[[into, *taken]] = np.inf
        lost = int(np.argmin(apart))
        if into in taken or radius[lost] > radius[into]:
            continue
        direction = (places[lost] - places[into]) / apart[lost]
        places[lost] = places[into] + direction * (radius[lost] + radius[into])
        pairs.append((lost, into))
        taken.update((lost, into))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _look(
    places: Array,
    diameter: Array,
    alive: NDArray[np.bool_],
    per_radius: float,
    side: float,
    disturbance: Disturbance,
    rng: np.random.Generator,
) -> Seen:
    inside = alive & _within(places, side, 0.0)
    missed = rng.random(len(places)) < disturbance.missed
    who = np.flatnonzero(inside & ~missed)
    false = int(rng.binomial(int(inside.sum()), disturbance.false))
    where = np.concatenate([places[who], rng.uniform(0.0, side, (false, 2))])
    where += rng.normal(0.0, disturbance.place_sigma_nm, where.shape)
    size = np.concatenate([diameter[who], rng.choice(diameter[alive], false)])
    sigma = disturbance.size_sigma * size
    size = size + rng.normal(0.0, 1.0, len(size)) * sigma
    radius = size / per_radius
    border = (np.minimum(where, side - where) < radius[:, None]).any(axis=1)
    order = rng.permutation(len(size))
    names = np.concatenate([who, np.full(false, -1)]).astype(np.int64)
    view = np.flatnonzero(inside).astype(np.int64)
    return Seen(where[order], size[order], sigma[order], border[order], names[order], view)
