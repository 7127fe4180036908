"""Finds what shift is left between core-loss spectra after their zero-loss correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.errors import MeasureError

Array = NDArray[np.float64]

_SIGNIFICANT = 3.0
_WORST_CHI2_SIGMA = 5.0
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class ResidualShift:
    """Shift of every core-loss spectrum against the reference, to be subtracted from its axis."""

    shift_ev: Array
    sigma_ev: Array
    odd_ev: Array
    """From every other channel of the window."""
    even_ev: Array
    """From the channels between."""
    applied_ev: Array
    """The shift where it is to be believed, else 0."""
    flags: Mapping[str, NDArray[np.bool_]]
    """Per spectrum: ``insignificant`` (below 3 σ), ``halves_differ`` (odd and even channels disagree by
    3 σ), ``too_far`` (beyond what a linear fit covers), ``poor_fit`` (a spectrum of another shape, such
    as another valence), ``no_shift`` (no counts, no structure, or no reference)."""


def residual_core_shift(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    window_ev: tuple[float, float],
    *,
    reference: tuple[Array, float] | None = None,
    running: bool = False,
    readout_variance: float = 0.0,
    resolution_ev: float = 0.6,
) -> ResidualShift:
    """Shift of spectra (n, channels) against a reference within a window that holds a sharp edge.

    The mean of a spectrum is α R(E - δ) + β (E - E0) R(E), with level α and slope β free; the score
    of the Poisson likelihood is solved for δ. Its derivative of R is smoothed to the resolution, R
    itself is not: noise of the reference then adds to σ, which counts it, but not to δ. The
    reference is ``reference``, or the mean of all other spectra, or with ``running`` of those
    before. Spectra are laid on it by whole channels only, after their own ``offset_ev``.

    The edge must be one that does not change: between Ti4+ and Ti3+ the shift of Ti-L is valence,
    which this would take away. A shift is applied only where it exceeds 3 σ, where odd and even
    channels agree and where the shape fits.

    Args:
        electrons: (n, channels).
        offset_ev: (n,) centre of each spectrum's first channel, zero-loss correction included.
        step_ev: width of a channel.
        window_ev: ends of the window.
        reference: electrons (channels,) of a spectrum and its own offset in eV.
        running: compare with earlier spectra alone, as live.
        readout_variance: e-² per channel.
        resolution_ev: full width that is smoothed over, and the farthest shift that is believed.

    Raises:
        MeasureError: a window of fewer than eight channels, or that the spectra do not hold.
    """
    data, other, share = _laid(electrons, offset_ev, step_ev, window_ev, reference, running)
    energy = np.linspace(-1.0, 1.0, data.shape[1])
    usable = (data.sum(axis=1) > 1.0) & (other.sum(axis=1) > 1.0)
    data, other = (np.where(usable[:, None], rows, 1.0) for rows in (data, other))
    sigma = max(resolution_ev / 2.3548 / step_ev, 0.7)

    def smoothed(rows: Array, order: int) -> Array:
        return ndimage.gaussian_filter1d(rows, sigma, axis=1, order=order, mode="nearest")

    slope, bend = smoothed(other, 1) / step_ev, smoothed(other, 2) / step_ev**2
    steady = np.maximum(smoothed(other, 0), 0.0)
    scale = (data.sum(axis=1) / other.sum(axis=1))[:, None]
    # of the spectrum, and of a reference that is a mean of few
    variance = scale * steady + max(readout_variance, 1e-3)
    variance += share * (scale**2 * steady + scale**2 * readout_variance)
    results = [
        _solve(data, other, slope, bend, steady, energy, scale, variance, part)
        for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
    ]
    shift, error, chi2, freedom = results[0]
    odd, odd_error = results[2][:2]
    even, even_error = results[1][:2]
    known = usable & np.isfinite(shift) & np.isfinite(error)
    flags = {
        "no_shift": ~known,
        "insignificant": known & ~(np.abs(shift) > _SIGNIFICANT * error),
        "halves_differ": known
        & ~(np.abs(odd - even) < _SIGNIFICANT * np.hypot(odd_error, even_error)),
        "too_far": known & ~(np.abs(shift) < resolution_ev),
        "poor_fit": known & (chi2 > 1.0 + _WORST_CHI2_SIGMA * np.sqrt(2.0 / freedom)),
    }
    believed = ~np.logical_or.reduce(list(flags.values()))

    def told(values: Array) -> Array:
        return np.where(known, values, np.nan)

    return ResidualShift(
        told(shift), told(error), told(odd), told(even), np.where(believed, shift, 0.0), flags
    )


def _laid(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    window_ev: tuple[float, float],
    reference: tuple[Array, float] | None,
    running: bool,
) -> tuple[Array, Array, Array]:
    """Spectra in the window by whole channels, and what each is compared with.

    Returns:
        Electrons (n, k); those of the reference of every spectrum (n, k), moved by the part of a
        channel that is left between them; and 1/spectra in it (n, 1), 0 for a given one.
    """
    n, channels = electrons.shape
    count = int((window_ev[1] - window_ev[0]) / step_ev)
    offsets = np.asarray(offset_ev, np.float64)
    good = np.isfinite(offsets) & np.isfinite(electrons).all(axis=1)
    # what cannot be used counts as empty, wherever it lies
    offsets = np.where(good, offsets, offsets[good].mean() if good.any() else window_ev[0])
    first = np.rint((window_ev[0] - offsets) / step_ev).astype(np.intp)
    if count < 8 or np.any((first < 0) | (first + count > channels)):
        raise MeasureError(
            f"a core-loss shift cannot be found from {window_ev[0]} to {window_ev[1]} eV: a window of "
            f"at least 8 channels of {step_ev} eV inside every spectrum is needed."
        )
    at = first[:, None] + np.arange(count)
    data = np.where(good[:, None], electrons, 0.0)
    data = np.take_along_axis(data, at, axis=1)
    # how far the first channel's energy lies above the window's begin: less than half a channel
    ahead = offsets + step_ev * first - window_ev[0]
    if reference is not None:
        values, own_offset = reference
        start = int(np.rint((window_ev[0] - own_offset) / step_ev))
        if start < 0 or start + count > len(values):
            raise MeasureError(
                f"the reference does not reach from {window_ev[0]} to {window_ev[1]} eV."
            )
        other = np.broadcast_to(np.asarray(values, np.float64)[start : start + count], data.shape)
        there = np.full(n, own_offset + step_ev * start - window_ev[0])
        number = np.full(n, np.inf)
    else:
        number = np.arange(n, dtype=np.float64) if running else np.full(n, n - 1.0)
        sums = np.cumsum(data, axis=0) - data if running else data.sum(axis=0) - data
        places = np.cumsum(ahead) - ahead if running else ahead.sum() - ahead
        safe = np.maximum(number, 1.0)
        other, there = sums / safe[:, None], places / safe
    share = np.where(number > 0, 1.0 / np.maximum(number, 1.0), 0.0)[:, None]
    moved = ahead - there  # the spectrum's channels lie this far above the reference's
    slope = (
        np.gradient(ndimage.gaussian_filter1d(other, 1.0, axis=1, mode="nearest"), axis=1) / step_ev
    )
    return data, other + moved[:, None] * slope, share


def _solve(
    data: Array,
    other: Array,
    slope: Array,
    bend: Array,
    steady: Array,
    energy: Array,
    scale: Array,
    variance: Array,
    part: slice,
) -> tuple[Array, Array, Array, Array]:
    """Shift, σ, reduced χ² and degrees of freedom from a part of the channels."""
    y, r, v = data[:, part], other[:, part], variance[:, part]
    d, b, s = -scale * slope[:, part], bend[:, part], scale * steady[:, part]
    columns = np.stack([d, s, s * energy[part]], axis=2)
    weighted = columns / v[:, :, None]
    normal = np.einsum("nki,nkj->nij", weighted, columns)
    normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(
        3
    ) + 1e-300 * np.eye(3)
    inverse = np.linalg.inv(normal)
    theta = np.zeros((len(y), 3))
    for _ in range(_ROUNDS):
        curved = 0.5 * scale * np.square(theta[:, :1]) * b
        model = scale * r + np.einsum("nki,ni->nk", columns, theta) + curved
        score = np.einsum("nki,nk->ni", weighted, y - model)
        theta = theta + np.einsum("nij,nj->ni", inverse, score)
    freedom = np.full(len(y), max(y.shape[1] - 3, 1), np.float64)
    chi2 = (np.square(y - model) / v).sum(axis=1) / freedom
    return theta[:, 0], np.sqrt(inverse[:, 0, 0]), chi2, freedom
