"""Small robust statistics that every step of particle sizing shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

_FULL_BUCKET = 48
"""More values than that in one bucket mean outliers, and a general sort is faster."""


def negative_side_sigma(values: NDArray[Any], sample: int = 16384) -> float:
    """Standard deviation of the noise from the values below zero alone.

    Particles lie above zero (after polarity), so whatever their coverage they do not widen it. Of
    a large image about ``sample`` values on a regular grid are looked at.
    """
    step = 1
    if values.ndim == 2:
        step = max(1, int((values.size / sample) ** 0.5))
    else:
        values = values.reshape(1, -1)
    return 1.4826 * middle_below_zero(np.ascontiguousarray(values), step)


@compiled
def middle_below_zero(values: NDArray[Any], step: int) -> float:
    """Median of -v over the values v below zero, of every ``step``-th row and column; 0 without any."""
    rows, columns = values.shape
    chosen = np.empty(((rows + step - 1) // step) * ((columns + step - 1) // step), values.dtype)
    count = 0
    for i in range(0, rows, step):
        row = values[i]
        for j in range(0, columns, step):
            # without a branch, which noise would make a guess
            chosen[count] = -row[j]
            count += row[j] < 0
    return middle(chosen[:count])


@compiled
def middle_rises(image: NDArray[np.float32], step: int) -> tuple[float, float]:
    """Medians of |rise| from the pixel above, and from that to the left, to pixels below zero.

    Of every ``step``-th row and column; pixels below zero are film, and no particle's flank.
    """
    rows, columns = image.shape
    room = ((rows + step - 2) // step) * ((columns + step - 2) // step)
    down, across = np.empty(room, np.float32), np.empty(room, np.float32)
    count = 0
    for i in range(1, rows, step):
        for j in range(1, columns, step):
            here = image[i, j]
            if here < 0:
                down[count] = abs(here - image[i - 1, j])
                across[count] = abs(here - image[i, j - 1])
                count += 1
    return middle(down[:count]), middle(across[:count])


@compiled
def noise_by_part(
    sample: NDArray[np.float32], at: NDArray[np.float32], ends: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of ``at`` and :func:`negative_side_sigma` of the sample in the ranges between ``ends``.

    ``sample`` and ``at`` are (y, x); an end belongs to the range below it.
    """
    parts = ends.shape[0] + 1
    total, pixels = np.zeros(parts), np.zeros(parts)
    count = np.zeros(parts, np.int64)
    below = np.empty((parts, sample.size), np.float32)
    for i in range(sample.shape[0]):
        for j in range(sample.shape[1]):
            where, value = at[i, j], sample[i, j]
            part = 0
            for end in ends:
                part += where > end
            total[part] += where
            pixels[part] += 1.0
            below[part, count[part]] = -value
            count[part] += value < 0
    noise = np.empty(parts)
    for part in range(parts):
        total[part] /= max(pixels[part], 1.0)
        noise[part] = 1.4826 * middle(below[part, : count[part]])
    return total, noise


@compiled
def median_of_few(values: NDArray[np.float64]) -> float:
    """Median of numbers that may be infinite; NaN without any. For a few, as many as particles."""
    return float(np.median(values)) if values.size else np.nan


@compiled
def middle(values: NDArray[Any]) -> float:
    """Median; 0 without values."""
    count = values.shape[0]
    if count == 0:
        return 0.0
    # only the buckets that hold the middle need to be put in order
    low, high = (count - 1) // 2, count // 2
    first, ends, inverse = _buckets(values)
    at = 0
    while ends[at] <= low:
        at += 1
    until = at
    while ends[until] <= high:
        until += 1
    start = ends[at - 1] if at else 0
    chosen = np.empty(ends[until] - start, values.dtype)
    n = 0
    last = ends.shape[0] - 1
    for k in range(count):
        bucket = min(int((values[k] - first) * inverse), last)
        if at <= bucket <= until:
            chosen[n] = values[k]
            n += 1
    chosen.sort()
    # float() would leave a float32 as it is
    return 0.5 * (np.float64(chosen[low - start]) + np.float64(chosen[high - start]))


@compiled
def in_order(values: NDArray[Any]) -> NDArray[Any]:
    """The values from the lowest to the highest: into buckets first, in time proportional to their number."""
    count = values.shape[0]
    if count < 2:
        return values.copy()
    first, ends, inverse = _buckets(values)
    last = ends.shape[0] - 1
    before = 0
    for k in range(last + 1):
        if ends[k] - before > _FULL_BUCKET:
            return np.sort(values)
        before = ends[k]
    ordered = np.empty(count, values.dtype)
    for k in range(count):
        bucket = min(int((values[k] - first) * inverse), last)
        ends[bucket] -= 1
        ordered[ends[bucket]] = values[k]
    for k in range(1, count):
        value = ordered[k]
        n = k
        while n > 0 and ordered[n - 1] > value:
            ordered[n] = ordered[n - 1]
            n -= 1
        ordered[n] = value
    return ordered


@compiled
def _buckets(values: NDArray[Any]) -> tuple[float, NDArray[np.int64], float]:
    """Lowest value, how many values lie below the end of each bucket, and buckets per unit."""
    count = values.shape[0]
    lowest, highest = values[0], values[0]
    low_1, low_2, high_1, high_2 = lowest, lowest, highest, highest
    # two chains, since each comparison waits for the one before it
    for k in range(0, count - 1, 2):
        a, b = values[k], values[k + 1]
        low_1 = a if a < low_1 else low_1
        high_1 = a if a > high_1 else high_1
        low_2 = b if b < low_2 else low_2
        high_2 = b if b > high_2 else high_2
    lowest = min(low_1, low_2, values[count - 1])
    highest = max(high_1, high_2, values[count - 1])
    number = max(1, min(count // 2, 2048))
    width = float(highest) - float(lowest)
    inverse = number / width if width > 0.0 else 0.0
    ends = np.zeros(number, np.int64)
    for k in range(count):
        ends[min(int((values[k] - lowest) * inverse), number - 1)] += 1
    for k in range(1, number):
        ends[k] += ends[k - 1]
    return lowest, ends, inverse
