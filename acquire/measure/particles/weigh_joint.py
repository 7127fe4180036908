"""Compiled σ and masks of domes that were fitted together; the fit itself is in :mod:`.surface`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.surface import (
    LONGEST,
    STEP,
    add_prior,
    block_weight,
    neighbours,
    profiles,
    raise_surface,
    solved,
    window,
)

_CORE = 0.5
_PATCHES = 12
"""Texture is followed over a dome in so many patches along its diameter."""


@compiled
def weigh_joint(
    image: NDArray[np.float32],
    domes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    which: NDArray[np.int64],
    values: NDArray[np.float64],
    blur: float,
    white: float,
    texture: NDArray[np.float64],
    texture_step: float,
    shot: int,
    steepness: float,
    spread: float,
) -> NDArray[np.float64]:
    """Rows (n, 3) of the domes ``which``: σ of R, σ of A and reduced χ², from the blocks that show them.

    The fit weighs blocks by their shot noise alone. ``texture`` is the covariance of the film's own
    structure at distances of 0, 1, 2 … ``texture_step`` blocks; it widens σ (the sandwich of White
    1982, Econometrica 50:1), and where a particle is brighter it is so much stronger.
    """
    found = np.zeros((len(which), 3))
    slope, table, unit = np.empty(4), np.empty((2, LONGEST)), np.eye(4)
    sides = _PATCHES + 1
    for p in range(len(which)):
        k = which[p]
        dome = domes[k]
        box = window(dome, blur, image.shape[0], image.shape[1])
        top, left = box[0], box[2]
        rest = np.zeros((box[1] - top, box[3] - left), np.float32)
        owner = np.full(rest.shape, -1, np.int32)
        near = neighbours(domes, k, alive, blur)
        raise_surface(rest, owner, domes, near, values, blur, top, left)
        size = max(max(rest.shape[0], rest.shape[1]) / _PATCHES, 1.0)
        sums = np.zeros((sides * sides, 4))
        weights = np.zeros(sides * sides)
        matrix, pull = np.zeros((4, 4)), np.zeros(4)
        chi2, seen = 0.0, 0.0
        count = profiles(dome, values, blur, table)
        for i in range(rest.shape[0]):
            dy = i + top + 0.5 - dome[0]
            for j in range(rest.shape[1]):
                dx = j + left + 0.5 - dome[1]
                height = _slopes(table, count, dome, dy, dx, slope)
                if height <= rest[i, j]:
                    continue
                weight = block_weight(white, shot, height)
                rough = 1.0 + shot * height
                miss = image[top + i, left + j] - height
                chi2 += miss * miss / (1.0 / weight + texture[0] * rough * rough)
                seen += 1.0
                patch = int(i / size) * sides + int(j / size)
                weights[patch] += 1.0
                for a in range(4):
                    sums[patch, a] += weight * slope[a] * rough
                    for b in range(4):
                        matrix[a, b] += weight * slope[a] * slope[b]
        add_prior(matrix, pull, dome, steepness, spread)
        spoilt = matrix.copy()
        if texture[0] > 0.0:
            _add_texture(spoilt, sums, weights, sides, size, texture, texture_step)
        for a in range(4):
            matrix[a, a] += 1e-9
        for_radius, for_height = solved(matrix, unit[2]), solved(matrix, unit[3])
        radius, height = 0.0, 0.0
        for a in range(4):
            for b in range(4):
                radius += for_radius[a] * spoilt[a, b] * for_radius[b]
                height += for_height[a] * spoilt[a, b] * for_height[b]
        found[p, 0] = dome[2] * np.sqrt(max(radius, 0.0))
        found[p, 1] = dome[3] * np.sqrt(max(height, 0.0))
        found[p, 2] = chi2 / max(seen - 4.0, 1.0)
    return found


@compiled
def _slopes(
    table: NDArray[np.float64],
    count: int,
    dome: NDArray[np.float64],
    dy: float,
    dx: float,
    into: NDArray[np.float64],
) -> float:
    """A dome's height at (dy, dx) from its centre; ``into`` takes its slope with y, x, ln R and ln A.

    ``table`` and ``count`` are its :func:`.surface.profiles`.
    """
    away = np.sqrt(dy * dy + dx * dx)
    at = away / (dome[2] * STEP)
    low = int(at)
    if low >= count:
        return 0.0
    share = at - low
    step = table[0, low + 1] - table[0, low]
    height = float(table[0, low] + share * step)
    fall = step / (dome[2] * STEP)
    into[0], into[1] = -fall * dy / max(away, 1e-9), -fall * dx / max(away, 1e-9)
    into[2] = table[1, low] + share * (table[1, low + 1] - table[1, low]) - away * fall
    into[3] = height
    return height


@compiled
def _add_texture(
    matrix: NDArray[np.float64],
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    sides: int,
    size: float,
    texture: NDArray[np.float64],
    step: float,
) -> None:
    """Add Σ gₐ C(a, b) g_b over pairs of patches to the matrix."""
    for p in range(sides * sides):
        if weights[p] == 0.0:
            continue
        for q in range(sides * sides):
            if weights[q] == 0.0:
                continue
            dy, dx = p // sides - q // sides, p % sides - q % sides
            # two points of one patch are half of its side apart, about
            away = max(np.sqrt(dy * dy + dx * dx), 0.5) * size / step
            low = int(away)
            if low + 1 >= texture.shape[0]:
                continue
            share = away - low
            shared = (1.0 - share) * texture[low] + share * texture[low + 1]
            for a in range(4):
                for b in range(4):
                    matrix[a, b] += sums[p, a] * shared * sums[q, b]


@compiled
def describe_owned(
    labels: NDArray[np.int32],
    region: NDArray[np.bool_],
    surface: NDArray[np.float32],
    owner: NDArray[np.int32],
    count: int,
) -> NDArray[np.float64]:
    """Rows as of :func:`.islands.describe` for ``count`` domes that share a region, and whose island.

    ``surface`` (y, x) is the domes' upper surface and ``owner`` says whose it is, -1 none's. The last,
    tenth, column is the label in which the highest block of the dome lies; 0 if it shows nowhere.
    """
    found = np.zeros((count, 10))
    found[:, 5], found[:, 7] = labels.shape[0], labels.shape[1]
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            k = owner[i, j]
            if k < 0 or not region[i, j]:
                continue
            found[k, 1] += 1.0
            if surface[i, j] > found[k, 0]:
                found[k, 0], found[k, 9] = surface[i, j], labels[i, j]
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            k = owner[i, j]
            if k < 0 or not region[i, j] or not surface[i, j] > _CORE * found[k, 0]:
                continue
            row = found[k]
            row[2] += 1.0
            row[3] += i
            row[4] += j
            row[5], row[6] = min(row[5], i), max(row[6], i + 1)
            row[7], row[8] = min(row[7], j), max(row[8], j + 1)
    for k in range(count):
        core = max(found[k, 2], 1.0)
        found[k, 3] = found[k, 3] / core + 0.5
        found[k, 4] = found[k, 4] / core + 0.5
    return found
