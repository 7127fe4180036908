"""Compiled averages over rings around particles, leaving out the pixels that belong to others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

MOST_RINGS = 56


@compiled
def ring_width(reach_px: float) -> float:
    """Width of a ring: half a pixel around small particles, since coarser rings blur their edge."""
    width = 0.5
    while reach_px > MOST_RINGS * width:
        width *= 2.0
    return width


@compiled
def ring_sums(
    contrast: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    name: int,
    y: float,
    x: float,
    reach: float,
    width: float,
    others: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> int:
    """Fill ``sums`` (3 or 9, ring) from the pixels within ``reach`` of (y, x); how many rings there are.

    Per ring Σ1, Σc, Σr and, of 9 rows, Σc·x, Σc·y, Σx, Σy, Σx², Σxy about the centre.
    ``labels`` is ``factor`` times coarser than ``contrast``; pixels of another label than ``name``
    are left out, and so are those inside one of the ``others`` (n, 3): circles of y, x and radius.
    """
    rows, columns = contrast.shape
    rings = min(int(reach / width), MOST_RINGS)
    sums[:, :rings] = 0.0
    harmonics = sums.shape[0] > 3
    pixels, values, distances = sums[0], sums[1], sums[2]
    limit = (rings * width) * (rings * width)
    inverse = np.float32(1.0 / width)
    top, bottom = max(0, int(y - reach)), min(rows, int(y + reach) + 1)
    last = labels.shape[1] - 1
    away = np.empty(int(2.0 * reach) + 3, np.float32)
    for i in range(top, bottom):
        dy = i + 0.5 - y
        room = limit - dy * dy
        if room <= 0.0:
            continue
        half = np.sqrt(room)
        left = max(0, int(np.ceil(x - half - 0.5)))
        right = min(columns, int(np.floor(x + half - 0.5)) + 1)
        square, start = np.float32(dy * dy), np.float32(left + 0.5 - x)
        for k in range(right - left):
            dx = start + np.float32(k)
            away[k] = np.sqrt(square + dx * dx) * inverse
        line, whose = contrast[i], labels[min(i // factor, labels.shape[0] - 1)]
        first = left
        while first < right:
            block = first // factor
            end = min((block + 1) * factor, right)
            owner = whose[min(block, last)]
            if owner == 0 or owner == name:
                for j in range(first, end):
                    if others.shape[0] and _inside(others, i + 0.5, j + 0.5):
                        continue
                    r = away[j - left]
                    ring = min(np.uint32(r), np.uint32(rings - 1))
                    value = line[j]
                    pixels[ring] += 1.0
                    values[ring] += value
                    distances[ring] += r
                    if harmonics:
                        dx = start + np.float32(j - left)
                        sums[3, ring] += value * dx
                        sums[4, ring] += value * dy
                        sums[5, ring] += dx
                        sums[6, ring] += dy
                        sums[7, ring] += dx * dx
                        sums[8, ring] += dx * dy
            first = end
    distances[:rings] *= width
    return rings


@compiled
def _inside(circles: NDArray[np.float64], y: float, x: float) -> bool:
    for k in range(circles.shape[0]):
        dy, dx = y - circles[k, 0], x - circles[k, 1]
        if dy * dy + dx * dx < circles[k, 2] * circles[k, 2]:
            return True
    return False
