"""What the parked probe meets on the specimen: the point of film under it, and what else the truth tells of it."""

from __future__ import annotations

import math

import numpy as np

from simulators.specimen.grain_boundary import FORMULA
from simulators.spectra.point import BOUNDARY_TI3, BULK_TI3, REDUCED_TI3, Point, film
from simulators.truth import Met
from simulators.world import World

BOUNDARY_SIGMA_NM = 1.2
"""Width of the reduced zone of an anti-phase boundary, broadening of the probe in the film included."""
LSNT, LSTZ, VACUUM = "lsnt", "lstz", "vacuum"


def meet(world: World, t_s: float) -> Met:
    """What the parked probe meets now, as it is at a time."""
    parked = world.column.parked()
    x, y = world.to_specimen(*parked, t_s)
    height = world.specimen.dome_height_nm(x, y, t_s)
    distance = _distance_nm(world, x, y)
    celsius = world.sample_celsius(t_s)
    return Met(
        t_s=t_s,
        position_nm=parked,
        boundary_distance_nm=distance,
        nickel_height_nm=height,
        point=_point(world, x, y, distance, height, celsius, t_s),
        beam_kev=world.column.beam.energy_kev,
        celsius=celsius,
        drift_nm=world.drift.at(t_s),
        electrons_per_s=world.column.electrons_per_s(),
    )


def in_place(world: World, met: Met) -> Point:
    """What a probe would have met if the specimen had stood still, or the field had followed it."""
    x, y = met.position_nm
    height = world.specimen.dome_height_nm(x, y, met.t_s)
    return _point(world, x, y, _distance_nm(world, x, y), height, met.celsius, met.t_s)


def _distance_nm(world: World, x: float, y: float) -> float:
    """From the nearest boundary."""
    grain = world.specimen.grain_boundary
    if grain is not None:
        return abs(float(grain.distance_nm(np.array(x))))
    return world.specimen.film.boundary_distance_nm(x, y)


def _point(
    world: World,
    x: float,
    y: float,
    distance_nm: float,
    height_nm: float,
    celsius: float,
    t_s: float,
) -> Point:
    specimen = world.specimen
    material = specimen.preset.material
    if material == VACUUM:
        return film(VACUUM, 0.0, celsius=celsius)
    thickness = specimen.preset.film.thickness_nm * specimen.film.relative_thickness(x, y)
    relative: dict[str, float] = {}
    ti3 = 0.0
    grain = specimen.grain_boundary
    if grain is not None and material == LSTZ:
        relative = {name: float(grain.relative(name, np.array(x))) for name in FORMULA}
    if material == LSNT:
        near = math.exp(-0.5 * (distance_nm / BOUNDARY_SIGMA_NM) ** 2)
        bulk = BULK_TI3 + (REDUCED_TI3 - BULK_TI3) * specimen.reduction(t_s)
        ti3 = bulk + (BOUNDARY_TI3 - bulk) * near
        # particles hold this share of all nickel; the boundary, their path, is drained three times as far
        drained = 1 - specimen.ni_left_in_film(t_s)
        relative = {"Ni": max(0.0, 1 - drained * (1 + 2 * near))}
    return film(
        material,
        thickness,
        relative=relative,
        ti3_fraction=ti3,
        nickel_nm=height_nm,
        celsius=celsius,
    )
