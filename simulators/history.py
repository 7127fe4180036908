"""The temperature that the specimen has lived through: piecewise linear, with exact integrals along it."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from scipy.special import expn

KELVIN_AT_0_CELSIUS = 273.15
BOLTZMANN_EV_PER_K = 8.617333262e-5
_FLAT_K = 0.05  # below this change the closed form cancels, and Simpson's rule is exact to 1e-12


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
    passed has one answer whoever asks it, and when. Safe for use by several threads.
    """

    def __init__(
        self, start_s: float, celsius: float, functionals: Mapping[str, Functional] = NO_FUNCTIONALS
    ) -> None:
        self._lock = threading.Lock()
        self._functionals = dict(functionals)
        self._times = [start_s]
        self._celsius = [celsius]
        self._values = [{name: f.initial(celsius) for name, f in self._functionals.items()}]

    def plan(self, t_s: float, knots: Iterable[tuple[float, float]]) -> None:
        """Replace everything after ``t_s`` by straight lines through ``knots`` (t_s, °C), rising in time."""
        with self._lock:
            self._add(t_s, self._temperature(t_s))
            for knot_s, celsius in knots:
                if knot_s > self._times[-1]:
                    self._add(knot_s, celsius)

    def celsius(self, t_s: float) -> float:
        """The temperature at a time, in °C."""
        with self._lock:
            return self._temperature(t_s)

    def value(self, name: str, t_s: float) -> float:
        """A functional's value at a time."""
        with self._lock:
            return self._value(name, t_s)

    def _add(self, t_s: float, celsius: float) -> None:
        values = {name: self._value(name, t_s) for name in self._functionals}
        keep = bisect_right(self._times, t_s)
        if keep < len(self._times):
            del self._times[keep:], self._celsius[keep:], self._values[keep:]
        elif t_s > self._times[-1] and celsius != self._celsius[-1]:
            duration = t_s - self._times[-1]
            values = {
                name: f.advance(self._values[-1][name], duration, self._celsius[-1], celsius)
                for name, f in self._functionals.items()
            }
        if t_s <= self._times[-1]:
            return
        self._times.append(t_s)
        self._celsius.append(celsius)
        self._values.append(values)

    def _segment(self, t_s: float) -> int:
        return max(0, bisect_right(self._times, t_s) - 1)

    def _temperature(self, t_s: float) -> float:
        i = self._segment(t_s)
        if i + 1 >= len(self._times):
            return self._celsius[i]
        t0, t1 = self._times[i], self._times[i + 1]
        part = min(1.0, max(0.0, (t_s - t0) / (t1 - t0)))
        return self._celsius[i] + (self._celsius[i + 1] - self._celsius[i]) * part

    def _value(self, name: str, t_s: float) -> float:
        i = self._segment(t_s)
        return self._functionals[name].advance(
            self._values[i][name],
            t_s - self._times[i],
            self._celsius[i],
            self._temperature(t_s),
        )
