"""Compiled passes that turn a filtered image into islands, split them at necks, and describe them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

_CORE = 0.5
"""A particle's core lies above this share of its own peak."""
_POINTS = 128


@compiled
def label_above(image: NDArray[np.float32], low: float) -> tuple[NDArray[np.int32], int]:
    """Number the islands (4-connected) of pixels above ``low`` from 1 on; 0 is the sea."""
    rows, columns = image.shape
    labels = np.zeros((rows, columns), np.int32)
    parent = np.zeros((rows * columns) // 2 + 2, np.int32)
    last = 0
    for i in range(rows):
        for j in range(columns):
            if not image[i, j] > low:
                continue
            up = labels[i - 1, j] if i > 0 else 0
            left = labels[i, j - 1] if j > 0 else 0
            if up == 0 and left == 0:
                last += 1
                parent[last] = last
                labels[i, j] = last
            elif up == 0 or left == 0 or up == left:
                labels[i, j] = max(up, left)
            else:
                a, b = _root(parent, up), _root(parent, left)
                parent[max(a, b)] = min(a, b)
                labels[i, j] = min(a, b)
    count = 0
    for k in range(1, last + 1):
        if parent[k] == k:
            count += 1
            parent[k] = -count
    for i in range(rows):
        for j in range(columns):
            k = labels[i, j]
            if k:
                while parent[k] > 0:
                    k = parent[k]
                labels[i, j] = -parent[k]
    return labels, count


@compiled
def _root(parent: NDArray[np.int32], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def find_peaks(
    image: NDArray[np.float32], high: float, easy: NDArray[np.bool_], easy_high: float, half: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Maxima within ± ``half`` pixels that exceed ``high``, the highest first: y and x.

    Where ``easy`` is set (of the image's shape, or empty) they only have to exceed ``easy_high``.
    Of equal neighbours the first in reading order counts.
    """
    rows, columns = image.shape
    helped = easy.shape[0] == rows
    ys = np.empty(rows * columns // 2 + 1, np.int64)
    xs = np.empty(rows * columns // 2 + 1, np.int64)
    count = 0
    for i in range(rows):
        for j in range(columns):
            value = image[i, j]
            if not (value > high or (helped and value > easy_high and easy[i, j])):
                continue
            # most pixels of a flank have a higher one beside them
            if (j + 1 < columns and image[i, j + 1] > value) or (j > 0 and image[i, j - 1] > value):
                continue
            if (i + 1 < rows and image[i + 1, j] > value) or (i > 0 and image[i - 1, j] > value):
                continue
            top = True
            for k in range(max(0, i - half), min(rows, i + half + 1)):
                for n in range(max(0, j - half), min(columns, j + half + 1)):
                    other = image[k, n]
                    if other > value or (other == value and (k < i or (k == i and n < j))):
                        top = False
                        break
                if not top:
                    break
            if top:
                ys[count], xs[count] = i, j
                count += 1
    ys, xs = ys[:count], xs[:count]
    height = np.empty(count, np.float64)
    for p in range(count):
        height[p] = -image[ys[p], xs[p]]
    order = np.argsort(height, kind="mergesort")
    return ys[order], xs[order]


@compiled
def split_islands(
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    islands: int,
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
    valley: float,
    noise: float,
) -> int:
    """Renumber ``labels`` in place: one number per peak that a neck divides from the others.

    Between two peaks lies a neck if the image dips on the line between them by ``valley`` of the
    lower one and by ``noise``. Islands without a peak become sea. A shared island is divided by
    distance over how far each peak stays above half of its height. Returns the count.
    """
    owner = np.zeros(len(ys), np.int64)
    kept = np.zeros(len(ys), np.bool_)
    members = np.zeros(islands + 1, np.int64)
    first = np.zeros(islands + 1, np.int32)
    number = 0
    for p in range(len(ys)):
        owner[p] = labels[ys[p], xs[p]]
        apart = True
        for q in range(p):
            if not kept[q] or owner[q] != owner[p]:
                continue
            if not _neck(image, ys[p], xs[p], ys[q], xs[q], valley, noise):
                apart = False
                break
        if apart:
            kept[p] = True
            members[owner[p]] += 1
    for k in range(1, islands + 1):
        if members[k]:
            first[k] = number + 1
            number += members[k]
    place = np.zeros(number + 1, np.int64)
    given = np.zeros(islands + 1, np.int64)
    reach = np.ones(number + 1)
    for p in range(len(ys)):
        if kept[p]:
            k = owner[p]
            at = first[k] + given[k]
            given[k] += 1
            place[at] = p
            if members[k] > 1:
                reach[at] = max(_reach(image, ys[p], xs[p]), 1.0)
    rows, columns = labels.shape
    for i in range(rows):
        for j in range(columns):
            k = labels[i, j]
            if k == 0:
                continue
            best = first[k]
            if members[k] > 1:
                nearest = np.inf
                for at in range(first[k], first[k] + members[k]):
                    dy, dx = i - ys[place[at]], j - xs[place[at]]
                    away = (dy * dy + dx * dx) / (reach[at] * reach[at])
                    if away < nearest:
                        nearest, best = away, at
            labels[i, j] = best
    return number


@compiled
def _neck(
    image: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int, valley: float, noise: float
) -> bool:
    lower = min(image[y0, x0], image[y1, x1])
    deep = lower - max(valley * lower, noise)
    steps = max(abs(y1 - y0), abs(x1 - x0))
    for k in range(steps + 1):
        share = k / max(steps, 1)
        y = int(np.round(y0 + share * (y1 - y0)))
        x = int(np.round(x0 + share * (x1 - x0)))
        if image[y, x] < deep:
            return True
    return False


@compiled
def _reach(image: NDArray[np.float32], y: int, x: int) -> float:
    """How far a peak stays above half of its height: the median of four directions."""
    rows, columns = image.shape
    half = 0.5 * image[y, x]
    reach = np.zeros(4)
    for k in range(4):
        dy, dx = (0, 1, 0, -1)[k], (1, 0, -1, 0)[k]
        i, j = y, x
        while 0 <= i < rows and 0 <= j < columns and image[i, j] >= half:
            i += dy
            j += dx
            reach[k] += 1.0
    return float(np.median(reach))


@compiled
def describe(
    image: NDArray[np.float32], labels: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """Rows of peak, area, core area, core centroid y, x, core top, bottom, left, right; one per label.

    The core is what lies above half of the particle's own peak; its edges are the first and one
    after the last pixel.
    """
    rows, columns = labels.shape
    found = np.zeros((count, 9))
    found[:, 5] = rows
    found[:, 7] = columns
    for i in range(rows):
        for j in range(columns):
            k = labels[i, j] - 1
            if k >= 0:
                found[k, 1] += 1.0
                found[k, 0] = max(found[k, 0], float(image[i, j]))
    for i in range(rows):
        for j in range(columns):
            k = labels[i, j] - 1
            if k < 0 or not image[i, j] > _CORE * found[k, 0]:
                continue
            row = found[k]
            row[2] += 1.0
            row[3] += i
            row[4] += j
            row[5] = min(row[5], i)
            row[6] = max(row[6], i + 1)
            row[7] = min(row[7], j)
            row[8] = max(row[8], j + 1)
    for k in range(count):
        core = max(found[k, 2], 1.0)
        found[k, 3] = found[k, 3] / core + 0.5
        found[k, 4] = found[k, 4] / core + 0.5
    return found


@compiled
def join_pairs(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group of each of ``count`` particles: those of a pair (n, 2) share one, and so on."""
    parent = np.arange(count).astype(np.int32)
    for p in range(pairs.shape[0]):
        _join(parent, pairs[p, 0], pairs[p, 1])
    group = np.empty(count, np.int64)
    for k in range(count):
        group[k] = _root(parent, k)
    return group


@compiled
def _join(parent: NDArray[np.int32], first: int, second: int) -> None:
    a, b = _root(parent, first), _root(parent, second)
    parent[max(a, b)] = min(a, b)


@compiled
def free_film(labels: NDArray[np.int32], margin: int) -> NDArray[np.bool_]:
    """Pixels further than ``margin`` pixels along y and along x from every particle."""
    rows, columns = labels.shape
    free = np.ones((rows, columns), np.bool_)
    for i in range(rows):
        until = -1
        for j in range(columns):
            if labels[i, j]:
                for n in range(max(0, j - margin, until), min(columns, j + margin + 1)):
                    free[i, n] = False
                until = j + margin + 1
    # row by row, since walking down a column takes a cache line per pixel
    below = np.full(columns, -margin - 1)
    for i in range(rows):
        for j in range(columns):
            below[j] = i if labels[i, j] else below[j]
            free[i, j] &= i - below[j] > margin
    below[:] = rows + margin
    for i in range(rows - 1, -1, -1):
        for j in range(columns):
            below[j] = i if labels[i, j] else below[j]
            free[i, j] &= below[j] - i > margin
    return free


@compiled
def count_beyond(image: NDArray[np.float32], high: float) -> tuple[int, int]:
    """How many pixels lie above ``high`` and how many below minus ``high``."""
    above, below = 0, 0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            above += image[i, j] > high
            below += image[i, j] < -high
    return above, below


@compiled
def own_share(
    y: NDArray[np.float64], x: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share (n,) of each disc's area that is its own where discs overlap; what m discs share is split in m.

    So the areas times these shares add up to that of the union, to 2 % of each disc.
    """
    share = np.ones(len(y))
    near = np.empty(len(y), np.int64)
    for k in range(len(y)):
        count = 0
        for n in range(len(y)):
            dy, dx, reach = y[n] - y[k], x[n] - x[k], radius[n] + radius[k]
            if n != k and dy * dy + dx * dx < reach * reach:
                near[count] = n
                count += 1
        if count == 0:
            continue
        total = 0.0
        for p in range(_POINTS):
            # points at the golden angle lie evenly on a disc
            away = radius[k] * np.sqrt((p + 0.5) / _POINTS)
            py, px = y[k] + away * np.sin(2.399963 * p), x[k] + away * np.cos(2.399963 * p)
            many = 1.0
            for q in range(count):
                n = near[q]
                many += (py - y[n]) ** 2 + (px - x[n]) ** 2 < radius[n] * radius[n]
            total += 1.0 / many
        share[k] = total / _POINTS
    return share
