"""Tells on which energies the spectra of a stream lie, where they do not all lie on the nominal axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.export.source import LinearAxis

Array = NDArray[np.float64]

TUNED = "energy_offset"
"""Coordinate of a frame: energy (eV) of its first core-loss channel, where that was moved within a stream."""
SCALE = "dispersion_scale"
"""Coordinate of a frame: calibrated dispersion over the nominal one."""
CORRECTIONS: Mapping[str, str] = {
    "core_loss": "core_loss_correction",
    "low_loss": "low_loss_correction",
}
"""Coordinates of a frame, by channel: what its calibration adds to the energy (eV) of the first channel."""

_MOST = 4
"""An axis that holds all spectra may have so many times the channels of one."""


@dataclass(frozen=True, slots=True)
class Energies:
    """Spectra of n frames moved by whole channels onto one axis, never resampled."""

    axis: LinearAxis
    """Holds all channels of all spectra."""
    first: NDArray[np.intp] | None
    """(n,) channel of the axis at which each spectrum begins; None where all fill it."""
    rest_ev: Array
    """(n,) what is left: a spectrum lies so much higher than its channels of the axis say."""
    text: str
    """What was done, for people; empty where the axis is the nominal one."""


def energies_of(frames: xr.Dataset, channel: str, nominal: LinearAxis) -> Energies:
    """The energies of a channel's frames: nominal, as tuned for each of them, and as calibrated."""
    n = frames.sizes["time"]
    offset, scale = np.full(n, nominal.offset), np.ones(n)
    said: list[str] = []
    if TUNED in frames and channel == "core_loss":
        tuned = np.asarray(frames[TUNED].values, np.float64)
        offset = np.where(np.isfinite(tuned), tuned, offset)
        if np.ptp(offset) > 0:
            said.append("each spectrum was tuned to an offset of its own")
    correction = frames.get(CORRECTIONS.get(channel, ""))
    if correction is not None:
        known = np.asarray(correction.values, np.float64)
        if channel != "core_loss" and "core_loss_correction" in frames:
            # taken to be off alike: else who aligns by the zero-loss peak takes it off twice
            core = np.asarray(frames["core_loss_correction"].values, np.float64)
            known = np.where(np.isfinite(known), known, core)
        calibrated = np.isfinite(known)
        offset = offset + np.where(calibrated, known, 0.0)
        if SCALE in frames:
            told = np.asarray(frames[SCALE].values, np.float64)
            scale = np.where(calibrated & np.isfinite(told), told, 1.0)
        if calibrated.any():
            said.append("the energy axis was calibrated within the run")
    if np.ptp(scale) > 0:
        # no axis is right for all of them: what each is, is told beside
        nothing = np.asarray(offset - nominal.offset)
        return Energies(nominal, None, nothing, "calibrations differ: the axis is the nominal one")
    step = nominal.step * float(scale[0]) if n else nominal.step
    return _placed(offset, step, nominal, "; ".join(said))


def _placed(offset: Array, step: float, nominal: LinearAxis, said: str) -> Energies:
    if not offset.size or (np.ptp(offset) == 0 and not said):
        return Energies(nominal, None, np.zeros(offset.size), "")
    base = float(offset.min())
    first = np.rint((offset - base) / step).astype(np.intp)
    # the residuals lie around 0
    base += float(np.median(offset - base - step * first))
    size = nominal.size + int(first.max())
    if size > _MOST * nominal.size:
        text = f"{said}; offsets reach too far for one axis, which is the nominal one"
        return Energies(nominal, None, offset - nominal.offset, text)
    axis = LinearAxis(nominal.name, base, step, size, nominal.unit)
    rest = np.asarray(offset - base - step * first)
    if first.max() == 0:
        return Energies(axis, None, rest, said)
    text = f"{said}; spectra were moved by whole channels, NaN where one has none"
    return Energies(axis, first, rest, text)


def exact_as_float(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest float that holds all counts of a type, and NaN."""
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32) if dtype.itemsize <= 2 else np.dtype(np.float64)
