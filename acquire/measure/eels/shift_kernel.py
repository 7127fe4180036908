"""The Kalman filter of one drifting number, and its smoother of a fixed lag."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]


@compiled
def filter_walk(
    times_s: Array, values: Array, variances: Array, walk_variance: float, lag: int, out: Array
) -> float:
    """Random walk seen through white noise; ``out`` (n, 2) gets the walk at each time and its variance.

    Every entry uses what was measured until then and ``lag`` entries more (all of them if
    negative). NaN values are gaps; before the first value the walk is unknown (NaN, infinite
    variance). Returns the log-likelihood of the values given the first.
    """
    n = len(times_s)
    ahead, ahead_variance = np.empty(n), np.empty(n)
    state, variance, likelihood = np.nan, np.inf, 0.0
    for k in range(n):
        if k > 0 and variance < np.inf:
            variance += walk_variance * (times_s[k] - times_s[k - 1])
        if math.isfinite(values[k]):
            if variance == np.inf:
                state, variance = values[k], variances[k]
            else:
                total = variance + variances[k]
                rest = values[k] - state
                likelihood -= 0.5 * (math.log(total) + rest * rest / total)
                gain = variance / total
                state += gain * rest
                variance *= 1.0 - gain
        out[k, 0] = state
        out[k, 1] = variance
        ahead[k] = state
        ahead_variance[k] = variance
    if lag == 0:
        return likelihood
    if lag < 0 or lag >= n:
        _look_back(times_s, values, variances, walk_variance, 0, n - 1, ahead, ahead_variance, out)
        return likelihood
    for k in range(n):
        end = min(k + lag, n - 1)
        _look_back(times_s, values, variances, walk_variance, k, end, ahead, ahead_variance, out)
    return likelihood


@compiled
def _look_back(
    times_s: Array,
    values: Array,
    variances: Array,
    walk_variance: float,
    first: int,
    last: int,
    ahead: Array,
    ahead_variance: Array,
    out: Array,
) -> None:
    """Join what was known at each entry first … last - 1 with what came after it, up to ``last``.

    With a lag only ``first`` is an answer; the others are written again by their own call.
    """
    state, variance = np.nan, np.inf
    for k in range(last, first - 1, -1):
        if variance < np.inf and k < last:
            variance += walk_variance * (times_s[k + 1] - times_s[k])
        if variance == np.inf:
            out[k, 0] = ahead[k]
            out[k, 1] = ahead_variance[k]
        elif ahead_variance[k] == np.inf:
            out[k, 0] = state
            out[k, 1] = variance
        else:
            total = variance + ahead_variance[k]
            if total > 0.0:
                out[k, 0] = ahead[k] + ahead_variance[k] / total * (state - ahead[k])
                out[k, 1] = variance * ahead_variance[k] / total
            else:
                out[k, 0] = ahead[k]
                out[k, 1] = 0.0
        if math.isfinite(values[k]):
            if variance == np.inf:
                state, variance = values[k], variances[k]
            elif variance + variances[k] > 0.0:
                gain = variance / (variance + variances[k])
                state += gain * (values[k] - state)
                variance *= 1.0 - gain
