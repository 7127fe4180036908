"""The heating chip as a source-meter drives it: C dT/dt = I²R(T) - loss(T).

R(T) and the loss are those of :mod:`simulators.chip`; the heat capacity follows from the time
constant of the cold chip. The course after every change of the source is integrated ahead, and only
knots that a straight line would miss by more than 0.02 °C go into the history of the temperature.
The history is the only state: what flows at a time follows from the temperature then.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from simulators.chip import AMBIENT_CELSIUS, HeatingChip
from simulators.circuit import OFF, Point, Source, operating_point
from simulators.history import TemperatureHistory

STRAIGHT_CELSIUS = 0.02
"""How far the history's straight lines may be from the course."""
_MOST_STEPS = 4000
_SAMPLES = 8  # of a mean
_HORIZON_S = 10.0
_WIDEST_CELSIUS = 40.0  # of one step, so that its linearisation holds


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """Wires of the chip, and what it stands."""

    leads_ohm: float = 6.0
    """Of both leads that carry the current; a measurement with two wires includes them."""
    burns_at_celsius: float = 1450.0
    """The membrane breaks here, and the heater is open for good (a guess: above any chip's maximum)."""
    lost_sense_share: float = 0.02
    """Share of the voltage that a broken sense wire still lets the instrument see (a guess)."""


class HeaterCircuit:
    """The heater of a chip that is wired to a source-meter; its own controller is out of use.

    Safe for use by threads. Raises InstrumentError if the chip is wired already.
    """

    def __init__(
        self,
        chip: HeatingChip,
        history: TemperatureHistory,
        t_s: float,
        settings: CircuitSettings | None = None,
    ) -> None:
        self.settings = settings or CircuitSettings()
        self._chip = chip
        self._history = history
        self._lock = threading.RLock()
        self._source: Source | None = None
        self._burns_s = math.inf  # when the heater will burn if nothing changes
        around = chip.power_mw(AMBIENT_CELSIUS + 0.5) - chip.power_mw(AMBIENT_CELSIUS - 0.5)
        self._capacity_mj_per_k = chip.settings.time_constant_s * around
        chip.wire(self._broken)
        self.connect(t_s, None)

    def release(self, t_s: float) -> None:
        """Switch off and give the chip back to its own controller; idempotent."""
        with self._lock:
            self.connect(t_s, None)
        self._chip.unwire()

    def connect(self, t_s: float, source: Source | None) -> None:
        """Force something else from now on; None is an output that is off."""
        with self._lock:
            self._burn(t_s)
            if source != self._source:
                self._source = source
                self._plan(t_s)

    def mean(self, begin_s: float, end_s: float) -> Point:
        """What flowed and was seen on average, over times that have come."""
        with self._lock:
            self._burn(end_s)
            width = (end_s - begin_s) / _SAMPLES
            points = [
                self._point(self._history.celsius(begin_s + (k + 0.5) * width))
                for k in range(_SAMPLES)
            ]
        return Point(
            sum(p.ampere for p in points) / _SAMPLES,
            sum(p.volt for p in points) / _SAMPLES,
            any(p.limited for p in points),
        )

    def noise_ohm(self, ohm: float) -> float:
        """Noise of the heater's resistance, from the chip's noise of temperature."""
        chip = self._chip.settings
        return chip.r0_ohm * chip.alpha_per_k * chip.noise_celsius

    def _broken(self, t_s: float) -> None:
        """A defect came or was mended."""
        with self._lock:
            self._plan(t_s)

    # ------------------------------------------------------------------ under the lock

    def _burn(self, t_s: float) -> None:
        if t_s >= self._burns_s:
            self._burns_s = math.inf
            self._chip.burn()

    def _point(self, celsius: float) -> Point:
        if self._source is None:
            return OFF
        defect = self._chip.defect
        ohm = math.inf if defect == "open_heater" else self._chip.resistance_ohm(celsius)
        lost = self.settings.lost_sense_share if defect == "lost_sense" else None
        return operating_point(self._source, ohm, self.settings.leads_ohm, lost)

    def _celsius_per_s(self, celsius: float) -> float:
        heating_mw = 0.0
        if self._chip.defect != "open_heater":
            ampere = self._point(celsius).ampere
            heating_mw = ampere**2 * self._chip.resistance_ohm(celsius) * 1e3
        return (heating_mw - self._chip.power_mw(celsius)) / self._capacity_mj_per_k

    def _plan(self, t_s: float) -> None:
        celsius = self._history.celsius(t_s)
        limit = self.settings.burns_at_celsius
        knots, burns = course(self._celsius_per_s, t_s, celsius, limit)
        self._burns_s = math.inf
        if burns:
            self._burns_s, hottest = knots[-1]
            cooling, _ = course(self._cooling, self._burns_s, hottest, math.inf)
            knots += cooling
        self._history.plan(t_s, knots)

    def _cooling(self, celsius: float) -> float:
        return -self._chip.power_mw(celsius) / self._capacity_mj_per_k


def course(
    rate: Callable[[float], float], t_s: float, celsius: float, limit_celsius: float
) -> tuple[list[tuple[float, float]], bool]:
    """The temperature from now on under a rate (°C/s) that depends on it alone.

    Exponential steps on the linearised rate, as long as a straight line stays within
    ``STRAIGHT_CELSIUS`` of them.

    Returns:
        Knots (s, °C) after ``t_s``, the last one settled; and whether it ends at the limit instead.
    """
    knots: list[tuple[float, float]] = []
    end_s = t_s + _HORIZON_S
    for _ in range(_MOST_STEPS):
        slope = rate(celsius)
        curve = rate(celsius + 0.5) - rate(celsius - 0.5)  # per °C
        left = -slope / curve if curve < 0 else math.inf  # until it is settled
        if abs(left) < STRAIGHT_CELSIUS / 2 or slope == 0 or t_s >= end_s:
            break
        bend = abs(curve * slope)
        step = min(
            math.sqrt(8 * STRAIGHT_CELSIUS / bend) if bend > 0 else math.inf,
            0.7 / abs(curve) if curve else math.inf,
            _WIDEST_CELSIUS / abs(slope),
            end_s - t_s,
        )
        grown = math.expm1(curve * step) / curve if curve else step
        before, celsius = celsius, celsius + slope * grown
        if celsius >= limit_celsius > before:
            at = t_s + step * (limit_celsius - before) / (celsius - before)
            knots.append((at, limit_celsius))
            return knots, True
        t_s += step
        knots.append((t_s, celsius))
    return knots, False
