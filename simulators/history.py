"""The temperature that the specimen has lived through: piecewise linear, with exact integrals along it."""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from scipy.special import expn

KELVIN_AT_0_CELSIUS = 273.15
BOLTZMANN_EV_PER_K = 8.617333262e-5
_FLAT_K = 0.05  # below this change the closed form cancels, and Simpson's rule is exact to 1e-12

_ANCHOR_EVERY = 16  # knots
MOST_KNOTS = 1 << 17
"""3 MB with the functionals of a specimen; 10 min of a current that changes 50 times a second."""
_THINNED_CELSIUS = (
    0.1  # how far lines may pass beside old knots, as long as that leaves half of them out
)


class Functional(Protocol):
    """A quantity that follows from the temperature's past, known in closed form on a straight line."""

    def initial(self, celsius: float) -> float:
        """Its value after an endless time at ``celsius``."""

    def advance(
        self, value: float, duration_s: float, from_celsius: float, to_celsius: float
    ) -> float:
        """Its value after ``duration_s`` of linear change of temperature."""


class ThermalTime:
    """Seconds at a reference temperature that would have done the same: ∫ exp(-E/k (1/T - 1/Tref)) dt.

    On a straight line T(t) the integral of exp(-a/T) is [T E2(a/T)] / (dT/dt), with the exponential
    integral E2, so that the pattern of steps in which time is asked for does not matter.
    """

    def __init__(self, activation_ev: float, reference_celsius: float) -> None:
        self._a_k = activation_ev / BOLTZMANN_EV_PER_K
        self._scale = math.exp(self._a_k / (reference_celsius + KELVIN_AT_0_CELSIUS))

    def initial(self, celsius: float) -> float:
        """Zero: the specimen's life begins with its record."""
        return 0.0

    def advance(
        self, value: float, duration_s: float, from_celsius: float, to_celsius: float
    ) -> float:
        """Add the thermal time of a straight line, in s."""
        if duration_s <= 0:
            return value
        t0, t1 = from_celsius + KELVIN_AT_0_CELSIUS, to_celsius + KELVIN_AT_0_CELSIUS
        if abs(t1 - t0) < _FLAT_K:
            rate = (
                math.exp(-self._a_k / t0)
                + 4 * math.exp(-2 * self._a_k / (t0 + t1))
                + math.exp(-self._a_k / t1)
            ) / 6
            return value + self._scale * rate * duration_s
        area = t1 * float(expn(2, self._a_k / t1)) - t0 * float(expn(2, self._a_k / t0))
        return value + self._scale * area * duration_s / (t1 - t0)


class Relaxation:
    """The temperature as something slow follows it: dy/dt = (T - y) / tau, in °C."""

    def __init__(self, time_constant_s: float) -> None:
        self._tau = time_constant_s

    def initial(self, celsius: float) -> float:
        """In equilibrium with the temperature."""
        return celsius

    def advance(
        self, value: float, duration_s: float, from_celsius: float, to_celsius: float
    ) -> float:
        """The relaxed temperature after a straight line."""
        if duration_s <= 0:
            return value
        lag = (to_celsius - from_celsius) / duration_s * self._tau
        return to_celsius - lag + (value - from_celsius + lag) * math.exp(-duration_s / self._tau)


class OfSample:
    """A functional of a sample that is cooler than its heater by a share of the rise above ambient."""

    def __init__(self, inner: Functional, share: float, ambient_celsius: float) -> None:
        self._inner = inner
        self._share = share
        self._ambient = ambient_celsius

    def sample_celsius(self, heater_celsius: float) -> float:
        """The sample's temperature."""
        return heater_celsius - self._share * (heater_celsius - self._ambient)

    def initial(self, celsius: float) -> float:
        """The inner functional's value in equilibrium."""
        return self._inner.initial(self.sample_celsius(celsius))

    def advance(
        self, value: float, duration_s: float, from_celsius: float, to_celsius: float
    ) -> float:
        """The inner functional along the sample's straight line."""
        begin, end = self.sample_celsius(from_celsius), self.sample_celsius(to_celsius)
        return self._inner.advance(value, duration_s, begin, end)


NO_FUNCTIONALS: Mapping[str, Functional] = MappingProxyType({})


class TemperatureHistory:
    """Knots of temperature against time, and functionals of them; constant after the last knot.

    The future may be planned and replaced, the past never changes: a question about a time that has
    passed has one answer whoever asks it, and when. Only when there are more than ``most_knots`` are
    straight lines drawn through the older half, a little beside its knots, so that memory stays bounded
    however often the future is planned anew; functionals keep their values. Safe for use by threads.
    """

    def __init__(
        self,
        start_s: float,
        celsius: float,
        functionals: Mapping[str, Functional] = NO_FUNCTIONALS,
        *,
        most_knots: int = MOST_KNOTS,
    ) -> None:
        self._lock = threading.Lock()
        self._most_knots = most_knots
        self._times = array("d", [start_s])
        self._celsius = array("d", [celsius])
        self._followed = {
            name: _Followed(f, start_s, f.initial(celsius)) for name, f in functionals.items()
        }

    def plan(self, t_s: float, knots: Iterable[tuple[float, float]]) -> None:
        """Replace everything after ``t_s`` by straight lines through ``knots`` (t_s, °C), rising in time."""
        with self._lock:
            self._add(t_s, self._temperature(t_s))
            for knot_s, celsius in knots:
                if knot_s > self._times[-1]:
                    self._add(knot_s, celsius)
            if len(self._times) > self._most_knots:
                self._thin()

    def celsius(self, t_s: float) -> float:
        """The temperature at a time, in °C."""
        with self._lock:
            return self._temperature(t_s)

    def value(self, name: str, t_s: float) -> float:
        """A functional's value at a time."""
        with self._lock:
            followed = self._followed[name]
            begin_s = followed.begin(t_s)
            first, last = self._segment(begin_s) + 1, self._segment(t_s)
            celsius = self._temperature(begin_s)
            for i in range(first, last + 1):
                followed.advance(celsius, self._times[i], self._celsius[i])
                celsius = self._celsius[i]
            return followed.value(celsius, t_s, self._temperature(t_s))

    @property
    def knots(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._times)

    def _add(self, t_s: float, celsius: float) -> None:
        keep = bisect_right(self._times, t_s)
        if keep < len(self._times):
            del self._times[keep:], self._celsius[keep:]
            for followed in self._followed.values():
                followed.forget_after(t_s)
        if t_s > self._times[-1]:
            self._times.append(t_s)
            self._celsius.append(celsius)

    def _thin(self) -> None:
        half = len(self._times) // 2
        tolerance = _THINNED_CELSIUS
        while True:
            kept = straightened(self._times[:half], self._celsius[:half], tolerance)
            if len(kept) <= half // 2:
                break
            tolerance *= 2
        for knots in (self._times, self._celsius):
            knots[:half] = array("d", [knots[i] for i in kept])
        for followed in self._followed.values():
            followed.thin(self._most_knots // _ANCHOR_EVERY)

    def _segment(self, t_s: float) -> int:
        return max(0, bisect_right(self._times, t_s) - 1)

    def _temperature(self, t_s: float) -> float:
        i = self._segment(t_s)
        if i + 1 >= len(self._times):
            return self._celsius[i]
        t0, t1 = self._times[i], self._times[i + 1]
        part = min(1.0, max(0.0, (t_s - t0) / (t1 - t0)))
        return self._celsius[i] + (self._celsius[i + 1] - self._celsius[i]) * part


class _Followed:
    """A functional along the history: its value every few knots, and at the knot that was asked for last.

    Values are made when they are asked for, since most of a plan is replaced before it comes; and
    always through all knots before, so that it does not matter who asks and when.
    """

    def __init__(self, functional: Functional, start_s: float, initial: float) -> None:
        self._functional = functional
        self._anchor_s = array("d", [start_s])
        self._anchors = array("d", [initial])
        self._at_s, self._value = start_s, initial
        self._steps = 0  # knots since the last anchor

    def begin(self, t_s: float) -> float:
        """Go to the last known value before a time; returns its time."""
        anchor = max(0, bisect_right(self._anchor_s, t_s) - 1)
        if not self._anchor_s[anchor] <= self._at_s <= t_s:
            self._at_s, self._value = self._anchor_s[anchor], self._anchors[anchor]
            self._steps = 0
        return self._at_s

    def advance(self, from_celsius: float, t_s: float, to_celsius: float) -> None:
        """Go on to the next knot."""
        self._value = self.value(from_celsius, t_s, to_celsius)
        self._at_s = t_s
        self._steps += 1
        if self._steps >= _ANCHOR_EVERY and t_s > self._anchor_s[-1]:
            self._anchor_s.append(t_s)
            self._anchors.append(self._value)
            self._steps = 0

    def value(self, from_celsius: float, t_s: float, to_celsius: float) -> float:
        """The value at the end of a straight line from where it is."""
        return self._functional.advance(self._value, t_s - self._at_s, from_celsius, to_celsius)

    def forget_after(self, t_s: float) -> None:
        """The future will be another."""
        keep = max(1, bisect_right(self._anchor_s, t_s))
        del self._anchor_s[keep:], self._anchors[keep:]
        if self._at_s > t_s:
            self._restart()

    def thin(self, at_most: int) -> None:
        """Keep fewer anchors of old; the knots between them are other ones now."""
        if len(self._anchors) > at_most:
            half = len(self._anchors) // 2
            for known in (self._anchor_s, self._anchors):
                known[:half] = known[:half:2]
        self._restart()

    def _restart(self) -> None:
        self._at_s, self._value = self._anchor_s[-1], self._anchors[-1]
        self._steps = 0


def straightened(
    times: Sequence[float], celsius: Sequence[float], tolerance_celsius: float
) -> list[int]:
    """Indices of knots that suffice: straight lines through them pass all others within a tolerance."""
    kept, last = [0], len(times) - 1
    lowest, highest = -math.inf, math.inf  # slopes that pass all knots since the last one kept
    for i in range(1, len(times)):
        duration = times[i] - times[kept[-1]]
        rise = celsius[i] - celsius[kept[-1]]
        if not lowest <= rise / duration <= highest:
            kept.append(i - 1)
            duration, rise = times[i] - times[i - 1], celsius[i] - celsius[i - 1]
            lowest, highest = -math.inf, math.inf
        lowest = max(lowest, (rise - tolerance_celsius) / duration)
        highest = min(highest, (rise + tolerance_celsius) / duration)
    if kept[-1] != last:
        kept.append(last)
    return kept
