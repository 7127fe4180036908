"""Tells the specimen's temperature from energy gains and losses of vibrations: a thermometer without a chip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.peak import Peak, peak_heights
from acquire.measure.eels.windows import bin_sums, running_sum

Array = NDArray[np.float64]

BOLTZMANN_EV_PER_K = 8.617333262e-5
ZERO_CELSIUS_K = 273.15
_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_SEEN = 3.0
_ROUNDS = 30
_START_K = 500.0
_COLDEST_K, _HOTTEST_K = 20.0, 1e5


@dataclass(frozen=True, slots=True)
class GainLoss:
    """Temperatures, one entry per spectrum; NaN where they cannot be told."""

    kelvin: Array
    sigma_kelvin: Array
    gain: Array
    """Electrons above the background on the gain side of the window."""
    gain_sigma: Array
    loss: Array
    loss_sigma: Array
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """``no_gain``: the gain side does not show at 3 σ; ``no_loss``; ``gain_exceeds_loss``: no temperature
    is that high, background or zero are wrong; ``out_of_range``; ``no_zero_loss``; ``nonfinite``;
    ``uncertain``: σ is a third of the temperature or more, so that it is far from Gaussian."""

    @property
    def celsius(self) -> Array:
        """The same in °C."""
        return self.kelvin - ZERO_CELSIUS_K


def gain_loss_temperature(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    peak: Peak,
    window_ev: tuple[float, float],
    *,
    background: bool = True,
    readout_variance: float = 0.0,
) -> GainLoss:
    """T = E / (k ln(I_loss / I_gain)), by maximum likelihood over a window of energies.

    Detailed balance: at every energy E the gain is exp(-E/kT) of the loss. Given the sum of both, the
    gain is binomial, and its likelihood holds one unknown only; the maximum solves Σ w (g - q l) = 0
    with q = exp(-E/kT) and w = E / (1 + q). With the peak's tails under both (``background``), the
    same equation is solved for what is above them, with the weights that are then best: it stays
    without bias at any count. The peak's width smears q: for a Gaussian of variance s² it moves it
    by δ = s² / 2kT, as if zero were at -δ (completing the square), and so it is taken. Sources: J. C.
    Idrobo et al., Phys. Rev. Lett. 120, 095901 (2018), and M. J. Lagos & P. E. Batson, Nano Lett. 18,
    4556 (2018), for the principle; the estimating equation and δ are worked out here.

    Args:
        electrons: (n, channels).
        offset_ev: (n,) energy of the first channel's centre, *the zero-loss peak at 0*; NaN where the
            peak was not found. 1 meV of error here is some 3 % of T at 30 meV.
        step_ev: width of a channel.
        peak: shape of the peak, for its tails and its width.
        window_ev: energies that the bands lie in, whole bands rather than flanks.
        background: whether the peak's tails are taken off.
        readout_variance: e-² per channel.

    Raises:
        MeasureError: a window that is not above 0, or shapes that do not belong together.
    """
    low, high = window_ev
    if not 0 < low < high < math.inf:
        raise MeasureError(
            f"a window from {low} to {high} eV: gains and losses are compared above 0. Move it."
        )
    rows = np.atleast_2d(np.asarray(electrons, np.float64))
    offset = np.atleast_1d(np.asarray(offset_ev, np.float64))
    if len(offset) != len(rows):
        raise MeasureError(f"{len(offset)} offsets do not belong to {len(rows)} spectra.")
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    known = finite & np.isfinite(offset)
    rows = np.where(known[:, None], rows, 0.0)
    place = np.where(known, offset, 0.0)
    height = np.zeros(len(rows))
    height_sigma = np.zeros(len(rows))
    if background:
        reach = (-0.7 * peak.fwhm_ev, 0.7 * peak.fwhm_ev)
        height, height_sigma = peak_heights(rows, place, step_ev, peak, reach, readout_variance)
        height, height_sigma = (np.nan_to_num(v) for v in (height, height_sigma))
    bins = max(1, round((high - low) / step_ev))
    edges = np.linspace(low, high, bins + 1)
    energy = 0.5 * (edges[1:] + edges[:-1])
    readout = (high - low) / bins / step_ev * readout_variance
    pairs = _Pairs(running_sum(rows), place, step_ev, peak, height, edges)
    theta, information, by_peak = _solved(pairs, energy, readout, height_sigma)
    gain, loss, under, _ = pairs.sides(np.zeros(len(rows)))
    total_readout = bins * readout
    net = [side.sum(axis=1) - under.sum(axis=1) for side in (gain, loss)]
    spread = [
        np.sqrt(
            np.maximum(side.sum(axis=1), 1.0)
            + total_readout
            + (height_sigma * pairs.share.sum()) ** 2
        )
        for side in (gain, loss)
    ]
    inside = np.isfinite(gain).all(axis=1) & np.isfinite(loss).all(axis=1)
    no_gain = ~(net[0] > _SEEN * spread[0])
    no_loss = ~(net[1] > _SEEN * spread[1])
    beyond = theta * BOLTZMANN_EV_PER_K * _HOTTEST_K <= 1.0
    good = known & inside & ~no_gain & ~no_loss & ~beyond & np.isfinite(theta)
    safe = np.where(good, theta, 1.0)
    kelvin = np.where(good, 1.0 / (BOLTZMANN_EV_PER_K * safe), np.nan)
    sigma = kelvin / safe * np.sqrt(1.0 / np.maximum(information, 1e-300) + by_peak**2)
    nan = np.where(known & inside, 0.0, np.nan)
    watched = known & inside
    return GainLoss(
        kelvin,
        sigma,
        net[0] + nan,
        spread[0] + nan,
        net[1] + nan,
        spread[1] + nan,
        {
            "no_gain": watched & no_gain,
            "no_loss": watched & no_loss,
            "gain_exceeds_loss": watched & ~no_gain & ~no_loss & beyond,
            "out_of_range": known & ~inside,
            "no_zero_loss": ~known & finite,
            "nonfinite": ~finite,
            "uncertain": good & (sigma > kelvin / 3),
        },
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Electrons at equal energies on both sides of a zero that may be moved."""

    sums: Array
    place: Array
    step_ev: float
    peak: Peak
    height: Array
    edges: Array

    @property
    def share(self) -> Array:
        """Of the peak in the bins of one side."""
        return np.diff(self.peak.below(self.edges))

    def sides(self, delta: Array) -> tuple[Array, Array, Array, Array]:
        """Gain, loss and the peak's tail under each, all (n, bins), with the zero at -delta (n,)."""
        moved = self.place + delta
        loss = bin_sums(self.sums, moved, self.step_ev, self.edges)
        gain = bin_sums(self.sums, moved, self.step_ev, -self.edges[::-1])[:, ::-1]
        at = self.edges[None, :]
        under_loss = np.diff(self.peak.below(at - delta[:, None]), axis=1)
        under_gain = -np.diff(self.peak.below(-at - delta[:, None]), axis=1)
        return (
            gain,
            loss,
            self.height[:, None] * under_gain,
            self.height[:, None] * under_loss,
        )


def _solved(
    pairs: _Pairs, energy: Array, readout: float, height_sigma: Array
) -> tuple[Array, Array, Array]:
    """1 / kT of every row, the information on it, and what the peak's height adds to its σ."""
    n = len(pairs.place)
    theta = np.full(n, 1.0 / (BOLTZMANN_EV_PER_K * _START_K))
    variance = (pairs.peak.fwhm_ev / _FWHM_PER_SIGMA) ** 2
    highest = 1.0 / (BOLTZMANN_EV_PER_K * _COLDEST_K)
    information, by_peak = np.ones(n), np.zeros(n)
    gain, loss, b_gain, b_loss = pairs.sides(0.5 * variance * theta)
    for turn in range(_ROUNDS):
        if turn < 8:  # δ changes little once the temperature is known to some percent
            gain, loss, b_gain, b_loss = pairs.sides(0.5 * variance * theta)
            level = _level(np.nan_to_num(gain + loss - b_gain - b_loss))
        q = np.exp(-np.clip(energy * theta[:, None], -20.0, 50.0))
        source = level / (1.0 + q)
        noise = source * q + b_gain + q * q * (source + b_loss) + readout * (1 + q * q)
        weight = energy * q * source / np.maximum(noise, 1e-12)
        score = (weight * ((gain - b_gain) - q * (loss - b_loss))).sum(axis=1)
        information = np.maximum((weight * energy * q * source).sum(axis=1), 1e-12)
        lean = (weight * (np.diff(pairs.peak.below(pairs.edges)) * (1 - q))).sum(axis=1)
        by_peak = lean * height_sigma / information
        # more gain than expected: hotter, θ smaller; the slope of the score is that of q alone
        slope = (weight * energy * q * np.maximum(loss - b_loss, source)).sum(axis=1)
        change = np.clip(-score / np.maximum(slope, 1e-12), -0.5 * theta, 0.5 * theta)
        change = np.where(np.isfinite(change), change, 0.0)
        theta = np.clip(theta + change, 1e-2, highest)
        if np.abs(change / theta).max(initial=0.0) < 1e-8 and turn >= 8:
            break
    return theta, information, by_peak


def _level(net: Array) -> Array:
    """Mean gain plus loss per bin: the shape of all rows, the total of each, so that weights are no noise."""
    shape = np.maximum(net.sum(axis=0), 0.0)
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0
    if shape.size >= kernel.size:
        shape = np.convolve(np.pad(shape, 2, mode="edge"), kernel, mode="valid")
    if not shape.sum() > 0:
        shape = np.ones_like(shape)
    total = np.maximum(net.sum(axis=1), 1.0)
    return np.asarray(total[:, None] * shape / shape.sum())
