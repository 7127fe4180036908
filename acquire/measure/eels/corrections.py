"""Measures by how much the energy axes of DualEELS spectra are off: what is to be added to each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.calibrate import (
    Feature,
    dispersion_from_features,
    offset_from_zero_loss,
)
from acquire.measure.eels.camera import Camera, axis_ev


@dataclass(frozen=True, slots=True)
class AxisCorrection:
    """What makes nominal energy axes true: E = offset + correction + scale · step · channel."""

    core_ev: float
    """Added to the energy of the core loss's first channel."""
    core_sigma_ev: float
    low_ev: float
    """Added to that of the low loss; NaN without one."""
    low_sigma_ev: float
    scale: float
    """True dispersion over nominal; 1 where it was not measured."""
    scale_sigma: float
    """0 where it was not measured."""

    def of(self, axis: Axis, correction_ev: float) -> Axis:
        """An axis in eV made true."""
        return Axis(axis.offset + correction_ev, axis.step * self.scale, axis.unit)


def measure_correction(
    core_loss: NDArray[Any],
    core_axis: Axis,
    low_loss: NDArray[Any] | None = None,
    low_axis: Axis | None = None,
    *,
    features: tuple[Feature, Feature] | None = None,
    camera: Camera | None = None,
    within_ev: float = math.inf,
) -> AxisCorrection:
    """By how much the axes of core losses (n, channels) and low losses (n[, reads], channels) are off.

    The zero-loss peak of the low loss (or of the core loss, where that holds 0 eV) gives the offset,
    and both axes are taken to be off alike. Two features of the core loss give its dispersion and its
    own offset; the low loss is taken to have the same dispersion.

    Raises:
        MeasureError: no peak or feature that can be trusted, no way to tell an offset, or a σ of it
            above ``within_ev``.
    """
    offset, step = axis_ev(core_axis, "core_loss")
    rows = np.atleast_2d(np.asarray(core_loss))
    end = offset + step * (rows.shape[1] - 1)
    moved, sigma, zero_channel, low_offset = 0.0, math.nan, math.nan, math.nan
    if low_loss is not None:
        if low_axis is None:
            raise MeasureError("low_loss came without low_axis. Pass the low-loss channel's axis.")
        low = np.asarray(low_loss)
        zero = offset_from_zero_loss(low.reshape(-1, low.shape[-1]), low_axis, camera)
        low_offset, _ = axis_ev(low_axis, "low_loss")
        moved, sigma = zero.axis.offset - low_offset, zero.offset_sigma_ev
        zero_channel = zero.found_channels[0]
    elif offset <= 0 <= end:
        zero = offset_from_zero_loss(rows, core_axis, camera)
        moved, sigma = zero.axis.offset - offset, zero.offset_sigma_ev
    elif features is None:
        raise MeasureError(
            "no offset can be told: there is no low loss, the core loss does not hold 0 eV, and no "
            "features are named."
        )
    if features is None:
        low_ev = moved if low_loss is not None else math.nan
        found = AxisCorrection(moved, sigma, low_ev, sigma, 1.0, 0.0)
        core_sigma = sigma
    else:
        near = Axis(offset + moved, step, "eV")
        by = dispersion_from_features(rows, near, *features, camera)
        scale = by.axis.step / step
        # what is said of the axis where the features are, not where it would begin
        middle = 0.5 * (features[0].energy_ev + features[1].energy_ev)
        core_sigma = by.sigma_ev(middle)
        low_ev = math.nan
        if low_axis is not None and math.isfinite(zero_channel):
            _, low_step = axis_ev(low_axis, "low_loss")
            low_ev = -zero_channel * low_step * scale - low_offset
        found = AxisCorrection(
            by.axis.offset - offset,
            by.offset_sigma_ev,
            low_ev,
            sigma,
            scale,
            by.step_sigma_ev / step,
        )
    if not core_sigma <= within_ev:
        raise MeasureError(
            f"the energy axis is told to ± {core_sigma:.3g} eV only, and {within_ev:g} eV is asked for. "
            "Take more spectra, or longer ones, or allow more in 'within'."
        )
    return found
