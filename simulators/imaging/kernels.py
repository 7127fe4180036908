"""The loops over pixels that draw film, particles and intensities, compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Image = NDArray[np.float32]
Array = NDArray[np.float64]


class FilmNumbers(NamedTuple):
    """What the film's kernel needs beside maps; lengths in nm, all floats."""

    left: float
    """Specimen coordinate of the view's left edge."""
    top: float
    slow_step: float
    """Of the maps of thickness and of distance to boundaries."""
    texture_step: float
    texture_rms: float
    boundary_loss: float
    """Relative loss of scattering in the middle of an anti-phase boundary; 0 for none."""
    boundary_sigma: float
    grain_x: float
    """Of the grain boundary."""
    grain_loss: float
    """0 for no grain boundary."""
    grain_sigma: float
    superlattice: float
    """Amplitude at the grain boundary; 0 for none."""
    superlattice_reach: float
    region: float
    pitch: float
    """Of a grating; 0 for none."""
    line_width: float
    line_height: float
    line_edge: float
    lattice: float
    """Of the film's cell."""
    angle_left: float
    angle_right: float
    first_order: float
    """Amplitude of {100}."""
    diagonal: float
    second_order: float


@compiled
def cosine(turns: float) -> float:
    """Cosine of 2π times the argument, to 1e-4."""
    t = turns - math.floor(turns + 0.5)
    s = t * t
    return 1.0 + s * (
        -19.7392088
        + s
        * (64.9393940 + s * (-85.4568172 + s * (60.2446414 + s * (-26.4262568 + s * 7.9035364))))
    )


@compiled
def blend_rows(tile: Image, y: float, row: Image) -> None:
    """The row of a periodic map at a place between its rows, in units; set in ``row``, float32 (columns,)."""
    rows = tile.shape[0]
    fy = y - 0.5
    i = math.floor(fy)
    weight = np.float32(fy - i)
    i0 = i % rows
    i1 = i0 + 1 if i0 + 1 < rows else 0
    for j in range(tile.shape[1]):
        row[j] = tile[i0, j] + (tile[i1, j] - tile[i0, j]) * weight


@compiled
def row_at(row: Image, x: float) -> float:
    """A blended row of a periodic map at a place in units."""
    fx = x - 0.5
    j = math.floor(fx)
    j0 = j % len(row)
    j1 = j0 + 1 if j0 + 1 < len(row) else 0
    return float(row[j0] + (row[j1] - row[j0]) * (fx - j))


@compiled
def line_height(at: float, n: FilmNumbers) -> float:
    """Relative height of a grating's lines across their direction."""
    from_line = abs((at + n.pitch / 2) % n.pitch - n.pitch / 2)
    return n.line_height * 0.5 * (1 + math.tanh((n.line_width / 2 - from_line) / n.line_edge))


@compiled
def draw_film(
    x_nm: Array,
    y_nm: Array,
    along_nm: Array,
    slow: Image,
    distance: Image,
    texture: Image,
    n: FilmNumbers,
    mass: Image,
    fine: Image,
) -> None:
    """Scattering mass of the film over the nominal one, and its relative fine structure.

    Args:
        x_nm: displacement of each row.
        y_nm: of each row from the view's top.
        along_nm: of each column from its left edge.
        slow: relative thickness over the region.
        distance: to the nearest anti-phase boundary over the region, in nm.
        texture: of unit rms over its tile.
        n: the rest.
        mass: set; float32 (rows, columns).
        fine: set; float32 (rows, columns).
    """
    fringes = n.first_order > 0 or n.diagonal > 0 or n.second_order > 0 or n.superlattice > 0
    left_cos, left_sin = math.cos(n.angle_left) / n.lattice, math.sin(n.angle_left) / n.lattice
    right_cos, right_sin = math.cos(n.angle_right) / n.lattice, math.sin(n.angle_right) / n.lattice
    per_slow, per_texture = 1 / n.slow_step, 1 / n.texture_step
    grains = n.grain_sigma > 0
    slow_row = np.empty(slow.shape[1], np.float32)
    distance_row = np.empty(distance.shape[1], np.float32)
    texture_row = np.empty(texture.shape[1], np.float32)
    for i in range(len(y_nm)):
        y = n.top + y_nm[i]
        begin = n.left + x_nm[i]
        blend_rows(slow, y * per_slow, slow_row)
        blend_rows(distance, y * per_slow, distance_row)
        blend_rows(texture, y * per_texture, texture_row)
        for j in range(len(along_nm)):
            x = begin + along_nm[j]
            thickness = row_at(slow_row, x * per_slow)
            if n.pitch > 0:
                thickness += line_height(x, n) + line_height(y, n)
            if n.boundary_loss > 0:
                d = row_at(distance_row, x * per_slow) / n.boundary_sigma
                if abs(d) < 4:
                    thickness *= 1 - n.boundary_loss * math.exp(-0.5 * d * d)
            beside = 1e9
            if grains:
                beside = (x - n.grain_x + n.region / 2) % n.region - n.region / 2
                d = beside / n.grain_sigma
                if abs(d) < 6:
                    thickness *= 1 - n.grain_loss * math.exp(-0.5 * d * d)
            change = n.texture_rms * row_at(texture_row, x * per_texture)
            if fringes:
                along, across = left_cos, left_sin
                if grains and beside > 0:
                    along, across = right_cos, right_sin
                u = along * x + across * y
                v = along * y - across * x
                cu, cv = cosine(u), cosine(v)
                change += n.first_order * (cu + cv) + 2 * n.diagonal * cu * cv
                change += n.second_order * (2 * cu * cu + 2 * cv * cv - 2)
                if n.superlattice > 0 and abs(beside) < n.superlattice_reach:
                    order = math.cos(math.pi / 2 * beside / n.superlattice_reach)
                    change += n.superlattice * order * cosine(u / 2)
            mass[i, j] = thickness
            fine[i, j] = change


class ParticleArrays(NamedTuple):
    """Particles as the kernel draws them; equally long float64 arrays, lengths in nm."""

    x: Array
    y: Array
    peak: Array
    """Nickel at the centre without blur."""
    reach: Array
    """Where the profile ends."""
    faceting: Array
    """Weight of the polygon in the outline, 0 to 1."""
    facet_scale: Array
    """Keeps the volume of a faceted particle."""
    waves: Array
    """(n, 3, 2): wave vectors of the fringes, 1/nm, the last of {200}."""
    amplitude: Array
    """(n, 3)."""


TRUNCATION = 1.12
"""Distance of {200} facets from the centre over that of {111} facets."""


@compiled
def draw_particles(
    x_nm: Array,
    y_nm: Array,
    along_nm: Array,
    pixel: float,
    margin: int,
    particles: ParticleArrays,
    profiles: Image,
    nickel: Image,
) -> None:
    """Add the nickel of particles to a map, with their fringes.

    Args:
        x_nm: displacement of each row.
        y_nm: of each row from the view's top.
        along_nm: of each column from its left edge.
        pixel: size.
        margin: how many columns flyback displaces at most.
        particles: whom to draw.
        profiles: relative height over distance from the axis, (n, points), to the reach.
        nickel: nm, float32 (rows, columns).
    """
    rows, columns = nickel.shape
    last = profiles.shape[1] - 1
    unit = np.empty((3, 2))
    for k in range(len(particles.x)):
        reach, peak, weight = particles.reach[k], particles.peak[k], particles.faceting[k]
        per_step = last / reach
        # facets round the corners: their polygon lies within the reach of the circle times 1.25
        box = 1.25 * reach if weight > 0 else reach
        crystal = particles.amplitude[k, 0] > 0 or particles.amplitude[k, 2] > 0
        for m in range(3):
            gx, gy = particles.waves[k, m, 0], particles.waves[k, m, 1]
            size = math.sqrt(gx * gx + gy * gy) * (TRUNCATION if m == 2 else 1.0)
            unit[m, 0], unit[m, 1] = gx / size, gy / size
        for i in range(rows):
            dy = y_nm[i] - particles.y[k]
            if abs(dy) > box:
                continue
            start = particles.x[k] - x_nm[i]
            first = max(0, int((start - box) / pixel) - margin)
            end = min(columns, int((start + box) / pixel) + margin + 2)
            for j in range(first, end):
                dx = along_nm[j] - start
                r = math.sqrt(dx * dx + dy * dy)
                if weight > 0:
                    facet = 0.0
                    for m in range(3):
                        facet = max(facet, abs(dx * unit[m, 0] + dy * unit[m, 1]))
                    r = ((1 - weight) * r + weight * facet) * particles.facet_scale[k]
                place = r * per_step
                if place >= last:
                    continue
                base = int(place)
                low = profiles[k, base]
                height = peak * (low + (profiles[k, base + 1] - low) * (place - base))
                if crystal:
                    change = 1.0
                    for m in range(3):
                        turns = dx * particles.waves[k, m, 0] + dy * particles.waves[k, m, 1]
                        change += particles.amplitude[k, m] * cosine(turns)
                    height *= change
                nickel[i, j] += height


PER_UNIT = 512
"""Entries of a table of powers per unit of relative thickness."""


@compiled
def intensity(
    mass: Image,
    fine: Image,
    nickel: Image,
    electrons: float,
    per_nm: float,
    power: float,
    powers: Image,
    sign: float,
    edge_on: bool,
    dark: float,
    mean: Image,
) -> None:
    """Mean electrons that a detector counts; see :class:`~simulators.imaging.detectors.Detector`.

    ``powers`` holds ``power`` of relative thicknesses at equal steps of 1/``PER_UNIT`` from 0.

    ``edge_on`` lets the film end: nickel then adds to it, and thickness attenuates exponentially.
    """
    rows, columns = mass.shape
    for i in range(rows):
        for j in range(columns):
            film, h = mass[i, j], nickel[i, j]
            if edge_on:
                if per_nm > 0:
                    value = film * (1 + sign * fine[i, j]) + per_nm * h
                else:
                    value = math.exp(power * (film - 1) + per_nm * h) * (1 + sign * fine[i, j])
            else:
                value = film
                if power != 1.0:
                    place = min(max(film * PER_UNIT, 1.0), len(powers) - 2.0)
                    base = int(place)
                    value = powers[base] + (powers[base + 1] - powers[base]) * (place - base)
                value *= 1 + sign * fine[i, j]
                if h > 0:
                    value *= 1 + per_nm * h if per_nm > 0 else math.exp(per_nm * h)
            mean[i, j] = max(electrons * value, 0.0) + dark
