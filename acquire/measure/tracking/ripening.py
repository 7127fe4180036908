"""The exponent of a growth law, with its interval; refused where it means nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from acquire.errors import MeasureError

Array = NDArray[np.float64]

LEAST_GROWTH = 1.3
"""Growth of the mean below which independent fields say nothing of the exponent."""
WIDEST = 2.0
"""An interval wider than this tells no mechanism from another: 2, 3 and 4 are all in it."""
_LOWEST, _HIGHEST = 0.5, 12.0
_FEWEST = 8
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class RipeningExponent:
    """n of d^n - d0^n = K t."""

    exponent: float
    """NaN where refused."""
    low: float
    """Ends of the 95 % interval; given also where the exponent is refused, if they could be told."""
    high: float
    growth: float
    """Fitted mean at the end over that at the beginning."""
    refused: str = ""
    """Why no exponent is given; empty where one is."""

    def __str__(self) -> str:
        if self.refused:
            return f"no exponent: {self.refused}"
        return f"n = {self.exponent:.2f} ({self.low:.2f} … {self.high:.2f})"


def ripening_exponent(
    t_s: Array, mean_nm: Array, sigma_nm: Array, paired: bool = False
) -> RipeningExponent:
    """Fit d^n = d0^n + K t to a mean diameter over time.

    d0 and K are free for every n; the interval is where χ² rises by no more than an F test at 95 %
    allows, with the errors' scale from the residuals if they are larger than the σ say.

    The exponent is refused with fewer than eight points; below a growth of 1.3 times unless
    ``paired``; when the mean does not grow; when the interval has no end between 0.5 and 12; and
    when it is wider than 2.

    Args:
        t_s: (n,) times, rising. The zero of time does not matter.
        mean_nm: (n,) mean diameters. In ripening, where particles vanish, it must be the mean of
            all that are there, not of the survivors.
        sigma_nm: (n,) positive σ. For independent fields the sampling must be in it (CV/√N); for
            ``paired`` it is that of the measurement of these particles.
        paired: whether all means are of the same particles or the same field.

    Raises:
        MeasureError: the arrays differ in length, or hold what is not finite and positive.
    """
    t_s, mean_nm, sigma_nm = (np.asarray(a, np.float64) for a in (t_s, mean_nm, sigma_nm))
    _check(t_s, mean_nm, sigma_nm)
    if len(t_s) < _FEWEST:
        return _refused(f"{len(t_s)} points; at least {_FEWEST} are needed")
    # any unit of time and length will do: of order one keeps powers in range
    time = (t_s - t_s[0]) / (t_s[-1] - t_s[0])
    unit = float(np.median(mean_nm))
    size, error = mean_nm / unit, sigma_nm / unit
    slope, start = np.polyfit(time, size, 1, w=1 / error)
    growth = float((start + slope) / start) if start > 0 else math.nan
    if not growth > 1.0:
        return _refused("the mean does not grow", growth)

    def misfit(exponent: float) -> float:
        return _misfit(exponent, time, size, error)

    grid = np.geomspace(_LOWEST, _HIGHEST, 60)
    values = np.array([misfit(float(n)) for n in grid])
    best = int(np.argmin(values))
    if best in (0, len(grid) - 1):
        return _refused(f"the best exponent is not between {_LOWEST:g} and {_HIGHEST:g}", growth)
    found = optimize.minimize_scalar(
        misfit, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-5}
    )
    exponent, least = float(found.x), float(found.fun)
    freedom = len(t_s) - 3
    rise = float(special.fdtri(1, freedom, _LEVEL)) * max(1.0, least / freedom)

    def above(candidate: float) -> float:
        return misfit(candidate) - least - rise

    if above(_LOWEST) < 0 or above(_HIGHEST) < 0:
        return _refused(
            f"its interval has no end between {_LOWEST:g} and {_HIGHEST:g} (best {exponent:.2g})",
            growth,
        )
    low = float(optimize.brentq(above, _LOWEST, exponent))
    high = float(optimize.brentq(above, exponent, _HIGHEST))
    if growth < LEAST_GROWTH and not paired:
        why = f"the mean of independent fields grew by ×{growth:.2f} only; ×{LEAST_GROWTH:g} is needed"
        return _refused(why, growth, low, high)
    if high - low > WIDEST:
        return _refused(f"its interval is {low:.1f} to {high:.1f}", growth, low, high)
    return RipeningExponent(exponent, low, high, growth)


def _misfit(exponent: float, time: Array, size: Array, error: Array) -> float:
    """Least χ² over d0 and K, at one exponent."""
    power = size**exponent
    # linear in the n-th powers, whose errors follow from those of the sizes
    weight = 1.0 / (exponent * size ** (exponent - 1) * error)
    rate, start = np.polyfit(time, power, 1, w=weight)
    if start <= 0 or start + rate <= 0:
        start, rate = float(power[0]), float(power[-1] - power[0])

    def residual(guess: Array) -> Array:
        modelled = np.maximum(guess[0] + guess[1] * time, 1e-12) ** (1 / exponent)
        return np.asarray((size - modelled) / error)

    fit = optimize.least_squares(residual, [start, rate], method="lm", x_scale="jac")
    return float(2 * fit.cost)


def _check(t_s: Array, mean_nm: Array, sigma_nm: Array) -> None:
    if not len(t_s) == len(mean_nm) == len(sigma_nm):
        raise MeasureError(
            f"{len(t_s)} times, {len(mean_nm)} means and {len(sigma_nm)} σ do not belong together."
        )
    if not all(bool(np.isfinite(a).all()) for a in (t_s, mean_nm, sigma_nm)):
        raise MeasureError("times, means and σ must be finite; leave out frames without a mean.")
    if bool(np.any(np.diff(t_s) <= 0)):
        raise MeasureError("times must rise from point to point; sort them.")
    if bool(np.any(mean_nm <= 0)) or bool(np.any(sigma_nm <= 0)):
        raise MeasureError("mean diameters and their σ must be above 0 nm.")


def _refused(
    why: str, growth: float = math.nan, low: float = math.nan, high: float = math.nan
) -> RipeningExponent:
    return RipeningExponent(math.nan, low, high, growth, why)
