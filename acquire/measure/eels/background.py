"""Fits the power law under an edge by Poisson maximum likelihood, for many spectra at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 25
_EXPONENT_MIN, _EXPONENT_MAX = -2.0, 12.0


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Backgrounds exp(a) (E / E0)^-r per eV, one entry per spectrum."""

    log_level: NDArray[np.float64]
    """a: logarithm of electrons per eV at the reference energy."""
    exponent: NDArray[np.float64]
    reference_ev: float
    covariance: NDArray[np.float64]
    """(n, 2, 2) of (a, r)."""
    chi2: NDArray[np.float64]
    """Reduced, in the fit window."""

    def integral(
        self, low_ev: NDArray[np.float64] | float, high_ev: NDArray[np.float64] | float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Electrons between two energies and their σ from the fit, per spectrum."""
        low = np.log(np.asarray(low_ev, np.float64) / self.reference_ev)
        high = np.log(np.asarray(high_ev, np.float64) / self.reference_ev)
        # Gauss-Legendre in log E: exact to 1e-9 for any exponent, no special case at r = 1
        nodes, weights = np.polynomial.legendre.leggauss(12)
        half = 0.5 * (high - low)
        at = half[..., None] * nodes + (0.5 * (high + low))[..., None]
        shape = np.exp(self.log_level[:, None] + (1.0 - self.exponent[:, None]) * at)
        weighted = shape * weights * half[..., None] * self.reference_ev
        value = weighted.sum(axis=-1)
        by_exponent = -(weighted * at).sum(axis=-1)
        gradient = np.stack([value, by_exponent], axis=1)
        return value, np.sqrt(_quadratic(self.covariance, gradient))

    def moment(
        self, low_ev: float, high_ev: float, about_ev: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """∫ (E - about) background dE and its σ, per spectrum."""
        nodes, weights = np.polynomial.legendre.leggauss(12)
        energy = 0.5 * (high_ev - low_ev) * nodes + 0.5 * (high_ev + low_ev)
        log_energy = np.log(energy / self.reference_ev)
        shape = np.exp(self.log_level[:, None] - self.exponent[:, None] * log_energy)
        weighted = shape * weights * 0.5 * (high_ev - low_ev) * (energy - about_ev[:, None])
        gradient = np.stack([weighted.sum(axis=1), -(weighted * log_energy).sum(axis=1)], axis=1)
        return gradient[:, 0], np.sqrt(_quadratic(self.covariance, gradient))


def fit_power_law(
    electrons: NDArray[np.float64],
    offset_ev: NDArray[np.float64],
    step_ev: float,
    low_ev: float,
    high_ev: float,
    readout_variance: float = 0.0,
) -> PowerLaw:
    """Fit spectra (n, channels) whose first channel's centre lies at ``offset_ev`` (n,).

    Channels whose centre lies between ``low_ev`` and ``high_ev`` are used, each with its own
    energy: nothing is resampled. The Poisson likelihood is maximised by Fisher scoring with
    halved steps; ``readout_variance`` (e-² per channel) joins the variance. A log-log line would
    be biased by tens of percent at a few electrons per channel. Spectra without electrons in the
    window give NaN.
    """
    n, channels = electrons.shape
    reference = float(np.sqrt(low_ev * high_ev))
    first = np.ceil((low_ev - offset_ev) / step_ev - 1e-9).astype(np.intp)
    count = int(np.floor((high_ev - low_ev) / step_ev)) + 1
    at = first[:, None] + np.arange(count)
    energy = offset_ev[:, None] + step_ev * at
    used = (at >= 0) & (at < channels) & (energy <= high_ev + 1e-9)
    data = np.take_along_axis(electrons, np.clip(at, 0, channels - 1), axis=1)
    data = np.where(used, data, 0.0)
    log_energy = np.log(np.maximum(energy, 1e-3) / reference)
    total = data.sum(axis=1)
    enough = (total > 0) & (used.sum(axis=1) >= 4) & np.isfinite(total)
    data = np.where(enough[:, None], data, 1.0)
    level = np.log(np.maximum(data.sum(axis=1), 1e-3) / np.maximum(used.sum(axis=1), 1) / step_ev)
    exponent = np.full(n, 3.0)
    readout = readout_variance

    def mean_of(a: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(used, step_ev * np.exp(a[:, None] - r[:, None] * log_energy), 0.0)

    mean = mean_of(level, exponent)
    inverse = np.zeros((n, 2, 2))
    for _ in range(_ROUNDS):
        variance = np.where(used, mean + readout, 1.0)
        weight = mean * mean / variance
        rest = np.where(used, (data - mean) * mean / variance, 0.0)
        s_a, s_r = rest.sum(axis=1), -(rest * log_energy).sum(axis=1)
        i_aa, i_ar = weight.sum(axis=1), -(weight * log_energy).sum(axis=1)
        i_rr = (weight * log_energy**2).sum(axis=1)
        determinant = np.maximum(i_aa * i_rr - i_ar**2, 1e-300)
        inverse = np.stack([i_rr, -i_ar, -i_ar, i_aa], axis=1).reshape(n, 2, 2)
        inverse /= determinant[:, None, None]
        d_a = (i_rr * s_a - i_ar * s_r) / determinant
        d_r = (i_aa * s_r - i_ar * s_a) / determinant
        shrink = np.minimum(1.0, 1.0 / np.maximum(np.abs(d_a), np.abs(d_r) / 4.0 + 1e-12))
        level = level + shrink * d_a
        exponent = np.clip(exponent + shrink * d_r, _EXPONENT_MIN, _EXPONENT_MAX)
        mean = mean_of(level, exponent)
        if max(np.abs(d_a).max(initial=0.0), np.abs(d_r).max(initial=0.0)) < 1e-7:
            break
    variance = np.where(used, np.maximum(mean + readout, 1e-12), 1.0)
    freedom = np.maximum(used.sum(axis=1) - 2, 1)
    chi2 = np.where(used, np.square(data - mean) / variance, 0.0).sum(axis=1) / freedom
    nan = np.where(enough, 0.0, np.nan)
    return PowerLaw(
        level + nan, exponent + nan, reference, inverse + nan[:, None, None], chi2 + nan
    )


def _quadratic(
    covariance: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ni,nij,nj->n", gradient, covariance, gradient))
