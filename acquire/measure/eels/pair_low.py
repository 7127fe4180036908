"""Measures the low losses of a block of DualEELS pairs: where the axis lies, and how thick the specimen is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.edge_shapes import Losses
from acquire.measure.eels.faults import find_faults
from acquire.measure.eels.losses import mean_losses
from acquire.measure.eels.peak import Peak
from acquire.measure.eels.thickness import log_ratio
from acquire.measure.eels.zlp import find_zero_loss, measure_zero_loss_shape
from acquire.measure.eels.zlp_shape import ZeroLossShape

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

LOSSES_TO_EV = 150.0
"""So far the low loss is looked at: what lies beyond is told by a power law, and is below 2 % of t/λ."""
_ENOUGH = 20.0
"""Electrons without which a spectrum has no peak to measure a shape on."""


@dataclass(frozen=True, slots=True)
class PairShapes:
    """Shapes of the zero-loss peak that are measured once and held, so that spectra can be compared."""

    zero_loss: ZeroLossShape
    """That its position is found with."""
    peak: Peak
    """With the tails, that its electrons are counted with."""
    electrons: float = math.inf
    """In the peaks that they were measured on."""


@dataclass(frozen=True, slots=True)
class LowPart:
    """Low losses of n pairs with some reads each; NaN where nothing was found."""

    position_ev: Array
    """(n, reads): of the zero-loss peaks, on the axis as given."""
    sigma_ev: Array
    """(n, reads)."""
    zero_loss: Array
    """(n,): electrons of the peak, tails included, in all reads together."""
    zero_loss_sigma: Array
    relative_thickness: Array
    """(n,): t/λ, the mean of the reads."""
    relative_thickness_sigma: Array
    flags: Mapping[str, Mask]
    """Per pair; see :func:`~acquire.measure.eels.pairs.measure_pairs`."""


def measure_shapes(
    low_loss: NDArray[Any],
    low_axis: Axis,
    *,
    camera: Camera | None = None,
    fwhm_ev: float | None = None,
) -> PairShapes:
    """Shapes of the zero-loss peak from low losses (n[, reads], channels), to be held for all that follow.

    Args:
        low_loss: counts.
        low_axis: of energies.
        camera: what lies between counts and electrons.
        fwhm_ev: the width, if it is known; else it is measured.

    Raises:
        MeasureError: no spectrum shows a peak to measure.
    """
    camera = camera or Camera()
    rows = _reads(low_loss)[0]
    shape = (
        ZeroLossShape(fwhm_ev)
        if fwhm_ev is not None
        else measure_zero_loss_shape(rows, low_axis, camera)
    )
    found = find_zero_loss(rows, low_axis, camera, shape=shape)
    total = float(np.nansum(found.height))
    if not (np.isfinite(found.position_ev).any() and total > _ENOUGH):
        raise MeasureError(
            "no low loss shows a zero-loss peak whose shape could be measured. Look at the specimen "
            "with the beam on, or give fwhm_ev."
        )
    offset, step = axis_ev(low_axis, "low_loss")
    counted = log_ratio(
        camera.electrons(rows),
        offset - found.position_ev,
        step,
        fwhm_ev=shape.fwhm_ev,
        readout_variance=camera.readout_variance,
    )
    return PairShapes(shape, counted.peak, total)


def measure_low(
    low_loss: NDArray[Any],
    low_axis: Axis,
    shapes: PairShapes,
    *,
    camera: Camera,
    full_scale_counts: float | None = None,
) -> LowPart:
    """Zero-loss positions and t/λ of low losses (n[, reads], channels) with shapes that are held.

    Raises:
        MeasureError: no spectra, or no energy axis.
    """
    rows, n, reads = _reads(low_loss)
    offset, step = axis_ev(low_axis, "low_loss")
    used = min(rows.shape[1], max(8, math.ceil((LOSSES_TO_EV - offset) / step)))
    rows = np.ascontiguousarray(rows[:, :used])
    found = find_zero_loss(rows, low_axis, camera, shape=shapes.zero_loss)
    electrons = camera.electrons(rows)
    faults = find_faults(
        rows,
        camera=camera,
        full_scale_counts=full_scale_counts,
        zero_loss=found,
        electrons=electrons,
    ).flags
    thick = log_ratio(
        electrons,
        offset - found.position_ev,
        step,
        fwhm_ev=shapes.zero_loss.fwhm_ev,
        peak=shapes.peak,
        readout_variance=camera.readout_variance,
    )

    def each(mask: Mask) -> Mask:
        if reads == 1:
            return mask
        return np.asarray(mask.reshape(n, reads).any(axis=1))

    position = found.position_ev.reshape(n, reads)
    known = np.isfinite(thick.t_over_lambda).reshape(n, reads)
    ratio, spread = _mean(thick.t_over_lambda.reshape(n, reads), thick.sigma.reshape(n, reads))
    height = np.where(known, thick.zero_loss.reshape(n, reads), 0.0).sum(axis=1)
    some = known.any(axis=1)
    noise = np.sqrt(np.maximum(height, 1.0) + reads * camera.readout_variance)
    return LowPart(
        position,
        found.sigma_ev.reshape(n, reads),
        np.where(some, height, np.nan),
        np.where(some, noise, np.nan),
        ratio,
        spread,
        {
            "no_zero_loss": ~each(np.isfinite(found.position_ev)),
            "poor_zero_loss": each(found.flags["poor_fit"]),
            "low_loss_saturated": each(faults["saturated"] | faults["clipped_zero_loss"]),
            "low_loss_faulty": each(
                faults["nonfinite"] | faults["dead_row"] | faults["negative_counts"]
            ),
            "low_loss_spikes": each(faults["spikes"]),
            "truncated_range": each(thick.flags["truncated_range"]),
            "too_thick": each(thick.flags["too_thick"]),
        },
    )


def losses_of(
    low_loss: NDArray[Any], low_axis: Axis, low: LowPart, shapes: PairShapes, camera: Camera
) -> Losses | None:
    """Mean losses of pairs over their zero-loss peaks, with which their edges are scattered once more."""
    rows, _, _ = _reads(low_loss)
    offset, step = axis_ev(low_axis, "low_loss")
    return mean_losses(
        camera.electrons(rows),
        offset - low.position_ev.ravel(),
        step,
        fwhm_ev=shapes.zero_loss.fwhm_ev,
        peak=shapes.peak,
        readout_variance=camera.readout_variance,
    )


def _reads(low_loss: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """Rows (n · reads, channels), n, and reads."""
    low = np.asarray(low_loss)
    if low.ndim == 3:
        n, reads = low.shape[:2]
        return spectra(low.reshape(n * reads, low.shape[2]), "low_loss"), n, reads
    rows = spectra(low, "low_loss")
    return rows, len(rows), 1


def _mean(values: Array, sigma: Array) -> tuple[Array, Array]:
    """Mean of the reads that told something, and its σ; NaN without any."""
    known = np.isfinite(values) & np.isfinite(sigma)
    count = known.sum(axis=1)
    many = np.maximum(count, 1)
    nan = np.where(count > 0, 0.0, np.nan)
    mean = np.where(known, values, 0.0).sum(axis=1) / many + nan
    return mean, np.sqrt(np.where(known, sigma, 0.0) ** 2 @ np.ones(values.shape[1])) / many + nan
