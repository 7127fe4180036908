"""Compiled passes that turn a filtered image into islands, split them at necks, and describe them.

Islands are kept as runs of pixels along rows, beside their labels, so that only what they cover is
looked at again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

_CORE = 0.5
"""A particle's core lies above this share of its own peak."""


@compiled
def islands_of(
    image: NDArray[np.float32], low: float, ys: NDArray[np.int64], xs: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Islands (4-connected) of pixels above ``low`` that hold a peak, numbered from 1 in reading order.

    Returns the labels (y, x), in which all else is sea and 0, the islands' pixels as runs (n, 4) of
    row, first column, one after the last, and island, and how many islands there are.
    """
    rows, columns = image.shape
    least = np.float32(low)
    words = np.zeros(columns // 8 + 1, np.uint64)
    edges = words.view(np.uint8)
    runs = np.empty((1024, 4), np.int32)
    since = np.zeros(rows + 1, np.int64)
    many = 0
    for i in range(rows):
        _mark_edges(image[i], least, edges)
        if many + columns // 2 + 1 > len(runs):
            runs = np.concatenate((runs, np.empty((len(runs) + columns, 4), np.int32)))
        many = _add_runs(i, words, runs, many)
        since[i + 1] = many
        if i:
            _join_rows(runs, since[i - 1], since[i], many)
    number = np.zeros(many + 1, np.int32)
    for p in range(len(ys)):
        for r in range(since[ys[p]], since[ys[p] + 1]):
            if runs[r, 1] <= xs[p] < runs[r, 2]:
                number[_root_of_run(runs, r)] = 1
    islands, kept = 0, 0
    labels = np.zeros((rows, columns), np.int32)
    for r in range(many):
        root = _root_of_run(runs, r)
        if number[root] == 0:
            continue
        if root == r:
            islands += 1
            number[r] = islands
        _fill_run(labels, runs, r, number[root])
        kept += 1
    held = np.empty((kept, 4), np.int32)
    kept = 0
    for r in range(many):
        k = number[_root_of_run(runs, r)]
        if k:
            held[kept, 0], held[kept, 1] = runs[r, 0], runs[r, 1]
            held[kept, 2], held[kept, 3] = runs[r, 2], k
            kept += 1
    return labels, held, islands


@compiled
def _mark_edges(row: NDArray[np.float32], low: np.float32, edges: NDArray[np.uint8]) -> None:
    """Set ``edges`` (columns + 1 or more) to 1 where one of the pixels on both sides lies above ``low``."""
    columns = row.shape[0]
    edges[0] = row[0] > low
    for j in range(1, columns):
        edges[j] = (row[j] > low) != (row[j - 1] > low)
    edges[columns] = row[columns - 1] > low


@compiled
def _add_runs(i: int, words: NDArray[np.uint64], runs: NDArray[np.int32], many: int) -> int:
    """Append the runs of a row, each a root of its own; returns how many there are then."""
    edges = words.view(np.uint8)
    inside = False
    for word in range(len(words)):
        # eight pixels of an even stretch are passed at once
        if words[word] == 0:
            continue
        for j in range(8 * word, 8 * word + 8):
            if not edges[j]:
                continue
            if inside:
                runs[many, 2] = j
                many += 1
            else:
                runs[many, 0], runs[many, 1], runs[many, 3] = i, j, many
            inside = not inside
    return many


@compiled
def _join_rows(runs: NDArray[np.int32], before: int, since: int, many: int) -> None:
    """Join the runs of a row, from ``since`` to ``many``, to those of the row before that they touch."""
    up, here = before, since
    while up < since and here < many:
        if runs[up, 1] < runs[here, 2] and runs[here, 1] < runs[up, 2]:
            a, b = _root_of_run(runs, up), _root_of_run(runs, here)
            runs[max(a, b), 3] = min(a, b)
        if runs[up, 2] < runs[here, 2]:
            up += 1
        else:
            here += 1


@compiled
def _root_of_run(runs: NDArray[np.int32], r: int) -> int:
    while runs[r, 3] != r:
        runs[r, 3] = runs[runs[r, 3], 3]
        r = runs[r, 3]
    return r


@compiled
def _fill_run(labels: NDArray[np.int32], runs: NDArray[np.int32], r: int, value: np.int32) -> None:
    i = runs[r, 0]
    # an unsigned place needs no look at whether it counts from the end
    for j in range(np.uint64(runs[r, 1]), np.uint64(runs[r, 2])):
        labels[i, j] = value


@compiled
def runs_of(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """What labels (y, x) cover as runs (n, 4) of row, first column, one after the last, and label."""
    rows, columns = labels.shape
    runs = np.empty((1024, 4), np.int32)
    many = 0
    for i in range(rows):
        if many + columns > len(runs):
            runs = np.concatenate((runs, np.empty((len(runs) + columns, 4), np.int32)))
        many = _add_parts(i, labels[i], 0, columns, runs, many)
    return runs[:many].copy()


@compiled
def _add_parts(
    i: int, row: NDArray[np.int32], first: int, end: int, runs: NDArray[np.int32], many: int
) -> int:
    """Append what labels cover of part of a row; returns how many runs there are then."""
    j = first
    while j < end:
        k, start = row[j], j
        while j < end and row[j] == k:
            j += 1
        if k:
            runs[many, 0], runs[many, 1], runs[many, 2], runs[many, 3] = i, start, j, k
            many += 1
    return many


@compiled
def split_islands(
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    runs: NDArray[np.int32],
    islands: int,
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
    valley: float,
    noise: float,
) -> tuple[NDArray[np.int32], int]:
    """Renumber the ``labels`` of :func:`islands_of` in place: one per peak that a neck divides from others.

    Between two peaks lies a neck if the image dips on the line between them by ``valley`` of the
    lower one and by ``noise``. A shared island is divided by distance over how far each peak stays
    above half of its height. Returns the runs as they are then, and the count.
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
    centres = np.empty((number + 1, 3))
    for at in range(1, number + 1):
        centres[at, 0], centres[at, 1] = ys[place[at]], xs[place[at]]
        centres[at, 2] = 1.0 / reach[at] ** 2
    return _divided(labels, runs, first, members, centres), number


@compiled
def _divided(
    labels: NDArray[np.int32],
    runs: NDArray[np.int32],
    first: NDArray[np.int32],
    members: NDArray[np.int64],
    centres: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Renumber runs of islands, and ``labels`` in place: of island k to ``first[k]`` and those after it.

    A pixel goes to that of the ``members[k]`` centres (y, x, 1 / reach²) which is relatively nearest.
    """
    parts, many = np.empty((2 * len(runs) + labels.shape[1], 4), np.int32), 0
    nearest, best = np.empty(labels.shape[1]), np.empty(labels.shape[1], np.int32)
    for r in range(len(runs)):
        i, left, wide, k = runs[r, 0], runs[r, 1], runs[r, 2] - runs[r, 1], runs[r, 3]
        if many + wide > len(parts):
            parts = np.concatenate((parts, np.empty((len(parts) + wide, 4), np.int32)))
        if members[k] == 1:
            if first[k] != k:
                _fill_run(labels, runs, r, first[k])
            parts[many, 0], parts[many, 1] = i, left
            parts[many, 2], parts[many, 3] = left + wide, first[k]
            many += 1
            continue
        nearest[:wide] = np.inf
        for at in range(first[k], first[k] + members[k]):
            dy, dx, scale = float(i - centres[at, 0]), float(left - centres[at, 1]), centres[at, 2]
            for j in range(wide):
                away = (dy * dy + (dx + j) * (dx + j)) * scale
                closer = away < nearest[j]
                nearest[j] = away if closer else nearest[j]
                best[j] = at if closer else best[j]
        for j in range(wide):
            labels[i, left + j] = best[j]
        many = _add_parts(i, labels[i], left, left + wide, parts, many)
    return parts[:many].copy()


@compiled
def _neck(
    image: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int, valley: float, noise: float
) -> bool:
    lower = min(image[y0, x0], image[y1, x1])
    deep = lower - max(valley * lower, noise)
    steps = max(abs(y1 - y0), abs(x1 - x0))
    for k in range(steps + 1):
        share = k / max(steps, 1)
        y = int(y0 + share * (y1 - y0) + 0.5)
        x = int(x0 + share * (x1 - x0) + 0.5)
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
    image: NDArray[np.float32], runs: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """Rows of peak, area, core area, core centroid y, x, core top, bottom, left, right; one per label.

    ``runs`` (n, 4) are what labels 1 … ``count`` cover; see :func:`runs_of`. The core is what lies
    above half of the particle's own peak; its edges are the first and one after the last pixel.
    """
    rows, columns = image.shape
    found = np.zeros((count, 9))
    found[:, 5] = rows
    found[:, 7] = columns
    one = np.uint64(1)
    for r in range(np.uint64(len(runs))):
        # unsigned places need no look at whether they count from the end
        i, left, right = np.uint64(runs[r, 0]), np.uint64(runs[r, 1]), np.uint64(runs[r, 2])
        k = np.uint64(runs[r, 3]) - one
        # two chains, since each comparison waits for the one before it
        peak, other = image[i, left], image[i, right - one]
        for pair in range((right - left) // np.uint64(2)):
            j = left + pair + pair
            peak = image[i, j] if image[i, j] > peak else peak
            other = image[i, j + one] if image[i, j + one] > other else other
        found[k, 0] = max(found[k, 0], peak, other)
        found[k, 1] += right - left
    for r in range(np.uint64(len(runs))):
        i, left, right = np.uint64(runs[r, 0]), np.uint64(runs[r, 1]), np.uint64(runs[r, 2])
        k = np.uint64(runs[r, 3]) - one
        half = np.float32(_CORE * found[k, 0])
        while left < right and not image[i, left] > half:
            left += one
        while right > left and not image[i, right - one] > half:
            right -= one
        if left == right:
            continue
        many, along = np.int64(0), np.int64(0)
        for column in range(left, right):
            inner = np.int64(image[i, column] > half)
            many += inner
            along += inner * np.int64(column)
        found[k, 2] += many
        found[k, 3] += many * i
        found[k, 4] += along
        found[k, 5] = min(found[k, 5], float(i))
        found[k, 6] = max(found[k, 6], float(i + one))
        found[k, 7] = min(found[k, 7], float(left))
        found[k, 8] = max(found[k, 8], float(right))
    for n in range(count):
        core = max(found[n, 2], 1.0)
        found[n, 3] = found[n, 3] / core + 0.5
        found[n, 4] = found[n, 4] / core + 0.5
    return found
