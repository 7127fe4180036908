"""Particles that walk and meet: random walks that slow down as d⁻⁴, and coalescence that keeps the volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from simulators.noise import generator
from simulators.specimen.film import REGION_NM
from simulators.specimen.kinetics import MERGED, PRESENT, Setting, State
from simulators.specimen.shape import footprint_radius_nm

Array = NDArray[np.float64]

_MOBILE_NM = 3.0
_LEAST_NM = 1.5  # below it a nucleus moves no faster


def diffusion_nm2_per_s(setting: Setting, state: State) -> Array:
    """Diffusion coefficient of each particle at 900 °C; float64 (n,)."""
    size = np.maximum(state.diameter_nm, _LEAST_NM) / _MOBILE_NM
    loose = np.maximum(1 - 2 * state.below, 0.0)
    present = state.stage == PRESENT
    return np.asarray(setting.rates.motion_nm2_per_s * present * loose**2 / size**4)


def directions(setting: Setting, seed: int, step: int) -> Array:
    """Unit steps (n, 2) of a step's random walk; along the boundary for those on one."""
    sites = setting.sites
    z = generator(seed, "motion", step).standard_normal((len(sites), 2))
    bound = np.any(sites.along != 0, axis=1)
    z[bound] = sites.along[bound] * z[bound, :1]
    return np.asarray(z)


def walk(setting: Setting, before: State, after: State, unit: Array, motion_s: float) -> State:
    """``after`` with every particle moved as far as it has come since ``before``."""
    reach = np.sqrt(2 * motion_s * diffusion_nm2_per_s(setting, before))
    return replace(
        after, x_nm=before.x_nm + unit[:, 0] * reach, y_nm=before.y_nm + unit[:, 1] * reach
    )


def coalesce(state: State, at_surface: NDArray[np.bool_]) -> State:
    """Merge particles at the surface whose footprints touch, the smaller into the larger, and wrap positions."""
    here = np.flatnonzero((state.stage == PRESENT) & at_surface)
    x, y = np.mod(state.x_nm, REGION_NM), np.mod(state.y_nm, REGION_NM)
    pairs = _touching(state, here, x, y)
    if not len(pairs):
        return replace(state, x_nm=x, y_nm=y)
    stage, volume = state.stage.copy(), state.volume_nm3.copy()
    below, into = state.below.copy(), state.into.copy()
    for one, other in pairs.tolist():
        if stage[one] != PRESENT or stage[other] != PRESENT:
            continue  # has just merged with a third; the next step sees to it
        large, small = (one, other) if volume[one] >= volume[other] else (other, one)
        total = volume[large] + volume[small]
        share = volume[small] / total
        for place in (x, y):
            towards = (place[small] - place[large] + REGION_NM / 2) % REGION_NM - REGION_NM / 2
            place[large] = (place[large] + share * towards) % REGION_NM
        below[large] += share * (below[small] - below[large])
        volume[large], volume[small] = total, 0.0
        stage[small], into[small] = MERGED, large
    return replace(state, stage=stage, volume_nm3=volume, below=below, into=into, x_nm=x, y_nm=y)


def _touching(state: State, here: NDArray[np.intp], x: Array, y: Array) -> NDArray[np.intp]:
    """Pairs (m, 2) of sites whose footprints touch, nearest first."""
    if len(here) < 2:
        return np.zeros((0, 2), dtype=np.intp)
    places = np.stack([x[here], y[here]], axis=1)
    places[places >= REGION_NM] = 0.0  # mod of a tiny negative number
    radius = footprint_radius_nm(state.diameter_nm, state.below)[here]
    tree = cKDTree(places, boxsize=np.full(2, REGION_NM))
    close = tree.query_pairs(2 * float(radius.max()), output_type="ndarray")
    if not len(close):
        return np.zeros((0, 2), dtype=np.intp)
    apart = places[close[:, 0]] - places[close[:, 1]]
    apart -= REGION_NM * np.round(apart / REGION_NM)
    distance = np.hypot(apart[:, 0], apart[:, 1])
    touch = distance < radius[close[:, 0]] + radius[close[:, 1]]
    found = close[touch][np.lexsort((close[touch, 1], close[touch, 0], distance[touch]))]
    return np.asarray(here[found], dtype=np.intp)
