"""The resistance of a heater as a linear function of its temperature, read both ways."""

from __future__ import annotations

from dataclasses import dataclass

COLDEST_K = 75.0
"""A resistance that says more than this below T0 is no calibrated heater's."""
HOTTEST_SHARE = 1.1


@dataclass(frozen=True, slots=True)
class Calibration:
    """``R(T) = R0 (1 + alpha (T - T0))`` with the range in which it is believed.

    Chips of the Wildfire kind are four-electrode with a linear R(T) and factory values of R0 and
    alpha for each batch.
    """

    r0_ohm: float
    t0_celsius: float
    alpha_per_k: float
    maximum_celsius: float

    def resistance_ohm(self, celsius: float) -> float:
        """R(T)."""
        return self.r0_ohm * (1 + self.alpha_per_k * (celsius - self.t0_celsius))

    def celsius(self, resistance_ohm: float) -> float:
        """T(R), also beyond the range."""
        return self.t0_celsius + (resistance_ohm / self.r0_ohm - 1) / self.alpha_per_k

    @property
    def range_ohm(self) -> tuple[float, float]:
        """Lowest and highest resistance that the calibration is believed for."""
        hottest = self.maximum_celsius + (HOTTEST_SHARE - 1) * abs(self.maximum_celsius)
        low = self.resistance_ohm(self.t0_celsius - COLDEST_K)
        return max(low, 0.1 * self.r0_ohm), self.resistance_ohm(hottest)
