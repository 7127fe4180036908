"""The loops that make numbers of fitted backgrounds, row by row: an edge, and the ratio of two windows.

They say what :meth:`PowerLaw.integral`, :func:`window_sum` and :func:`window_ratio` say together; for
one pair those take most of their time in being called.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]


@compiled
def trustworthy(law: Array, readout_variance: float, significant: float, loose: float) -> bool:
    """Whether no row of ``law`` (n, 10), as ``fit_rows`` tells it, needs an exponent that is held."""
    for i in range(len(law)):
        total, channels = law[i, 8], law[i, 9]
        noise = math.sqrt(max(total, 0.0) + channels * readout_variance)
        fitted = channels >= 4.0 and math.isfinite(total)
        fitted &= total > 0.0 or readout_variance > 0.0
        if fitted and not (total > significant * noise and law[i, 4] < loose * loose):
            return False
    return True


@compiled
def gross(row: Array, offset: float, step: float, low: float, high: float) -> float:
    """Sum of a row between two energies, cut channels by their share; NaN where these leave it."""
    first, last = (low - offset) / step + 0.5, (high - offset) / step + 0.5
    if not (first >= 0.0 and last <= len(row)):
        return np.nan
    begin, end = int(first), min(int(last), len(row) - 1)
    total = 0.0
    for c in range(begin, end):
        total += row[c]
    total += (last - end) * row[end] - (first - begin) * row[begin]
    return float(total)


@compiled
def under(law: Array, reference: float, low: float, high: float, nodes: Array, out: Array) -> None:
    """Integral of one power law, its slope with the exponent, and its second: ``out`` (3,).

    ``law`` (10,) is a row of ``fit_rows``, ``nodes`` (2, k) are those of Gauss and Legendre and their
    weights.
    """
    a, b = math.log(low / reference), math.log(high / reference)
    half, middle = 0.5 * (b - a), 0.5 * (b + a)
    out[:] = 0.0
    for k in range(nodes.shape[1]):
        at = half * nodes[0, k] + middle
        part = math.exp(law[0] + (1.0 - law[1]) * at) * nodes[1, k] * half * reference
        out[0] += part
        out[1] -= part * at
        out[2] += part * at * at


@compiled
def edge_rows(
    rows: Array,
    offset_ev: Array,
    step: float,
    law: Array,
    fit: tuple[float, float],
    window: tuple[float, float],
    nodes: Array,
    readout_variance: float,
    worst_chi2: float,
    out: Array,
) -> None:
    """Net electrons of an edge in rows (n, channels): ``out`` (n, 4) gets them, σ, and 1 or 0 for an
    edge that leaves the axis, and for a poor background.
    """
    reference = math.sqrt(fit[0] * fit[1])
    channels = (window[1] - window[0]) / step
    part = np.empty(3)
    for i in range(len(rows)):
        total = gross(rows[i], offset_ev[i], step, window[0], window[1])
        under(law[i], reference, window[0], window[1], nodes, part)
        value, slope, curve = part
        caa, car, crr = law[i, 2], law[i, 3], law[i, 4]
        spread = value * value * caa + slope * slope * crr + 2.0 * value * slope * car
        off = value * law[i, 6] + slope * law[i, 7]
        off += 0.5 * (value * caa + 2.0 * slope * car + curve * crr)
        limit = 0.5 * abs(value)
        off = min(max(off, -limit), limit)
        outside = offset_ev[i] - step / 2 > fit[0] + step or not math.isfinite(total)
        net = np.nan if outside else total - (value - off)
        variance = max(total, 0.0) + channels * readout_variance + max(spread, 0.0)
        out[i, 0] = net
        out[i, 1] = np.nan if outside else math.sqrt(variance)
        out[i, 2] = 1.0 if outside else 0.0
        out[i, 3] = 1.0 if math.isfinite(net) and law[i, 5] > worst_chi2 else 0.0


@compiled
def ratio_rows(
    rows: Array,
    offset_ev: Array,
    step: float,
    law: Array,
    fit: tuple[float, float],
    first: tuple[float, float],
    second: tuple[float, float],
    nodes: Array,
    readout_variance: float,
    limits: tuple[float, float, float],
    out: Array,
) -> None:
    """Ratio of two windows of rows (n, channels) above one background: ``out`` (n, 5) gets it, σ, and
    1 or 0 for windows of few counts, a poor background, and windows that leave the axis.

    ``limits``: σ below which a window has few counts, below which the second tells nothing, and the
    worst χ².
    """
    reference = math.sqrt(fit[0] * fit[1])
    one, two = np.empty(3), np.empty(3)
    for i in range(len(rows)):
        offset = offset_ev[i]
        seen = offset - step / 2 <= fit[0] + step
        seen &= offset + step * (rows.shape[1] - 0.5) >= fit[1] - step
        totals = (
            gross(rows[i], offset, step, first[0], first[1]),
            gross(rows[i], offset, step, second[0], second[1]),
        )
        told = seen and math.isfinite(totals[0]) and math.isfinite(totals[1])
        out[i, 0], out[i, 1] = np.nan, np.nan
        out[i, 2], out[i, 3], out[i, 4] = 0.0, 0.0, 0.0 if told else 1.0
        if not told:
            continue
        under(law[i], reference, first[0], first[1], nodes, one)
        under(law[i], reference, second[0], second[1], nodes, two)
        caa, car, crr = law[i, 2], law[i, 3], law[i, 4]
        nets = totals[0] - one[0], totals[1] - two[0]
        own = (
            max(totals[0], 0.0) + (first[1] - first[0]) / step * readout_variance,
            max(totals[1], 0.0) + (second[1] - second[0]) / step * readout_variance,
        )
        by_one = one[0] * one[0] * caa + 2.0 * one[0] * one[1] * car + one[1] * one[1] * crr
        by_two = two[0] * two[0] * caa + 2.0 * two[0] * two[1] * car + two[1] * two[1] * crr
        sigma = math.sqrt(own[0] + by_one), math.sqrt(own[1] + by_two)
        weak = not (nets[0] > limits[0] * sigma[0]) or not (nets[1] > limits[0] * sigma[1])
        out[i, 2] = 1.0 if weak else 0.0
        out[i, 3] = 1.0 if law[i, 5] > limits[2] else 0.0
        if nets[1] > limits[1] * sigma[1]:
            ratio = nets[0] / nets[1]
            level, exponent = one[0] - ratio * two[0], one[1] - ratio * two[1]
            shared = level * level * caa + 2.0 * level * exponent * car
            shared += exponent * exponent * crr
            out[i, 0] = ratio
            out[i, 1] = math.sqrt(own[0] + ratio * ratio * own[1] + shared) / nets[1]
