"""The course of a setpoint as a pure function of time: where a ramp is, where it ends, what holds after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Program:
    """A straight line from ``start_celsius`` at ``begin_s`` to ``target_celsius``, constant after that.

    Before ``begin_s`` it is where it starts. Times are on whatever clock the caller has.
    """

    begin_s: float
    start_celsius: float
    target_celsius: float
    rate_celsius_per_s: float
    """Above 0; the direction follows from the target. Infinite for a setpoint that only holds."""

    @classmethod
    def holding(cls, t_s: float, celsius: float) -> Program:
        """A setpoint that stays where it is."""
        return cls(t_s, celsius, celsius, math.inf)

    @property
    def end_s(self) -> float:
        """When the target is reached."""
        return (
            self.begin_s + abs(self.target_celsius - self.start_celsius) / self.rate_celsius_per_s
        )

    def setpoint(self, t_s: float) -> float:
        """The setpoint at a time, in °C."""
        if t_s >= self.end_s:
            return self.target_celsius
        if t_s <= self.begin_s:
            return self.start_celsius
        share = (t_s - self.begin_s) / (self.end_s - self.begin_s)
        return self.start_celsius + (self.target_celsius - self.start_celsius) * share

    def moving(self, t_s: float) -> bool:
        """Whether the target is still to be reached."""
        return t_s < self.end_s

    def ramp(self, t_s: float, target_celsius: float, rate_celsius_per_s: float) -> Program:
        """From where the setpoint is now to another target."""
        return Program(t_s, self.setpoint(t_s), target_celsius, rate_celsius_per_s)

    def hold(self, t_s: float) -> Program:
        """Frozen where the setpoint is now; one that rests already stays as it is."""
        return Program.holding(t_s, self.setpoint(t_s)) if self.moving(t_s) else self

    def begun(self, t_s: float, celsius: float) -> Program:
        """The same ramp begun at another time, from a temperature; a hold stays a hold there."""
        if math.isinf(self.rate_celsius_per_s):
            return Program.holding(t_s, celsius)
        return replace(self, begin_s=t_s, start_celsius=celsius)

    def paused(self, since_s: float, until_s: float) -> Program:
        """The same course with the time between two times left out of it."""
        if not self.moving(since_s) or until_s <= since_s:
            return self
        late = until_s - max(since_s, self.begin_s)
        return replace(self, begin_s=self.begin_s + late) if late > 0 else self
