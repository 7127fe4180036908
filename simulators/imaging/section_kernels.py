"""The loops over pixels of the cross-section, compiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from simulators.imaging.kernels import blend_rows, cosine, row_at

Image = NDArray[np.float32]
Array = NDArray[np.float64]

_SUB = 3  # points per pixel and direction where a particle is drawn


@compiled
def step(at: float, sigma: float) -> float:
    """A blurred step from 0 to 1 at 0."""
    if at > 5 * sigma:
        return 1.0
    if at < -5 * sigma:
        return 0.0
    return 0.5 * (1 + math.erf(at / sigma * 0.7071067811865476))


@compiled
def draw_section(
    x_nm: Array,
    y_nm: Array,
    along_nm: Array,
    distance: Image,
    distance_step: float,
    boundary_loss: float,
    boundary_sigma: float,
    film_nm: float,
    lamella: float,
    substrate: float,
    sigma: float,
    mass: Image,
    fine: Image,
) -> None:
    """Cut relative thickness and fine structure of a film to vacuum, film and substrate, in place.

    Args:
        x_nm: left edge of each row in the specimen.
        y_nm: depth of each row.
        along_nm: of each column from the left edge.
        distance: to the nearest anti-phase boundary over the region.
        distance_step: of that map.
        boundary_loss: relative loss of scattering in its middle.
        boundary_sigma: its width.
        film_nm: thickness of the film.
        lamella: thickness along the beam over that of the nominal film.
        substrate: scattering over that of as much film.
        sigma: blur of the surfaces.
        mass: float32 (rows, columns).
        fine: float32 (rows, columns).
    """
    middle = np.empty(distance.shape[1], np.float32)
    blend_rows(distance, 0.0, middle)
    for i in range(len(y_nm)):
        solid = step(y_nm[i], sigma)
        below = step(y_nm[i] - film_nm, sigma)
        film = solid - below
        for j in range(len(along_nm)):
            loss = 0.0
            if boundary_loss > 0 and film > 0:
                x = (x_nm[i] + along_nm[j]) / distance_step
                d = row_at(middle, x) / boundary_sigma
                if abs(d) < 4:
                    loss = boundary_loss * math.exp(-0.5 * d * d)
            mass[i, j] *= lamella * (film * (1 - loss) + substrate * below)
            fine[i, j] *= film + (below if substrate > 0 else 0.0)


@compiled
def draw_sections(
    x_nm: Array,
    y_nm: Array,
    along_nm: Array,
    pixel: float,
    centre_x: Array,
    centre_y: Array,
    up: Array,
    down: Array,
    inside: NDArray[np.bool_],
    in_film: float,
    waves: Array,
    amplitude: Array,
    sharp: Image,
    modulation: Image,
) -> None:
    """Add the nickel along the beam of domes seen from the side, unblurred, and its fringes.

    Args:
        x_nm: displacement of each row.
        y_nm: of each row from the view's top.
        along_nm: of each column from its left edge.
        pixel: size.
        centre_x: of the particles' axes.
        centre_y: of their widest circle.
        up: radius of the hemisphere above it.
        down: depth of the half ellipsoid below it.
        inside: whether a particle lies in the film altogether.
        in_film: what nickel in the film's place adds, over nickel in vacuum.
        waves: (n, 3, 2): wave vectors of the fringes, 1/nm.
        amplitude: (n, 3).
        sharp: nm, float32 (rows, columns).
        modulation: nm, float32 (rows, columns).
    """
    rows, columns = sharp.shape
    for k in range(len(centre_x)):
        radius = up[k]
        for i in range(rows):
            z = y_nm[i] - centre_y[k]
            if z < -radius - pixel or z > down[k] + pixel:
                continue
            start = centre_x[k] - x_nm[i]
            first = max(0, int((start - radius) / pixel) - 1)
            last = min(columns, int((start + radius) / pixel) + 2)
            for j in range(first, last):
                dx = along_nm[j] - start
                chord = 0.0
                for a in range(_SUB):
                    zz = z + ((a + 0.5) / _SUB - 0.5) * pixel
                    weight = in_film if zz > 0 or inside[k] else 1.0
                    height = zz * radius / down[k] if zz > 0 else zz
                    for b in range(_SUB):
                        xx = dx + ((b + 0.5) / _SUB - 0.5) * pixel
                        square = radius * radius - xx * xx - height * height
                        if square > 0:
                            chord += weight * 2 * math.sqrt(square)
                chord /= _SUB * _SUB
                if chord == 0:
                    continue
                sharp[i, j] += chord
                for m in range(3):
                    if amplitude[k, m] > 0:
                        turns = dx * waves[k, m, 0] + z * waves[k, m, 1]
                        modulation[i, j] += chord * amplitude[k, m] * cosine(turns)
