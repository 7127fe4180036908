"""The law by which the source-meter heater's power follows a setpoint: feed-forward and PI, without wind-up.

A chip settles within a few ms, so that at a period of 20 ms each reading is the settled answer to the
power before. Such a plant is a gain, and what is to be found is its inverse, the power per kelvin
``g``:

- **Feed-forward** moves the power by ``g`` times the way that the setpoint goes until the next reading.
- **PI** corrects by ``κ g (e - a e_before) / (1 - a)``, ``a = exp(-period / time constant)``: integral
  gain ``κ g``, proportional gain ``κ g a / (1 - a)``, whose zero cancels the chip's lag, so that an
  error shrinks to ``1 - κ`` of itself with every reading, at any period.
- **Anti-windup**: the law gives increments of the power (velocity form), and what is remembered is the
  power after clipping. At a limit nothing accumulates.
- ``g`` is **learned**: the power over the rise of temperature, averaged over about ``1 / LEARNING``
  readings. It follows radiation, which doubles it between 300 and 900 °C.

The true slope of power over temperature differs from ``g``: radiation makes it up to 1.8 times as
large, and a forced current, whose power rises with the resistance, 0.7 times as large. With
``κ = 0.5`` the loop's gain stays within 0.25 and 0.75, of 2 where it would be unstable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CORRECTION = 0.5
LEARNING = 0.05
MOST_LEAD = math.exp(-1)
"""Of ``a``: more would make a heater that is faster than its time constant says run away."""
MOST_OFF = 2.0
"""More than so many times what a reading tells is forgotten at once: it would make the loop unstable."""
LEAST_RISE_K = 10.0
"""A smaller rise above the cold chip tells its power per kelvin too badly."""


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """What the power may be, in mW; the lower one still lets the resistance be measured."""

    low_mw: float
    high_mw: float


class PowerRegulator:
    """Gives the power until the next reading; one for every time that the output is switched on.

    Args:
        time_constant_s: of the heater.
        power_per_kelvin_mw: at the start.
        cold_celsius: temperature at no power.
        power_mw: commanded now.
    """

    def __init__(
        self,
        time_constant_s: float,
        power_per_kelvin_mw: float,
        cold_celsius: float,
        power_mw: float,
    ) -> None:
        self._time_constant_s = time_constant_s
        self._cold_celsius = cold_celsius
        self._power_mw = power_mw
        self._error_k = 0.0
        self._least = False
        self.power_per_kelvin_mw = power_per_kelvin_mw
        """As it is known now."""

    def learn(self, celsius: float, measured_mw: float) -> None:
        """Take in what a power has led to."""
        rise = celsius - self._cold_celsius
        # at the least power a fast way down is left to the heater, which is not at rest then
        if rise >= LEAST_RISE_K and measured_mw > 0 and not self._least:
            ratio = measured_mw / rise
            learned = self.power_per_kelvin_mw + LEARNING * (ratio - self.power_per_kelvin_mw)
            self.power_per_kelvin_mw = min(learned, MOST_OFF * ratio)

    def next_power_mw(
        self,
        celsius: float,
        setpoint_celsius: float,
        next_setpoint_celsius: float,
        period_s: float,
        limits: PowerLimits,
    ) -> float:
        """The power until the next reading.

        Args:
            celsius: measured.
            setpoint_celsius: at the time of the measurement.
            next_setpoint_celsius: a period later.
            period_s: since the reading before, and about until the next one.
            limits: at the present resistance.
        """
        error = setpoint_celsius - celsius
        stays = min(math.exp(-period_s / self._time_constant_s), MOST_LEAD)
        correction = CORRECTION * (error - stays * self._error_k) / (1 - stays)
        ahead = next_setpoint_celsius - setpoint_celsius
        wanted = self._power_mw + self.power_per_kelvin_mw * (ahead + correction)
        self._error_k = error
        self._power_mw = min(max(wanted, limits.low_mw), limits.high_mw)
        self._least = wanted <= limits.low_mw
        return self._power_mw
