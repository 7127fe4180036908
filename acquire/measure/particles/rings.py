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
    limit = (rings * width) * (rings * width)
    inverse, outermost = np.float32(1.0 / width), np.uint32(rings - 1)
    top, bottom = max(0, int(y - reach)), min(rows, int(y + reach) + 1)
    harmonics = sums.shape[0] > 3
    away = np.empty(int(2.0 * reach) + 3, np.float32)
    ring = np.empty(int(2.0 * reach) + 3, np.uint32)
    first, known = min(max(0, int(x - reach)) // factor, labels.shape[1] - 1) * factor, -1
    theirs = np.empty(int(2.0 * reach) + 2 * factor + 3, np.uint32)
    # neighbours often share a ring: two sets of sums, so that neither waits for the other. The last
    # place of each takes what is left out.
    sets = np.zeros((2, MOST_RINGS + 1, 9 if harmonics else 3), np.float32)
    even, odd = sets[0], sets[1]
    unit = np.float32(1.0)
    for i in range(top, bottom):
        dy = i + 0.5 - y
        room = limit - dy * dy
        if room <= 0.0:
            continue
        half = np.sqrt(room)
        left = max(0, int(np.ceil(x - half - 0.5)))
        count = min(columns, int(np.floor(x + half - 0.5)) + 1) - left
        if count <= 0:
            continue
        if i // factor != known:
            known = i // factor
            whose = labels[min(known, labels.shape[0] - 1), first // factor :]
            _mark_others(whose, factor, name, theirs)
        square, start = np.float32(dy * dy), np.float32(left + 0.5 - x)
        for k in range(count):
            dx = start + np.float32(k)
            away[k] = np.sqrt(square + dx * dx) * inverse
            ring[k] = max(min(np.uint32(away[k]), outermost), theirs[left - first + k])
        if others.shape[0]:
            for k in range(count):
                if _inside(others, i + 0.5, left + k + 0.5):
                    ring[k] = MOST_RINGS
        seen = contrast[i, left : left + count]
        if harmonics:
            _add_harmonics(even, ring, seen, away, start, np.float32(dy))
            continue
        for k in range(0, count - 1, 2):
            a, b = ring[k], ring[k + 1]
            even[a, 0] += unit
            even[a, 1] += seen[k]
            even[a, 2] += away[k]
            odd[b, 0] += unit
            odd[b, 1] += seen[k + 1]
            odd[b, 2] += away[k + 1]
        if count % 2:
            a = ring[count - 1]
            even[a, 0] += unit
            even[a, 1] += seen[count - 1]
            even[a, 2] += away[count - 1]
    for k in range(rings):
        for n in range(sets.shape[2]):
            sums[n, k] = even[k, n] + odd[k, n]
        sums[2, k] *= width
    return rings


@compiled
def _mark_others(
    whose: NDArray[np.int32], factor: int, name: int, theirs: NDArray[np.uint32]
) -> None:
    """Set the place that takes what is left out where a pixel is another's, and 0 elsewhere."""
    blocks = min(theirs.shape[0] // factor, whose.shape[0])
    beyond = theirs[blocks * factor :]
    if factor == 1:
        for block in range(blocks):
            owner = whose[block]
            theirs[block] = np.uint32(MOST_RINGS if (owner != 0) & (owner != name) else 0)
    elif factor == 2:
        for block in range(blocks):
            owner = whose[block]
            place = np.uint32(MOST_RINGS if (owner != 0) & (owner != name) else 0)
            theirs[2 * block] = place
            theirs[2 * block + 1] = place
    else:
        for block in range(blocks):
            owner = whose[block]
            place = np.uint32(MOST_RINGS if (owner != 0) & (owner != name) else 0)
            for j in range(block * factor, (block + 1) * factor):
                theirs[j] = place
    # an incomplete last block of the image counts to the one before it
    beyond[:] = theirs[blocks * factor - 1]


@compiled
def _add_harmonics(
    sums: NDArray[np.float32],
    ring: NDArray[np.uint32],
    seen: NDArray[np.float32],
    away: NDArray[np.float32],
    start: np.float32,
    dy: np.float32,
) -> None:
    """Add a row of pixels to the nine sums of their rings."""
    for k in range(seen.shape[0]):
        at, value, dx = ring[k], seen[k], start + np.float32(k)
        sums[at, 0] += np.float32(1.0)
        sums[at, 1] += value
        sums[at, 2] += away[k]
        sums[at, 3] += value * dx
        sums[at, 4] += value * dy
        sums[at, 5] += dx
        sums[at, 6] += dy
        sums[at, 7] += dx * dx
        sums[at, 8] += dx * dy


@compiled
def _inside(circles: NDArray[np.float64], y: float, x: float) -> bool:
    for k in range(circles.shape[0]):
        dy, dx = y - circles[k, 0], x - circles[k, 1]
        if dy * dy + dx * dx < circles[k, 2] * circles[k, 2]:
            return True
    return False
