"""Compiled joint fit of domes that share room, in turns, and how well a part of the image is explained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.surface import (
    block_weight,
    fit_beside,
    neighbours,
    raise_surface,
    window,
)

_DISTURBS = 0.01
"""A dome that moved by this share sets its neighbours moving."""
_GROWS = 1.4


@compiled
def settle(
    image: NDArray[np.float32],
    domes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    moving: NDArray[np.bool_],
    free: NDArray[np.bool_],
    values: NDArray[np.float64],
    blur: float,
    white: float,
    shot: int,
    steepness: float,
    spread: float,
    sweeps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the ``moving`` domes in turn, and those that they disturb, until none moves; in place.

    Only ``free`` domes are fitted. Returns of every dome that was: by how much χ² falls through it at
    the end, and over how many blocks; NaN of the others.
    """
    gain = np.full(len(domes), np.nan)
    shown = np.full(len(domes), np.nan)
    for _ in range(sweeps):
        again = np.zeros(len(domes), np.bool_)
        for k in range(len(domes)):
            if not (alive[k] and moving[k] and free[k]):
                continue
            near = neighbours(domes, k, alive, blur)
            gain[k], shown[k], changed = fit_beside(
                image, domes, k, near, values, blur, white, shot, steepness, spread
            )
            if changed > _DISTURBS:
                again[k] = True
                for n in near:
                    again[n] = True
        moving = again
        if not moving.any():
            break
    return gain, shown


@compiled
def room_of(
    domes: NDArray[np.float64],
    k: int,
    near: NDArray[np.int64],
    blur: float,
    rows: int,
    columns: int,
) -> NDArray[np.int64]:
    """First and one after the last row and column that dome k and those ``near`` can reach."""
    wide = domes[k].copy()
    wide[2] *= _GROWS
    for n in near:
        dy, dx = domes[n, 0] - domes[k, 0], domes[n, 1] - domes[k, 1]
        wide[2] = max(wide[2], max(abs(dy), abs(dx)) + _GROWS * domes[n, 2])
    return window(wide, blur, rows, columns)


@compiled
def misfit_in(
    room: NDArray[np.int64],
    image: NDArray[np.float32],
    smoothed: NDArray[np.float32],
    domes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    values: NDArray[np.float64],
    blur: float,
    white: float,
    shot: int,
) -> float:
    """χ² of all blocks of a part of the image; their weights follow ``smoothed``."""
    surface = np.zeros((room[1] - room[0], room[3] - room[2]), np.float32)
    owner = np.full(surface.shape, -1, np.int32)
    raise_surface(surface, owner, domes, np.nonzero(alive)[0], values, blur, room[0], room[2])
    total = 0.0
    for i in range(surface.shape[0]):
        for j in range(surface.shape[1]):
            y, x = room[0] + i, room[2] + j
            miss = image[y, x] - surface[i, j]
            total += block_weight(white, shot, smoothed[y, x]) * miss * miss
    return total
