"""Compiled passes over filtered and labelled images: peaks, free film, what discs share, what pairs join."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

_POINTS = 128


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
    least, least_easy = np.float32(high), np.float32(easy_high)
    ys = np.empty(rows * columns // 2 + 1, np.int64)
    xs = np.empty(rows * columns // 2 + 1, np.int64)
    words = np.zeros(columns // 8 + 1, np.uint64)
    maybe = words.view(np.uint8)
    count = 0
    for i in range(rows):
        # most pixels of a flank have a higher one beside them: without a branch eight are told at once
        row = image[i]
        for j in range(columns):
            maybe[j] = row[j] > least
        if helped:
            also = easy[i]
            for j in range(columns):
                maybe[j] |= also[j] & (row[j] > least_easy)
        _above_beside(row, image[max(i - 1, 0)], image[min(i + 1, rows - 1)], maybe)
        for word in range(len(words)):
            if words[word] == 0:
                continue
            for j in range(8 * word, min(8 * word + 8, columns)):
                if maybe[j] and _is_top(image, i, j, half):
                    ys[count], xs[count] = i, j
                    count += 1
    ys, xs = ys[:count], xs[:count]
    height = np.empty(count, np.float64)
    for p in range(count):
        height[p] = -image[ys[p], xs[p]]
    order = np.argsort(height, kind="mergesort")
    return ys[order], xs[order]


@compiled
def _above_beside(
    row: NDArray[np.float32],
    up: NDArray[np.float32],
    down: NDArray[np.float32],
    maybe: NDArray[np.uint8],
) -> None:
    """Clear ``maybe`` where one of the four pixels beside is higher."""
    last = row.shape[0] - 1
    maybe[0] &= (row[0] >= up[0]) & (row[0] >= down[0]) & (row[0] >= row[min(1, last)])
    maybe[last] &= (row[last] >= up[last]) & (row[last] >= down[last])
    maybe[last] &= row[last] >= row[max(last - 1, 0)]
    for j in range(1, last):
        value = row[j]
        beside = (value >= row[j - 1]) & (value >= row[j + 1])
        maybe[j] &= beside & (value >= up[j]) & (value >= down[j])


@compiled
def _is_top(image: NDArray[np.float32], i: int, j: int, half: int) -> bool:
    """Whether no pixel within ± ``half`` is higher, and none before it in reading order as high."""
    rows, columns = image.shape
    value = image[i, j]
    for k in range(max(0, i - half), min(rows, i + half + 1)):
        for n in range(max(0, j - half), min(columns, j + half + 1)):
            other = image[k, n]
            if other > value or (other == value and (k < i or (k == i and n < j))):
                return False
    return True


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
    # a byte per pixel, with room at both ends of a row, so that many are told at once
    taken = np.zeros((rows, columns + 2 * margin), np.uint8)
    for i in range(rows):
        row, into = labels[i], taken[i, margin : margin + columns]
        for j in range(columns):
            into[j] = row[j] != 0
    free = np.empty((rows, columns), np.bool_)
    near = np.empty(columns, np.uint8)
    for i in range(rows):
        near[:] = 0
        for k in range(2 * margin + 1):
            beside = taken[i, k : k + columns]
            for j in range(columns):
                near[j] |= beside[j]
        for k in range(max(i - margin, 0), min(i + margin + 1, rows)):
            beside = taken[k, margin : margin + columns]
            for j in range(columns):
                near[j] |= beside[j]
        own = free[i]
        for j in range(columns):
            own[j] = near[j] == 0
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
