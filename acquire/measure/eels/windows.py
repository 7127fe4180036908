"""Integrates spectra over energy windows whose ends cut channels, without resampling anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def running_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums (n, channels + 1) of (n, channels): entry k is the sum of the first k channels."""
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))


def window_sum(
    sums: NDArray[np.float64],
    offset_ev: NDArray[np.float64],
    step_ev: float,
    low_ev: float,
    high_ev: float,
) -> NDArray[np.float64]:
    """Sum between two energies from running sums; a cut channel counts by its share.

    ``offset_ev`` (n,) is the centre of each spectrum's first channel. NaN where the window leaves
    the spectrum.
    """
    low = (low_ev - offset_ev) / step_ev + 0.5
    high = (high_ev - offset_ev) / step_ev + 0.5
    channels = sums.shape[1] - 1
    inside = (low >= 0) & (high <= channels)
    value = _at(sums, np.clip(high, 0, channels)) - _at(sums, np.clip(low, 0, channels))
    return np.where(inside, value, np.nan)


def _at(sums: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.minimum(place.astype(np.intp), sums.shape[1] - 2)
    row = np.arange(len(sums))
    share = place - whole
    return np.asarray(sums[row, whole] * (1 - share) + sums[row, whole + 1] * share)
