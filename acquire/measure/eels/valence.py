"""Share of Ti3+ in titanium, by the references of Ti4+ and Ti3+ over a power law."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.mlls import ReferenceFit, fit_limit, fit_references
from acquire.measure.eels.reference_shapes import ti3_reference, ti4_reference
from acquire.measure.eels.references import Array, Reference, Window, measured_reference, rows_of

TI_WINDOWS_EV: tuple[Window, ...] = ((410.0, 450.0), (452.5, 470.0))
"""Background before Ti-L2,3, and its white lines: what is scattered a second time comes above, so that a
specimen of twice or half the references' thickness biases the share by no more than 0.002."""
PER_ATOM_EV: Window = (452.0, 502.0)
"""Where both references hold equally many electrons per atom: fine structure moves them only within."""

_WEAK = 5.0
_NOTHING = 3.0
_BEYOND = 2.0
_MISFIT, _MISFIT_SIGMAS = 0.01, 5.0
_SEARCH_EV = 0.25
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Valence:
    """Shares of Ti3+, one entry per spectrum; NaN where none could be told."""

    fraction: Array
    """Not held within 0 and 1: its mean over many spectra is unbiased."""
    sigma: Array
    """From the electrons, the readout and the background; not from references of a wrong shape."""
    electrons: Array
    """Of Ti-L2,3 within :data:`PER_ATOM_EV`."""
    electrons_sigma: Array
    exponent: Array
    """Of the background."""
    chi2: Array
    """Reduced χ²: references that do not look like the spectrum show here."""
    flags: Mapping[str, NDArray[np.bool_]]
    """``few_counts``: titanium below 5 σ (NaN below 3); ``fraction_beyond``: outside 0 to 1 by more than
    2 σ; ``wrong_references``, of all spectra at once: the mean of their χ² is above 1 by 0.01 and 5 σ, so that
    the share is biased however small its σ is; ``poor_fit``, ``out_of_range``, ``nonfinite``, ``no_fit``, ``no_background`` and
    ``noisy_reference`` as in :class:`~acquire.measure.eels.mlls.ReferenceFit`."""


def ti3_fraction(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    *,
    references: tuple[Reference, Reference] | None = None,
    fwhm_ev: float = 0.6,
    window_ev: Sequence[Window] = TI_WINDOWS_EV,
    per_atom_ev: Window = PER_ATOM_EV,
    background: Literal["before", "power_law"] = "before",
    readout_variance: float = 0.0,
) -> Valence:
    """Share of Ti3+ in spectra (n, channels) whose zero loss lies at 0 on their own axes.

    A E⁻ʳ is fitted before the edge, then c₄ R₄ + c₃ R₃ above it, both by Poisson likelihood, and the
    share is c₃ / (c₃ + c₄): mixed valence is a linear combination of the two. An axis off by 20 meV
    biases it by 0.004, by 100 meV by 0.02. References of a wrong shape cost more: between two sets of
    plausible shapes the share differs by 0.04 to 0.07, its change along a line by 2 %.

    Args:
        electrons: per channel, float64.
        offset_ev: centre of each spectrum's first channel less its zero-loss position; (n,).
        step_ev: width of the channels.
        references: (Ti4+, Ti3+) without background; the built-in ones, blurred, if None.
        fwhm_ev: zero-loss width of the data, for built-in references alone.
        window_ev: the background's and the edge's.
        per_atom_ev: where the references are scaled to equal areas.
        background: taken from before the edge, or fitted together with the references; the first has a
            σ of up to 1.05 times the other's, and is not bent by a wrong continuum of theirs.
        readout_variance: e-² per channel.

    Raises:
        MeasureError: references that do not cover the windows, are too coarse, or are alike.
    """
    pair = references or (ti4_reference(fwhm_ev), ti3_reference(fwhm_ev))
    if len(pair) != 2:
        raise MeasureError(f"{len(pair)} references of titanium: Ti4+ and Ti3+ are needed.")
    scaled = _per_atom(pair, per_atom_ev)
    fit = fit_references(
        electrons, offset_ev, step_ev, scaled, window_ev, background, readout_variance
    )
    total = fit.coefficients.sum(axis=1)
    total_sigma = np.sqrt(fit.covariance.sum(axis=(1, 2)))
    significance = total / total_sigma
    told = significance > _NOTHING
    safe = np.where(told, total, np.nan)
    fraction = fit.coefficients[:, 1] / safe
    gradient = np.stack([-fraction, 1.0 - fraction], axis=1)
    variance = np.einsum("ni,nij,nj->n", gradient, fit.covariance, gradient)
    sigma = np.sqrt(variance) / safe
    fitted = np.isfinite(total)
    return Valence(
        fraction,
        sigma,
        total,
        total_sigma,
        fit.exponent,
        fit.chi2,
        {
            "few_counts": fitted & ~(significance > _WEAK),
            "fraction_beyond": (fraction < -_BEYOND * sigma) | (fraction > 1 + _BEYOND * sigma),
            "wrong_references": fitted & _misfit(fit),
            **fit.flags,
        },
    )


def ti3_limit(
    fraction: float,
    ti_electrons: float,
    step_ev: float,
    *,
    references: tuple[Reference, Reference],
    background: tuple[float, float] | None,
    window_ev: Sequence[Window] = TI_WINDOWS_EV,
    per_atom_ev: Window = PER_ATOM_EV,
    readout_variance: float = 0.0,
) -> float:
    """Cramér–Rao limit of σ of the share of Ti3+, from every channel of the windows, references known.

    ``ti_electrons`` are those of Ti-L within ``per_atom_ev``; ``background`` as in
    :func:`~acquire.measure.eels.mlls.fit_limit`, fitted as well.
    """
    scaled = _per_atom(references, per_atom_ev)
    covariance = fit_limit(
        scaled,
        (ti_electrons * (1 - fraction), ti_electrons * fraction),
        min(low for low, _ in window_ev),
        step_ev,
        window_ev,
        background,
        readout_variance,
    )[:2, :2]
    gradient = np.array([-fraction, 1 - fraction]) / ti_electrons
    return math.sqrt(float(gradient @ covariance @ gradient))


def _misfit(fit: ReferenceFit) -> bool:
    """Whether χ² of all spectra together tells what that of a single one does not yet."""
    used = np.isfinite(fit.chi2) & ~fit.flags["poor_fit"]  # those say so themselves
    chi2, sigma = fit.chi2[used], fit.chi2_sigma[used]
    if not len(chi2):
        return False
    chance = _MISFIT_SIGMAS * math.sqrt(float(np.square(sigma).sum())) / len(chi2)
    return bool(chi2.mean() - 1.0 > _MISFIT + chance)


@lru_cache(maxsize=32)
def _per_atom(references: tuple[Reference, Reference], window_ev: Window) -> tuple[Reference, ...]:
    # kept, so that the fit knows them again
    return tuple(reference.normalised(*window_ev) for reference in references)


def reference_shift(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    references: Sequence[Reference],
    window_ev: Sequence[Window] = TI_WINDOWS_EV,
    *,
    reach_ev: float = 1.5,
    readout_variance: float = 0.0,
) -> tuple[float, float]:
    """How far references must be moved up to lie on the sum of spectra (n, channels), and σ, in eV.

    For references whose calibration is not the data's: one shift for all of them and all spectra.
    A search over ``reach_ev`` to either side, then the slope of the fitted sum with the shift joins
    the fit as one more reference (Gauss–Newton), whose σ holds what the shares of the others take
    from it. Use ``[r.shifted(shift) for r in references]``.

    Raises:
        MeasureError: no finite spectra, windows that they do not share, or no shift found in reach.
    """
    rows, offset = rows_of(electrons, offset_ev, step_ev)
    mean = measured_reference("mean", rows, offset, step_ev)
    count = int((np.isfinite(rows).all(axis=1) & np.isfinite(offset)).sum())
    summed, first = mean.per_ev[None] * step_ev * count, float(mean.energy_ev[0])
    noise = readout_variance * count

    def fit(shapes: Sequence[Reference]) -> ReferenceFit:
        return fit_references(summed, first, step_ev, shapes, window_ev, readout_variance=noise)

    if fit(references).flags["out_of_range"][0]:
        raise MeasureError(
            f"the spectra share {mean.covers_ev[0]:g} to {mean.covers_ev[1]:g} eV, not the windows "
            f"{tuple(window_ev)}. Choose others."
        )
    places = np.linspace(-reach_ev, reach_ev, 2 * math.ceil(reach_ev / _SEARCH_EV) + 1)
    found = [fit([r.shifted(float(p)) for r in references]).chi2[0] for p in places]
    best = float(places[int(np.nanargmin(found))]) if np.isfinite(found).any() else math.nan
    sigma = math.nan
    for _ in range(_ROUNDS):
        if not abs(best) <= reach_ev:
            break
        moved = [reference.shifted(best) for reference in references]
        slope = _slope(moved, fit(moved).coefficients[0], window_ev, step_ev)
        step = fit([*moved, slope])
        by = float(np.clip(step.coefficients[0, -1], -_SEARCH_EV, _SEARCH_EV))
        best, sigma = best + by, float(step.sigma[0, -1])
        if abs(by) < 0.02 * sigma:
            return best, sigma
    raise MeasureError(
        f"references and spectra do not come to lie on each other within {reach_ev:g} eV. "
        "Check the energy axis of both, and whether there is titanium at all."
    )


def _slope(
    references: Sequence[Reference],
    coefficients: Array,
    window_ev: Sequence[Window],
    step_ev: float,
) -> Reference:
    """How the sum of references changes per eV that they move up."""
    low = min(low for low, _ in window_ev) - 1.5 * step_ev
    cells = math.ceil((max(high for _, high in window_ev) - low) / step_ev) + 2
    by, fine = 0.2 * step_ev, 0.5 * step_ev
    ends = low + fine * np.arange(2 * cells + 1, dtype=np.float64)
    total = np.zeros(2 * cells)
    for reference, coefficient in zip(references, coefficients, strict=True):
        up, down = (reference.shifted(s).below(ends) for s in (by, -by))
        # the very ends may lie beyond a reference, and outside the windows
        total += coefficient * np.nan_to_num(np.diff(up - down)) / (2 * by)
    return Reference("the shift", 0.5 * (ends[1:] + ends[:-1]), total / fine, "slope")
