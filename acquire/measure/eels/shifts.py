"""Follows the drift of the energy axis: what shift a core-loss exposure had, from zero-loss positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from acquire.errors import MeasureError

Array = NDArray[np.float64]

_FEWEST = 12
"""Positions without which walk and jitter cannot be told apart."""


@dataclass(frozen=True, slots=True)
class ShiftNoise:
    """How an energy axis moves: a random walk, which spectra in a row share, and jitter, which they do not."""

    walk_ev_per_root_s: float = 0.024
    """Standard deviation after one second; the published 60 to 90 meV per 10 s if not given."""
    jitter_ev: float = 0.06
    """Standard deviation from snapshot to snapshot; the published 60 meV if not given."""
    jitter_time_s: float = 0.01
    """Correlation time of the jitter, which says how far a long exposure averages it out: half a
    period of 50 Hz mains if not given."""

    def __post_init__(self) -> None:
        for name in ("walk_ev_per_root_s", "jitter_ev", "jitter_time_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise MeasureError(f"{name} = {value!r} must be finite and not negative.")

    def left_in(self, duration_s: ArrayLike) -> Array:
        """Standard deviation in eV of the mean of the jitter over exposures of these lengths.

        For an exponential correlation: j² (2/u) (1 - (1 - exp(-u))/u) with u = duration / time.
        """
        u = np.asarray(duration_s, np.float64) / max(self.jitter_time_s, 1e-12)
        long = np.maximum(u, 1e-3)
        share = 2.0 / long * (1.0 + np.expm1(-long) / long)
        return np.asarray(self.jitter_ev * np.sqrt(np.where(u < 1e-3, 1.0, share)))


@dataclass(frozen=True, slots=True)
class Shifts:
    """Shift of the energy axis for every entry, to be subtracted from it; NaN before the first position."""

    shift_ev: Array
    sigma_ev: Array
    noise: ShiftNoise


class ShiftFilter:
    """Follows the walk live, one position at a time; gives what :func:`filter_shifts` gives at lag 0.

    Args:
        noise: of the axis.
    """

    def __init__(self, noise: ShiftNoise | None = None) -> None:
        self.noise = noise or ShiftNoise()
        self._time_s = -math.inf
        self._state = math.nan
        self._variance = math.inf

    def update(self, time_s: float, position_ev: float, sigma_ev: float) -> tuple[float, float]:
        """Shift and its σ in eV after one more position, which may be NaN.

        Raises:
            MeasureError: the time lies before that of the last one.
        """
        if not time_s >= self._time_s:
            raise MeasureError(
                f"a zero-loss position at {time_s} s came after one at {self._time_s} s: "
                "positions must come in the order of time."
            )
        if math.isfinite(self._variance):
            self._variance += self.noise.walk_ev_per_root_s**2 * (time_s - self._time_s)
        self._time_s = time_s
        if math.isfinite(position_ev) and math.isfinite(sigma_ev):
            own = sigma_ev**2 + self.noise.jitter_ev**2
            if math.isinf(self._variance):
                self._state, self._variance = position_ev, own
            elif self._variance + own > 0.0:
                gain = self._variance / (self._variance + own)
                self._state += gain * (position_ev - self._state)
                self._variance *= 1.0 - gain
        return self._state, math.sqrt(self._variance) if math.isfinite(self._variance) else math.nan


def filter_shifts(
    times_s: ArrayLike,
    positions_ev: ArrayLike,
    sigma_ev: ArrayLike,
    noise: ShiftNoise | None = None,
    lag: int | None = 0,
) -> Shifts:
    """Shift of the axis at the time of every zero-loss position, without its jitter and noise.

    A Kalman filter of a random walk seen through white noise of variance σ² + jitter². With ``lag``
    0 it is causal, as live; with 1 or more every answer uses so many later positions, and with None
    all of them, as stored data can (Rauch, Tung and Striebel 1965). A position of NaN is a gap that
    is bridged, with σ growing.

    Args:
        times_s: (n,) middles of the exposures, in order.
        positions_ev: (n,) of the zero-loss peak.
        sigma_ev: (n,) of each position, by its electrons.
        noise: of the axis; estimated from these positions if None and there are enough of them.
        lag: positions after each that are used.

    Raises:
        MeasureError: lengths that differ, times out of order, a negative lag.
    """
    times, positions, variances = _checked(times_s, positions_ev, sigma_ev)
    if lag is not None and lag < 0:
        raise MeasureError(f"lag = {lag} must be 0, a number of positions, or None for all.")
    noise = noise or estimate_shift_noise(times, positions, np.sqrt(variances))
    state, variance, _ = _filtered(times, positions, variances, noise, -1 if lag is None else lag)
    return Shifts(state, np.where(np.isfinite(variance), np.sqrt(variance), np.nan), noise)


def estimate_shift_noise(
    times_s: ArrayLike,
    positions_ev: ArrayLike,
    sigma_ev: ArrayLike,
    usual: ShiftNoise | None = None,
) -> ShiftNoise:
    """Walk and jitter that make positions (n,) at times (n,) most likely.

    By the likelihood of what the Kalman filter did not expect, over the logarithms of both, with a
    weak belief (a factor of three) in ``usual`` (the published figures), which is also what fewer
    than 12 positions give. The jitter's correlation time is taken from ``usual``: positions far
    apart do not tell it.

    Raises:
        MeasureError: lengths that differ, times out of order.
    """
    usual = usual or ShiftNoise()
    times, positions, variances = _checked(times_s, positions_ev, sigma_ev)
    known = np.isfinite(positions)
    if known.sum() < _FEWEST:
        return usual
    centre = np.log([max(usual.walk_ev_per_root_s, 1e-6), max(usual.jitter_ev, 1e-6)])

    def cost(logs: Array) -> float:
        walk, jitter = np.exp(logs)
        trial = ShiftNoise(float(walk), float(jitter), usual.jitter_time_s)
        likelihood = _filtered(times, positions, variances, trial, 0)[2]
        return float(0.5 * np.square((logs - centre) / math.log(3.0)).sum()) - likelihood

    best = optimize.minimize(cost, centre, method="Nelder-Mead", options={"xatol": 1e-3})
    walk, jitter = np.exp(np.clip(best.x, -16.0, 3.0))
    return ShiftNoise(float(walk), float(jitter), usual.jitter_time_s)


def core_shifts(
    positions_ev: ArrayLike,
    sigma_ev: ArrayLike,
    read_spans_s: ArrayLike,
    core_spans_s: ArrayLike,
    noise: ShiftNoise | None = None,
    lag: int | None = 0,
) -> Shifts:
    """Shift of core-loss exposures from one or several low-loss reads of each.

    The reads of one exposure come together, weighted by their variance; its mean walk is
    followed from exposure to exposure. σ holds the filter's, the walk between the reads and what
    jitter the exposure itself did not average out. One short read leaves a jitter
    that many reads average, which is why they are interleaved.

    Args:
        positions_ev: (n, reads) or (n,) zero-loss positions; NaN where a read failed.
        sigma_ev: of each position.
        read_spans_s: (n, reads, 2) or (n, 2): begin and end of each read.
        core_spans_s: (n, 2): begin and end of each core-loss exposure.
        noise: of the axis; estimated from the reads if None.
        lag: as in :func:`filter_shifts`, in exposures.

    Raises:
        MeasureError: shapes that do not belong together, times out of order.
    """
    positions = np.asarray(positions_ev, np.float64)
    sigma = np.broadcast_to(np.asarray(sigma_ev, np.float64), positions.shape)
    if positions.ndim == 1:
        positions, sigma = positions[:, None], sigma[:, None]
    reads = np.asarray(read_spans_s, np.float64).reshape(len(positions), -1, 2)
    core = np.asarray(core_spans_s, np.float64)
    if reads.shape[:2] != positions.shape or core.shape != (len(positions), 2):
        raise MeasureError(
            f"spans of reads {reads.shape} and of exposures {core.shape} do not belong to "
            f"zero-loss positions of shape {positions.shape}."
        )
    at = reads.mean(axis=2)
    if noise is None:
        order = np.argsort(at.ravel(), kind="stable")
        noise = estimate_shift_noise(
            at.ravel()[order], positions.ravel()[order], sigma.ravel()[order]
        )
    known = np.isfinite(positions) & np.isfinite(sigma)
    weight = np.where(
        known, 1.0 / (np.where(known, sigma, 1.0) ** 2 + noise.jitter_ev**2 + 1e-12), 0.0
    )
    total = weight.sum(axis=1)
    some = total > 0
    share = weight / np.where(some, total, 1.0)[:, None]
    mean = np.where(some, (share * np.where(known, positions, 0.0)).sum(axis=1), np.nan)
    walk = noise.walk_ev_per_root_s**2
    own = np.where(some, 1.0 / np.where(some, total, 1.0), np.nan)
    own += walk * _apart_s(share, at, core)
    middle, values, variances = _checked(core.mean(axis=1), mean, np.sqrt(own))
    followed = ShiftNoise(noise.walk_ev_per_root_s, 0.0, 0.0)
    state, left, _ = _filtered(middle, values, variances, followed, -1 if lag is None else lag)
    left = left + noise.left_in(core[:, 1] - core[:, 0]) ** 2
    return Shifts(state, np.where(np.isfinite(left), np.sqrt(left), np.nan), noise)


def _apart_s(share: Array, at: Array, core: Array) -> Array:
    """Variance of mean walk over an exposure less its weighted reads, for a walk of 1 eV per root second.

    From the covariance min(t, t') of a walk; a single read before an exposure of T s gives T/3.
    """
    begin, end = core[:, :1], core[:, 1:]
    zero = np.minimum(begin, at.min(axis=1, keepdims=True))
    duration = np.maximum(end - begin, 1e-12)
    into = np.clip(at - begin, 0.0, duration)
    with_core = np.minimum(at, begin) - zero + into * (1.0 - 0.5 * into / duration)
    of_core = (begin - zero + duration / 3.0)[:, 0]
    among = np.minimum(at[:, :, None], at[:, None, :]) - zero[:, :, None]
    of_reads = np.einsum("ni,nij,nj->n", share, among, share)
    apart = of_core + of_reads - 2.0 * (share * with_core).sum(axis=1)
    return np.asarray(np.maximum(apart, 0.0))


def _filtered(
    times: Array, values: Array, variances: Array, noise: ShiftNoise, lag: int
) -> tuple[Array, Array, float]:
    from acquire.measure.eels.shift_kernel import filter_walk  # numba takes half a second to import

    out = np.empty((len(times), 2))
    own = variances + noise.jitter_ev**2
    likelihood = filter_walk(times, values, own, noise.walk_ev_per_root_s**2, lag, out)
    return out[:, 0], out[:, 1], float(likelihood)


def _checked(
    times_s: ArrayLike, positions_ev: ArrayLike, sigma_ev: ArrayLike
) -> tuple[Array, Array, Array]:
    times = np.array(times_s, np.float64)
    positions = np.array(positions_ev, np.float64)
    sigma = np.array(np.broadcast_to(np.asarray(sigma_ev, np.float64), positions.shape))
    if times.ndim != 1 or positions.shape != times.shape:
        raise MeasureError(
            f"{positions.shape} zero-loss positions do not belong to {times.shape} times: "
            "one of each is needed for every spectrum."
        )
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        raise MeasureError("times of zero-loss positions must be finite and in order.")
    positions[~np.isfinite(sigma)] = np.nan
    sigma[~np.isfinite(positions)] = 1.0
    # a variance of nothing would hold the filter to one position for ever
    return times, positions, np.maximum(sigma**2, 1e-14)
