"""Fits the power law under an edge by Poisson maximum likelihood, for many spectra at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acquire.errors import MeasureError

Array = NDArray[np.float64]

_EXPONENT_LIMITS = (-2.0, 12.0)
_USUAL_EXPONENT, _USUAL_SPREAD = 2.85, 0.6
"""Exponents of backgrounds lie between 1.9 and 3.8."""
_OWN_SPREAD = 0.3
"""How much spectra of one series differ in exponent."""
SIGNIFICANT = 5.0
"""σ of noise that the electrons in the window must exceed, or the exponent is not fitted."""
LOOSE_EXPONENT = 2.5
"""σ of an exponent beyond which it tells nothing that is not known beforehand."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
"""Of the integrals: exact to 1e-9 for any exponent over a factor of two in energy."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Backgrounds scale · exp(a) (E / E0)^-r per eV, one entry per spectrum."""

    log_level: Array
    """a: logarithm of electrons per eV at the reference energy."""
    exponent: Array
    reference_ev: float
    covariance: Array
    """(n, 2, 2) of (a, r)."""
    chi2: Array
    """Reduced, in the fit window."""
    bias: Array
    """(n, 2): how far a and r lie off in the mean, to first order in 1/electrons; not taken off them,
    but off integrals."""
    scale: Array
    """1, but where readout noise leaves fewer than no electrons in the window: there the level is
    scale ± scale_sigma times exp(a), zero or negative."""
    scale_sigma: Array
    few_counts: NDArray[np.bool_]
    """Where the exponent is held instead of fitted."""

    def integral(self, low_ev: ArrayLike, high_ev: ArrayLike) -> tuple[Array, Array]:
        """Electrons between two energies, scalars or (n,), and their σ from the fit, per spectrum."""
        low = np.log(np.asarray(low_ev, np.float64) / self.reference_ev)
        high = np.log(np.asarray(high_ev, np.float64) / self.reference_ev)
        half = np.broadcast_to(0.5 * (high - low), self.exponent.shape)
        # in log E, where there is no special case at r = 1
        at = half[:, None] * _NODES + np.asarray(0.5 * (high + low))[..., None]
        shape = np.exp(self.log_level[:, None] + (1.0 - self.exponent[:, None]) * at)
        return self._sums(shape * _WEIGHTS * half[:, None] * self.reference_ev, at)

    def moment(self, low_ev: float, high_ev: float, about_ev: Array) -> tuple[Array, Array]:
        """∫ (E - about) background dE and its σ, per spectrum."""
        energy = 0.5 * (high_ev - low_ev) * _NODES + 0.5 * (high_ev + low_ev)
        log_energy = np.log(energy / self.reference_ev)
        shape = np.exp(self.log_level[:, None] - self.exponent[:, None] * log_energy)
        weights = _WEIGHTS * 0.5 * (high_ev - low_ev)
        return self._sums(shape * weights * (energy - about_ev[:, None]), log_energy)

    def in_channels(self, energy_ev: Array, step_ev: float) -> Array:
        """Electrons (n, channels) in channels centred at energies (n, channels), 0 below 0 eV."""
        log_energy = np.log(np.maximum(energy_ev, 1e-6) / self.reference_ev)
        level = np.exp(self.log_level[:, None] - self.exponent[:, None] * log_energy)
        return np.asarray(np.where(energy_ev > 0, step_ev * self.scale[:, None] * level, 0.0))

    def _sums(self, weighted: Array, log_energy: Array) -> tuple[Array, Array]:
        """Sum over nodes (n, nodes), without the bias of a sum of exponentials, and its σ."""
        value = weighted.sum(axis=1)
        by_exponent = -(weighted * log_energy).sum(axis=1)
        c = self.covariance
        variance = value**2 * c[:, 0, 0] + by_exponent**2 * c[:, 1, 1]
        variance = np.maximum(variance + 2 * value * by_exponent * c[:, 0, 1], 0.0)
        # the mean of a curved function of scattered parameters: gradient · bias + tr(H C) / 2
        h_rr = (weighted * log_energy**2).sum(axis=1)
        curved = value * c[:, 0, 0] + 2 * by_exponent * c[:, 0, 1] + h_rr * c[:, 1, 1]
        off = value * self.bias[:, 0] + by_exponent * self.bias[:, 1] + 0.5 * curved
        limit = 0.5 * np.abs(value)
        off = np.where(self.few_counts, 0.0, np.minimum(np.maximum(off, -limit), limit))
        total = self.scale * value - off
        return total, np.sqrt(self.scale**2 * variance + np.square(value * self.scale_sigma))


def fit_power_law(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    low_ev: float,
    high_ev: float,
    readout_variance: float = 0.0,
) -> PowerLaw:
    """Fit spectra (n, channels) whose first channel's centre lies at ``offset_ev`` (n,).

    Channels whose centre lies between ``low_ev`` and ``high_ev`` are used, each with its own
    energy: nothing is resampled. The Poisson likelihood is maximised by Fisher scoring with
    halved steps; ``readout_variance`` (e-² per channel) joins the variance, and electrons may be
    negative in a channel. A log-log line would be biased by tens of percent at a few electrons per
    channel; what bias of order 1/electrons is left of maximum likelihood (Cook, Tsai and Wei 1986)
    is taken off integrals. A window whose electrons do not exceed 5 σ, or tell the exponent to no
    better than 2.5, tells none: there it is held (``few_counts``) at what all spectra together and
    backgrounds in general say.
    Spectra without electrons in the window, and without readout noise, give NaN; so do those with
    fewer than four channels in it.

    Raises:
        MeasureError: no window of positive energies, or shapes that do not belong together.
    """
    if not 0 < low_ev < high_ev < np.inf:
        raise MeasureError(
            f"a background cannot be fitted from {low_ev} to {high_ev} eV: "
            "a window of positive energies and a positive width is needed."
        )
    offsets = np.ascontiguousarray(offset_ev, np.float64)
    if electrons.ndim != 2 or offsets.shape != electrons.shape[:1] or not step_ev > 0:
        raise MeasureError(
            f"spectra of shape {electrons.shape} need as many offsets and a positive step, not "
            f"offsets of shape {offsets.shape} and a step of {step_ev} eV."
        )
    out = fit_law(electrons, offsets, step_ev, low_ev, high_ev, readout_variance)
    a, r, c_aa, c_ar, c_rr, chi2, bias_a, bias_r, total, channels = out.T.copy()
    n = len(out)
    scale, scale_sigma = np.ones(n), np.zeros(n)
    noise = np.sqrt(np.maximum(total, 0.0) + channels * readout_variance)
    few = ~(total > SIGNIFICANT * noise) | ~(c_rr < LOOSE_EXPONENT**2)
    few &= (channels >= 4) & np.isfinite(total)
    few &= (total > 0.0) | (readout_variance > 0.0)
    reference = float(np.sqrt(low_ev * high_ev))
    if few.any():
        held, spread = _held_exponent(
            electrons, offsets, step_ev, low_ev, high_ev, readout_variance, total
        )
        unit = _unit(offsets[few], step_ev, low_ev, high_ev, held, electrons.shape[1], reference)
        sigma = np.sqrt(np.maximum(total[few], 1.0) + channels[few] * readout_variance)
        # a level above zero is told as any other; one below, in units of its σ, by the scale
        above = total[few] > 0.0
        level = np.where(above, total[few], sigma)
        a[few], r[few] = np.log(level / unit), held
        scale[few] = np.where(above, 1.0, total[few] / sigma)
        scale_sigma[few] = np.where(above, 0.0, 1.0)
        # at the middle of the window level and exponent do not depend on each other
        relative = np.where(above, sigma / np.maximum(level, 1e-100), 0.0)
        c_aa[few], c_ar[few], c_rr[few] = relative**2, 0.0, spread**2
        bias_a[few] = bias_r[few] = 0.0
    covariance = np.stack([c_aa, c_ar, c_ar, c_rr], axis=1).reshape(n, 2, 2)
    bias = np.stack([bias_a, bias_r], axis=1)
    return PowerLaw(a, r, reference, covariance, chi2, bias, scale, scale_sigma, few)


def background_limit(
    per_channel: float,
    exponent: float,
    step_ev: float,
    fit_ev: tuple[float, float],
    window_ev: tuple[float, float],
    readout_electrons: float = 0.0,
) -> tuple[float, float]:
    """Electrons of a background in a window, and the Cramér-Rao limit of their extrapolation.

    For an unbiased estimate from the fit window, with level and exponent unknown.

    Args:
        per_channel: electrons per channel at the middle (geometric mean) of the fit window.
        exponent: r.
        step_ev: width of a channel.
        fit_ev: ends of the fit window.
        window_ev: ends of the window that it is extrapolated into.
        readout_electrons: standard deviation per channel; the information of a channel about its
            mean m is taken as 1/(m + readout²).
    """
    reference = float(np.sqrt(fit_ev[0] * fit_ev[1]))
    energy = np.arange(fit_ev[0], fit_ev[1] + 1e-9, step_ev)
    x = np.log(energy / reference)
    mean = per_channel * np.exp(-exponent * x)
    weight = mean**2 / (mean + readout_electrons**2)
    columns = np.stack([np.ones_like(x), -x])
    covariance = np.linalg.inv(columns * weight @ columns.T)
    law = PowerLaw(
        np.array([np.log(per_channel / step_ev)]),
        np.array([exponent]),
        reference,
        covariance[None],
        np.ones(1),
        np.zeros((1, 2)),
        np.ones(1),
        np.zeros(1),
        np.ones(1, bool),
    )
    value, sigma = law.integral(*window_ev)
    return float(value[0]), float(sigma[0])


def fit_law(
    electrons: Array, offsets: Array, step: float, low: float, high: float, readout: float
) -> Array:
    """Columns of ``background_kernel.fit_rows`` (n, 10): no exponent is held, and nothing is checked."""
    from acquire.measure.eels.background_kernel import fit_rows  # numba takes half a second

    out = np.empty((len(electrons), 10))
    rows = np.ascontiguousarray(electrons, np.float64)
    fit_rows(rows, offsets, step, low, high, readout, _EXPONENT_LIMITS, out)
    return out


def _held_exponent(
    electrons: Array,
    offsets: Array,
    step: float,
    low: float,
    high: float,
    readout: float,
    total: Array,
) -> tuple[float, float]:
    """Exponent of spectra too weak for one of their own, and how far it may be off."""
    good = np.isfinite(total) & np.isfinite(offsets)
    rows = electrons[good]
    # beyond the window there may be anything
    pooled = np.where(np.isfinite(rows), rows, 0.0).sum(axis=0, keepdims=True)
    offset = offsets[good].mean(keepdims=True)
    out = fit_law(pooled, offset, step, low, high, readout * int(good.sum()))[0]
    own = out[4] + _OWN_SPREAD**2
    noise = np.sqrt(max(out[8], 0.0) + out[9] * readout * int(good.sum()))
    if not (np.isfinite(own) and out[8] > SIGNIFICANT * noise):
        return _USUAL_EXPONENT, _USUAL_SPREAD
    weights = 1.0 / own, 1.0 / _USUAL_SPREAD**2
    mean = (weights[0] * out[1] + weights[1] * _USUAL_EXPONENT) / sum(weights)
    return float(mean), float(sum(weights) ** -0.5)


def _unit(
    offsets: Array,
    step: float,
    low: float,
    high: float,
    exponent: float,
    channels: int,
    reference: float,
) -> Array:
    """Electrons in the fit window of a background of one electron per eV at the reference."""
    first = np.maximum(np.ceil((low - offsets) / step - 1e-9), 0.0)
    last = np.minimum(np.floor((high - offsets) / step + 1e-9), channels - 1.0)
    a = (offsets + step * (first - 0.5)) / reference
    b = (offsets + step * (last + 0.5)) / reference
    middle, half = 0.5 * (a + b), 0.5 * (b - a)
    nodes = middle[:, None] + half[:, None] * _NODES
    return np.asarray(reference * half * (_WEIGHTS * nodes**-exponent).sum(axis=1))
