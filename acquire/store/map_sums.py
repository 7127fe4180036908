"""Sums the passes of a map by whole channels, the zero-loss peaks brought onto one another."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.errors import MeasureError, StoreError

_DIMS = ("pass", "y", "x")


def sum_passes(placed: xr.Dataset) -> xr.Dataset:
    """The spectra of a map summed over its passes, channel by channel and nothing resampled.

    Where low-loss spectra of one read each are there, every spectrum is moved by whole channels so
    that its zero-loss peak falls on the channel of the map's median one; ``moved`` (pass, y, x) says by
    how many, ``passes`` how many spectra are in the sum of a point. Channels that not all spectra of
    the map have after that are left out at both ends. A point without a known zero-loss peak in a pass
    is summed without that spectrum; a map without low loss is summed as it is.

    Raises:
        StoreError: the zero-loss peak moved by more than the axis is long.
    """
    core = placed.core_loss
    moved = _moved_channels(placed)
    usable = placed.taken.values & np.isfinite(moved)
    shift = np.where(usable, moved, 0).astype(np.int64)
    low, high = int(shift[usable].min(initial=0)), int(shift[usable].max(initial=0))
    channels = core.sizes["energy_loss"]
    first, last = max(0, -low), channels - max(0, high)
    if last <= first:
        raise StoreError(
            f"the zero-loss peak moves by {high - low} channels over the map, and its spectra have "
            f"{channels}: they cannot be summed."
        )
    total = np.zeros((*core.shape[1:3], last - first), np.float64)
    for pass_, row in np.ndindex(core.shape[:2]):
        spectra = core[pass_, row].values
        for column in np.flatnonzero(usable[pass_, row]):
            by = shift[pass_, row, column]
            total[row, column] += spectra[column, first + by : last + by]
    count = usable.sum(axis=0)
    total[count == 0] = np.nan
    energy = core.energy_loss[first:last]
    return xr.Dataset(
        {"core_loss": (("y", "x", "energy_loss"), total, core.attrs)},
        {
            "y": placed.y,
            "x": placed.x,
            "energy_loss": energy,
            "passes": (("y", "x"), count, {"long_name": "spectra in the sum"}),
            "moved": (_DIMS, np.where(usable, moved, np.nan), {"long_name": "channels"}),
        },
    )


def _moved_channels(placed: xr.Dataset) -> NDArray[np.float64]:
    """By how many channels the zero-loss peak of every spectrum lies above the median one."""
    shape = tuple(placed.sizes[dim] for dim in _DIMS)
    if "low_loss" not in placed or placed.low_loss.ndim != 4:
        return np.zeros(shape)
    # the store is read where nothing is measured
    from acquire.instruments import Axis
    from acquire.measure.eels import find_zero_loss

    low = placed.low_loss
    energy = low[low.dims[-1]].values
    axis = Axis(float(energy[0]), float(energy[1] - energy[0]), "eV")
    step_ev = float(placed.energy_loss[1] - placed.energy_loss[0])
    positions = np.full(shape, np.nan)
    width: float | None = None
    for pass_, row in np.ndindex(shape[:2]):
        there = placed.taken.values[pass_, row]
        if there.any():
            try:
                found = find_zero_loss(low[pass_, row].values[there], axis, fwhm_ev=width)
            except MeasureError:
                continue  # nothing to be seen in all of a row
            width = found.fwhm_ev
            positions[pass_, row, there] = found.position_ev
    if not np.isfinite(positions).any():
        return np.full(shape, np.nan)
    return np.asarray(np.round((positions - np.nanmedian(positions)) / step_ev))
