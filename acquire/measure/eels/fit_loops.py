"""Compiled loops that fits of spectra share: points from channels, a power law, sums, and normal equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from acquire.compiled import compiled

FITTED, NOT_FINITE, OUT_OF_RANGE, NO_FIT = 0, 1, 2, 3
"""States of a row."""


@compiled
def solve(matrix: Any, right: Any, size: int, inverse: Any) -> bool:
    """Invert a symmetric positive (size, size) matrix into ``inverse``, and ``right`` into the solution.

    Cholesky, after scaling the diagonal to 1. False if it is not positive.
    """
    scale = np.empty(size)
    for i in range(size):
        if not (matrix[i, i] > 0.0 and np.isfinite(matrix[i, i])):
            return False
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    lower = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j] * scale[i] * scale[j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i == j:
                if not total > 1e-12:
                    return False
                lower[i, i] = np.sqrt(total)
            else:
                lower[i, j] = total / lower[j, j]
    back = np.zeros((size, size))  # of the lower triangle
    for j in range(size):
        back[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, size):
            total = 0.0
            for k in range(j, i):
                total -= lower[i, k] * back[k, j]
            back[i, j] = total / lower[i, i]
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(max(i, j), size):
                total += back[k, i] * back[k, j]
            inverse[i, j] = total * scale[i] * scale[j]
    old = np.empty(size)
    for i in range(size):
        old[i] = right[i]
    for i in range(size):
        total = 0.0
        for j in range(size):
            total += inverse[i, j] * old[j]
        right[i] = total
    return True


@compiled
def dot3(a: Any, b: Any, c: Any, count: int) -> float:
    """Σ a b c over the first ``count``, in four sums side by side: one alone waits for itself."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = count - count % 4
    for p in range(0, whole, 4):
        s0 += a[p] * b[p] * c[p]
        s1 += a[p + 1] * b[p + 1] * c[p + 1]
        s2 += a[p + 2] * b[p + 2] * c[p + 2]
        s3 += a[p + 3] * b[p + 3] * c[p + 3]
    for p in range(whole, count):
        s0 += a[p] * b[p] * c[p]
    total: float = (s0 + s1) + (s2 + s3)
    return total


@compiled
def gather(
    row: Any,
    offset: float,
    step: float,
    windows: Any,
    tables: Any,
    grid_low: float,
    grid_step: float,
    faint: Any,
    grouped: float,
    energy: Any,
    values: Any,
    shapes: Any,
    widths: Any,
) -> int:
    """Collect the points of a fit: channels, or groups of them where every reference is faint.

    References are integrated over each channel by their running integrals ``tables`` (k, m). A group
    is at most ``grouped`` of its energy wide, in which a power law is straight to 10⁻⁵.

    Returns:
        how many points were filled in; -1 if a window leaves the spectrum.
    """
    count = 0
    channels = len(row)
    kinds, cells = tables.shape
    area = np.empty(kinds)
    below = np.empty(kinds)
    for w in range(len(windows)):
        first = int(np.ceil((windows[w, 0] - offset) / step - 1e-6))
        last = int(np.floor((windows[w, 1] - offset) / step + 1e-6))
        if first < 0 or last >= channels or last < first:
            return -1
        open_group = False
        group_from = 0.0
        lower = (offset + step * (first - 0.5) - grid_low) / grid_step
        lower = min(max(lower, 0.0), cells - 1.0)
        i = min(int(lower), cells - 2)
        for k in range(kinds):
            below[k] = tables[k, i] + (lower - i) * (tables[k, i + 1] - tables[k, i])
        for channel in range(first, last + 1):
            centre = offset + step * channel
            upper = min(max((centre + 0.5 * step - grid_low) / grid_step, 0.0), cells - 1.0)
            i = min(int(upper), cells - 2)
            all_faint = True
            for k in range(kinds):
                above = tables[k, i] + (upper - i) * (tables[k, i + 1] - tables[k, i])
                area[k] = above - below[k]
                below[k] = above
                all_faint &= abs(area[k]) <= faint[k]
            if open_group and all_faint and centre - group_from <= grouped * centre:
                at = count - 1
                energy[at] += centre
                values[at] += row[channel]
                widths[at] += 1.0
                for k in range(kinds):
                    shapes[k, at] += area[k]
                continue
            energy[count] = centre
            values[count] = row[channel]
            widths[count] = 1.0
            for k in range(kinds):
                shapes[k, count] = area[k]
            group_from = centre
            open_group = all_faint
            count += 1
    for at in range(count):
        energy[at] /= widths[at]
    return count


@compiled
def start_power_law(values: Any, widths: Any, log_energy: Any, empty: Any, count: int) -> Any:
    """Level and exponent from the two halves of what lies outside the references, in electrons per channel."""
    total = 0
    for p in range(count):
        total += empty[p]
    if total < 4:  # the references are everywhere: the beginning must do
        total = max(4, count // 4)
        for p in range(count):
            empty[p] = p < total
    seen = 0
    sums = np.zeros(2)
    size = np.zeros(2)
    middle = np.zeros(2)
    for p in range(count):
        if empty[p]:
            half = 0 if 2 * seen < total else 1
            sums[half] += values[p]
            size[half] += widths[p]
            middle[half] += widths[p] * log_energy[p]
            seen += 1
    whole = sums[0] + sums[1]
    exponent = 3.0
    apart = middle[1] / max(size[1], 1.0) - middle[0] / max(size[0], 1.0)
    if sums[0] > 20.0 and sums[1] > 20.0 and apart > 1e-6:
        found = -np.log(sums[1] / size[1] / (sums[0] / size[0])) / apart
        exponent = min(max(found, 0.0), 8.0)
    if whole <= 0.0:
        return -np.inf, exponent
    centre = (middle[0] + middle[1]) / (size[0] + size[1])
    return np.log(whole / (size[0] + size[1])) + exponent * centre, exponent


@compiled
def power_law(
    level: float, exponent: float, energy: Any, log_energy: Any, widths: Any, grouped: float,
    out: Any, count: int,
) -> float:  # fmt: skip
    """Electrons of the power law at every point into ``out``; returns their sum.

    Exact at anchors, at most ``grouped`` of the energy apart, and straight between: wrong by 10⁻⁵ at most.
    """
    total: float = 0.0
    p = 0
    before = np.exp(level - exponent * log_energy[0])
    out[0] = before * widths[0]
    total += out[0]
    while p < count - 1:
        reach = energy[p] * (1.0 + grouped)
        q = p + 1
        while q < count - 1 and energy[q + 1] <= reach:
            q += 1
        after = np.exp(level - exponent * log_energy[q])
        slope = (after - before) / (energy[q] - energy[p])
        for i in range(p + 1, q):
            out[i] = widths[i] * (before + slope * (energy[i] - energy[p]))
            total += out[i]
        out[q] = widths[q] * after
        total += out[q]
        before = after
        p = q
    return total
