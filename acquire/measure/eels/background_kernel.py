"""The loop over spectra that fits a power law to the channels of a window by maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]

ROUNDS = 40
"""At most; five do as a rule."""
BIN = 0.003
"""Widest relative width of a bin of channels: the background falls by 1 % over it."""


@compiled
def fit_rows(
    rows: Array,
    offset_ev: Array,
    step_ev: float,
    low_ev: float,
    high_ev: float,
    readout_variance: float,
    limits: tuple[float, float],
    out: Array,
) -> None:
    """Fit every row (n, channels); ``out`` (n, 10) gets a, r, the covariance's aa, ar, rr, reduced χ²,
    the biases of a and r, the electrons in the window, and its channels.

    Neighbouring channels go into bins before the fit. The score of a power law needs of a bin only
    the electrons in it and their first moment in log E, as long as its weight is the same all over
    it, so that no information is lost: on 400 channels σ grows by less than 1e-4.
    """
    n, channels = rows.shape
    reference = math.sqrt(low_ev * high_ev)
    per_bin = max(1, int(BIN * low_ev / step_ev))
    most = int((high_ev - low_ev) / step_ev) + 2
    counts = np.empty(most)
    moment = np.empty(most)
    centre = np.empty(most)
    size = np.empty(most)
    for i in range(n):
        offset = offset_ev[i]
        out[i, :] = np.nan
        out[i, 8] = 0.0
        out[i, 9] = 0.0
        if not math.isfinite(offset):
            continue
        first = max(0, math.ceil((low_ev - offset) / step_ev - 1e-9))
        last = min(channels - 1, math.floor((high_ev - offset) / step_ev + 1e-9))
        used = last - first + 1
        if used < 4:
            out[i, 9] = max(used, 0)
            continue
        bins, total = 0, 0.0
        for start in range(first, last + 1, per_bin):
            end = min(start + per_bin, last + 1)
            at = offset + step_ev * 0.5 * (start + end - 1)
            held = by = 0.0
            for k in range(start, end):
                held += rows[i, k]
                by += rows[i, k] * (k - 0.5 * (start + end - 1))
            counts[bins] = held
            # first moment about the bin's centre, in log E
            moment[bins] = by * step_ev / at
            centre[bins] = math.log(at / reference)
            size[bins] = end - start
            total += held
            bins += 1
        out[i, 8] = total
        out[i, 9] = used
        if not (math.isfinite(total) and total > 0.0):
            continue
        a, r = math.log(total / used / step_ev), 3.0
        c_aa = c_ar = c_rr = np.nan
        for _ in range(ROUNDS):
            s_a = s_r = i_aa = i_ar = i_rr = 0.0
            for b in range(bins):
                x = centre[b]
                mean = step_ev * math.exp(a - r * x)
                weight = mean / (mean + readout_variance)
                # of a bin: Σ (n - m) and Σ (n - m) (log E - x), and how it is spread within
                spread = (
                    (size[b] * size[b] - 1.0) / 12.0 * _square(step_ev / (reference * math.exp(x)))
                )
                expected = size[b] * mean * (1.0 + 0.5 * r * (r + 1.0) * spread)
                rest = weight * (counts[b] - expected)
                within = weight * (moment[b] + size[b] * mean * r * spread)
                s_a += rest
                s_r -= rest * x + within
                information = weight * expected
                i_aa += information
                i_ar -= information * x
                i_rr += information * (x * x + spread)
            determinant = i_aa * i_rr - i_ar * i_ar
            if not determinant > 0.0:
                break
            d_a = (i_rr * s_a - i_ar * s_r) / determinant
            d_r = (i_aa * s_r - i_ar * s_a) / determinant
            c_aa, c_ar, c_rr = i_rr / determinant, -i_ar / determinant, i_aa / determinant
            shrink = min(1.0, 1.0 / max(abs(d_a), 0.25 * abs(d_r), 1e-12))
            before = r
            r = min(max(r + shrink * d_r, limits[0]), limits[1])
            if r != before + shrink * d_r:
                # at a limit of the exponent the level is fitted alone
                d_r, d_a = r - before, (s_a - i_ar * (r - before)) / i_aa
                shrink = min(1.0, 1.0 / max(abs(d_a), 1e-12))
            a += shrink * d_a
            if abs(d_a) + abs(d_r) < 1e-7:
                break
        if not math.isfinite(a):
            continue
        bias_a = bias_r = 0.0
        for b in range(bins):
            x = centre[b]
            mean = step_ev * math.exp(a - r * x)
            bent = (
                size[b]
                * mean
                * mean
                / (mean + readout_variance)
                * (c_aa - 2.0 * x * c_ar + x * x * c_rr)
            )
            bias_a -= 0.5 * bent
            bias_r += 0.5 * bent * x
        chi2 = 0.0
        for b in range(bins):
            start = first + b * per_bin
            end = min(start + per_bin, last + 1)
            at = reference * math.exp(centre[b])
            level = step_ev * math.exp(a - r * centre[b])
            for k in range(start, end):
                away = (k - 0.5 * (start + end - 1)) * step_ev / at
                mean = level * (1.0 - r * away + 0.5 * r * (r + 1.0) * away * away)
                chi2 += _square(rows[i, k] - mean) / max(mean + readout_variance, 1e-12)
        out[i, 0] = a
        out[i, 1] = r
        out[i, 2] = c_aa
        out[i, 3] = c_ar
        out[i, 4] = c_rr
        out[i, 5] = chi2 / max(used - 2, 1)
        out[i, 6] = c_aa * bias_a + c_ar * bias_r
        out[i, 7] = c_ar * bias_a + c_rr * bias_r


@compiled
def _square(value: float) -> float:
    return value * value
