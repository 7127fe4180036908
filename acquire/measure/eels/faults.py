"""Finds what is wrong with spectra before anybody measures them: one flag per spectrum and fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from acquire.measure.eels.camera import Camera, spectra
from acquire.measure.eels.zlp import ZeroLoss

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_FINEST, _COARSEST = 1.2, 6.0
"""Resolution in channels that is assumed at least, and at most: beyond, uneven gain would pass for spikes."""
_DISTANCES = 3
_LEAST_SIGMA = 4.0
_CHANCE = 1e-9
"""Of a channel of clean Poisson data to pass for a spike: 1 spectrum of 100 000 with 2048 channels."""
_HOT_SHARE = 0.2
_BLOCK = 16
_FEW = 30.0
"""Electrons without which nothing can be said of a spectrum or channel that holds none."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with each of n spectra."""

    flags: Mapping[str, Bools]
    """Per spectrum (n,): ``saturated``, ``clipped_zero_loss``, ``zero_loss_out_of_range``, ``spikes``,
    ``dead_row``, ``no_counts``, ``negative_counts``, ``nonfinite``."""
    spikes: NDArray[np.intp]
    """(k, 2): spectrum and channel of each spike."""
    hot_channels: NDArray[np.intp]
    """Channels that stand out in spectrum after spectrum; not among the spikes."""
    dead_channels: NDArray[np.intp]
    """Channels that do not count, or always give the same."""

    @property
    def any(self) -> Bools:
        """Spectra (n,) with any fault."""
        return np.asarray(np.logical_or.reduce(list(self.flags.values())))


def find_faults(
    counts: NDArray[Any],
    *,
    camera: Camera | None = None,
    full_scale_counts: float | None = None,
    resolution_channels: float | None = None,
    zero_loss: ZeroLoss | None = None,
    electrons: Array | None = None,
) -> Faults:
    """Look through spectra (n, channels) or (channels,) of one kind.

    - ``spikes``: a spectrum is a sum of peaks no narrower than the resolution, so that the mean of
      two neighbours is at least the Gaussian's share of what lies between them, at edges and white
      lines as on a background. A channel that exceeds this by a chance below 1e-9 (conditional
      binomial test, readout noise added to both as counts) was hit by something else. Tests at
      distances 1 to 3 find hits up to three channels wide; the coarser the channels, the higher a
      hit must stand: 8 % above its neighbours at 6 channels per resolution, 3 times at 1.5.
    - ``hot_channels``: such channels in a fifth of three or more spectra, or in their sum.
    - ``dead_row``: every channel the same, or the row a copy of the one before.
    - ``negative_counts``: a channel below -7 σ of the readout noise, or the sum below -5 σ: the
      dark level is too high, or the readout noise is not as told.
    - ``clipped_zero_loss`` (with ``zero_loss``): the peak reaches full scale, has a flat top, or
      ends at the value at which most others end.

    Clean Poisson data with the readout noise as told give one flag in 10 000 spectra at most.

    Args:
        counts: as the camera gave them.
        camera: gain, dark level and readout noise.
        full_scale_counts: where the camera saturates; without it only flat tops tell.
        resolution_channels: full width at half maximum of the sharpest feature; 1.2 if None, which
            any detector's point spread gives.
        zero_loss: what :func:`find_zero_loss` found in the same spectra.
        electrons: the same spectra (n, channels) by the camera, if somebody has them already.

    Raises:
        MeasureError: not spectra.
    """
    camera = camera or Camera()
    rows = spectra(counts, "counts")
    electrons = np.ascontiguousarray(camera.electrons(rows) if electrons is None else electrons)
    facts, columns = _looked_through(electrons)
    total, lowest, highest, block, size, repeated = facts.T
    finite = np.isfinite(size)
    alike = finite & (lowest == highest)
    counting = finite & ~alike
    same = counting & (repeated > 0) & (size > _FEW)
    expected = _middle(size[counting])
    # zeros alone are what a few electrons may leave; any other constant is not a spectrum
    dead = same | (alike & ((np.asarray(rows[:, 0]) != 0) | (expected > _FEW)))
    good = counting & ~same
    at = _spikes(electrons, resolution_channels, camera.readout_variance)
    silent = _dead_channels(columns, int(good.sum()))
    # what lies beside a channel that does not count stands out by its neighbour's fault
    beside = _around(silent)
    at = at[good[at[:, 0]] & ~np.isin(at[:, 1], beside)] if len(at) else at
    hot = _hot(
        electrons, at, columns[0], int(good.sum()), resolution_channels, camera.readout_variance
    )
    if len(hot):
        hot = hot[~np.isin(hot, beside)]
        at = at[~np.isin(at[:, 1], hot)]
    noise = np.sqrt(rows.shape[1] * camera.readout_variance)
    empty = finite & (total <= np.maximum(10.0, 5.0 * noise))
    empty &= ~(block > np.maximum(10.0, 6.0 * np.sqrt(_BLOCK * camera.readout_variance)))
    negative = (lowest < -7.0 * camera.readout_electrons - 1e-9) | (total < -5.0 * noise - 1e-9)
    spikes = np.zeros(len(rows), bool)
    spikes[at[:, 0]] = True
    full = np.zeros(len(rows), bool)
    if full_scale_counts is not None:
        full = np.asarray((rows >= full_scale_counts).any(axis=1)) & finite
    none = np.zeros(len(rows), bool)
    flags = {
        "saturated": full,
        "clipped_zero_loss": none
        if zero_loss is None
        else _clipped(rows, full_scale_counts) & finite,
        "zero_loss_out_of_range": (
            none if zero_loss is None else np.asarray(zero_loss.flags["zero_loss_out_of_range"])
        ),
        "spikes": spikes,
        "dead_row": dead,
        "no_counts": empty,
        "negative_counts": negative & finite,
        "nonfinite": ~finite,
    }
    return Faults(flags, at, hot, silent)


def _middle(sizes: Array) -> float:
    """Median, which numpy takes fifty times as long for of one spectrum; 0 of none."""
    if len(sizes) > 1:
        return float(np.median(sizes))
    return float(sizes[0]) if len(sizes) else 0.0


def _around(channels: NDArray[np.intp]) -> NDArray[np.intp]:
    if not len(channels):
        return channels
    return np.unique(channels[:, None] + np.arange(-_DISTANCES, _DISTANCES + 1))


def _looked_through(electrons: Array) -> tuple[Array, Array]:
    from acquire.measure.eels.fault_kernel import (
        look_through,
    )  # numba takes half a second to import

    facts = np.empty((len(electrons), 6))
    columns = np.zeros((3, electrons.shape[1]))
    columns[1], columns[2] = np.inf, -np.inf
    look_through(electrons, _BLOCK, facts, columns)
    return facts, columns


def _spikes(electrons: Array, resolution: float | None, variance: float) -> NDArray[np.intp]:
    """(k, 2) row and channel of what stands out more than noise and resolution allow."""
    from acquire.measure.eels.fault_kernel import standing_out

    ratios = _ratios(resolution)
    out = np.zeros(electrons.shape, np.uint8)
    if not standing_out(electrons, ratios, variance, _LEAST_SIGMA, out):
        return np.zeros((0, 2), np.intp)
    at = np.stack(np.unravel_index(np.flatnonzero(out), out.shape), axis=1)
    if not len(at):
        return at
    marks = out[at[:, 0], at[:, 1]]
    found = np.zeros(len(at), bool)
    for k, ratio in enumerate(ratios):
        told = (marks >> k) & 1 == 1
        i, c = at[told].T
        here = np.maximum(electrons[i, c], 0.0) + variance
        beside = np.maximum(electrons[i, c - k - 1] + electrons[i, c + k + 1], 0.0) + 2 * variance
        # P(at least so many here | so many here and beside), Poisson with the means' least ratio
        chance = special.betainc(here, beside + 1.0, 1.0 / (1.0 + 2.0 * ratio))
        found[told] |= chance < _CHANCE
    return np.asarray(at[found])


@lru_cache(maxsize=16)
def _ratios(resolution: float | None) -> Array:
    """Least mean of two neighbours over the channel between, at distances of 1, 2, … channels.

    A Gaussian's, integrated over channels: of all sums of Gaussians of one width, a single one
    centred on the channel has the least.
    """
    fwhm = min(max(resolution or _FINEST, _FINEST), _COARSEST)
    sigma = fwhm / 2.3548
    at = np.arange(_DISTANCES + 1.0)
    share = special.ndtr((at + 0.5) / sigma) - special.ndtr((at - 0.5) / sigma)
    return np.asarray(share[1:] / share[0])


def _hot(
    electrons: Array,
    spikes: NDArray[np.intp],
    sums: Array,
    number: int,
    resolution: float | None,
    variance: float,
) -> NDArray[np.intp]:
    """Channels that stand out in many of some spectra, or in their sum."""
    if number < 3:
        return np.zeros(0, np.intp)
    channels = len(sums)
    i, c = spikes.T
    often = np.bincount(c, minlength=channels) >= max(2.0, _HOT_SHARE * number)
    # what was hit once must not count for the sum: the mean of its neighbours takes its place
    low, high = np.maximum(c - _DISTANCES, 0), np.minimum(c + _DISTANCES, channels - 1)
    clean = sums.copy()
    np.add.at(clean, c, 0.5 * (electrons[i, low] + electrons[i, high]) - electrons[i, c])
    in_sum = _spikes(clean[None], resolution, number * variance)[:, 1]
    return np.union1d(np.flatnonzero(often), in_sum)


def _dead_channels(columns: Array, number: int) -> NDArray[np.intp]:
    """Nothing or a constant where the channels beside count."""
    if number == 0:
        return np.zeros(0, np.intp)
    sums, lowest, highest = columns
    if number < 8:  # too few to say of a constant that it is stuck
        quiet = np.flatnonzero(sums <= 0)
        quiet = quiet[(quiet > 0) & (quiet < len(sums) - 1)]
        alone = np.minimum(sums[quiet - 1], sums[quiet + 1]) > _FEW
        return np.asarray(quiet[alone & (lowest[quiet] == highest[quiet])])
    beside = np.zeros(len(sums))
    beside[1:-1] = np.minimum(sums[:-2], sums[2:])
    constant = lowest == highest
    silent = constant & (sums <= 0) & (beside > _FEW)
    stuck = constant & (beside > _FEW * number)
    return np.flatnonzero(silent | stuck)


def _clipped(rows: NDArray[Any], full_scale: float | None) -> Bools:
    top = np.asarray(rows.max(axis=1))
    clipped = np.zeros(len(rows), bool)
    if full_scale is not None:
        clipped |= np.asarray(top >= full_scale)
    at_top = rows == top[:, None]
    three = (at_top[:, :-2] & at_top[:, 1:-1] & at_top[:, 2:]).any(axis=1)
    high = np.asarray(top > 1000)
    clipped |= three & high
    if len(rows) < 3:
        return clipped
    # the same highest value in most of several spectra is the camera's, not the peak's
    values, number = np.unique(top[high], return_counts=True)
    if len(values) and number.max() >= max(3, 0.5 * len(rows)):
        clipped |= np.asarray(top == values[np.argmax(number)])
    return clipped
