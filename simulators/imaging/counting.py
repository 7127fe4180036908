"""Detected electrons and counts: Poisson numbers that depend on key, row and column only, compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Image = NDArray[np.float32]

EXACT_BELOW = 16.0
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@compiled
def mix(z: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@compiled
def central(q: float) -> float:
    """The deviate of a probability of 0.5 + ``q`` between 0.02425 and 0.97575."""
    r = q * q
    top = (-3.969683028665376e01 * r + 2.209460984245205e02) * r - 2.759285104469687e02
    top = ((top * r + 1.383577518672690e02) * r - 3.066479806614716e01) * r
    low = (-5.447609879822406e01 * r + 1.615858368580409e02) * r - 1.556989798598866e02
    low = ((low * r + 6.680131188771972e01) * r - 1.328068155288572e01) * r + 1
    return (top + 2.506628277459239) * q / low


@compiled
def deviate(u: float) -> float:
    """Standard normal deviate of a probability in (0, 1), to a relative 1.2e-9 (Acklam 2003)."""
    if u < 0.02425 or u > 0.97575:
        q = math.sqrt(-2 * math.log(u if u < 0.5 else 1 - u))
        top = -7.784894002430293e-03 * q - 3.223964580411365e-01
        top = ((top * q - 2.400758277161838) * q - 2.549732539343734) * q
        top = (top + 4.374664141464968) * q + 2.938163982698783
        low = (7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996
        low = (low * q + 3.754408661907416) * q + 1
        return top / low if u < 0.5 else -top / low
    return central(u - 0.5)


@compiled
def electrons(mean: float, u: float) -> float:
    """The Poisson number of a mean whose cumulative probability is ``u``.

    Exact below a mean of 16. Above, the normal deviate z of ``u`` is bent by the Cornish-Fisher
    series λ + √λ z + (z² - 1)/6 + (z - z³)/(72 √λ) to the Poisson's skewness and kurtosis and
    rounded; its variance is lowered by the 1/12 that rounding adds. Mean and variance are right to
    0.1 %.
    """
    if mean < EXACT_BELOW:
        if u <= 1 - mean:  # and so below exp(-mean)
            return 0.0
        term = math.exp(-mean)
        below, number = term, 0
        while u > below and number < 200:
            number += 1
            term *= mean / number
            below += term
        return float(number)
    z = deviate(u)
    root = math.sqrt(mean - 1 / 12)
    bent = mean + root * z + (z * z - 1) / 6 + z * (1 - z * z) / (72 * root)
    return max(math.floor(bent + 0.5), 0.0)


@compiled
def count(
    mean: Image,
    key: np.uint64,
    first: int,
    afterglow: float,
    gain: float,
    offset: float,
    highest: float,
    counts: NDArray[Any],
) -> None:
    """Counts of some rows: drawn electrons, with afterglow along the row, gain, offset and rounding.

    Args:
        mean: electrons, float32 (rows, columns).
        key: of the detector in this frame.
        first: row of the image that ``mean`` begins with.
        afterglow: share of the light that comes later.
        gain: counts per electron.
        offset: counts.
        highest: where counts saturate.
        counts: set; any unsigned integers (rows, columns).
    """
    rows, columns = mean.shape
    for i in range(rows):
        state = mix(key + np.uint64(first + i) * _GOLDEN)
        # a row begins with the light of one that has gone on before it
        glow = float(mean[i, 0])
        for j in range(columns):
            word = mix(state + np.uint64(j + 1) * _GOLDEN) >> _S11
            found = electrons(mean[i, j], (float(word) + 0.5) * 1.1102230246251565e-16)
            if afterglow > 0:
                glow = (1 - afterglow) * found + afterglow * glow
                found = glow
            value = math.floor(offset + gain * found + 0.5)
            counts[i, j] = min(max(value, 0.0), highest)
