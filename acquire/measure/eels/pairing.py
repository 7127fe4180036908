"""Takes from the low losses of a DualEELS scan what its core losses need: shifts and plural scattering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.edge_shapes import Losses
from acquire.measure.eels.losses import mean_losses
from acquire.measure.eels.zlp import find_zero_loss

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairing:
    """One entry per core loss; NaN where no zero-loss peak was found."""

    shift_ev: Array
    shift_sigma_ev: Array
    """Of reads of their own positions, and of what these scatter among each other."""
    saturated: NDArray[np.bool_]
    low_electrons: Array | None
    """(reads in all, channels)."""
    low_offset_ev: Array
    """Of each read, with the peak at 0; NaN where it was not found."""
    low_step_ev: float
    fwhm_ev: float
    readout_variance: float

    def losses(self) -> Losses | None:
        """Mean losses over the zero-loss peak; None without low losses."""
        if self.low_electrons is None:
            return None
        return mean_losses(
            self.low_electrons,
            self.low_offset_ev,
            self.low_step_ev,
            fwhm_ev=self.fwhm_ev,
            readout_variance=self.readout_variance,
        )


def pair_with(
    points: int,
    low_loss: NDArray[Any] | None,
    low_axis: Axis | None,
    camera: Camera,
    fwhm_ev: float | None,
    full_scale_counts: float | None,
) -> Pairing:
    """Zero-loss positions for so many core losses.

    Several reads (points, reads, channels) give the mean of their positions. Its σ holds what reads
    jitter among each other, judged from all points; of one read this cannot be told.

    Raises:
        MeasureError: low losses that do not belong to the core losses, or have no energy axis.
    """
    if low_loss is None:
        nan = np.full(points, np.nan)
        none = np.zeros(points, bool)
        return Pairing(nan, nan.copy(), none, None, nan.copy(), 0.0, 0.0, 0.0)
    if low_axis is None:
        raise MeasureError("low_loss came without low_axis. Pass the axis of the low-loss channel.")
    low = np.asarray(low_loss)
    reads = low.shape[1] if low.ndim == 3 else 1
    rows = spectra(low.reshape(-1, low.shape[-1]) if low.ndim == 3 else low, "low_loss")
    if len(rows) != points * reads:
        raise MeasureError(
            f"{len(rows) // max(reads, 1)} low-loss spectra do not belong to {points} core-loss "
            "spectra. Pass one for each point."
        )
    found = find_zero_loss(rows, low_axis, camera, fwhm_ev)
    offset, step = axis_ev(low_axis, "low_loss")
    position, sigma = _combined(
        found.position_ev.reshape(points, reads), found.sigma_ev.reshape(points, reads)
    )
    limit = np.inf if full_scale_counts is None else full_scale_counts
    full = np.max(rows, axis=1, initial=0.0).reshape(points, reads).max(axis=1) >= limit
    return Pairing(
        position,
        sigma,
        np.asarray(full),
        camera.electrons(rows),
        offset - found.position_ev,
        step,
        found.fwhm_ev,
        camera.readout_variance,
    )


def _combined(position: Array, sigma: Array) -> tuple[Array, Array]:
    """Mean of the reads of each point, and its σ."""
    known = np.isfinite(position) & np.isfinite(sigma)
    count = known.sum(axis=1)
    zeroed = np.where(known, position, 0.0)
    own = np.where(known, sigma, 0.0) ** 2
    mean = zeroed.sum(axis=1) / np.maximum(count, 1)
    several = count > 1
    jitter = 0.0
    if several.any():
        rest = np.where(known, position - mean[:, None], 0.0)[several]
        freedom = float((count[several] - 1).sum())
        expected = float((own.sum(axis=1) * (count - 1) / np.maximum(count, 1))[several].sum())
        jitter = max(0.0, (float((rest**2).sum()) - expected) / freedom)
    # with one read at hand for all points, its jitter is not known and not in σ
    variance = own.sum(axis=1) / np.maximum(count, 1) ** 2 + jitter / np.maximum(count, 1)
    nan = np.where(count > 0, 0.0, np.nan)
    return mean + nan, np.sqrt(variance) + nan
