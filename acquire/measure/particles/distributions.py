"""Fits size distributions by maximum likelihood, truncated at the smallest size that can be seen.

Truncation matters: what is too small to be found is not in the sample, and a fit that ignores it
reads the mean too high and the width too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, special

from acquire.errors import MeasureError

FEWEST = 10
"""Below this many diameters no distribution is fitted."""
_LSW_END = 1.5


@dataclass(frozen=True, slots=True)
class SizeDistribution:
    """A fitted distribution of diameters, of the whole population, also below the detection limit."""

    kind: str
    """``lognormal`` or ``lsw``."""
    median_nm: float
    median_sigma_nm: float
    mean_nm: float
    mean_sigma_nm: float
    spread: float
    """Coefficient of variation; the LSW distribution has a fixed one, 0.215."""
    spread_sigma: float
    log_likelihood: float
    found_share: float
    """Share of the population above the detection limit."""
    count: int


def fit_lognormal(diameter_nm: NDArray[np.float64], smallest_nm: float = 0.0) -> SizeDistribution:
    """Lognormal distribution of diameters (n,), of which those below ``smallest_nm`` are not seen.

    Diameters below the limit are left out. The σ come from the information matrix.

    Raises:
        MeasureError: fewer than :data:`FEWEST` diameters above the limit, or they do not determine
            a lognormal distribution: what is seen is only its tail, or all are equal.
    """
    sizes = _above(diameter_nm, smallest_nm, "lognormal")
    logs = np.log(sizes)
    start = np.array([logs.mean(), math.log(max(float(logs.std()), 1e-3))])
    limit = math.log(smallest_nm) if smallest_nm > 0 else -math.inf

    def loss(p: NDArray[np.float64]) -> float:
        width = math.exp(p[1])
        seen = float(special.log_ndtr((p[0] - limit) / width))
        squares = float(np.square((logs - p[0]) / width).sum())
        return 0.5 * squares + len(logs) * (float(p[1]) + seen)

    best = optimize.minimize(
        loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}
    )
    covariance = _covariance(loss, best.x)
    width = math.exp(best.x[1])
    if covariance is None or width > 2.0 or width < 1e-6 or covariance[0, 0] > 0.25:
        raise MeasureError(
            f"{len(sizes)} diameters above {smallest_nm:g} nm do not determine a lognormal "
            "distribution: they are only its tail, or all alike. Measure more or smaller particles."
        )
    median = math.exp(best.x[0])
    mean = median * math.exp(0.5 * width**2)
    # d ln(mean) = dμ + s² d(ln s)
    by_mean = np.array([1.0, width**2])
    spread = math.sqrt(math.expm1(width**2))
    by_spread = width**2 * math.exp(width**2) / spread
    return SizeDistribution(
        "lognormal",
        median,
        median * math.sqrt(covariance[0, 0]),
        mean,
        mean * math.sqrt(float(by_mean @ covariance @ by_mean)),
        spread,
        by_spread * math.sqrt(covariance[1, 1]),
        -float(best.fun) - float(logs.sum()) - 0.5 * len(logs) * math.log(2.0 * math.pi),
        float(special.ndtr((best.x[0] - limit) / width)),
        len(sizes),
    )


def fit_lsw(
    diameter_nm: NDArray[np.float64],
    smallest_nm: float = 0.0,
    sigma_nm: NDArray[np.float64] | float = 0.0,
) -> SizeDistribution:
    """Distribution of Ostwald ripening limited by diffusion (Lifshitz and Slyozov 1961, Wagner 1961).

    h(u) = 4/9 u² (3/(3+u))^(7/3) (1.5/(1.5-u))^(11/3) exp(-u/(1.5-u)) for u = d / mean below 1.5.
    Its only parameter is the mean. The distribution ends sharply at 1.5 times the mean, so that the
    errors of the diameters matter: it is folded with a Gaussian of their ``sigma_nm`` (n, or one).

    Raises:
        MeasureError: fewer than :data:`FEWEST` diameters above the limit.
    """
    sizes = _above(diameter_nm, smallest_nm, "LSW")
    errors = np.broadcast_to(np.asarray(sigma_nm, np.float64), np.shape(diameter_nm))
    errors = errors[np.asarray(diameter_nm) >= smallest_nm]
    error = max(float(np.sqrt(np.mean(np.square(errors)))), 0.01 * float(sizes.mean()))
    u = np.linspace(0.0, _LSW_END, 601)[1:-1]
    density = lsw_density(u)
    density /= integrate.trapezoid(density, u)
    middle = float(np.interp(0.5, np.cumsum(density) / density.sum(), u))

    def loss(p: NDArray[np.float64]) -> float:
        mean = math.exp(p[0])
        apart = (sizes[:, None] - mean * u) / error
        kernel = np.exp(-0.5 * np.square(apart)) / (error * math.sqrt(2.0 * math.pi))
        value = integrate.trapezoid(kernel * density, u, axis=1)
        seen = _lsw_seen(mean, u, density, smallest_nm, error)
        return -float(np.log(np.maximum(value / seen, 1e-300)).sum())

    centre = math.log(float(sizes.mean()))
    trial = np.linspace(centre - 0.8, centre + 0.5, 53)
    losses = [loss(np.array([p])) for p in trial]
    at = float(trial[int(np.argmin(losses))])
    found = optimize.minimize_scalar(
        lambda p: loss(np.array([p])), bounds=(at - 0.05, at + 0.05), method="bounded"
    )
    covariance = _covariance(loss, np.array([found.x]))
    mean = math.exp(float(found.x))
    sigma = mean * math.sqrt(covariance[0, 0]) if covariance is not None else math.inf
    variance = float(integrate.trapezoid(density * np.square(u - 1.0), u))
    return SizeDistribution(
        "lsw",
        mean * middle,
        sigma * middle,
        mean,
        sigma,
        math.sqrt(variance),
        0.0,
        -float(found.fun),
        _lsw_seen(mean, u, density, smallest_nm, error),
        len(sizes),
    )


def lsw_density(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """LSW density of u = d / mean; zero from 1.5 on."""
    inside = (u > 0) & (u < _LSW_END)
    v = np.where(inside, u, 1.0)
    value = (
        4.0 / 9.0 * v**2
        * (3.0 / (3.0 + v)) ** (7.0 / 3.0)
        * (1.5 / (1.5 - v)) ** (11.0 / 3.0)
        * np.exp(-v / (1.5 - v))
    )  # fmt: skip
    return np.where(inside, value, 0.0)


def _lsw_seen(
    mean: float,
    u: NDArray[np.float64],
    density: NDArray[np.float64],
    smallest: float,
    error: float,
) -> float:
    above = special.ndtr((mean * u - smallest) / error)
    return max(float(integrate.trapezoid(density * above, u)), 1e-12)


def _above(diameter_nm: NDArray[np.float64], smallest_nm: float, kind: str) -> NDArray[np.float64]:
    sizes = np.asarray(diameter_nm, np.float64)
    sizes = sizes[np.isfinite(sizes) & (sizes >= smallest_nm) & (sizes > 0)]
    if len(sizes) < FEWEST:
        raise MeasureError(
            f"a {kind} distribution of {len(sizes)} diameters means nothing: at least {FEWEST} above "
            f"{smallest_nm:g} nm are needed. Join several frames or fields."
        )
    return sizes


def _covariance(
    loss: Callable[[NDArray[np.float64]], float], at: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Inverse of the second derivatives of a negative log likelihood; None where it has no minimum."""
    n, step = len(at), 1e-3
    second = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            di, dj = np.eye(n)[i] * step, np.eye(n)[j] * step
            second[i, j] = (
                loss(at + di + dj) - loss(at + di - dj) - loss(at - di + dj) + loss(at - di - dj)
            ) / (4.0 * step**2)
    if not np.isfinite(second).all() or np.linalg.eigvalsh(second).min() <= 0:
        return None
    return np.asarray(np.linalg.inv(second), np.float64)
