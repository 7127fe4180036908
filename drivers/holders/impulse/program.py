"""A ramp that Impulse was told to carry out, and how it is known to be over."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from drivers.holders.impulse.stream import Measurement

ARRIVED_WITHIN_CELSIUS = 1e-3
GRACE_S = 2.0
GRACE_SHARE = 0.02
"""So much longer than told may a ramp take before it counts as over, wherever it is."""
BEHIND_S = 1.0
BEHIND_CELSIUS = 2.0
"""A setpoint that is so far behind a ramp, in time and beside it, does not follow it."""
SETTLED_WALL_S = 0.3
"""What was on its way when a command was given has arrived after this time."""


@dataclass(frozen=True, slots=True)
class Program:
    """From a setpoint straight to another in a time."""

    start_celsius: float
    target_celsius: float
    duration_s: float
    begun_s: float = math.nan
    """On the station's clock, when Impulse acknowledged it."""
    begun_wall_s: float = math.nan
    arrived: bool = False

    @property
    def speed(self) -> float:
        """In °C/s, without its sign; 0 for one that does not move."""
        if self.duration_s <= 0:
            return 0.0
        return abs(self.target_celsius - self.start_celsius) / self.duration_s

    def begun(self, now_s: float, wall_s: float) -> Program:
        """The same, acknowledged now."""
        return replace(self, begun_s=now_s, begun_wall_s=wall_s)

    def setpoint(self, now_s: float) -> float:
        """Where the setpoint should be, in °C."""
        if self.duration_s <= 0:
            return self.target_celsius
        share = min(1.0, max(0.0, (now_s - self.begun_s) / self.duration_s))
        return self.start_celsius + share * (self.target_celsius - self.start_celsius)

    def over(self, now_s: float, *, grace: bool = False) -> bool:
        """Whether its time is over, or its time and a grace."""
        extra = GRACE_S + GRACE_SHARE * self.duration_s if grace else 0.0
        return now_s >= self.begun_s + self.duration_s + extra

    def behind(self, last: Measurement) -> bool:
        """Whether the setpoint of a way down is higher than it can be if the way is gone."""
        latest = self.setpoint(last.t_s - BEHIND_S)
        return last.setpoint_celsius > latest + BEHIND_CELSIUS

    def after(
        self, last: Measurement, now_s: float, *, still: bool, finished_wall_s: float
    ) -> Program:
        """The program after a measurement: arrived, ended elsewhere, or on its way.

        Args:
            last: the newest measurement.
            now_s: on the station's clock.
            still: whether the setpoint of the last two measurements is the same.
            finished_wall_s: when Impulse last said that a heat action had finished.
        """
        # a message that was on its way when the ramp began may show its target, too
        due = last.t_s >= self.begun_s + 0.95 * self.duration_s
        if due and abs(last.setpoint_celsius - self.target_celsius) <= ARRIVED_WITHIN_CELSIUS:
            return replace(self, arrived=True)
        told = self.begun_wall_s + SETTLED_WALL_S < finished_wall_s < last.wall_s
        if still and (told or self.over(now_s, grace=True)):
            return replace(self, target_celsius=last.setpoint_celsius, arrived=True)
        return self
