"""Multiple linear least squares: spectra as sums of references over a power law, weighted as Poisson counts are.

The quasi-likelihood Σ (n - μ)² / 2 (μ + v), with the variance taken along, is driven to where its slope
vanishes by Fisher scoring: with v = 0 that is the maximum of the Poisson likelihood. References and
background are fitted together, so that the covariance holds what they take from each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.fit_loops import FITTED, NOT_FINITE, OUT_OF_RANGE
from acquire.measure.eels.mlls_rows import EXPONENT_MAX, EXPONENT_MIN, fit_rows
from acquire.measure.eels.references import Array, Reference, Window, rows_of

Background = Literal["power_law", "before"] | None
"""Fitted with the references, held as the first window has it, or none."""

_FAINT = 0.002
"""Channels are taken together where every reference is below this share of its highest value."""
GROUPED = 1 / 400
"""Width of a group of channels over its energy."""
_ALIKE = 0.02
"""Least part of a reference, by length, that the others and the background must not explain."""
_WORST_CHI2 = 1.3
_CHI2_SIGMAS = 5.0
_REFERENCE_NOISE = 10.0
_BEFORE = 3e-3
"""Share of a reference that may lie where the background is held from."""


@dataclass(frozen=True, slots=True)
class ReferenceFit:
    """Sums of references, one entry per spectrum; NaN where nothing was fitted."""

    names: tuple[str, ...]
    coefficients: Array
    """(n, k), of the references as they were given; not held above 0."""
    covariance: Array
    """(n, k, k), with the background's uncertainty."""
    electrons: Array
    """(n, k): of each reference within the windows."""
    background: Array
    """(n,): electrons of the power law within the windows."""
    exponent: Array
    """(n,): of the power law; NaN without one."""
    chi2: Array
    """Reduced χ²."""
    chi2_sigma: Array
    """What chance leaves of it, for counts that are Poisson."""
    flags: Mapping[str, NDArray[np.bool_]]
    """``nonfinite``, ``out_of_range``, ``no_fit``; ``poor_fit``: χ² above 1.3 and 5 σ above 1,
    or an exponent of the background at its bounds of -4 and 14;
    ``no_background``: no electrons that a power law could follow; ``noisy_reference``: a reference has
    fewer than ten times the electrons of the spectrum, so that its noise is not in σ but should be."""

    @property
    def sigma(self) -> Array:
        """(n, k), of the coefficients."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)))


def fit_references(
    electrons: Array,
    offset_ev: Array | float,
    step_ev: float,
    references: Sequence[Reference],
    window_ev: Window | Sequence[Window],
    background: Background = "power_law",
    readout_variance: float = 0.0,
) -> ReferenceFit:
    """Fit spectra (n, channels), each on its own axis, as a sum of references over a power law.

    Args:
        electrons: per channel, float64; from :meth:`Camera.electrons`.
        offset_ev: centre of each spectrum's first channel, (n,) or a number.
        step_ev: width of the channels.
        references: integrated over the data's channels; the data are not resampled.
        window_ev: one window, or several, whose channels are used if their centres lie inside.
        background: ``"power_law"``: level and exponent fitted together with the references, which is the
            statistical limit, but references of a wrong shape bend it; ``"before"``: fitted in the first
            window, where no reference reaches, and held in the others, its uncertainty carried; None.
        readout_variance: e-² per channel.

    Raises:
        MeasureError: a reference that does not cover the windows, is coarser than the data, or is
            made up by the others and the background; empty or overlapping windows.
    """
    rows, offset = rows_of(electrons, offset_ev, step_ev)
    windows = fit_windows(window_ev, background)
    if not references:
        raise MeasureError("no references to fit. Give at least one.")
    if not (math.isfinite(readout_variance) and readout_variance >= 0):
        raise MeasureError(f"readout_variance = {readout_variance!r} must be finite, not negative.")
    tables, low, fine, faint = _prepared(tuple(references), step_ev, windows, background)
    size = len(references) + 2
    theta = np.empty((len(rows), size))
    covariance = np.empty((len(rows), size, size))
    told = np.empty((len(rows), size + 2))
    state = np.empty(len(rows), np.int64)
    fit_rows(
        rows, np.array(offset), float(step_ev), np.array(windows), tables, low, fine,
        faint, GROUPED, background is not None, background == "before", middle_ev(windows),
        float(readout_variance), theta, covariance, told, state,
    )  # fmt: skip
    return _result(references, theta, covariance, told, state, background)


def _result(
    references: Sequence[Reference],
    theta: Array,
    covariance: Array,
    told: Array,
    state: NDArray[np.int64],
    background: Background,
) -> ReferenceFit:
    k = len(references)
    freedom = np.maximum(told[:, k + 2], 1.0)
    chi2 = told[:, k + 1] / freedom
    chi2_sigma = np.sqrt(told[:, k + 3]) / freedom
    fitted = state == FITTED
    limit = np.maximum(_WORST_CHI2, 1.0 + _CHI2_SIGMAS * chi2_sigma)
    bound = (theta[:, k + 1] <= EXPONENT_MIN) | (theta[:, k + 1] >= EXPONENT_MAX)
    held = np.array([reference.electrons for reference in references])
    return ReferenceFit(
        tuple(reference.name for reference in references),
        theta[:, :k],
        covariance[:, :k, :k],
        told[:, :k],
        told[:, k],
        theta[:, k + 1],
        chi2,
        chi2_sigma,
        {
            "nonfinite": state == NOT_FINITE,
            "out_of_range": state == OUT_OF_RANGE,
            "no_fit": ~fitted & (state != NOT_FINITE) & (state != OUT_OF_RANGE),
            "poor_fit": fitted & ((chi2 > limit) | bound),
            "no_background": fitted & np.isnan(theta[:, k]) & (background is not None),
            "noisy_reference": fitted & (told[:, :k] * _REFERENCE_NOISE > held).any(axis=1),
        },
    )


def fit_limit(
    references: Sequence[Reference],
    coefficients: Sequence[float],
    offset_ev: float,
    step_ev: float,
    window_ev: Window | Sequence[Window],
    background: tuple[float, float] | None = None,
    readout_variance: float = 0.0,
) -> Array:
    """Cramér–Rao limit of the covariance of coefficients, level and exponent; (k + 2, k + 2), or (k, k).

    The inverse of Fisher's information Σ ∂μ ∂μᵀ / (μ + v) over every channel of the windows, with
    means μ that are known. No unbiased estimate from these channels scatters less for Poisson
    counts; with readout noise v it is the limit of weighted least squares.

    ``background`` is electrons per eV in the windows' geometric middle, and the exponent; None for none.
    """
    windows = fit_windows(window_ev, "power_law" if background else None)
    top = max(high for _, high in windows)
    energy = np.arange(offset_ev, top + step_ev, step_ev)
    used = _inside(energy, windows, step_ev)
    shapes = [r.on(offset_ev, step_ev, len(energy))[0][used] for r in references]
    mean = sum((c * s for c, s in zip(coefficients, shapes, strict=True)), np.zeros(used.sum()))
    if background is not None:
        level, exponent = background
        log_energy = np.log(energy[used] / middle_ev(windows))
        under = level * step_ev * np.exp(-exponent * log_energy)
        mean = mean + under
        shapes += [under, -under * log_energy]
    rows = np.stack(shapes)
    return np.asarray(np.linalg.inv((rows / (mean + readout_variance)) @ rows.T))


def check_distinct(
    references: Sequence[Reference],
    step_ev: float,
    windows: Sequence[Window],
    background: Background = "power_law",
) -> None:
    """Refuse references that cannot be told apart in these windows.

    Raises:
        MeasureError: names the reference and the one that is most like it, or the background.
    """
    start = min(low for low, _ in windows)
    energy = np.arange(start, max(high for _, high in windows) + step_ev / 2, step_ev)
    used = _inside(energy, windows, step_ev)
    names, columns = [], []
    for reference in references:
        names.append(repr(reference.name))
        columns.append(reference.on(start, step_ev, len(energy))[0][used])
    if background is not None:
        at = energy[used] / middle_ev(windows)
        names += ["the background", "the background"]
        columns += [at**-3.0, at**-3.0 * np.log(at)]
    lengths = [float(np.linalg.norm(column)) for column in columns]
    for name, length in zip(names, lengths, strict=True):
        if not length > 0:
            raise MeasureError(
                f"the reference {name} is empty in the windows {_told(windows)}. Choose others."
            )
    unit = np.stack([c / s for c, s in zip(columns, lengths, strict=True)])
    for i in range(len(references)):
        others = np.delete(unit, i, axis=0)
        if not len(others):
            continue
        part, *_ = np.linalg.lstsq(others.T, unit[i], rcond=None)
        left = float(np.linalg.norm(unit[i] - part @ others))
        if left < _ALIKE:
            like = np.abs(unit @ unit[i])
            like[i] = 0.0
            raise MeasureError(
                f"the reference {names[i]} cannot be told from the others in {_told(windows)}: all but "
                f"{100 * left:.2g} % of it is made of them, most of {names[int(np.argmax(like))]}. "
                "Leave one out, or widen the window."
            )


def _check_before(references: Sequence[Reference], windows: tuple[Window, ...]) -> None:
    if len(windows) < 2:
        raise MeasureError(
            "a background held from before the edge needs a window of its own there."
        )
    for reference in references:
        inside = sum(abs(reference.area(low, high)) for low, high in windows[1:])
        if abs(reference.area(*windows[0])) > _BEFORE * inside:
            raise MeasureError(
                f"the reference {reference.name!r} reaches into {_told(windows[:1])}, where the "
                "background is fitted alone. End that window before it, subtract the reference's "
                'background, or fit with background="power_law".'
            )


def middle_ev(windows: Sequence[Window]) -> float:
    """Geometric middle of the windows, where the power law's level is told; 1 if they reach below 0."""
    low, high = min(a for a, _ in windows), max(b for _, b in windows)
    return math.sqrt(low * high) if low > 0 else 1.0


def fit_windows(window_ev: Window | Sequence[Window], background: Background) -> tuple[Window, ...]:
    """Windows in ascending order; raises MeasureError if they are empty, overlap, or suit no power law."""
    given = np.atleast_2d(np.asarray(window_ev, np.float64))
    if given.ndim != 2 or given.shape[1] != 2 or not np.isfinite(given).all():
        raise MeasureError(f"{window_ev!r} is no window, nor several: (low, high) in eV is needed.")
    windows = sorted((float(low), float(high)) for low, high in given)
    for low, high in windows:
        if not low < high or (background is not None and low <= 0):
            raise MeasureError(
                f"a window from {low:g} to {high:g} eV: it must be of a positive width, and of "
                "positive energies beneath which a power law lies."
            )
    for (_, high), (low, _) in pairwise(windows):
        if low < high:
            raise MeasureError(f"windows overlap at {low:g} to {high:g} eV. Join them to one.")
    return tuple(windows)


def _inside(energy: Array, windows: Sequence[Window], step_ev: float) -> NDArray[np.bool_]:
    room = 1e-6 * step_ev
    found = np.zeros(len(energy), bool)
    for low, high in windows:
        found |= (energy >= low - room) & (energy <= high + room)
    return found


@lru_cache(maxsize=64)
def _prepared(
    references: tuple[Reference, ...],
    step_ev: float,
    windows: tuple[Window, ...],
    background: Background,
) -> tuple[Array, float, float, Array]:
    """Checked references as running integrals (k, m) on one grid, its lower end, its step, and what is faint.

    A live estimator asks for the same ones with every spectrum: they are kept.
    """
    ends = [(low - step_ev, high + step_ev) for low, high in windows]
    for reference in references:
        reference.check(ends, step_ev)
    check_distinct(references, step_ev, windows, background)
    if background == "before":
        _check_before(references, windows)
    low, high = ends[0][0], ends[-1][1]
    finest = min([step_ev, *(reference.step_ev for reference in references)])
    # a very fine reference needs no finer grid than a tenth of a channel
    cells = math.ceil((high - low) / max(0.5 * finest, 0.1 * step_ev))
    grid = np.linspace(low, high, cells + 1)
    # between windows a reference may have holes, whose values are never used
    tables = np.nan_to_num(np.stack([reference.below(grid) for reference in references]))
    fine = (high - low) / cells
    faint = _FAINT * np.abs(np.diff(tables, axis=1)).max(axis=1) * step_ev / fine
    return tables, low, fine, faint


def _told(windows: Sequence[Window]) -> str:
    return ", ".join(f"{low:g}–{high:g} eV" for low, high in windows)
