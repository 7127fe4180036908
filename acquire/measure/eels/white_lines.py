"""Free fit of the four white lines of Ti-L2,3: splitting by the crystal field, areas, and the ratio L3/L2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.fit_loops import FITTED, NOT_FINITE, OUT_OF_RANGE
from acquire.measure.eels.mlls import GROUPED, fit_windows, middle_ev
from acquire.measure.eels.references import Array, Window, rows_of
from acquire.measure.eels.white_lines_rows import (
    LINES,
    MOVE_EV,
    NARROWEST_EV,
    SIZE,
    WIDEST_EV,
    fit_lines,
)

LINE_WINDOWS_EV: tuple[Window, ...] = ((410.0, 450.0), (452.5, 475.0))
"""Background before Ti-L2,3, and its white lines with the last one's wing."""
START_EV = (457.5, 459.7, 462.9, 465.2)
"""t2g and eg of L3, then of L2, in Ti4+; they are searched for together, from 3 eV below to 2 above."""
START_FWHM_EV = (1.0, 1.5, 1.6, 2.1)

_SHARES = (0.44, 0.84, 0.52, 0.70, 0.054)
"""Areas of the lines that the search begins with, and the height of both steps per eV."""
_SEARCH_EV = 3.0
_DIP = 0.85
"""Two equal Gaussians show a dip between them from 2 σ = 0.85 FWHM on."""
_TOLD = 3.0
_SPIN_ORBIT_EV, _SPIN_ORBIT_ROOM_EV = 5.45, 0.5
"""SrTiO3 has 5.4 eV, TiO2 5.48: elsewhere the four lines are others than Ti4+'s."""
_WORST_CHI2 = 2.0
_CHI2_SIGMAS = 5.0


@dataclass(frozen=True, slots=True)
class WhiteLines:
    """Lines t2g(L3), eg(L3), t2g(L2), eg(L2) of each spectrum; NaN where nothing was fitted."""

    position_ev: Array
    """(n, 4)."""
    position_sigma_ev: Array
    fwhm_ev: Array
    """(n, 4), with the zero-loss peak's."""
    electrons: Array
    """(n, 4): areas of the whole lines."""
    electrons_sigma: Array
    splitting_ev: Array
    """(n, 2): eg less t2g, in L3 and in L2."""
    splitting_sigma_ev: Array
    spin_orbit_ev: Array
    """(n,): middle of L2's pair less middle of L3's."""
    spin_orbit_sigma_ev: Array
    ratio: Array
    """(n,): area of L3's lines over L2's."""
    ratio_sigma: Array
    continuum_per_ev: Array
    """(n,): height of both steps."""
    chi2: Array
    """Reduced χ²."""
    chi2_sigma: Array
    flags: Mapping[str, NDArray[np.bool_]]
    """``unresolved_l3``, ``unresolved_l2``: the pair shows no dip, a line's area is below 3 σ, its
    splitting below 3 σ, a position or width came to its bound,
    or L3 and L2 are not 5.45 ± 0.5 eV apart, so that the lines are others than Ti4+'s; ``few_counts``: L3 or L2 is below
    5 σ (ratio NaN below 3); ``poor_fit``, ``out_of_range``, ``nonfinite``, ``no_fit``."""


def fit_white_lines(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    *,
    window_ev: Sequence[Window] = LINE_WINDOWS_EV,
    lorentzian: float = 0.3,
    start_ev: Sequence[float] = START_EV,
    start_fwhm_ev: Sequence[float] = START_FWHM_EV,
    readout_variance: float = 0.0,
) -> WhiteLines:
    """Fit four pseudo-Voigt lines, two steps of 2 to 1 and a power law to spectra (n, channels).

    Positions, widths and areas are free, and so are the steps' height and the background: 15
    parameters by Levenberg–Marquardt on the Poisson likelihood, σ by Fisher's information. Some
    thousand electrons in Ti-L are needed. Of Ti3+, whose pairs have run together, the splitting is
    not told but flagged; its share comes from
    :func:`~acquire.measure.eels.valence.ti3_fraction`.

    Args:
        electrons: per channel, float64.
        offset_ev: centre of each spectrum's first channel less its zero-loss position.
        step_ev: width of the channels.
        window_ev: before the edge, and the white lines'.
        lorentzian: share of the Lorentzian in every line; 0.3 more or less moves areas by some
            percent and positions hardly.
        start_ev: positions to begin with.
        start_fwhm_ev: widths to begin with.
        readout_variance: e-² per channel.

    Raises:
        MeasureError: a share that is none, or windows or starts that cannot be used.
    """
    rows, offset = rows_of(electrons, offset_ev, step_ev)
    windows = fit_windows(window_ev, "power_law")
    start, fwhm = np.array(start_ev, np.float64), np.array(start_fwhm_ev, np.float64)
    if not 0 <= lorentzian <= 1:
        raise MeasureError(f"lorentzian = {lorentzian!r} must be a share, 0 to 1.")
    if start.shape != (LINES,) or fwhm.shape != (LINES,) or not (np.diff(start) > 0).all():
        raise MeasureError(f"lines at {tuple(start_ev)} eV: four are needed, in ascending order.")
    if not ((fwhm > NARROWEST_EV) & (fwhm < WIDEST_EV)).all():
        raise MeasureError(
            f"widths of {tuple(start_fwhm_ev)} eV: {NARROWEST_EV:g} to {WIDEST_EV:g} eV are fitted."
        )
    # channels are taken together where the edge is not: before the window that holds the lines
    low, high = windows[0][0] - step_ev, windows[-1][1] + step_ev
    edge_from = max((a for a, _ in windows if a < start[0]), default=low)
    fine = 0.25 * step_ev
    grid = low + fine * np.arange(math.ceil((high - low) / fine) + 1)
    table = np.maximum(grid - edge_from + step_ev, 0.0)[None]
    theta = np.empty((len(rows), SIZE))
    covariance = np.empty((len(rows), SIZE, SIZE))
    told = np.empty((len(rows), 3))
    moved = np.empty(len(rows))
    state = np.empty(len(rows), np.int64)
    fit_lines(
        rows, np.array(offset), float(step_ev), np.array(windows), table, low, fine,
        np.array([1e-6 * step_ev]), GROUPED, middle_ev(windows), float(readout_variance), start,
        fwhm, np.array(_SHARES), _SEARCH_EV, float(lorentzian), theta, covariance, told, moved, state,
    )  # fmt: skip
    return _result(theta, covariance, told, moved, state, start)


def _result(
    theta: Array,
    covariance: Array,
    told: Array,
    moved: Array,
    state: NDArray[np.int64],
    start: Array,
) -> WhiteLines:
    position, fwhm = theta[:, :LINES], np.exp(theta[:, LINES : 2 * LINES])
    areas = theta[:, 2 * LINES : 3 * LINES]
    # rounding may leave tiny negative variances of what is not told at all
    sigma = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
    area_sigma = sigma[:, 2 * LINES : 3 * LINES]
    at = np.zeros((4, SIZE))
    at[0, [0, 1]] = at[1, [2, 3]] = -1.0, 1.0
    at[2, :4] = -0.5, -0.5, 0.5, 0.5
    splits = theta @ at[:3].T
    split_sigma = np.sqrt(np.maximum(np.einsum("ki,nij,kj->nk", at[:3], covariance, at[:3]), 0.0))
    l3, l2 = areas[:, :2].sum(axis=1), areas[:, 2:].sum(axis=1)
    sums = np.zeros((2, SIZE))
    sums[0, 8:10] = sums[1, 10:12] = 1.0
    both = np.einsum("ki,nij,lj->nkl", sums, covariance, sums)
    l3_sigma, l2_sigma = (np.sqrt(np.maximum(both[:, k, k], 0.0)) for k in range(2))
    safe = np.where((l2 > _TOLD * l2_sigma) & (l3 > _TOLD * l3_sigma), l2, np.nan)
    ratio = l3 / safe
    ratio_variance = both[:, 0, 0] - 2 * ratio * both[:, 0, 1] + ratio**2 * both[:, 1, 1]
    fitted = state == FITTED
    away = np.abs(position - start - moved[:, None])
    bound = (away > MOVE_EV - 1e-6) | (fwhm < NARROWEST_EV * 1.001) | (fwhm > WIDEST_EV * 0.999)
    faint = ~(areas > _TOLD * area_sigma)
    strange = ~(np.abs(splits[:, 2] - _SPIN_ORBIT_EV) < _SPIN_ORBIT_ROOM_EV + split_sigma[:, 2])
    freedom = np.maximum(told[:, 1], 1.0)
    chi2, chi2_sigma = told[:, 0] / freedom, np.sqrt(told[:, 2]) / freedom
    flags = {
        f"unresolved_{edge}": fitted
        & (
            ~(splits[:, k] > _DIP * fwhm[:, pair].mean(axis=1))
            | ~(splits[:, k] > _TOLD * split_sigma[:, k])
            | bound[:, pair].any(axis=1)
            | faint[:, pair].any(axis=1)
            | strange
        )
        for k, (edge, pair) in enumerate((("l3", slice(0, 2)), ("l2", slice(2, 4))))
    }
    flags |= {
        "few_counts": fitted & (~(l3 > 5 * l3_sigma) | ~(l2 > 5 * l2_sigma)),
        "poor_fit": fitted & (chi2 > np.maximum(_WORST_CHI2, 1.0 + _CHI2_SIGMAS * chi2_sigma)),
        "out_of_range": state == OUT_OF_RANGE,
        "nonfinite": state == NOT_FINITE,
        "no_fit": ~fitted & (state != OUT_OF_RANGE) & (state != NOT_FINITE),
    }
    return WhiteLines(
        position,
        sigma[:, :LINES],
        fwhm,
        areas,
        area_sigma,
        splits[:, :2],
        split_sigma[:, :2],
        splits[:, 2],
        split_sigma[:, 2],
        ratio,
        np.sqrt(np.maximum(ratio_variance, 0.0)) / safe,
        theta[:, 3 * LINES],
        chi2,
        chi2_sigma,
        flags,
    )
