"""Compiled averages over rings around particles, leaving out the pixels that belong to others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

MOST_RINGS = 56
_FILM_RINGS = 6
"""Into so many rings, at most, the film beyond a particle is cut: nothing changes there quickly."""
_FLAT = 0.6
"""Nearer to the centre than this share of R a dome is so flat that rings may be twice as wide."""


@compiled
def ring_width(reach_px: float) -> float:
    """Width of a ring: half a pixel around small particles, since coarser rings blur their edge."""
    width = 0.5
    while reach_px > MOST_RINGS * width:
        width *= 2.0
    return width


@compiled
def ring_sums(
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    name: int,
    y: float,
    x: float,
    inner: float,
    reach: float,
    width: float,
    sums: NDArray[np.float64],
) -> int:
    """Fill ``sums`` (3 or 9, ring) from the pixels ``inner`` to ``reach`` from (y, x); how many rings.

    Per ring Σ1, Σc, Σr and, of 9 rows, Σc·x, Σc·y, Σx, Σy, Σx², Σxy about the centre.
    ``labels`` is ``factor`` times coarser than ``image``; pixels of another label than ``name``
    are left out.
    """
    rows, columns = image.shape
    rings = min(int((reach - inner) / max(width, 1e-9) + 1e-9), MOST_RINGS)
    if rings <= 0:
        return 0
    outer = inner + rings * width
    top, bottom = max(0, int(y - outer)), min(rows, int(y + outer) + 1)
    first, last = max(0, int(x - outer)), min(columns, int(x + outer) + 1)
    harmonics = sums.shape[0] > 3
    room = max(last - first, 1) + 2 * factor
    away, ring = np.empty(room, np.float32), np.empty(room, np.uint32)
    theirs = np.zeros(room, np.uint32)
    from_block = min(first // factor, labels.shape[1] - 1)
    to_block = max(min((last + factor - 1) // factor, labels.shape[1]), from_block + 1)
    first, known, own = from_block * factor, -1, np.int32(name)
    crowded = bottom > top and _has_others(
        labels, top // factor, bottom // factor, from_block, to_block, own
    )
    # neighbours often share a ring: two sets of sums, so that neither waits for the other. The last
    # place of each takes what is left out.
    sets = np.zeros((2, MOST_RINGS + 1, 9 if harmonics else 3), np.float32)
    even, odd = sets[0], sets[1]
    unit, inverse = np.float32(1.0), np.float32(1.0 / width)
    begin, outermost = np.float32(inner / width), np.float32(rings - 1)
    nothing, left_out = np.float32(0.0), np.uint32(MOST_RINGS)
    hole = max(inner - 1.0, 0.0)
    for i in range(top, bottom):
        dy = i + 0.5 - y
        half = np.sqrt(max(outer * outer - dy * dy, 0.0))
        left = max(0, int(np.ceil(x - half - 0.5)))
        right = min(columns, int(np.floor(x + half - 0.5)) + 1)
        if right <= left:
            continue
        marked = False
        if crowded:
            if i // factor != known:
                known = i // factor
                block_row = min(known, labels.shape[0] - 1)
                _mark_others(labels, block_row, from_block, to_block, factor, own, theirs)
            marked = True
        # of a wide ring the hole is passed over
        gap = np.sqrt(max(hole * hole - dy * dy, 0.0))
        until = min(max(int(x - gap), left), right) if gap > 1.0 else right
        again = min(max(int(x + gap), until), right)
        square, row = np.float32(dy * dy), np.uint64(i)
        while left < right:
            # unsigned places need no look at whether they count from the end
            start, count = np.uint64(left), until - left
            offset = np.float32(left + 0.5 - x)
            for k in range(count):
                dx = offset + np.float32(k)
                away[k] = np.sqrt(square + dx * dx) * inverse
                at = np.uint32(min(max(away[k] - begin, nothing), outermost))
                ring[k] = at if away[k] >= begin else left_out
            if marked:
                out = np.uint64(left - first)
                for k in range(np.uint64(count)):
                    ring[k] = max(ring[k], theirs[out + k])
            if harmonics:
                _add_harmonics(even, ring, image, row, start, count, away, offset, np.float32(dy))
            else:
                for k in range(np.uint64(count // 2)):
                    k1 = np.uint64(2) * k
                    k2 = k1 + np.uint64(1)
                    a, b = ring[k1], ring[k2]
                    even[a, 0] += unit
                    even[a, 1] += image[row, start + k1]
                    even[a, 2] += away[k1]
                    odd[b, 0] += unit
                    odd[b, 1] += image[row, start + k2]
                    odd[b, 2] += away[k2]
                if count % 2:
                    k1 = np.uint64(count - 1)
                    a = ring[k1]
                    even[a, 0] += unit
                    even[a, 1] += image[row, start + k1]
                    even[a, 2] += away[k1]
            left, until = max(again, until), right
            again = right
    for k in range(rings):
        for n in range(sets.shape[2]):
            sums[n, k] = even[k, n] + odd[k, n]
        sums[2, k] *= width
    return rings


@compiled
def _has_others(
    labels: NDArray[np.int32], top: int, bottom: int, first: int, end: int, name: np.int32
) -> bool:
    """Whether a part of the labels, rows ``top`` to ``bottom``, holds another's."""
    for i in range(np.uint64(top), np.uint64(min(bottom + 1, labels.shape[0]))):
        count = np.int32(0)
        for j in range(np.uint64(first), np.uint64(end)):
            owner = labels[i, j]
            count |= np.int32((owner != np.int32(0)) & (owner != name))
        if count:
            return True
    return False


@compiled
def _mark_others(
    labels: NDArray[np.int32],
    row: int,
    first: int,
    end: int,
    factor: int,
    name: np.int32,
    theirs: NDArray[np.uint32],
) -> None:
    """Set the place that takes what is left out where a pixel is another's, and 0 elsewhere."""
    left_out, taken = np.uint32(MOST_RINGS), np.uint32(0)
    begin, blocks = np.uint64(first), np.uint64(end - first)
    i, size = np.uint64(row), np.uint64(factor)
    if factor == 1:
        for block in range(blocks):
            owner = labels[i, begin + block]
            theirs[block] = left_out if (owner != np.int32(0)) & (owner != name) else taken
    elif factor == 2:
        for block in range(blocks):
            owner = labels[i, begin + block]
            mark = left_out if (owner != np.int32(0)) & (owner != name) else taken
            theirs[size * block] = mark
            theirs[size * block + np.uint64(1)] = mark
    else:
        for block in range(blocks):
            owner = labels[i, begin + block]
            mark = left_out if (owner != np.int32(0)) & (owner != name) else taken
            for k in range(size):
                theirs[size * block + k] = mark
    # an incomplete last block of the image counts to the one before it
    covered = (end - first) * factor
    for k in range(covered, theirs.shape[0]):
        theirs[k] = theirs[covered - 1]


@compiled
def _add_harmonics(
    sums: NDArray[np.float32],
    ring: NDArray[np.uint32],
    image: NDArray[np.float32],
    row: np.uint64,
    start: np.uint64,
    count: int,
    away: NDArray[np.float32],
    offset: np.float32,
    dy: np.float32,
) -> None:
    """Add ``count`` pixels of a row from ``start`` on to the nine sums of their rings."""
    for k in range(np.uint64(count)):
        at, value, dx = ring[k], image[row, start + k], offset + np.float32(k)
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
def average_rings(
    image: NDArray[np.float32],
    coarse: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    name: int,
    place: NDArray[np.float64],
    radius: float,
    edge: float,
    reach: float,
    width: float,
    sums: NDArray[np.float64],
    rings: NDArray[np.float64],
) -> int:
    """Fill ``rings`` (ring, 5) with the averages around a particle; how many there are.

    Columns are mean contrast, mean distance, pixels, and the first and one after the last ring of
    ``width`` that it spans. Up to ``edge`` the pixels of ``image`` are taken, two rings together
    well inside ``radius``; beyond it the film, which is smooth, from its means over blocks in
    ``coarse``, in a few wide rings. ``sums`` (3, ring) is room to work in.
    """
    y, x = place[0], place[1]
    fine = min(max(int(np.ceil(edge / width)), 1), max(int(reach / width), 1))
    near = fine * width
    n = ring_sums(image, labels, factor, name, y, x, 0.0, near, width, sums)
    flat = int(_FLAT * radius / width)
    count, k = 0, 0
    while k < n:
        end = min(k + 2, n) if k + 2 <= flat else k + 1
        pixels, total, distance = 0.0, 0.0, 0.0
        for i in range(k, end):
            pixels += sums[0, i]
            total += sums[1, i]
            distance += sums[2, i]
        _note(rings, count, total, distance, pixels, 1.0, k, end)
        count += 1
        k = end
    left = int(reach / width) - fine
    film = min(max(int(left * width / factor), 1), _FILM_RINGS) if left > 0 else 0
    wide = left * width / max(film, 1)
    scale = float(factor)
    begin, beyond = near / scale, (near + left * width) / scale
    n = ring_sums(coarse, labels, 1, name, y / scale, x / scale, begin, beyond, wide / scale, sums)
    for k in range(n):
        # in whole rings of ``width``, which is near enough for what texture they share
        first, end = fine + k * left // film, fine + (k + 1) * left // film
        area = scale * scale
        _note(rings, count, sums[1, k], sums[2, k] * scale, sums[0, k], area, first, end)
        count += 1
    return count


@compiled
def _note(
    rings: NDArray[np.float64],
    row: int,
    total: float,
    distance: float,
    pixels: float,
    area: float,
    first: int,
    end: int,
) -> None:
    """Write a ring of so many pixels or blocks of an ``area``, with their summed contrast and distance."""
    seen = max(pixels, 1.0)
    rings[row, 0], rings[row, 1] = total / seen, distance / seen
    rings[row, 2], rings[row, 3], rings[row, 4] = pixels * area, first, end
