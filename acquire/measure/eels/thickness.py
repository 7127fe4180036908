"""Tells thickness over mean free path from low-loss spectra by the log ratio, and thickness in nm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.peak import Peak, measure_peak, peak_heights
from acquire.measure.eels.series_kernel import logarithm
from acquire.measure.eels.windows import bin_sums, running_sum
from acquire.measure.eels.zlp_shape import ZeroLossShape

Array = NDArray[np.float64]

GAP_EV = 1.5
"""Losses begin above: the peak's shape is measured below."""
_TAIL_EV = 8.0
_COUNTED = (-2.0, 1.0)
"""Window of the peak's height, in FWHM: losses begin on the one side of it only."""
_BIN_FWHM = 2.0
_LEAST_BIN_EV = 0.5
_LEAST_RANGE_EV = 40.0
_MOST_BEYOND = 0.02
"""Share of t/λ that may be extrapolated without a flag."""
_THICKEST = 3.0
_FLATTEST, _TAIL_EXPONENT = 2.0, 3.0
"""Of the single scattering far behind the plasmons: E⁻³ for free electrons."""


@dataclass(frozen=True, slots=True)
class Thickness:
    """Thickness over mean free path, one entry per spectrum; NaN where it cannot be told."""

    t_over_lambda: Array
    sigma: Array
    zero_loss: Array
    """Electrons in the whole zero-loss peak, tails included."""
    beyond: Array
    """Part of ``t_over_lambda`` that lies behind the end of the axis, by extrapolation."""
    peak: Peak
    """Shape that the zero-loss peak was counted with."""
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``no_zero_loss``, ``nonfinite``, ``truncated_range`` (more than 2 % is extrapolated, or the axis
    ends below 40 eV), ``too_thick`` (above 3 the peak is too small beside what it is counted with)."""


def log_ratio(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    *,
    fwhm_ev: float,
    peak: Peak | None = None,
    readout_variance: float = 0.0,
    gap_ev: float = GAP_EV,
) -> Thickness:
    """t/λ = ln(I_total / I_0) of low-loss spectra.

    I_0 is the electrons between -2 and +1 FWHM of the zero-loss peak over its shape's share there, so
    that the tails belong to it. The shape (width and Lorentzian share) is measured on all spectra
    where there are no losses, below ``gap_ev``, unless it is given.

    An axis that ends at E cuts plurally scattered electrons off long before it cuts the single
    scattering. Therefore the logarithm is taken of the whole spectrum rather than of its sum: with p
    the losses over I_0 in bins, exp(S) = 1 + p has the solution n S_n = n p_n - Σ k S_k p_{n-k}
    (Poisson statistics; the Fourier-log method as a power series, exact below E whatever lies
    above), and t/λ = Σ S, plus a power law through the last quarter of S for what it misses beyond E.
    For an axis that holds everything this is the log ratio. Sources: R. F. Egerton, Electron
    Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. 2011, sections 4.3 and 5.1; for the
    recursion, any text on power series.

    Args:
        electrons: (n, channels), with the zero-loss peak and tens of eV behind it.
        offset_ev: (n,) energy of the first channel's centre, *the zero-loss peak at 0*; NaN where the
            peak was not found.
        step_ev: width of a channel.
        fwhm_ev: of the zero-loss peak, roughly.
        peak: its shape, if it was measured before or on vacuum.
        readout_variance: e-² per channel.
        gap_ev: energy below which the specimen has no losses.

    Raises:
        MeasureError: shapes that do not belong together, or spectra with peaks that hold nothing.
    """
    rows = np.atleast_2d(np.asarray(electrons, np.float64))
    offset = np.atleast_1d(np.asarray(offset_ev, np.float64))
    if len(offset) != len(rows):
        raise MeasureError(f"{len(offset)} offsets do not belong to {len(rows)} spectra.")
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    found = finite & np.isfinite(offset)
    if not finite.all():
        rows = np.where(finite[:, None], rows, 0.0)
    if peak is None and not found.any():
        peak = ZeroLossShape(fwhm_ev)
    elif peak is None:
        side = min(_TAIL_EV, max(3 * fwhm_ev, float(-np.nanmax(offset))))
        regions = ((-side, max(min(gap_ev, 4 * fwhm_ev), 0.75 * fwhm_ev)),)
        peak = measure_peak(
            rows,
            np.where(found, offset, np.nan),
            step_ev,
            fwhm_ev=fwhm_ev,
            regions_ev=regions,
            readout_variance=readout_variance,
        ).shape
    counted = (_COUNTED[0] * peak.fwhm_ev, _COUNTED[1] * peak.fwhm_ev)
    sums = running_sum(rows)
    height, height_sigma = peak_heights(
        rows, offset, step_ev, peak, counted, readout_variance, sums=sums
    )
    enough = height > 5 * height_sigma
    known = found & enough
    place = np.where(known, offset, 0.0)
    zero = np.where(known, height, 1.0)
    width = max(_LEAST_BIN_EV, _BIN_FWHM * peak.fwhm_ev, step_ev)
    losses, shares = _losses(sums, place, step_ev, peak, zero, width)
    channels = width / step_ev
    losses[~known] = 0.0
    bins = losses.shape[1]
    if bins < 8:
        nothing = np.full(len(rows), np.nan)
        flags = {"no_zero_loss": ~known & finite, "nonfinite": ~finite}
        flags |= {"truncated_range": known, "too_thick": np.zeros(len(rows), bool)}
        return Thickness(nothing, nothing.copy(), height, nothing.copy(), peak, flags)
    single, inverse = logarithm(losses / zero[:, None])
    within = single.sum(axis=1)
    # how Σ S changes with each bin: the running sum of 1 / (1 + p), from the far end
    weight = np.cumsum(inverse[:, :bins], axis=1)[:, ::-1]
    gross = np.maximum(losses, 0.0) + zero[:, None] * shares
    variance = gross + channels * readout_variance
    by_losses = (weight**2 * variance).sum(axis=1) / zero**2
    by_peak = (weight * (losses / zero[:, None])).sum(axis=1) * height_sigma / zero
    beyond, by_tail = _beyond(single, variance / zero[:, None] ** 2, known, width)
    sigma = np.sqrt(by_losses + by_peak**2 + by_tail**2)
    nan = np.where(known, 0.0, np.nan)
    total = within + beyond
    end = place + step_ev * (rows.shape[1] - 0.5)
    cut = known & (
        (np.abs(beyond) > _MOST_BEYOND * np.maximum(total, 0.2)) | (end < _LEAST_RANGE_EV)
    )
    return Thickness(
        total + nan,
        sigma + nan,
        np.where(known, height, np.nan),
        beyond + nan,
        peak,
        {
            "no_zero_loss": ~known & finite,
            "nonfinite": ~finite,
            "truncated_range": cut,
            "too_thick": known & (total > _THICKEST),
        },
    )


def _losses(
    sums: Array, offset: Array, step_ev: float, peak: Peak, zero: Array, width: float
) -> tuple[Array, Array]:
    """Electrons without the peak's tail in bins around width, 2 width … as far as all rows reach, and
    the peak's share in each; ``sums`` are running ones.
    """
    end = float((offset + step_ev * (sums.shape[1] - 1.5)).min())
    bins = max(0, int(np.floor(end / width - 0.5)))
    edges = np.asarray(width * (0.5 + np.arange(bins + 1)), np.float64)
    # a live estimator asks for the same ones with every spectrum
    if isinstance(peak, ZeroLossShape):
        shares = _kept_shares(peak, bins, width)
    else:
        shares = np.diff(peak.below(edges))
    return bin_sums(sums, offset, step_ev, edges) - zero[:, None] * shares, shares


@lru_cache(maxsize=16)
def _kept_shares(peak: ZeroLossShape, bins: int, width: float) -> Array:
    shares = np.diff(peak.below(width * (0.5 + np.arange(bins + 1))))
    shares.setflags(write=False)
    return shares


def _beyond(
    single: Array, variance: Array, known: NDArray[np.bool_], width: float
) -> tuple[Array, Array]:
    """What a power law through the last quarter of the single scattering holds behind its end, and its σ.

    Shape and share are those of all spectra together: in one of them this is mostly noise.
    """
    bins = single.shape[1]
    half = max(2, bins // 8)
    parts = slice(bins - 2 * half, bins - half), slice(bins - half, bins)
    first, last = (float(single[known, part].sum()) for part in parts)
    noise = float(np.sqrt(variance[known, parts[1]].sum()))
    start, middle, end = (width * (bins - k * half + 0.5) for k in (2, 1, 0))
    r = _TAIL_EXPONENT
    if first > 0 and last > 3 * noise:
        exponents, held = _by_exponent(start, middle, end)
        r = float(np.interp(first / last, held, exponents))
    factor = end ** (1 - r) / (middle ** (1 - r) - end ** (1 - r))
    within = np.maximum(single.sum(axis=1), 0.0)
    total = float(within[known].sum())
    if not total > 0:
        return np.zeros(len(single)), np.zeros(len(single))
    share = max(last, 0.0) * factor / total
    # an exponent that is off by one changes the part beyond by about half of it
    return share * within, np.hypot(0.5 * share, noise * factor / total) * within


@lru_cache(maxsize=16)
def _by_exponent(start: float, middle: float, end: float) -> tuple[Array, Array]:
    """Exponents, and the ratio that a power law of each has between two windows."""
    exponents = np.linspace(_FLATTEST, 8.0, 121)
    return exponents, _power(start, middle, exponents) / _power(middle, end, exponents)


def _power(low: float, high: float, exponents: Array) -> Array:
    return np.asarray(low ** (1 - exponents) - high ** (1 - exponents))


MEAN_FREE_PATHS_NM: Mapping[str, Mapping[float, float]] = MappingProxyType(
    {
        "srtio3": MappingProxyType({60.0: 60.0, 200.0: 123.0, 300.0: 147.0}),
        "ni": MappingProxyType({60.0: 53.0, 200.0: 107.0, 300.0: 128.0}),
    }
)
"""Of inelastic scattering by beam energy in kV; the project's sheet of figures."""

_REST_KEV = 510.999


def mean_free_path_nm(material: str, beam_kev: float) -> float:
    """Mean free path of a material of the table.

    Between the table's 60, 200 and 300 kV it is interpolated linearly in (v/c)², with which mean free
    paths grow but for a logarithm; beyond them nothing is told.

    Raises:
        MeasureError: a material or an energy that the table does not cover.
    """
    table = MEAN_FREE_PATHS_NM.get(material)
    if table is None:
        raise MeasureError(
            f"there is no mean free path of {material!r}; there are {', '.join(MEAN_FREE_PATHS_NM)}. "
            "Give a mean free path in nm."
        )
    energies = sorted(table)
    if not energies[0] <= beam_kev <= energies[-1]:
        raise MeasureError(
            f"the mean free path of {material!r} is told from {energies[0]:g} to {energies[-1]:g} kV, "
            f"not at {beam_kev!r} kV. Give a mean free path in nm."
        )
    speeds = [_speed2(energy) for energy in energies]
    return float(np.interp(_speed2(beam_kev), speeds, [table[energy] for energy in energies]))


def thickness_nm(
    t_over_lambda: ArrayLike,
    sigma: ArrayLike,
    path_nm: float,
    path_sigma_nm: float = 0.0,
) -> tuple[Array, Array]:
    """Thickness and its σ in nm, with the mean free path's own where it is given (10 % is usual).

    Raises:
        MeasureError: a mean free path that is not positive and finite.
    """
    if not (np.isfinite(path_nm) and path_nm > 0 and np.isfinite(path_sigma_nm)):
        raise MeasureError(
            f"a mean free path of {path_nm!r} ± {path_sigma_nm!r} nm must be positive."
        )
    ratio = np.asarray(t_over_lambda, np.float64)
    spread = np.hypot(np.asarray(sigma, np.float64) * path_nm, ratio * path_sigma_nm)
    return ratio * path_nm, np.asarray(spread)


def _speed2(beam_kev: float) -> float:
    """(v/c)²."""
    gamma = 1 + beam_kev / _REST_KEV
    return 1 - 1 / gamma**2
