"""Mean-square displacement of tracked particles, free of drift and of localisation noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.measure.tracking.trajectories import Trajectories

Array = NDArray[np.float64]

_FEWEST_STEPS = 10


@dataclass(frozen=True, slots=True)
class MeanSquareDisplacement:
    """How far particles move on the film; arrays over lags of 1, 2, … frames."""

    lag_s: Array
    """Mean time between the sightings that were paired."""
    msd_nm2: Array
    """In the plane, without noise; may be negative within σ. NaN where nothing was paired."""
    sigma_nm2: Array
    pairs: NDArray[np.int64]
    localisation_nm: float
    """σ of one coordinate of one sighting, from the displacements themselves."""
    diffusion_nm2_per_s: float
    """D of MSD = 4 D t at a lag of one frame; NaN with fewer than ten steps."""
    diffusion_sigma_nm2_per_s: float


def mean_square_displacement(
    trajectories: Trajectories, longest_lag: int = 10
) -> MeanSquareDisplacement:
    """Mean-square displacement over lags of up to so many frames.

    What all particles of a frame have in common (drift, and what registration left of it) is taken
    out as their mean displacement; the share of their own motion that goes with it is put back.
    The noise of localisation makes successive displacements run against each other; their
    covariance tells it, and D without it (Vestergaard, Blainey and Flyvbjerg 2014, Phys. Rev. E
    89:022726, without motion blur). The σ of each lag is that of the mean over tracks, since the
    displacements within a track overlap.

    Frames are taken as equally spaced in so far as lags are counted in frames; times of each lag
    are those of the sightings.
    """
    grid = _Grid.of(trajectories)
    first = grid.displacements(1)
    noise2, diffusion, error = _from_steps(grid, first)
    lags, values, sigmas, counts = [], [], [], []
    for lag in range(1, min(longest_lag, len(grid.times) - 1) + 1):
        moved = grid.displacements(lag)
        squared = (moved**2).sum(axis=2)
        there = np.isfinite(squared)
        of_track = there.sum(axis=1)
        some = of_track > 0
        span = grid.times[lag:] - grid.times[:-lag]
        lags.append(float(np.average(span, weights=there.sum(axis=0))) if some.any() else math.nan)
        counts.append(int(of_track.sum()))
        if int(some.sum()) < 2:
            values.append(math.nan)
            sigmas.append(math.nan)
            continue
        mean = np.nansum(squared, axis=1)[some] / of_track[some]
        share = of_track[some] / of_track.sum()
        value = float((share * mean).sum())
        spread = float(np.sum(share**2 * (mean - value) ** 2)) / (1 - float(np.sum(share**2)))
        values.append(value - 4 * noise2)
        sigmas.append(math.sqrt(spread))
    return MeanSquareDisplacement(
        np.array(lags),
        np.array(values),
        np.array(sigmas),
        np.array(counts, np.int64),
        math.sqrt(max(noise2, 0.0)) if math.isfinite(noise2) else math.nan,
        diffusion,
        error,
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Places (tracks, frames, 2) with NaN where not seen."""

    times: Array
    places: Array

    @classmethod
    def of(cls, trajectories: Trajectories) -> _Grid:
        rows = trajectories.sized
        times, frame = np.unique(trajectories.t_s[rows], return_inverse=True)
        tracks, which = np.unique(trajectories.track[rows], return_inverse=True)
        places = np.full((len(tracks), len(times), 2), np.nan)
        places[which, frame, 0] = trajectories.y_nm[rows]
        places[which, frame, 1] = trajectories.x_nm[rows]
        return cls(times, places)

    def displacements(self, lag: int) -> Array:
        """(tracks, frames - lag, 2) free of the common displacement; NaN where not seen twice."""
        moved = self.places[:, lag:] - self.places[:, :-lag]
        count = np.isfinite(moved[..., 0]).sum(axis=0)
        many = count >= 2
        common = np.nansum(moved, axis=0) / np.maximum(count, 1)[:, None]
        own = moved - common
        own[:, ~many] = np.nan
        # the mean of n takes 1/n of the variance of each with it
        own *= np.sqrt(np.where(many, count / np.maximum(count - 1, 1), 1.0))[:, None]
        return np.asarray(own)


def _from_steps(grid: _Grid, steps: Array) -> tuple[float, float, float]:
    """Variance of a coordinate's localisation, D, and the σ of D."""
    if steps.shape[1] < 2:
        return math.nan, math.nan, math.nan
    product = (steps[:, 1:] * steps[:, :-1]).mean(axis=2)
    square = (0.5 * (steps[:, 1:] ** 2 + steps[:, :-1] ** 2)).mean(axis=2)
    there = np.isfinite(product)
    count = there.sum(axis=1)
    if int(count.sum()) < _FEWEST_STEPS or int((count > 0).sum()) < 2:
        return math.nan, math.nan, math.nan
    noise2 = -float(np.nansum(product)) / int(count.sum())
    step_s = float(np.median(np.diff(grid.times)))
    of_track = np.nansum(0.5 * square + product, axis=1)[count > 0] / count[count > 0] / step_s
    share = count[count > 0] / count.sum()
    value = float((share * of_track).sum())
    spread = float(np.sum(share**2 * (of_track - value) ** 2)) / (1 - float(np.sum(share**2)))
    return max(noise2, 0.0), value, math.sqrt(spread)
