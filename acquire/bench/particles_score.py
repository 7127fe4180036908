"""Scores found particles against a scene's truth: matches, F1, count, mean diameter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from acquire.bench.particle_scenes import Scene
from acquire.bench.particle_solids import Array

IOU = 0.5
"""Two discs are one particle where their intersection is at least half of their union."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Which found disc is which true one."""

    true: NDArray[np.intp]
    found: NDArray[np.intp]
    iou: Array


def overlap(first: Array, second: Array) -> Array:
    """Intersection over union of discs, (n, 3) each: y, x, radius."""
    distance = np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1])
    small = np.minimum(first[:, 2], second[:, 2])
    large = np.maximum(first[:, 2], second[:, 2])
    apart = np.maximum(distance, 1e-12)
    a = np.clip((apart**2 + small**2 - large**2) / (2.0 * apart * small), -1.0, 1.0)
    b = np.clip((apart**2 + large**2 - small**2) / (2.0 * apart * large), -1.0, 1.0)
    lens = (
        small**2 * (np.arccos(a) - a * np.sqrt(1.0 - a**2))
        + large**2 * (np.arccos(b) - b * np.sqrt(1.0 - b**2))
    )  # fmt: skip
    shared = np.where(
        distance >= small + large, 0.0, np.where(distance <= large - small, np.pi * small**2, lens)
    )
    return np.asarray(shared / (np.pi * (small**2 + large**2) - shared))


def match(true: Array, found: Array, least: float = IOU) -> Matches:
    """One to one, of greatest total IoU; discs (n, 3) as y, x, radius."""
    none = np.zeros(0, np.intp)
    if not len(true) or not len(found):
        return Matches(none, none, np.zeros(0))
    near = cKDTree(found[:, :2]).query_ball_point(true[:, :2], true[:, 2].max() * 2.0)
    t = np.repeat(np.arange(len(true)), [len(row) for row in near])
    f = np.concatenate([np.asarray(row, np.intp) for row in near])
    table = np.zeros((len(true), len(found)))
    table[t, f] = overlap(true[t], found[f])
    table[table < least] = 0.0
    rows, columns = linear_sum_assignment(table, maximize=True)
    real = table[rows, columns] > 0.0
    return Matches(rows[real], columns[real], table[rows[real], columns[real]])


@dataclass(frozen=True, slots=True)
class Score:
    """What a method says of one image, against the truth."""

    hits: int
    missed: int
    false: int
    found: int
    """Of particles with their centre in the image."""
    true: int
    mean_error: float
    """Of the mean diameter over that of the whole particles, relative."""

    @property
    def f1(self) -> float:
        """Twice the hits over all found and all true ones."""
        total = 2 * self.hits + self.missed + self.false
        return 2 * self.hits / total if total else 1.0


def score_discs(scene: Scene, discs: Array, cut: NDArray[np.bool_] | None = None) -> Score:
    """Score discs (n, 3) as y, x, radius of the footprint in nm.

    Particles that the image's border cuts are neither hits nor misses nor false: a found disc is left
    out where it is said to be ``cut``, reaches over the border, or belongs to a cut true one.
    """
    particles, side = scene.particles, scene.settings.side_nm
    true = np.column_stack([particles.y_nm, particles.x_nm, particles.radius_nm])
    pairs = match(true, discs)
    edge = np.minimum(discs[:, :2], side - discs[:, :2]).min(axis=1, initial=side) < discs[:, 2]
    edge |= False if cut is None else cut
    whole = scene.whole
    of_whole = np.zeros(len(discs), bool)
    of_whole[pairs.found] = whole[pairs.true]
    of_cut = np.zeros(len(discs), bool)
    of_cut[pairs.found] = ~whole[pairs.true]
    hits = int(of_whole.sum())
    inside = ((discs[:, :2] >= 0) & (discs[:, :2] < side)).all(axis=1)
    per_radius = scene.settings.solid.diameter_per_radius
    sized = discs[~edge, 2] * per_radius
    truth = particles.diameter_nm[whole].mean() if whole.any() else np.nan
    return Score(
        hits,
        int(whole.sum()) - hits,
        int((~of_whole & ~of_cut & ~edge).sum()),
        int(inside.sum()),
        int(scene.inside.sum()),
        float(sized.mean() / truth - 1.0) if len(sized) else np.nan,
    )
