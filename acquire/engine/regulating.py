"""Turns measured growth into the temperature that it needs: the controller of ``regulate``, without a clock.

Growth follows the temperature by Arrhenius' law, ln g = const − E/kT, and the constant falls as the
nickel is used up. So every measurement says which temperature would have been right for it,

    T* = T + k T²/E · (1 − measured/wanted),

with T the effective mean over the window that the growth was averaged over. (The logarithm itself would make
noise into a bias: ln x falls more below its mean than it rises above it.) T* is smoothed together with its
trend (double exponential smoothing: Brown 1963, Smoothing, Forecasting and Prediction, ch. 9) and
carried forward to now. It acts like a proportional-integral controller with the drift of the
specimen as feed-forward, and needs no protection against wind-up: T* starts at the temperature that
there really was, so that nothing adds up while a limit, a pause or a trip holds the temperature back.

If E is too high by a factor f, T* corrects f times too little and converges more slowly; if it is too
low, corrections overshoot. With the default 1.5 eV every true barrier from 0.5 eV to 4.5 eV is stable.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from acquire.errors import MeasureError
from acquire.stream import Value

BOLTZMANN_EV_PER_K = 8.617333262e-5
KELVIN_AT_0_CELSIUS = 273.15

LARGEST_ERROR = 1.1
"""Of ln g; a measurement further from the wanted growth, by about a factor 3, counts as this far."""
HALF_TRUST = 0.3
"""σ of ln g at which a measurement has half of its weight."""
NO_TRUST = 1.0
"""Relative σ of a growth from which nothing is decided on it."""
APPROACH = 3.0
"""An error of the size is to be gone after this many response times, by the growth that it asks for."""
THAW_AFTER = 3
"""So many trusted estimates in a row take up regulation again, so that single ones do not flicker."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a controller may do, and how briskly."""

    lowest_celsius: float
    highest_celsius: float
    rate_celsius_per_s: float
    barrier_ev: float = 1.5
    """Apparent activation energy of growth, which sets the gain: °C = k T²/E per factor e."""
    response_s: float = 60.0
    """Time constant of the smoothing."""
    window_s: float = 60.0
    """Over which a measured growth is averaged."""
    longest_gap_s: float = 30.0
    """More time than this between two measurements counts as this much."""


def effective_celsius(celsius: Sequence[float], barrier_ev: float) -> float:
    """The constant temperature at which as much would have grown as at these, one after the other.

    Args:
        celsius: at least one, at even intervals.
        barrier_ev: activation energy of growth.
    """
    inverse = [1 / (BOLTZMANN_EV_PER_K * (c + KELVIN_AT_0_CELSIUS)) for c in celsius]
    least = min(inverse)
    mean = statistics.fmean(math.exp(-barrier_ev * (each - least)) for each in inverse)
    return 1 / (BOLTZMANN_EV_PER_K * (least - math.log(mean) / barrier_ev)) - KELVIN_AT_0_CELSIUS


def relative_sigma(growth: Value, scale: float) -> float:
    """How uncertain a growth is, as a share of it; NaN if its σ is not known.

    Args:
        growth: any growth rate with its σ.
        scale: the growth that is wanted, in the same unit, above 0: what is less than half of it is
            judged by that half, since a growth near zero is known well if it is known to be small.
    """
    return growth.sigma / max(abs(growth.value), scale / 2)


def wanted_growth(size_nm: float, target_nm: float, slope: float, response_s: float) -> float:
    """The growth that brings a size to its target, in nm/min; below 0 if it is beyond.

    Args:
        size_nm: the size now.
        target_nm: the target now.
        slope: how fast the target moves, in nm/min.
        response_s: of the controller.
    """
    return slope + (target_nm - size_nm) / (APPROACH * response_s / 60)


class GrowthController:
    """Keeps the temperature that the wanted growth needs; times are in s on any one clock.

    The first call changes nothing (bumpless), and a call never asks for more than the tuning allows.
    """

    def __init__(self, tuning: Tuning, celsius: float) -> None:
        """Begin at the present setpoint."""
        self._tuning = tuning
        self._required = celsius
        self._trend = 0.0
        self._t_s = math.nan
        self._held: float | None = None
        """The setpoint that the next measurement leaves as it is, after a rest."""

    @property
    def required_celsius(self) -> float:
        """The temperature that the last window needed, smoothed."""
        return self._required

    def skip(self, duration_s: float) -> None:
        """Forget time in which nothing was regulated, such as a pause."""
        self._t_s += duration_s

    def rest(self, celsius: float) -> None:
        """Begin anew at a setpoint: the next measurement changes nothing, as the first does."""
        self._t_s = math.nan
        self._held = celsius

    def setpoint(
        self, t_s: float, now_s: float, celsius: float, growth: Value, wanted: float, scale: float
    ) -> float:
        """The setpoint after one more measurement, in °C.

        Args:
            t_s: end of the exposure that was measured. One that is not newer than the last, such as
                one that comes late after time was skipped, changes nothing.
            now_s: the present time.
            celsius: effective temperature of the window before ``t_s``; finite.
            growth: measured growth with its σ, both finite.
            wanted: the growth that is wanted, in the same unit; not above 0 is as little as can be.
            scale: a typical wanted growth, above 0, to judge σ by.

        Raises:
            MeasureError: something is not finite; nothing is learned from it.
        """
        tuning = self._tuning
        # a NaN would get through every bound below, and come out as the highest temperature
        if not math.isfinite(t_s + now_s + celsius + growth.value + growth.sigma + wanted):
            raise MeasureError(
                f"growth of {growth.value:g} ± {growth.sigma:g} nm/min at {celsius:g} °C, with "
                f"{wanted:g} nm/min wanted, cannot be regulated: all must be finite. Leave it out."
            )
        dt_s = 0.0 if math.isnan(self._t_s) else max(0.0, t_s - self._t_s)
        self._t_s = t_s if math.isnan(self._t_s) else max(t_s, self._t_s)
        dt_s = min(dt_s, tuning.longest_gap_s)
        if dt_s > 0:
            error, sigma = _error(growth, wanted, scale)
            doubt = sigma / HALF_TRUST
            # an uncertain measurement moves as little as if less time had passed
            keep = math.exp(-dt_s / tuning.response_s / (1 + doubt * doubt))
            predicted = self._required + self._trend * dt_s
            surprise = celsius + error * self._per_factor_e(celsius) - predicted
            self._required = predicted + (1 - keep * keep) * surprise
            self._trend += (1 - keep) ** 2 * surprise / dt_s
            self._bound()
        # what was measured lies in the middle of the window
        ahead_s = tuning.window_s / 2 + min(now_s - t_s, tuning.longest_gap_s)
        if self._held is not None:
            self._required, self._held = self._held - self._trend * ahead_s, None
        return self._within(self._required + self._trend * ahead_s)

    def _per_factor_e(self, celsius: float) -> float:
        """The change of temperature that changes growth by a factor e."""
        kelvin = celsius + KELVIN_AT_0_CELSIUS
        return BOLTZMANN_EV_PER_K * kelvin * kelvin / self._tuning.barrier_ev

    def _bound(self) -> None:
        """Keep the required temperature where it can be had, and its trend from leading out."""
        tuning = self._tuning
        inside = self._within(self._required)
        if inside != self._required:
            self._required = inside
            inward = self._trend > 0 if inside == tuning.lowest_celsius else self._trend < 0
            self._trend = self._trend if inward else 0.0
        rate = tuning.rate_celsius_per_s
        self._trend = max(-rate, min(rate, self._trend))

    def _within(self, celsius: float) -> float:
        return max(self._tuning.lowest_celsius, min(self._tuning.highest_celsius, celsius))


def _error(growth: Value, wanted: float, scale: float) -> tuple[float, float]:
    """By how much ln g is too low, and the σ of that."""
    if wanted <= 0:
        return -LARGEST_ERROR, growth.sigma / scale
    error = 1 - growth.value / wanted
    # what is beyond the largest error is certain to be at it
    share = min(1.0, LARGEST_ERROR / abs(error)) if error else 1.0
    return error * share, growth.sigma / wanted * share


class Freezer:
    """Says when regulation must rest, and tells once when it begins to rest and when it ends.

    It begins at rest: nothing is known yet.
    """

    def __init__(self) -> None:
        self.reason = "there is no estimate yet"
        """Why nothing is regulated; empty while it is."""
        self._good = 0
        self._told = False

    def good(self) -> bool:
        """An estimate can be trusted; True if that ends the rest."""
        self._good += 1
        thawed = bool(self.reason) and self._good >= THAW_AFTER
        if thawed:
            self.reason = ""
        return thawed

    def bad(self, reason: str) -> bool:
        """No estimate can be trusted, and why; True if that begins a rest, or is the first reason."""
        self._good = 0
        news = not (self.reason and self._told)
        self.reason, self._told = reason, True
        return news
