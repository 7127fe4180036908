"""Finds the zero-loss peak by maximum likelihood against a template, for many spectra at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from acquire.instruments import Axis
from acquire.measure.eels.camera import Camera, axis_ev, spectra

_WINGS = 0.04
"""Share of a Lorentzian in the template: real peaks have wings, and it keeps far counts from ruling."""
_REACH = 2.0
"""Window on either side, in FWHM."""
_FEWEST_ELECTRONS = 20.0
_ROUNDS = 12
_WIDEST_PX = 25.0
"""Widths are measured within 40 channels to either side of the peak."""


@dataclass(frozen=True, slots=True)
class ZeroLoss:
    """Zero-loss peaks, one entry per spectrum; NaN where none was found."""

    position_ev: NDArray[np.float64]
    """On the axis as given: what must be subtracted from it."""
    sigma_ev: NDArray[np.float64]
    electrons: NDArray[np.float64]
    """In the window of two FWHM to either side."""
    fwhm_ev: float
    """Of the template."""


def find_zero_loss(
    counts: NDArray[Any],
    axis: Axis,
    camera: Camera | None = None,
    fwhm_ev: float | None = None,
) -> ZeroLoss:
    """Position of the zero-loss peak in low-loss spectra (n, channels) or (channels,).

    The template is a Gaussian with 4 % of a Lorentzian, integrated over channels; its width is
    measured on the sum of all spectra unless given (25 % off costs 2 % of σ). Position and height
    maximise the Poisson likelihood by Fisher scoring; readout noise enters through the variance.
    A peak with fewer than 20 electrons, cut by the end of the axis, or not finite gives NaN; so
    does an axis without 0 eV, where the highest peak is a plasmon.

    Raises:
        MeasureError: no spectra, or no energy axis.
    """
    camera = camera or Camera()
    rows = spectra(counts, "low_loss")
    offset, step = axis_ev(axis, "low_loss")
    electrons = camera.electrons(rows)
    finite = np.asarray(np.isfinite(electrons).all(axis=1))
    electrons = np.where(finite[:, None], electrons, 0.0)
    first = _first_position(electrons)
    width = (fwhm_ev / step) if fwhm_ev is not None else _measured_fwhm(electrons)
    half = max(2, math.ceil(_REACH * width))
    has_zero = offset <= 0.0 <= offset + step * (rows.shape[1] - 1)
    if rows.shape[1] < 2 * half + 3 or not has_zero:
        nan = np.full(len(rows), np.nan)
        return ZeroLoss(nan, nan.copy(), np.zeros(len(rows)), width * step)
    position = first.astype(np.float64)
    for _ in range(2):  # the window follows the peak once it is known to better than a channel
        middle = np.clip(np.rint(position).astype(np.intp), half, rows.shape[1] - 1 - half)
        window = middle[:, None] + np.arange(-half, half + 1)
        inside = np.take_along_axis(electrons, window, axis=1)
        position, sigma = _score(
            inside, window.astype(np.float64), position, width, camera.readout_variance
        )
    total = inside.sum(axis=1)
    edge = (position < half) | (position > rows.shape[1] - 1 - half)
    noise = camera.readout_electrons * math.sqrt(window.shape[1])
    good = finite & ~edge & (total > max(_FEWEST_ELECTRONS, 5.0 * noise)) & np.isfinite(position)
    good &= np.abs(position - middle) < 1.5 * width
    return ZeroLoss(
        np.where(good, offset + step * position, np.nan),
        np.where(good, step * sigma, np.nan),
        total,
        width * step,
    )


def _first_position(electrons: NDArray[np.float64]) -> NDArray[np.intp]:
    """Channel of the highest mean of five: one hot channel does not win over a peak."""
    sums = np.cumsum(np.pad(electrons, ((0, 0), (3, 2))), axis=1)
    return np.asarray(np.argmax(sums[:, 5:] - sums[:, :-5], axis=1))


def _measured_fwhm(electrons: NDArray[np.float64]) -> float:
    """Full width at half maximum, in channels, of the sum of all spectra laid peak on peak.

    Where the peak is wider than the window it is measured in, channels are summed by fours.
    """
    width = _fwhm_near(electrons, _first_position(electrons))
    if width < _WIDEST_PX or electrons.shape[1] < 256:
        return width
    whole = electrons[:, : electrons.shape[1] // 4 * 4]
    return 4.0 * _measured_fwhm(whole.reshape(len(whole), -1, 4).sum(axis=2))


def _fwhm_near(electrons: NDArray[np.float64], first: NDArray[np.intp]) -> float:
    typical = int(np.median(first))
    reach = max(3, min(40, typical - 2, electrons.shape[1] - 3 - typical))
    middle = np.clip(first, reach, electrons.shape[1] - 1 - reach)
    window = middle[:, None] + np.arange(-reach, reach + 1)
    cut = np.take_along_axis(electrons, window, axis=1)
    weight = np.maximum(cut, 0.0) * (np.abs(np.arange(-reach, reach + 1)) <= 12)
    centroid = (weight * window).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    middle = np.clip(np.rint(centroid).astype(np.intp), reach, electrons.shape[1] - 1 - reach)
    window = middle[:, None] + np.arange(-reach, reach + 1)
    mean = np.take_along_axis(electrons, window, axis=1).sum(axis=0)
    top = int(np.argmax(mean))
    half = 0.5 * mean[top]
    left = top - _crossing(mean[top::-1], half)
    right = top + _crossing(mean[top:], half)
    # the template integrates over channels itself; that and the alignment widen by 1/12 channel² each
    own = (right - left) ** 2 - 8.0 * math.log(2.0) / 6.0
    return float(np.clip(math.sqrt(max(own, 0.5)), 0.7, reach))


def _crossing(falling: NDArray[np.float64], level: float) -> float:
    under = np.flatnonzero(falling < level)
    if under.size == 0:
        return float(len(falling))
    k = int(under[0])
    drop = falling[k - 1] - falling[k]
    return float(k - 1 + (falling[k - 1] - level) / drop) if drop > 0 else float(k)


def _template(
    from_peak: NDArray[np.float64], fwhm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the peak in channels at this distance (in channels), and its slope with distance."""
    sigma = fwhm / (2.0 * math.sqrt(2.0 * math.log(2.0)))
    gamma = fwhm / 2.0

    def below(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1 - _WINGS) * special.ndtr(x / sigma) + _WINGS * np.arctan(x / gamma) / np.pi

    def density(x: NDArray[np.float64]) -> NDArray[np.float64]:
        gauss = np.exp(-0.5 * np.square(x / sigma)) / (sigma * math.sqrt(2 * math.pi))
        return (1 - _WINGS) * gauss + _WINGS * gamma / np.pi / (x * x + gamma * gamma)

    high, low = from_peak + 0.5, from_peak - 0.5
    return below(high) - below(low), density(high) - density(low)


def _score(
    electrons: NDArray[np.float64],
    channel: NDArray[np.float64],
    position: NDArray[np.float64],
    width: float,
    readout_variance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    position = np.asarray(position, np.float64)
    sigma = np.full(len(position), np.nan)
    for _ in range(_ROUNDS):
        share, slope = _template(channel - position[:, None], width)
        height = np.maximum(electrons.sum(axis=1) / share.sum(axis=1), 1e-3)
        mean = height[:, None] * share
        by_position = -height[:, None] * slope
        variance = mean + readout_variance
        rest = (electrons - mean) / variance
        # position and height are fitted together: the score and information of both
        s_p, s_h = (rest * by_position).sum(axis=1), (rest * share).sum(axis=1)
        i_pp = (by_position**2 / variance).sum(axis=1)
        i_ph = (by_position * share / variance).sum(axis=1)
        i_hh = (share**2 / variance).sum(axis=1)
        information = np.maximum(i_pp - i_ph**2 / i_hh, 1e-30)
        step = np.clip((s_p - i_ph / i_hh * s_h) / information, -0.5 * width, 0.5 * width)
        position = position + step
        sigma = 1.0 / np.sqrt(information)
        if np.abs(step).max(initial=0.0) < 1e-5:
            break
    return position, sigma
