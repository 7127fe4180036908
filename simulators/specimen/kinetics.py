"""One step of heat on all particles: nucleation, transport, ripening, sinking; nickel is conserved.

A mean field. Nickel sits in the bulk, beside boundaries, in the boundaries and in particles. It goes
from bulk to beside, from beside into the boundaries, and along these to the particles; the network of
boundaries is one well-mixed reservoir of activity a, 1 when it is as full as in the fresh film. A
particle of diameter d takes up ``κ d (a - a_eq exp(capillary / d))``, so that large ones live on small
ones once the supersaturation is gone. Everything here is a pure function of a state and of what each
process has lived through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulators.specimen.rates import FLAT_ACTIVITY, Exposure, Rates
from simulators.specimen.sites import BOUNDARY, DISLOCATION, INSIDE, Sites

Array = NDArray[np.float64]

NI_PER_NM3 = 91.4
"""Atoms per nm³ of nickel metal."""
WAITING, PRESENT, DISSOLVED, MERGED = 0, 1, 2, 3
_NUCLEUS_NM = 1.0
_LEAST_NM = 0.8
_NUCLEUS_NM3 = math.pi / 6 * _NUCLEUS_NM**3
_LEAST_NM3 = math.pi / 6 * _LEAST_NM**3
HALF = 0.5
"""Share of a particle's volume below the surface in the end."""


@dataclass(frozen=True, slots=True)
class State:
    """All particles and reservoirs at a moment; arrays by site, never written to."""

    stage: NDArray[np.int8]
    """``WAITING``, ``PRESENT``, ``DISSOLVED`` or ``MERGED``."""
    volume_nm3: Array
    x_nm: Array
    y_nm: Array
    below: Array
    """Share of the volume below the film's surface."""
    into: NDArray[np.intp]
    """Which particle a merged one went into; -1 for others."""
    incubation: float
    """Elapsed, over the median one on a boundary."""
    boundary_ni: float
    beside_ni: float
    bulk_ni: float

    @property
    def diameter_nm(self) -> Array:
        """Equivalent spherical diameters; 0 where there is no particle."""
        return np.cbrt(self.volume_nm3 * (6 / math.pi))

    @property
    def particle_ni(self) -> float:
        """Nickel atoms in all particles."""
        return NI_PER_NM3 * float(self.volume_nm3.sum())


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change: sites, rates, and the nickel of the fresh film."""

    sites: Sites
    rates: Rates
    boundary_ni: float
    beside_ni: float
    bulk_ni: float

    def fresh(self) -> State:
        """The film before it was ever hot."""
        n = len(self.sites)
        return State(
            stage=np.zeros(n, dtype=np.int8),
            volume_nm3=np.zeros(n),
            x_nm=self.sites.x_nm,
            y_nm=self.sites.y_nm,
            # what grows inside the film is a sphere: a particle that has settled, moved down
            below=np.where(self.sites.z_nm > 0, HALF, 0.0),
            into=np.full(n, -1, dtype=np.intp),
            incubation=0.0,
            boundary_ni=self.boundary_ni,
            beside_ni=self.beside_ni,
            bulk_ni=self.bulk_ni,
        )

    @property
    def reach(self) -> float:
        """Share of the film's nickel that sits beside boundaries."""
        total = self.boundary_ni + self.beside_ni + self.bulk_ni
        return self.beside_ni / total if total > 0 else 0.0

    def activity(self, state: State) -> float:
        """Of the nickel in the boundaries: 1 in the fresh film."""
        return state.boundary_ni / self.boundary_ni if self.boundary_ni > 0 else 0.0


def advance(setting: Setting, state: State, lived: Exposure) -> State:
    """The state after one short exposure, in equivalent seconds at 900 °C; particles stay where they are."""
    rates = setting.rates
    activity = setting.activity(state)
    stage, volume, share, incubation, boundary = _nucleate(setting, state, lived, activity)
    here = stage == PRESENT

    # the flux from the bulk ends where boundaries reach: it is as large as their share of the film
    to_beside = state.bulk_ni * -math.expm1(-rates.bulk_per_s * setting.reach * lived.bulk)
    # beside and boundary strive for one activity: none goes back into the film that has left it
    beside = state.beside_ni
    excess = max(0.0, beside - activity * setting.beside_ni)
    to_boundary = excess * -math.expm1(-rates.beside_per_s * lived.beside)
    supply = boundary + to_boundary

    volume, supply = _exchange(setting, volume, state.below, here, share, lived, supply)
    gone = here & (volume < _LEAST_NM3)
    if gone.any():
        supply += NI_PER_NM3 * float(volume[gone].sum())
        volume[gone] = 0.0
        stage[gone] = DISSOLVED
    sunk = -math.expm1(-rates.socket_per_s * lived.socket)
    return replace(
        state,
        stage=stage,
        volume_nm3=volume,
        below=np.where(here, state.below + (HALF - state.below) * sunk, state.below),
        incubation=incubation,
        boundary_ni=supply,
        beside_ni=beside - to_boundary + to_beside,
        bulk_ni=state.bulk_ni - to_beside,
    )


def _nucleate(
    setting: Setting, state: State, lived: Exposure, activity: float
) -> tuple[NDArray[np.int8], Array, Array | float, float, float]:
    """Stages, volumes, the share of the step each particle lives through, incubation, boundary nickel."""
    # a nucleus needs supersaturation: incubation stands still when the boundaries are drained
    elapsed = lived.nucleation / setting.rates.onset_s * activity**2
    incubation = state.incubation + elapsed
    stage, volume = state.stage.copy(), state.volume_nm3.copy()
    born = (stage == WAITING) & (setting.sites.onset <= incubation)
    affordable = int(state.boundary_ni / (NI_PER_NM3 * _NUCLEUS_NM3))
    which = np.flatnonzero(born)
    if not len(which) or elapsed <= 0:
        return stage, volume, 1.0, incubation, state.boundary_ni
    which = which[np.argsort(setting.sites.onset[which], kind="stable")][:affordable]
    stage[which] = PRESENT
    volume[which] = _NUCLEUS_NM3
    share = np.ones(len(stage))
    share[which] = np.clip((incubation - setting.sites.onset[which]) / elapsed, 0.0, 1.0)
    boundary = state.boundary_ni - NI_PER_NM3 * _NUCLEUS_NM3 * len(which)
    return stage, volume, share, incubation, boundary


def _exchange(
    setting: Setting,
    volume: Array,
    below: Array,
    here: NDArray[np.bool_],
    share: Array | float,
    lived: Exposure,
    supply: float,
) -> tuple[Array, float]:
    """Volumes and boundary nickel after take-up and release: implicit in activity, midpoint in size."""
    if setting.boundary_ni <= 0:
        return volume, supply
    change = np.zeros_like(volume)
    for _ in range(2):
        take, give = conductances(setting, volume + change / 2, below, here, lived)
        change = _change(setting, volume, take * share, give * share, supply)
    return np.maximum(volume + change, 0.0), supply - NI_PER_NM3 * float(change.sum())


def _change(setting: Setting, volume: Array, take: Array, give: Array, supply: float) -> Array:
    """Change of each volume, with the activity that it leads to."""
    full = setting.boundary_ni
    while True:
        # boundary' = supply - n Σ (take a' - give), with a' = boundary' / full
        after = (supply + NI_PER_NM3 * float(give.sum())) / (full + NI_PER_NM3 * float(take.sum()))
        change = take * after - give
        # what would give more than it has is gone: it takes nothing and gives all
        gone = (change < -volume) & (take > 0)
        if not gone.any():
            return change
        take[gone], give[gone] = 0.0, volume[gone]


def conductances(
    setting: Setting, volume: Array, below: Array, here: NDArray[np.bool_], lived: Exposure
) -> tuple[Array, Array]:
    """Volume (nm³) that each particle takes up at activity 1, and gives off."""
    sites, rates = setting.sites, setting.rates
    diameter = np.cbrt(volume * (6 / math.pi))
    plain, pipe = rates.plain, rates.dislocation
    on_boundary = (sites.kind == BOUNDARY) | (sites.kind == INSIDE)
    on_pipe = sites.kind == DISLOCATION
    up = np.where(
        on_boundary, lived.along, np.where(on_pipe, pipe * lived.along, plain * lived.beside)
    )
    down = np.where(
        on_boundary,
        lived.along_release,
        np.where(on_pipe, pipe * lived.along_release, plain * lived.beside_release),
    )
    ease = rates.along_nm2_per_s * sites.uptake * diameter * here
    settled = 1 - (1 - rates.anchored) * below / HALF
    ease *= np.where(sites.kind == INSIDE, rates.inside, settled)
    ease *= np.where(diameter > sites.critical_nm, rates.crystal, 1.0)
    capillary = rates.capillary_nm * np.where(sites.kind == INSIDE, rates.coherent, 1.0)
    pressure = FLAT_ACTIVITY * np.exp(capillary / np.maximum(diameter, _LEAST_NM))
    return up * ease, down * ease * pressure
