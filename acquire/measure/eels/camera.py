"""Turns camera counts into electrons with their variance, and checks what a spectrum must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError, UnitError
from acquire.instruments import Axis
from acquire.units import convert


@dataclass(frozen=True, slots=True)
class Camera:
    """What lies between electrons and counts; the default counts single electrons without noise."""

    counts_per_electron: float = 1.0
    readout_electrons: float = 0.0
    """Standard deviation of the readout noise per channel, in electrons."""
    dark_counts: float = 0.0
    """Counts per channel without beam, already averaged."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.counts_per_electron) and self.counts_per_electron > 0):
            raise MeasureError(
                f"counts_per_electron = {self.counts_per_electron!r} must be positive and finite. "
                "Take it from the camera's calibration."
            )
        if not (math.isfinite(self.readout_electrons) and self.readout_electrons >= 0):
            raise MeasureError(
                f"readout_electrons = {self.readout_electrons!r} must be finite and not negative."
            )

    def electrons(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Electrons per channel, float64, same shape."""
        return (np.asarray(counts, np.float64) - self.dark_counts) / self.counts_per_electron

    @property
    def readout_variance(self) -> float:
        """Variance per channel that does not come from the electrons' own statistics, in e-²."""
        return self.readout_electrons**2


def spectra(counts: NDArray[Any], name: str) -> NDArray[Any]:
    """``counts`` as rows of spectra (n, channels).

    Raises:
        MeasureError: neither (channels,) nor (n, channels), or not real numbers.
    """
    rows = np.atleast_2d(np.asarray(counts))
    if rows.ndim != 2 or rows.shape[1] < 8 or rows.dtype.kind not in "uif":
        raise MeasureError(
            f"{name} of shape {np.shape(counts)} and type {rows.dtype} cannot be measured: "
            "(points, energy_loss) of integers or floats with at least 8 channels is needed."
        )
    return rows


def axis_ev(axis: Axis, name: str) -> tuple[float, float]:
    """Energy of the first channel's centre and width of a channel, in eV.

    Raises:
        MeasureError: the axis is no energy, or its step is not positive.
    """
    try:
        factor = _electron_volts(axis.unit)
    except UnitError as error:
        raise MeasureError(
            f"the axis of {name} is in {axis.unit!r}, not an energy. Calibrate the spectrometer."
        ) from error
    offset, step = axis.offset * factor, axis.step * factor
    if not (math.isfinite(offset) and math.isfinite(step) and step > 0):
        raise MeasureError(
            f"the axis of {name} starts at {axis.offset} with steps of {axis.step} {axis.unit}: "
            "a finite start and a positive step are needed. Calibrate the spectrometer."
        )
    return offset, step


@lru_cache(maxsize=32)
def _electron_volts(unit: str) -> float:
    # asked for with every spectrum of a live estimator
    return convert(1.0, unit, "eV")
