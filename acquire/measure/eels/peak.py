"""Measures the whole shape of the zero-loss peak, tails and all, so that its share anywhere is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from acquire.errors import MeasureError
from acquire.measure.eels.windows import running_sum
from acquire.measure.eels.zlp_shape import ZeroLossShape

Array = NDArray[np.float64]

_MOST_ROWS = 64
_MOST_WINGS = 0.55


class Peak(Protocol):
    """A peak of unit area around 0."""

    @property
    def fwhm_ev(self) -> float:
        """Full width at half maximum."""

    def below(self, energy_ev: Array) -> Array:
        """Share of the peak below energies of any shape."""


@dataclass(frozen=True, slots=True)
class FittedPeak:
    """A shape as it was measured on spectra."""

    shape: ZeroLossShape
    covariance: Array
    """(2, 2) of (fwhm_ev, wings)."""

    def share_sigma(self, low_ev: Array, high_ev: Array) -> Array:
        """σ of the peak's share between energies that comes from the fit of its shape."""
        base = self.shape
        by = []
        for change in ({"fwhm_ev": base.fwhm_ev * 1.01}, {"wings": base.wings + 0.005}):
            moved = replace(base, **change)
            step = 0.01 * base.fwhm_ev if "fwhm_ev" in change else 0.005
            difference = moved.below(high_ev) - moved.below(low_ev)
            by.append((difference - base.below(high_ev) + base.below(low_ev)) / step)
        gradient = np.stack(by, axis=-1)
        variance = np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient)
        return np.asarray(np.sqrt(variance), np.float64)


@dataclass(frozen=True, slots=True)
class MeasuredPeak:
    """A peak as it was recorded, without a specimen or off its losses."""

    edges_ev: Array
    """Rising ends of channels (k + 1,)."""
    cumulative: Array
    """Share up to each of them."""
    fwhm_ev: float

    def below(self, energy_ev: Array) -> Array:
        """Share of the peak below energies of any shape; nothing lies outside of what was recorded."""
        return np.asarray(np.interp(energy_ev, self.edges_ev, self.cumulative))


def peak_of_vacuum(
    electrons: Array, offset_ev: Array, step_ev: float, position_ev: Array
) -> MeasuredPeak:
    """The peak's shape from spectra (n, channels) without a specimen.

    ``offset_ev`` (n,) are energies of the first channels' centres and ``position_ev`` (n,) the peaks'
    places on that axis. The spectra are laid on one another by whole channels.

    Raises:
        MeasureError: no electrons.
    """
    centre = np.rint((position_ev - offset_ev) / step_ev).astype(np.intp)
    before = int(centre.min())
    after = int((electrons.shape[1] - 1 - centre).min())
    if before < 1 or after < 1:
        raise MeasureError("a zero-loss peak lies at the end of the axis. Move the axis.")
    at = centre[:, None] + np.arange(-before, after + 1)
    total = np.take_along_axis(electrons, at, axis=1).sum(axis=0)
    if not total.sum() > 0:
        raise MeasureError("there are no electrons to take a zero-loss peak from.")
    rest = float(np.mean(offset_ev + step_ev * centre - position_ev))
    edges = rest + step_ev * (np.arange(-before, after + 2) - 0.5)
    half = total.max() / 2
    above = np.flatnonzero(total > half)
    first, last = int(above[0]), int(above[-1])
    beside = [(first, max(first - 1, 0)), (last, min(last + 1, total.size - 1))]
    # how far from the last channel above to the first below the half is crossed
    parts = [(total[k] - half) / max(total[k] - total[j], 1e-300) for k, j in beside]
    fwhm = step_ev * (last - first + sum(min(part, 1.0) for part in parts))
    cumulative = np.concatenate([[0.0], np.cumsum(total)]) / total.sum()
    return MeasuredPeak(np.asarray(edges, np.float64), cumulative, float(fwhm))


def measure_peak(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    *,
    fwhm_ev: float,
    regions_ev: tuple[tuple[float, float], ...],
    readout_variance: float = 0.0,
) -> FittedPeak:
    """Width and share of tails common to spectra, by maximum likelihood in regions without losses.

    ``offset_ev`` (n,) is the energy of the first channel's centre *with the peak at 0*; rows that are
    not finite are left out, and of many rows some 64 are taken. The height of every row is free.
    Readout noise is carried by shifting data and mean by its variance (counts + v is Poisson about
    mean + v to the second moment).

    Args:
        electrons: (n, channels).
        offset_ev: (n,).
        step_ev: width of a channel.
        fwhm_ev: a first guess.
        regions_ev: where the peak alone is seen, its middle among them.
        readout_variance: e-² per channel.

    Raises:
        MeasureError: no spectrum holds electrons in the regions.
    """
    good = np.flatnonzero(np.isfinite(offset_ev) & np.isfinite(electrons).all(axis=1))
    if good.size > _MOST_ROWS:
        good = good[np.linspace(0, good.size - 1, _MOST_ROWS).astype(np.intp)]
    offset = offset_ev[good]
    low, high = min(r[0] for r in regions_ev), max(r[1] for r in regions_ev)
    n_channels = electrons.shape[1]
    first = max(0, int(np.floor((low - offset.max()) / step_ev))) if good.size else 0
    last = min(n_channels, int(np.ceil((high - offset.min()) / step_ev)) + 1) if good.size else 0
    channels = np.arange(first, max(last, first))
    energy = offset[:, None] + step_ev * channels
    used = np.zeros(energy.shape, bool)
    for a, b in regions_ev:
        used |= (energy >= a) & (energy <= b)
    data = np.where(used, electrons[good][:, channels], 0.0)
    seen = (data.sum(axis=1) > 0) & (used.sum(axis=1) >= 4)
    if not seen.any():
        raise MeasureError(
            f"no spectrum shows a zero-loss peak between {low:g} and {high:g} eV. "
            "Its shape cannot be measured: pass one."
        )
    energy, used, data = energy[seen], used[seen], data[seen]
    shifted = np.where(used, np.maximum(data + readout_variance, 0.0), 0.0)

    def loss(parameters: Array) -> float:
        shape = _shape_of(parameters)
        share = shape.below(energy + step_ev / 2) - shape.below(energy - step_ev / 2)
        share = np.where(used, np.maximum(share, 1e-15), 0.0)
        height = np.maximum(data.sum(axis=1), 1e-3) / share.sum(axis=1)
        mean = np.where(used, height[:, None] * share + readout_variance, 1.0)
        return float((mean * used - shifted * np.log(mean)).sum())

    start = np.array([math.log(fwhm_ev), _logit(0.06 / _MOST_WINGS)])
    simplex = start + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.7]])
    found = optimize.minimize(
        loss,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-4, "maxiter": 200},
    )
    return _with_covariance(loss, np.asarray(found.x, np.float64))


def peak_heights(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    peak: Peak,
    window_ev: tuple[float, float],
    readout_variance: float = 0.0,
    *,
    sums: Array | None = None,
) -> tuple[Array, Array]:
    """Electrons in the whole peak of every row, and their σ: those in a window over the peak's share of it.

    ``offset_ev`` has the peak at 0; the window ends at whole channels. NaN where it leaves the axis. ``sums``: running ones of the rows, if
    somebody has them.
    """
    channels = electrons.shape[1]
    low = np.ceil((window_ev[0] - offset_ev) / step_ev)
    high = np.floor((window_ev[1] - offset_ev) / step_ev) + 1
    inside = np.isfinite(offset_ev) & (low >= 0) & (high <= channels) & (high > low)
    first = np.where(inside, low, 0).astype(np.intp)
    last = np.where(inside, high, 1).astype(np.intp)
    sums = running_sum(electrons) if sums is None else sums
    row = np.arange(len(electrons))
    count = sums[row, last] - sums[row, first]
    below = peak.below(offset_ev + step_ev * (np.array([first, last]) - 0.5))
    share = np.maximum(below[1] - below[0], 1e-9)
    variance = np.maximum(count, 1.0) + (last - first) * readout_variance
    nan = np.where(inside, 0.0, np.nan)
    return count / share + nan, np.sqrt(variance) / share + nan


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _shape_of(parameters: Array) -> ZeroLossShape:
    wings = _MOST_WINGS * float(special.expit(parameters[1]))
    return ZeroLossShape(math.exp(float(np.clip(parameters[0], -20.0, 10.0))), wings)


def _with_covariance(loss: Callable[[Array], float], at: Array) -> FittedPeak:
    """The shape with its covariance, from the curvature of the loss."""
    steps = np.array([2e-3, 0.05])
    curvature = np.zeros((2, 2))
    for i in range(2):
        for j in range(2):
            d_i, d_j = np.eye(2)[i] * steps[i], np.eye(2)[j] * steps[j]
            mixed = loss(at + d_i + d_j) + loss(at - d_i - d_j)
            mixed -= loss(at + d_i - d_j) + loss(at - d_i + d_j)
            curvature[i, j] = mixed / (4 * steps[i] * steps[j])
    shape = _shape_of(at)
    inverse = np.linalg.pinv(curvature + np.diag([1e-9, 1e-3]))  # wings at 0 have no curvature
    share = shape.wings / _MOST_WINGS
    change = np.array([shape.fwhm_ev, _MOST_WINGS * share * (1 - share)])
    return FittedPeak(shape, np.asarray(inverse * np.outer(change, change), np.float64))
