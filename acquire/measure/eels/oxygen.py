"""O-K fine structure: electrons of the pre-peak "a" over those of the post-peak "b" above a power law.

Peak a is at the onset and b 5.3 eV above; b fades at anti-phase boundaries (Han et al. 2022), so that
the ratio a/b rises there. Pre-peaks also follow the occupation of Ti 3d and the tilts of octahedra.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.background import PowerLaw, fit_power_law
from acquire.measure.eels.references import Array, Window, rows_of
from acquire.measure.eels.windows import running_sum, window_sum

ONSET_EV = 532.0
"""Of peak a."""
PRE_EV: Window = (-1.5, 1.5)
"""Window of a, about the onset."""
POST_EV: Window = (3.8, 6.8)
"""Window of b, about the onset."""
BACKGROUND_EV: Window = (500.0, 527.0)
"""On the tail of Ti-L2,3."""

WEAK = 5.0
NOTHING = 2.0
WORST_CHI2 = 2.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, slots=True)
class PeakRatio:
    """Two windows of an edge above its background, one entry per spectrum; NaN where not told."""

    ratio: Array
    """First window over second."""
    sigma: Array
    """With the background that both share."""
    first: Array
    """Electrons above background."""
    first_sigma: Array
    second: Array
    second_sigma: Array
    chi2: Array
    """Reduced, of the background in its fit window."""
    flags: Mapping[str, NDArray[np.bool_]]
    """``few_counts``: a window below 5 σ (ratio NaN where the second is below 2); ``poor_fit``: the
    background's χ² is above 2; ``out_of_range``, ``nonfinite``."""


def oxygen_ratio(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    *,
    onset_ev: float = ONSET_EV,
    pre_ev: Window = PRE_EV,
    post_ev: Window = POST_EV,
    background_ev: Window = BACKGROUND_EV,
    readout_variance: float = 0.0,
) -> PeakRatio:
    """Ratio a/b of O-K in spectra (n, channels), each on its own axis less its zero-loss position.

    ``pre_ev`` and ``post_ev`` are told from ``onset_ev``. The ratio is that of window integrals, which
    hold each other's wings and the continuum: compare it along a line or with a reference, not with
    areas of fitted peaks.

    Raises:
        MeasureError: windows of no width, or that overlap.
    """
    first = (onset_ev + pre_ev[0], onset_ev + pre_ev[1])
    second = (onset_ev + post_ev[0], onset_ev + post_ev[1])
    return window_ratio(
        electrons, offset_ev, step_ev, first, second, background_ev, readout_variance
    )


def window_ratio(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    first_ev: Window,
    second_ev: Window,
    background_ev: Window,
    readout_variance: float = 0.0,
) -> PeakRatio:
    """Ratio of two windows above one power law; σ² = (var₁ + ρ² var₂ + background's) / second².

    The background's part is that of ∂(first - ρ second)/∂(level, exponent) through its covariance.

    Raises:
        MeasureError: windows of no width, or that overlap.
    """
    rows, offset = rows_of(electrons, offset_ev, step_ev)
    _check(first_ev, second_ev, background_ev)
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(offset)
    rows, offset = np.where(finite[:, None], rows, 0.0), np.where(finite, offset, 0.0)
    law = fit_power_law(rows, offset, step_ev, *background_ev, readout_variance)
    ends = offset - step_ev / 2, offset + step_ev * (rows.shape[1] - 0.5)
    seen = (ends[0] <= background_ev[0] + step_ev) & (ends[1] >= background_ev[1] - step_ev)
    sums = running_sum(rows)
    gross = [window_sum(sums, offset, step_ev, *window) for window in (first_ev, second_ev)]
    under = [_under(law, window) for window in (first_ev, second_ev)]
    told = seen & np.isfinite(gross[0]) & np.isfinite(gross[1]) & finite
    nan = np.where(told, 0.0, np.nan)
    net, sigma, variance = [], [], []
    for window, total, (value, slope) in zip((first_ev, second_ev), gross, under, strict=True):
        own = np.maximum(total, 0.0) + (window[1] - window[0]) / step_ev * readout_variance
        net.append(total - value + nan)
        variance.append(own)
        sigma.append(np.sqrt(own + _through(law, slope)) + nan)
    weak = [~(value > WEAK * s) for value, s in zip(net, sigma, strict=True)]
    safe = np.where(net[1] > NOTHING * sigma[1], net[1], np.nan)
    ratio = net[0] / safe
    shared = _through(law, under[0][1] - ratio[:, None] * under[1][1])
    spread = np.sqrt(variance[0] + ratio**2 * variance[1] + shared) / safe
    return PeakRatio(
        ratio,
        spread,
        net[0],
        sigma[0],
        net[1],
        sigma[1],
        law.chi2 + nan,
        {
            "few_counts": told & (weak[0] | weak[1]),
            "poor_fit": told & (law.chi2 > WORST_CHI2),
            "out_of_range": finite & ~told,
            "nonfinite": ~finite,
        },
    )


def _under(law: PowerLaw, window: Window) -> tuple[Array, Array]:
    """Electrons of the background in a window (n,), and their slopes (n, 2) with level and exponent."""
    low, high = (math.log(end / law.reference_ev) for end in window)
    at = 0.5 * (high - low) * _NODES + 0.5 * (high + low)
    shape = np.exp(law.log_level[:, None] + (1.0 - law.exponent[:, None]) * at)
    weighted = shape * (_WEIGHTS * 0.5 * (high - low) * law.reference_ev)
    value = weighted.sum(axis=1)
    return value, np.stack([value, -(weighted * at).sum(axis=1)], axis=1)


def _through(law: PowerLaw, slope: Array) -> Array:
    return np.asarray(np.einsum("ni,nij,nj->n", slope, law.covariance, slope))


def _check(first: Window, second: Window, background: Window) -> None:
    for low, high in (first, second, background):
        if not 0 < low < high < math.inf:
            raise MeasureError(
                f"a window from {low:g} to {high:g} eV: it must be of positive energies and width."
            )
    if max(first[0], second[0]) < min(first[1], second[1]):
        raise MeasureError(
            f"the windows {first} and {second} eV overlap: their ratio would hold the same "
            "electrons twice. Move them apart."
        )
    if background[1] > min(first[0], second[0]):
        raise MeasureError(
            f"the background's window {background} eV reaches into the edge's. End it before."
        )
