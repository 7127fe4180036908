"""The diameter at which a particle's crystal becomes permanent, by maximum likelihood over all looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from acquire.errors import MeasureError

Array = NDArray[np.float64]

_FEWEST_PARTICLES = 3
_OWN_STEP_NM = 0.02
"""Between the own critical diameters that are tried for a particle."""
_STEPS = np.array([0.02, 0.2, 0.3, 1.0])
"""Of the differences from which the curvature is taken."""
_MISTAKEN = 0.005
"""Looks whose diameter or particle is altogether wrong."""
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_PLAUSIBLE = np.array([1.0, 2.0, 3.0, 10.0])
"""How far the four parameters may be off when the data do not say."""
_SPREADS_NM = (0.01, 0.6)
_MARGIN_NM = 0.3
_ALIKE_NM = 0.01
"""Looks at one particle that differ by less are counted together."""


@dataclass(frozen=True, slots=True)
class CriticalDiameter:
    """What many looks at growing particles say."""

    diameter_nm: float
    """Mean over particles of the diameter above which the crystal stays; NaN where flags say why."""
    sigma_nm: float
    spread_nm: float
    """Standard deviation of the particles' own critical diameters about the mean."""
    share_below: float
    """Chance that a look just below finds a crystal."""
    particles: int
    """Particles that were looked at on both sides of it."""
    looks: int
    """Looks that the fit used."""
    flags: tuple[str, ...]
    """``few_particles``, ``not_reached`` (no particle's crystal has stayed), ``no_fluctuation`` (no
    droplet was seen among the larger looks, so that nothing bounds it from below)."""


def critical_diameter(
    diameters_nm: Array,
    crystalline: NDArray[np.bool_],
    particles: NDArray[np.int64],
    *,
    scatter_nm: float | None = None,
    false_positive_rate: float = 0.001,
    power: Array | float = 1.0,
) -> CriticalDiameter:
    """Fit the step at which crystals become permanent to looks at growing particles; all arrays (n,).

    Args:
        diameters_nm: of the particle at each look.
        crystalline: whether a crystal was seen.
        particles: which looks are of the same particle.
        scatter_nm: standard deviation of a particle's diameter from look to look; None takes it from
            the second differences of successive looks, which must then be in order of time.
        false_positive_rate: chance that a droplet is taken for a crystal.
        power: chance to see a crystal that is there.

    A particle i has a critical diameter μ_i of its own, normal about μ with spread τ. A look at d finds
    a crystal there with certainty if d > μ_i, else with a chance that changes with d on a logistic
    curve: below, crystals come and go. The scatter of the diameters and both error
    rates are in the likelihood (an error that a particle keeps is part of τ); μ_i is integrated over, and μ, τ and the logistic's two parameters are fitted. Looks at
    diameters below any at which a crystal was seen are left out: there are no crystals to come and go.
    σ comes from the curvature of the profile likelihood of μ.

    Raises:
        MeasureError: arrays of unequal length, or not finite.
    """
    looks = _looks(diameters_nm, crystalline, particles, scatter_nm, power)
    seen = looks.crystal
    if not seen.any():
        return _nothing(looks, "not_reached")
    from_nm = float(looks.diameter[seen].min())
    if false_positive_rate * len(seen) > 0.5:  # the smallest may be no crystal at all
        from_nm = float(np.quantile(looks.diameter[seen], 0.02))
    looks = looks.above(from_nm)
    reason = _unfit(looks)
    if reason:
        return _nothing(looks, reason)
    likelihood = _Likelihood(looks, false_positive_rate)
    best = likelihood.maximise()
    sigma = likelihood.sigma(best)
    bracketed = likelihood.bracketed(best[0])
    flags = () if bracketed >= _FEWEST_PARTICLES else ("few_particles",)
    return CriticalDiameter(
        diameter_nm=float(best[0]),
        sigma_nm=sigma,
        spread_nm=float(math.exp(best[1])),
        share_below=float(special.expit(best[2])),
        particles=bracketed,
        looks=looks.total,
        flags=flags,
    )


@dataclass(frozen=True)
class _Looks:
    """Looks of like diameter of one particle, with what they saw, are one row."""

    diameter: Array
    sigma: Array
    crystal: NDArray[np.bool_]
    power: Array
    particle: NDArray[np.intp]
    """0 … count - 1, rising."""
    number: Array
    """How many looks each row stands for."""

    def above(self, diameter_nm: float) -> _Looks:
        """Those of larger particles."""
        keep = self.diameter >= diameter_nm
        _, particle = np.unique(self.particle[keep], return_inverse=True)
        return _Looks(
            self.diameter[keep],
            self.sigma[keep],
            self.crystal[keep],
            self.power[keep],
            particle,
            self.number[keep],
        )

    @property
    def count(self) -> int:
        """Of particles."""
        return int(self.particle[-1]) + 1 if len(self.particle) else 0

    @property
    def total(self) -> int:
        """Of looks."""
        return int(self.number.sum())


def _looks(
    diameters_nm: Array,
    crystalline: NDArray[np.bool_],
    particles: NDArray[np.int64],
    scatter_nm: float | None,
    power: Array | float,
) -> _Looks:
    diameter = np.asarray(diameters_nm, np.float64).ravel()
    crystal = np.asarray(crystalline).astype(bool).ravel()
    names = np.asarray(particles).ravel()
    if not len(diameter) == len(crystal) == len(names):
        raise MeasureError(
            f"{len(diameter)} diameters, {len(crystal)} crystals and {len(names)} particles were "
            "given: each look needs one of each."
        )
    chance = np.broadcast_to(np.asarray(power, np.float64), diameter.shape)
    if not (np.isfinite(diameter).all() and np.isfinite(chance).all()):
        raise MeasureError(
            "diameters and the power must be finite; leave out the looks that failed."
        )
    if scatter_nm is None:
        scatter_nm = _scatter_nm(diameter, names)
    _, particle = np.unique(names, return_inverse=True)
    near = np.floor(diameter / _ALIKE_NM).astype(np.int64)
    rows, row = np.unique(np.stack([particle, near, crystal]), axis=1, return_inverse=True)
    row = row.ravel()
    number = np.bincount(row, minlength=rows.shape[1]).astype(np.float64)

    def mean(values: Array) -> Array:
        return np.asarray(np.bincount(row, values, minlength=len(number)) / number)

    return _Looks(
        mean(diameter),
        np.full(len(number), max(scatter_nm, 1e-3)),
        rows[2].astype(bool),
        np.clip(mean(chance), 0.0, 1.0),
        rows[0].astype(np.intp),
        number,
    )


def _scatter_nm(diameters_nm: Array, names: NDArray[np.int64]) -> float:
    """From look to look, by the median of second differences, which steady growth does not enter."""
    order = np.argsort(names, kind="stable")
    diameter, name = diameters_nm[order], names[order]
    bend = diameter[2:] - 2.0 * diameter[1:-1] + diameter[:-2]
    bend = np.abs(bend[name[2:] == name[:-2]])
    return float(1.4826 * np.median(bend) / math.sqrt(6.0)) if len(bend) else 0.0


def _unfit(looks: _Looks) -> str:
    """Why nothing can be fitted, or an empty string."""
    droplets = ~looks.crystal
    if not droplets.any():
        return "no_fluctuation"
    # somewhere above the droplets there must be particles that are always crystals
    largest = np.full(looks.count, -np.inf)
    np.maximum.at(largest, looks.particle[droplets], looks.diameter[droplets])
    beyond = looks.diameter > largest[looks.particle]
    stayed = np.bincount(looks.particle[beyond], looks.number[beyond], minlength=looks.count) >= 3
    if not (stayed & np.isfinite(largest)).any():
        return "not_reached"
    if np.count_nonzero(stayed & np.isfinite(largest)) < _FEWEST_PARTICLES:
        return "few_particles"
    return ""


def _nothing(looks: _Looks, flag: str) -> CriticalDiameter:
    nan = math.nan
    return CriticalDiameter(nan, nan, nan, nan, 0, looks.total, (flag,))


class _Likelihood:
    """Minus the logarithm of the likelihood as a function of (μ, log τ, logit of the share, slope)."""

    def __init__(self, looks: _Looks, false_positive_rate: float) -> None:
        self._looks = looks
        self._false = false_positive_rate
        low, high = looks.diameter.min() - _MARGIN_NM, looks.diameter.max() + _MARGIN_NM
        self._low, self._high = float(low), float(high)
        self._first = np.searchsorted(looks.particle, np.arange(looks.count))
        # own critical diameters are tried on one fixed grid; a look's chance to be above is kept
        self._own = np.linspace(low, high, math.ceil((high - low) / _OWN_STEP_NM) + 1)
        self._above = special.ndtr((looks.diameter[:, None] - self._own) / looks.sigma[:, None])

    def __call__(self, theta: Array) -> float:
        middle, log_spread, logit, slope = theta
        looks = self._looks
        spread = math.exp(log_spread)
        below = special.expit(logit + slope * (looks.diameter - middle))[:, None]
        there = self._above + (1.0 - self._above) * below
        seen = looks.power[:, None] * there + self._false * (1.0 - there)
        each = np.where(looks.crystal[:, None], seen, 1.0 - seen)
        each = (1.0 - _MISTAKEN) * each + 0.5 * _MISTAKEN
        each = np.log(each) * looks.number[:, None]
        whole = np.add.reduceat(each, self._first, axis=0)
        prior = -0.5 * np.square((self._own - middle) / spread)
        prior -= special.logsumexp(prior)
        return -float(np.sum(special.logsumexp(whole + prior, axis=1)))

    def maximise(self) -> Array:
        """The best parameters, from the start at the median of the particles' last droplets."""
        looks = self._looks
        last = np.full(looks.count, -np.inf)
        droplets = ~looks.crystal
        np.maximum.at(last, looks.particle[droplets], looks.diameter[droplets])
        start = float(np.median(last[np.isfinite(last)]))
        found = optimize.minimize(
            self._bounded,
            np.array([start + 0.05, math.log(0.08), 0.0, 1.0]),
            method="Nelder-Mead",
            options={
                "xatol": 3e-3,
                "fatol": 3e-3,
                "maxiter": 500,
                "initial_simplex": np.array([start + 0.05, math.log(0.08), 0.0, 1.0])
                + np.vstack([np.zeros(4), np.diag([0.1, 0.5, 0.5, 1.0])]),
            },
        )
        return np.asarray(found.x)

    def sigma(self, best: Array) -> float:
        """Of μ, all four parameters being free: from the curvature of the likelihood at its best."""
        curvature = np.zeros((4, 4))
        middle = self(best)
        steps = np.diag(_STEPS)
        for i in range(4):
            for j in range(i + 1):
                if i == j:
                    value = self(best + steps[i]) + self(best - steps[i]) - 2 * middle
                    curvature[i, i] = value / _STEPS[i] ** 2
                    continue
                mixed = [self(best + a * steps[i] + b * steps[j]) for a, b in _CORNERS]
                value = mixed[0] - mixed[1] - mixed[2] + mixed[3]
                curvature[i, j] = curvature[j, i] = value / (4 * _STEPS[i] * _STEPS[j])
        # a direction in which the data say nothing is held by about what is plausible
        curvature += np.diag(1.0 / np.square(_PLAUSIBLE))
        values, vectors = np.linalg.eigh(curvature)
        return float(
            np.sqrt((vectors[0] ** 2 / np.maximum(values, 1.0 / _PLAUSIBLE[0] ** 2)).sum())
        )

    def bracketed(self, middle: float) -> int:
        """Particles that were seen below and above a diameter."""
        looks = self._looks
        low = np.full(looks.count, np.inf)
        high = np.full(looks.count, -np.inf)
        np.minimum.at(low, looks.particle, looks.diameter)
        np.maximum.at(high, looks.particle, looks.diameter)
        return int(np.count_nonzero((low < middle) & (high > middle)))

    def _bounded(self, theta: Array) -> float:
        middle, log_spread, logit, slope = theta
        low, high = math.log(_SPREADS_NM[0]), math.log(_SPREADS_NM[1])
        outside = (
            max(0.0, self._low - middle) + max(0.0, middle - self._high)
            + max(0.0, low - log_spread) + max(0.0, log_spread - high)
            + max(0.0, abs(logit) - 5.0) + max(0.0, abs(slope) - 20.0)
        )  # fmt: skip
        return float(self(theta) + 1e3 * outside)
