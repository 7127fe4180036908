"""Integrates spectra over energy windows whose ends cut channels, without resampling anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def running_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums (n, channels + 1) of (n, channels): entry k is the sum of the first k channels."""
    sums = np.empty((len(values), values.shape[1] + 1))
    sums[:, 0] = 0.0
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def window_sum(
    sums: NDArray[np.float64],
    offset_ev: NDArray[np.float64],
    step_ev: float,
    low_ev: float,
    high_ev: float,
) -> NDArray[np.float64]:
    """Sum between two energies from running sums; a cut channel counts by its share.

    ``offset_ev`` (n,) is the centre of each spectrum's first channel. NaN where the window leaves
    the spectrum, or where it is not known where the spectrum lies.
    """
    low = (low_ev - offset_ev) / step_ev + 0.5
    high = (high_ev - offset_ev) / step_ev + 0.5
    channels = sums.shape[1] - 1
    inside = (low >= 0) & (high <= channels)
    low, high = (np.where(inside, place, 0.0) for place in (low, high))
    value = _at(sums, high) - _at(sums, low)
    return np.where(inside, value, np.nan)


def _at(sums: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.minimum(place.astype(np.intp), sums.shape[1] - 2)
    row = np.arange(len(sums))
    share = place - whole
    return np.asarray(sums[row, whole] * (1 - share) + sums[row, whole + 1] * share)


def bin_sums(
    sums: NDArray[np.float64],
    offset_ev: NDArray[np.float64],
    step_ev: float,
    edges_ev: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sums between neighbouring energies (k + 1,), or (n, k + 1), as :func:`window_sum`: (n, k).

    NaN where a bin leaves the spectrum.
    """
    place = (np.atleast_2d(edges_ev) - offset_ev[:, None]) / step_ev + 0.5
    channels = sums.shape[1] - 1
    inside = (place >= 0) & (place <= channels)
    held = np.clip(place, 0, channels)
    whole = np.minimum(held.astype(np.intp), channels - 1)
    share = held - whole
    lower = np.take_along_axis(sums, whole, axis=1)
    upper = np.take_along_axis(sums, whole + 1, axis=1)
    value = np.where(inside, lower + share * (upper - lower), np.nan)
    return np.asarray(np.diff(value, axis=1))
