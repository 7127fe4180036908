"""Integrates vibrational bands beside the zero-loss peak."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from acquire.errors import MeasureError
from acquire.measure.eels.peak import FittedPeak, Peak, measure_peak, peak_heights
from acquire.measure.eels.windows import running_sum, window_sum

Array = NDArray[np.float64]
Span = tuple[float, float]

WINDOWS_EV: Mapping[str, Span] = MappingProxyType(
    {"10-50 meV": (0.010, 0.050), "50-100 meV": (0.050, 0.100)}
)
"""Heavy cations with oxygen, and Li-O, of the LSTZ grain boundary."""
FAR_EV: tuple[Span, ...] = ((-0.240, -0.140), (0.170, 0.240))
"""Beside the vibrations, where the peak's tails alone are seen: on the gain side these are frozen out."""
_CORE_FWHM = 0.7
_WORST_CHI2 = 1.5
_POOR = 1e-4
_ROUNDS = 40


@dataclass(frozen=True, slots=True)
class BandProfile:
    """One window, an entry per spectrum; NaN where it leaves the axis or there is no peak."""

    electrons: Array
    """Above the background."""
    sigma: Array
    """Of the electrons and of each spectrum's own background."""
    background: Array
    common_sigma: Array
    """What the peak's shape, measured once for all spectra, leaves unsure: the same way in all of them,
    and therefore no matter to how they compare. 0 for other backgrounds."""


@dataclass(frozen=True, slots=True)
class Vibrations:
    """Windows beside the zero-loss peak."""

    windows: Mapping[str, BandProfile]
    zero_loss: Array
    """Electrons in the whole peak; NaN where it was not fitted."""
    peak: Peak | None
    chi2: Array
    """Reduced, of the background where it was fitted beside the peak's core."""
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``no_zero_loss``, ``nonfinite``, ``out_of_range``, ``poor_fit``, ``coarse`` (a window begins inside
    the peak's core, or the peak is wider than a window: the background is most of what is there)."""


def phonon_windows(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    *,
    fwhm_ev: float,
    windows: Mapping[str, Span] = WINDOWS_EV,
    background: Literal["peak", "power_law", "exponential"] = "peak",
    fit_ev: tuple[Span, ...] = FAR_EV,
    peak: Peak | None = None,
    readout_variance: float = 0.0,
) -> Vibrations:
    """Electrons in vibrational windows above the quasi-elastic background.

    ``peak``: the background is the zero-loss peak itself, a Gaussian with Lorentzian tails whose width
    and tails are measured once on all spectra, in the peak's core and in ``fit_ev`` on both of its
    sides, and whose height is each spectrum's own. What the tails lack or have too much in ``fit_ev``
    shows in χ². ``power_law`` (A E^-r) and ``exponential`` (A exp(-E/E0)): fitted to each spectrum
    by Poisson maximum likelihood in ``fit_ev``, which should then lie on the loss side, below and above
    the windows (two-sided fits as used for vibrational EELS: these assume that no band reaches there).

    Args:
        electrons: (n, channels).
        offset_ev: (n,) energy of the first channel's centre, *the zero-loss peak at 0*; NaN where the
            peak was not found.
        step_ev: width of a channel.
        fwhm_ev: of the zero-loss peak, roughly.
        windows: by name, in eV; negative energies are gains.
        background: see above.
        fit_ev: spans beside the bands.
        peak: its shape, if known from vacuum (:func:`~acquire.measure.eels.peak.peak_of_vacuum`).
        readout_variance: e-² per channel.

    Raises:
        MeasureError: windows of no width, shapes that do not belong together, a loss window that a
            power law cannot describe (negative energies).
    """
    rows = np.atleast_2d(np.asarray(electrons, np.float64))
    offset = np.atleast_1d(np.asarray(offset_ev, np.float64))
    if len(offset) != len(rows):
        raise MeasureError(f"{len(offset)} offsets do not belong to {len(rows)} spectra.")
    _check(windows, fit_ev, background)
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    known = finite & np.isfinite(offset)
    rows = np.where(known[:, None], rows, 0.0)
    place = np.where(known, offset, 0.0)
    if background == "peak":
        found = _by_peak(
            rows, place, known, step_ev, fwhm_ev, windows, fit_ev, peak, readout_variance
        )
    else:
        found = _by_law(rows, place, known, step_ev, windows, fit_ev, background, readout_variance)
    measured, height, shape, chi2 = found
    # a few numbers scatter widely: poor is what happens once in ten thousand
    degrees = len(fit_ev) if background == "peak" else 100
    worst = max(_WORST_CHI2, float(stats.chi2.isf(_POOR, degrees)) / degrees)
    inside = np.ones(len(rows), bool)
    for band in measured.values():
        inside &= np.isfinite(band.electrons)
    core = 0.5 * (fwhm_ev if shape is None else shape.fwhm_ev)
    coarse = any(
        high - low < 2 * core or low < core < high or low < -core < high
        for low, high in windows.values()
    )
    return Vibrations(
        measured,
        height,
        shape,
        chi2,
        {
            "no_zero_loss": ~known & finite,
            "nonfinite": ~finite,
            "out_of_range": known & ~inside,
            "poor_fit": known & (chi2 > worst),
            "coarse": np.full(len(rows), coarse),
        },
    )


_Found = tuple[dict[str, BandProfile], Array, Peak | None, Array]


def _by_peak(
    rows: Array,
    place: Array,
    known: NDArray[np.bool_],
    step_ev: float,
    fwhm_ev: float,
    windows: Mapping[str, Span],
    fit_ev: tuple[Span, ...],
    peak: Peak | None,
    readout_variance: float,
) -> _Found:
    fitted: FittedPeak | None = None
    if peak is None:
        if not known.any():
            nan = np.full(len(rows), np.nan)
            empty = BandProfile(nan, nan, nan, nan)
            return dict.fromkeys(windows, empty), nan, None, nan
        core = (-_CORE_FWHM * fwhm_ev, _CORE_FWHM * fwhm_ev)
        fitted = measure_peak(
            rows,
            np.where(known, place, np.nan),
            step_ev,
            fwhm_ev=fwhm_ev,
            regions_ev=(core, *fit_ev),
            readout_variance=readout_variance,
        )
        peak = fitted.shape
    reach = (-_CORE_FWHM * peak.fwhm_ev, _CORE_FWHM * peak.fwhm_ev)
    height, height_sigma = peak_heights(rows, place, step_ev, peak, reach, readout_variance)
    nan = np.where(known, 0.0, np.nan)
    sums = running_sum(rows)
    measured = {}
    for name, (low, high) in windows.items():
        gross = window_sum(sums, place, step_ev, low, high)
        share = _share(peak, low, high)
        channels = (high - low) / step_ev
        variance = np.maximum(gross, 0.0) + channels * readout_variance
        by_shape = 0.0
        if fitted is not None:
            by_shape = float(fitted.share_sigma(np.array(low), np.array(high)))
        measured[name] = BandProfile(
            gross - height * share + nan,
            np.sqrt(variance + (height_sigma * share) ** 2) + nan,
            height * share + nan,
            height * by_shape + nan,
        )
    chi2 = _misfit(sums, place, step_ev, height, peak, fit_ev, readout_variance)
    return measured, height + nan, peak, chi2 + nan


def _misfit(
    sums: Array,
    place: Array,
    step_ev: float,
    height: Array,
    peak: Peak,
    fit_ev: tuple[Span, ...],
    readout_variance: float,
) -> Array:
    """Reduced χ² of the tails: one number of electrons for each span that lies on the axis."""
    rest, count = np.zeros(len(place)), np.zeros(len(place))
    for low, high in fit_ev:
        gross = window_sum(sums, place, step_ev, low, high)
        under = height * _share(peak, low, high)
        noise = np.maximum(under, 1.0) + (high - low) / step_ev * readout_variance
        inside = np.isfinite(gross)
        rest += np.where(inside, np.square(gross - under) / noise, 0.0)
        count += inside
    return np.where(count > 0, rest / np.maximum(count, 1.0), np.nan)


def _by_law(
    rows: Array,
    place: Array,
    known: NDArray[np.bool_],
    step_ev: float,
    windows: Mapping[str, Span],
    fit_ev: tuple[Span, ...],
    kind: str,
    readout_variance: float,
) -> _Found:
    """A exp(-r u) with u = ln(E / E0) or (E - E0) / 10 meV, by Fisher scoring."""
    channels = rows.shape[1]
    energy = place[:, None] + step_ev * np.arange(channels)
    used = np.zeros(energy.shape, bool)
    for low, high in fit_ev:
        used |= (energy >= low) & (energy <= high)
    columns = np.flatnonzero(used.any(axis=0))
    energy, used, data = energy[:, columns], used[:, columns], rows[:, columns]
    middle = math.sqrt(fit_ev[0][0] * fit_ev[-1][1]) if kind == "power_law" else fit_ev[0][0]

    def log_shape(at: Array) -> Array:
        if kind == "power_law":
            return np.log(np.maximum(at, 1e-9) / middle)
        return (at - middle) / 0.010

    u = np.where(used, log_shape(energy), 0.0)
    data = np.where(used, data, 0.0)
    number = np.maximum(used.sum(axis=1), 1)
    enough = known & (data.sum(axis=1) > 0) & (used.sum(axis=1) >= 4)
    data = np.where(enough[:, None], data, np.where(used, 1.0, 0.0))
    level = np.log(np.maximum(data.sum(axis=1), 1e-3) / number)
    slope = np.zeros(len(rows))
    inverse = np.zeros((len(rows), 2, 2))
    for _ in range(_ROUNDS):
        mean = np.where(used, np.exp(np.clip(level[:, None] - slope[:, None] * u, -50, 50)), 0.0)
        weight = np.where(used, mean / (mean + readout_variance + 1e-300), 0.0)
        rest = weight * (data - mean)
        first, second = rest.sum(axis=1), -(rest * u).sum(axis=1)
        ww = weight * mean
        aa, ar, rr = ww.sum(axis=1), -(ww * u).sum(axis=1), (ww * u * u).sum(axis=1)
        determinant = np.maximum(aa * rr - ar**2, 1e-300)
        inverse = np.stack([rr, -ar, -ar, aa], axis=1).reshape(-1, 2, 2)
        inverse /= determinant[:, None, None]
        d_a = (rr * first - ar * second) / determinant
        d_r = (aa * second - ar * first) / determinant
        shrink = np.minimum(1.0, 1.0 / np.maximum(np.maximum(np.abs(d_a), np.abs(d_r)), 1e-12))
        level, slope = level + shrink * d_a, slope + shrink * d_r
        if max(np.abs(d_a).max(initial=0.0), np.abs(d_r).max(initial=0.0)) < 1e-7:
            break
    variance = np.where(used, np.maximum(mean + readout_variance, 1e-12), 1.0)
    chi2 = np.where(used, np.square(data - mean) / variance, 0.0).sum(axis=1)
    chi2 = chi2 / np.maximum(number - 2, 1)
    nan = np.where(enough, 0.0, np.nan)
    sums, measured = running_sum(rows), {}
    nodes, weights = np.polynomial.legendre.leggauss(32)
    for name, (low, high) in windows.items():
        at = 0.5 * (high - low) * nodes + 0.5 * (high + low)
        v = log_shape(at)
        part = np.exp(level[:, None] - slope[:, None] * v) * weights * 0.5 * (high - low) / step_ev
        under = part.sum(axis=1)
        gradient = np.stack([under, -(part * v).sum(axis=1)], axis=1)
        by_law = np.einsum("ni,nij,nj->n", gradient, inverse, gradient)
        gross = window_sum(sums, place, step_ev, low, high)
        variance_in = np.maximum(gross, 0.0) + (high - low) / step_ev * readout_variance
        measured[name] = BandProfile(
            gross - under + nan, np.sqrt(variance_in + by_law) + nan, under + nan, nan.copy()
        )
    return measured, np.full(len(rows), np.nan), None, chi2 + nan


def _share(peak: Peak, low: float, high: float) -> float:
    ends = peak.below(np.array([low, high]))
    return float(ends[1] - ends[0])


def _check(windows: Mapping[str, Span], fit_ev: tuple[Span, ...], background: str) -> None:
    if background not in ("peak", "power_law", "exponential"):
        raise MeasureError(
            f"background = {background!r}: write 'peak', 'power_law' or 'exponential'."
        )
    if not windows or not fit_ev:
        raise MeasureError("vibrations need windows, and spans to fit their background in.")
    for low, high in (*windows.values(), *fit_ev):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise MeasureError(f"a window from {low} to {high} eV has no width.")
        if background == "power_law" and low <= 0:
            raise MeasureError(
                f"a power law has no value at {low} eV: give windows and fit_ev above 0, or take "
                "background='peak'."
            )
