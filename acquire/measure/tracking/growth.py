"""The paired growth rate: how fast the diameters of the same particles change, with its σ."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_TRACKED = 5
FEWEST_FRAMES = 4
_S_PER_MIN = 60.0
_BLOCKS = 40
"""A window is kept in so many blocks of time, whatever the frame rate."""
_OUTLIER = 3.0
"""Residuals beyond so many σ count less (Huber)."""
_FAR_RATE = 4.0
_ROUNDS = 3
_ALIKE = 10.0
"""Particles count alike unless the variance of their rate exceeds so many times the usual one: the
rate shall be that of all, not of the large ones, which are measured best."""
_SHORTEST = 0.3
"""Share of the whole span that a particle must have been seen over."""
_FLOOR = 0.3
"""No σ of a diameter counts as less than this share of the median one."""


@dataclass(frozen=True, slots=True)
class PairedGrowth:
    """Mean rate at which the diameters of tracked particles change."""

    rate_nm_per_min: float
    """NaN where it cannot be told."""
    sigma_nm_per_min: float
    tracked: int
    """Particles that it rests on."""
    span_s: float
    """From the first to the last frame that it rests on."""
    middle_s: float = math.nan
    """The time that it is the rate of."""


def _nothing(tracked: int, span_s: float) -> PairedGrowth:
    return PairedGrowth(math.nan, math.nan, tracked, span_s)


def paired_growth(
    t_s: Array, track: Ints, segment: Ints, diameter_nm: Array, sigma_nm: Array
) -> PairedGrowth:
    """Mean slope of the diameters of particles that were seen again and again.

    Every particle has a straight line of its own, with an offset for each of its segments, so that
    neither who is in the field nor a merge or a change of dose passes for growth. Single bad fits
    count less (Huber, 3 σ). The rate is the mean over particles, which count alike but for those
    whose own rate is hardly known; rates beyond four times the spread are drawn in.

    The σ is the larger of two: that which the σ of the diameters give, and that of the residuals
    summed frame by frame with their succession in time (Newey and West 1987, Econometrica 55:703),
    since focus, dose and film move all particles of a frame together. It is the σ of the rate of
    *these* particles over this window; how other particles grow is not in it.

    Args:
        t_s: (n,) time of each sighting.
        track: (n,) which particle.
        segment: (n,) within which diameters are comparable; at most one track each.
        diameter_nm: (n,).
        sigma_nm: (n,) positive.

    Returns:
        Rate NaN with fewer than five particles or four frames.
    """
    frames, frame = np.unique(t_s, return_inverse=True)
    span = float(frames[-1] - frames[0]) if len(frames) else 0.0
    if len(frames) < FEWEST_FRAMES:
        return _nothing(0, span)
    kept = _long_enough(t_s, track, span)
    t_s, track, segment, frame = t_s[kept], track[kept], segment[kept], frame[kept]
    diameter_nm, sigma_nm = diameter_nm[kept], sigma_nm[kept]
    _, which = np.unique(track, return_inverse=True)
    _, part = np.unique(segment, return_inverse=True)
    count = int(which.max()) + 1 if len(which) else 0
    if count < FEWEST_TRACKED:
        return _nothing(count, span)
    sigma = np.maximum(sigma_nm, _FLOOR * float(np.median(sigma_nm)))
    trust = np.ones(len(t_s))
    for _ in range(_ROUNDS):
        lines = _lines(t_s, diameter_nm, trust / sigma**2, which, part, count)
        common = np.bincount(frame, trust * lines.residual) / np.maximum(
            np.bincount(frame, trust), 1e-9
        )
        off = np.abs(lines.residual - common[frame]) / sigma
        scale = max(1.0, 1.4826 * float(np.median(off)))
        trust = np.minimum(1.0, _OUTLIER * scale / np.maximum(off, 1e-12))
    some = lines.moment > 0
    if int(some.sum()) < FEWEST_TRACKED:
        return _nothing(int(some.sum()), span)
    error2 = np.where(some, scale**2 / np.where(some, lines.moment, 1.0), np.inf)
    rate, share = _mean_rate(lines.slope, error2, some)
    # the rate is a sum over the rows' diameters with these factors
    factor = share[which] * lines.lever / np.where(some, lines.moment, 1.0)[which]
    by_rows = float(np.sum((factor * sigma * scale) ** 2))
    by_frames = _variance_by_frames(_summed(frame, factor * lines.residual))
    sigma_rate = math.sqrt(max(by_rows, by_frames))
    middle = float(np.average(frames))
    return PairedGrowth(rate * _S_PER_MIN, sigma_rate * _S_PER_MIN, int(some.sum()), span, middle)


@dataclass(frozen=True, slots=True)
class _Lines:
    slope: Array
    """(tracks,) per s."""
    moment: Array
    """(tracks,) weighted sum of squared times."""
    lever: Array
    """(rows,) weight times distance in time from the segment's middle."""
    residual: Array
    """(rows,)"""


def _lines(
    t_s: Array, diameter: Array, weight: Array, which: Ints, part: Ints, count: int
) -> _Lines:
    total = np.bincount(part, weight)
    t_off = t_s - (np.bincount(part, weight * t_s) / total)[part]
    d_off = diameter - (np.bincount(part, weight * diameter) / total)[part]
    lever = weight * t_off
    moment = _summed(which, lever * t_off, count)
    # a segment of one row has no lever, up to rounding
    moment = np.where(moment > 1e-9 * weight.max(), moment, 0.0)
    slope = _summed(which, lever * d_off, count) / np.where(moment > 0, moment, 1.0)
    return _Lines(slope, moment, lever, d_off - slope[which] * t_off)


def _summed(index: Ints, values: Array, count: int = 0) -> Array:
    return np.asarray(np.bincount(index, values, minlength=count), np.float64)


def _long_enough(t_s: Array, track: Ints, span_s: float) -> NDArray[np.bool_]:
    _, which = np.unique(track, return_inverse=True)
    first, last = np.full(which.max() + 1, np.inf), np.full(which.max() + 1, -np.inf)
    np.minimum.at(first, which, t_s)
    np.maximum.at(last, which, t_s)
    rows = np.bincount(which)
    return np.asarray((((last - first) >= _SHORTEST * span_s) & (rows >= 3))[which])


def _mean_rate(slope: Array, error2: Array, some: NDArray[np.bool_]) -> tuple[float, Array]:
    """Mean over particles, and every particle's share of it (0 where it has no slope)."""
    usual = float(np.median(error2[some]))
    spread2 = max(0.0, float(np.var(slope[some])) - float(np.mean(error2[some])))
    weight = np.where(some, 1.0 / (error2 + _ALIKE * max(spread2, usual)), 0.0)
    for _ in range(2):
        share = weight / weight.sum()
        mean = float((share * slope).sum())
        middle = float(np.median(slope[some]))
        wide = 1.4826 * float(np.median(np.abs(slope[some] - middle)))
        off = np.abs(slope - middle)
        weight *= np.minimum(1.0, _FAR_RATE * max(wide, 1e-15) / np.maximum(off, 1e-15))
    return mean, share


def _variance_by_frames(sums: Array) -> float:
    """Variance of a total of sums by frame that may follow one another (Newey-West)."""
    n = len(sums)
    lags = math.ceil(n ** (1 / 3))
    total = float(sums @ sums)
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(sums[lag:] @ sums[:-lag])
    return max(total, 0.0) * n / max(n - 2, 1)


class GrowthWindow:
    """The sightings of the last while, from which the present growth rate comes.

    Frames that follow each other faster than a fortieth of the window are averaged particle by
    particle, so that memory and time per frame do not depend on the frame rate.
    """

    def __init__(self, window_s: float = 120.0) -> None:
        self.window_s = window_s
        self._blocks: deque[_Block] = deque()
        self._open: list[_Block] = []

    def clear(self) -> None:
        """Forget all sightings."""
        self._blocks.clear()
        self._open.clear()

    def add(
        self, t_s: float, track: Ints, segment: Ints, diameter_nm: Array, sigma_nm: Array
    ) -> None:
        """Take the sized particles of one frame; arrays of equal length."""
        block_s = self.window_s / _BLOCKS
        if self._open and t_s - self._open[0].t_s >= block_s:
            self._blocks.append(_merged(self._open))
            self._open = []
        self._open.append(_Block(t_s, track, segment, diameter_nm, sigma_nm))
        while self._blocks and self._blocks[0].t_s < t_s - self.window_s:
            self._blocks.popleft()

    @property
    def newest_s(self) -> float:
        """Time of the last frame; NaN before the first."""
        return self._open[-1].t_s if self._open else math.nan

    def rate(self, now_s: float = math.nan) -> PairedGrowth:
        """The growth over the window that ends now (or with the last frame), as far as it is filled."""
        while self._blocks and self._blocks[0].t_s < now_s - self.window_s:
            self._blocks.popleft()
        blocks = [*self._blocks, *([_merged(self._open)] if self._open else [])]
        if not blocks:
            return _nothing(0, 0.0)
        t_s = np.repeat([block.t_s for block in blocks], [len(block.track) for block in blocks])
        return paired_growth(
            t_s,
            np.concatenate([block.track for block in blocks]),
            np.concatenate([block.segment for block in blocks]),
            np.concatenate([block.diameter_nm for block in blocks]),
            np.concatenate([block.sigma_nm for block in blocks]),
        )


@dataclass(frozen=True, slots=True)
class _Block:
    t_s: float
    track: Ints
    segment: Ints
    diameter_nm: Array
    sigma_nm: Array


def _merged(frames: list[_Block]) -> _Block:
    """Frames as one, in which every segment has its weighted mean diameter."""
    if len(frames) == 1:
        return frames[0]
    segment, first, which = np.unique(
        np.concatenate([frame.segment for frame in frames]), return_index=True, return_inverse=True
    )
    track = np.concatenate([frame.track for frame in frames])[first]
    sigma = np.concatenate([frame.sigma_nm for frame in frames])
    diameter = np.concatenate([frame.diameter_nm for frame in frames])
    weight = np.bincount(which, 1.0 / sigma**2)
    mean = np.bincount(which, diameter / sigma**2) / weight
    t_s = float(np.mean([frame.t_s for frame in frames]))
    return _Block(t_s, track, segment, mean, 1.0 / np.sqrt(weight))
