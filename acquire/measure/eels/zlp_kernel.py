"""The loop over spectra that fits a tabulated peak to each by maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]

ROUNDS = 30
"""At most; five do as a rule."""


@compiled
def highest(row: Array, width: int) -> int:
    """First channel of the ``width`` neighbours that hold most."""
    total = 0.0
    for k in range(width):
        total += row[k]
    best, first = total, 0
    for k in range(width, len(row)):
        total += row[k] - row[k - width]
        if total > best:
            best, first = total, k - width + 1
    return first


@compiled
def start_near(row: Array, width: int) -> float:
    """Centroid of the highest ``width`` channels and half as many on either side, in channels."""
    first = highest(row, width)
    low = max(0, first - width // 2 - 1)
    high = min(len(row), first + width + width // 2 + 1)
    base, weight, moment = np.inf, 0.0, 0.0
    for k in range(low, high):
        base = min(base, row[k])
    base = max(base, 0.0)
    for k in range(low, high):
        value = max(row[k] - base, 0.0)
        weight += value
        moment += value * k
    return moment / weight if weight > 0.0 else first + 0.5 * (width - 1)


@compiled
def _at(cells: float, share: Array, slope: Array) -> tuple[float, float]:
    """Share of the peak and its slope per cell, that many cells of the table off its maximum."""
    last = len(share) - 1
    x = min(max(cells + 0.5 * last, 0.0), float(last)) if cells == cells else 0.0
    cell = min(int(x), last - 1)
    t = x - cell
    p0, d0 = share[cell], slope[cell]
    rest = share[cell + 1] - p0
    bend, twist = 3.0 * rest - 2.0 * d0 - slope[cell + 1], d0 + slope[cell + 1] - 2.0 * rest
    return p0 + t * (d0 + t * (bend + t * twist)), d0 + t * (2.0 * bend + 3.0 * t * twist)


@compiled
def fit_peak(
    row: Array,
    middle: int,
    half: int,
    start: float,
    share: Array,
    slope: Array,
    spacing: float,
    readout_variance: float,
    out: Array,
) -> None:
    """Position and height of the peak in the channels middle - half … middle + half.

    Fisher scoring of the likelihood with the variance mean + readout. ``out`` gets position, σ of
    the position (both in channels), height (electrons of a whole peak), 1/σ of a height of nothing,
    electrons in the window, reduced χ², and the rms misfit over the rms of the peak.
    """
    position, height = start, 0.0
    first, last = middle - half, middle + half
    total = 0.0
    for k in range(first, last + 1):
        total += row[k]
    variance_position = np.nan
    for turn in range(ROUNDS):
        s_p = s_h = i_pp = i_ph = i_hh = part = 0.0
        for sweep in range(2):
            if sweep == 0 and turn > 0:
                continue  # the height is known but for the first turn
            for k in range(first, last + 1):
                value, rise = _at((k - position) / spacing, share, slope)
                if sweep == 0:
                    part += value
                    continue
                mean = height * value
                by_position = -height * rise / spacing
                weight = 1.0 / (mean + readout_variance + 1e-12)
                rest = (row[k] - mean) * weight
                s_p += rest * by_position
                s_h += rest * value
                i_pp += by_position * by_position * weight
                i_ph += by_position * value * weight
                i_hh += value * value * weight
            if sweep == 0:
                height = max(total / max(part, 1e-3), 1e-3)
        determinant = i_pp * i_hh - i_ph * i_ph
        if not determinant > 0.0:
            position = np.nan
            break
        move = (i_hh * s_p - i_ph * s_h) / determinant
        grow = (i_pp * s_h - i_ph * s_p) / determinant
        limit = 0.25 * half
        clipped = min(max(move, -limit), limit)
        position += clipped
        height = min(max(height + grow, 0.2 * height), 5.0 * height)
        variance_position = i_hh / determinant
        if abs(move) < 1e-3 * math.sqrt(variance_position) and abs(grow) < 1e-4 * height:
            break
        if abs(position - middle) > half:
            break
    chi2 = misfit = power = significance = 0.0
    for k in range(first, last + 1):
        value, _ = _at((k - position) / spacing, share, slope)
        mean = height * value
        variance = mean + readout_variance
        square = (row[k] - mean) * (row[k] - mean)
        chi2 += square / (variance + 1e-3)
        misfit += square - variance
        power += mean * mean
        significance += value * value / (readout_variance + 1e-12)
    out[0] = position
    out[1] = math.sqrt(variance_position)
    out[2] = height
    out[3] = math.sqrt(significance)
    out[4] = total
    out[5] = chi2 / (2.0 * half - 1.0)
    out[6] = math.sqrt(max(misfit, 0.0) / max(power, 1e-12))


@compiled
def fit_peaks(
    rows: Array,
    width: int,
    half: int,
    share: Array,
    slope: Array,
    spacing: float,
    readout_variance: float,
    out: Array,
) -> None:
    """Fit every row (n, channels) that is finite; ``out`` (n, 8) as in :func:`fit_peak`, then the window's middle."""
    n, channels = rows.shape
    for i in range(n):
        row = rows[i]
        position = start_near(row, width)
        if not math.isfinite(position):
            out[i, :] = np.nan
            continue
        middle = 0
        for _ in range(2):  # the window follows the peak once it is known to better than a channel
            if not math.isfinite(position):
                break
            centred = math.floor(min(max(position, 0.0), channels - 1.0) + 0.5)
            centred = min(max(centred, half), channels - 1 - half)
            if centred == middle:
                break
            middle = centred
            start = min(max(position, middle - 0.5 * half), middle + 0.5 * half)
            fit_peak(row, middle, half, start, share, slope, spacing, readout_variance, out[i, :7])
            position = out[i, 0]
        out[i, 7] = middle
