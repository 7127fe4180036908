"""Takes the mean of many low losses over their zero-loss peak, and plural scattering out of edges with it."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.background import PowerLaw
from acquire.measure.eels.edge_shapes import Losses
from acquire.measure.eels.peak import Peak, measure_peak, peak_heights
from acquire.measure.eels.thickness import GAP_EV

Array = NDArray[np.float64]


def mean_losses(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    *,
    fwhm_ev: float,
    peak: Peak | None = None,
    readout_variance: float = 0.0,
) -> Losses | None:
    """Losses per eV over the electrons of the zero-loss peak; None if no spectrum shows one.

    Args:
        electrons: (n, channels) of low losses.
        offset_ev: (n,) energy of the first channel's centre, *the zero-loss peak at 0*; NaN where the
            peak was not found: such spectra are left out.
        step_ev: width of a channel.
        fwhm_ev: of the peak, roughly.
        peak: its shape; measured below the gap if None.
        readout_variance: e-² per channel.
    """
    good = np.isfinite(offset_ev) & np.isfinite(electrons).all(axis=1)
    if not good.any():
        return None
    rows, offset = electrons[good], offset_ev[good]
    if peak is None:
        side = min(8.0, max(3 * fwhm_ev, float(-offset.max())))
        peak = measure_peak(
            rows,
            offset,
            step_ev,
            fwhm_ev=fwhm_ev,
            regions_ev=((-side, max(min(GAP_EV, 4 * fwhm_ev), 0.75 * fwhm_ev)),),
            readout_variance=readout_variance,
        ).shape
    window = (-2.0 * peak.fwhm_ev, peak.fwhm_ev)
    height, _ = peak_heights(rows, offset, step_ev, peak, window, readout_variance)
    usable = np.isfinite(height) & (height > 0)
    if not usable.any():
        return None
    rows, offset, height = rows[usable], offset[usable], height[usable]
    zero = np.rint(-offset / step_ev).astype(np.intp)
    count = int((rows.shape[1] - zero).min())
    if count < 2:
        return None
    at = zero[:, None] + np.arange(count)
    energy = np.asarray(step_ev * np.arange(count), np.float64)
    tail = peak.below(energy + step_ev / 2) - peak.below(energy - step_ev / 2)
    total = np.take_along_axis(rows, at, axis=1).sum(axis=0) / height.sum() - tail
    total[energy < GAP_EV] = 0.0
    return Losses(total / step_ev, step_ev)


def single_scattering(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    law: PowerLaw,
    window_ev: tuple[float, float],
    losses: Losses,
    readout_variance: float = 0.0,
) -> tuple[Array, Array]:
    """Electrons of an edge in a window as if each had been scattered once, times I_0 over all; and σ.

    An edge is recorded as the single scattering convolved with δ + p, p being the losses over the
    zero-loss peak. The inverse of that (a power series, exact below the window's end whatever lies
    above; cf. Fourier-ratio deconvolution, Egerton, section 4.3.2) is needed in its running integral
    only: each energy counts with the weight W(end - E). With I_0 in place of the low-loss integral
    :func:`~acquire.measure.eels.quantify.areal_density` then holds for any thickness.

    Args:
        electrons: (n, channels), finite.
        offset_ev: (n,) energy of the first channel's centre.
        step_ev: width of a channel.
        law: the background under the edge.
        window_ev: from below the edge on.
        losses: of the same place.
        readout_variance: e-² per channel.
    """
    low, high = window_ev
    energy = offset_ev[:, None] + step_ev * np.arange(electrons.shape[1])
    share = np.clip((high - energy) / step_ev + 0.5, 0, 1)
    share *= np.clip((energy - low) / step_ev + 0.5, 0, 1)
    behind, weight = _running_inverse(losses, high - low)
    by_channel = share * np.interp(high - energy, behind, weight)
    gross = (electrons * by_channel).sum(axis=1)
    variance = (np.maximum(electrons, 0.0) + readout_variance) * by_channel**2
    ends = np.linspace(low, high, 51)
    n = len(electrons)
    under, whole = np.zeros(n), np.zeros(n)
    for first, last in itertools.pairwise(ends):
        part, _ = law.integral(np.full(n, first), np.full(n, last))
        under += part * np.interp(high - 0.5 * (first + last), behind, weight)
        whole += part
    _, spread = law.integral(np.full(n, low), np.full(n, high))
    by_law = spread * under / np.maximum(whole, 1e-300)
    outside = (energy[:, 0] - step_ev / 2 > low) | (energy[:, -1] + step_ev / 2 < high)
    nan = np.where(outside, np.nan, 0.0)
    return gross - under + nan, np.sqrt(variance.sum(axis=1) + by_law**2) + nan


def _running_inverse(losses: Losses, width: float) -> tuple[Array, Array]:
    """Energies, and the integral up to each of the inverse of δ + p."""
    bin_ev = max(losses.step_ev, 0.25)
    count = math.ceil(width / bin_ev) + 2
    ends = bin_ev * (np.arange(count + 1) - 0.5)
    held = np.concatenate([[0.0], np.cumsum(losses.per_ev) * losses.step_ev])
    places = losses.step_ev * (np.arange(held.size) - 0.5)
    p = np.diff(np.interp(ends, places, held))
    inverse = np.zeros(count)
    inverse[0] = 1.0
    for k in range(1, count):
        inverse[k] = -float(p[1 : k + 1][::-1] @ inverse[:k])
    return np.asarray(bin_ev * np.arange(count), np.float64), np.cumsum(inverse)
