"""What a device that only takes setpoints must do to become a heating holder, and when it is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from acquire.errors import InstrumentError
from acquire.instruments import Limit
from acquire.units import show

OVERSHOOT = 0.02
"""A reading this far (of the maximum) above it is noise or overshoot, not a runaway."""


class Trip(InstrumentError):
    """What a device says means that it must be switched off at once; the message says why."""


class Unwanted(InstrumentError):
    """Switching on was given up half-way, since the output is to be off."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a device measured; NaN where it cannot tell."""

    t_s: float
    """Middle of the exchange, on the station's clock."""
    bound_s: float
    """Half the duration of the exchange: the reading is at most so far from ``t_s``."""
    celsius: float
    power_mw: float = math.nan
    resistance_ohm: float = math.nan


class Actuator(Protocol):
    """A device that heats; every method is bounded in time and raises LinkError when it does not answer.

    The holder calls them one at a time. ``Trip`` means: switch off, something is wrong.
    """

    def begin(self, wanted: Callable[[], bool]) -> Measurement:
        """Check the device, switch its output on and say where the heating starts.

        Raises:
            Trip: it is not to be trusted.
            Unwanted: ``wanted`` was not true any more; the output may be on.
        """

    def regulate(self, setpoint: Callable[[float], float]) -> Measurement:
        """Read the device, then make it follow ``setpoint(t_s)`` (°C); raises Trip."""

    def off(self) -> None:
        """Switch the output off and have the device confirm it; raises LinkError, InstrumentError."""

    def idle(self, measure: bool) -> Measurement:
        """Look whether the output is still off, and measure if that may be done; raises Trip if not off."""

    def examine(self) -> None:
        """Raise Trip if the cause of a trip can be seen to persist while the output is off."""

    def close(self) -> None:
        """Let go of the device; its output is off."""


@dataclass(frozen=True, slots=True)
class RegulatedSettings:
    """What a driver allows and how its control task runs."""

    period_s: float
    """Clock seconds from reading to reading while the output is on."""
    temperature: Limit
    ramp_rate: Limit
    ambient_celsius: float
    deviation_celsius: float
    deviation_time_s: float
    patience_s: float
    """Wall seconds after a failed reading within which another must succeed while the output is on."""


class Judge:
    """Trips on what one reading, or a lasting deviation, says while the output is on."""

    def __init__(self, settings: RegulatedSettings) -> None:
        self._settings = settings
        self._deviates_since: float | None = None

    def begin(self) -> None:
        """Forget what was: the output is switched on anew. A new ramp begins where the setpoint is."""
        self._deviates_since = None

    def look(self, measured: Measurement, setpoint_celsius: float) -> None:
        """Raise Trip if a reading with the output on is not to be trusted."""
        celsius, settings = measured.celsius, self._settings
        if not math.isfinite(celsius):
            raise Trip("the measured temperature is not a number (open heater or lost contact).")
        highest = settings.temperature.high
        if celsius > highest + OVERSHOOT * abs(highest):
            raise Trip(
                f"measured {show(celsius, '°C')} is above the driver's limit of "
                f"{show(highest, '°C')} ({settings.temperature.source})."
            )
        if abs(celsius - setpoint_celsius) <= settings.deviation_celsius:
            self._deviates_since = None
        elif self._deviates_since is None:
            self._deviates_since = measured.t_s
        elif measured.t_s - self._deviates_since > settings.deviation_time_s:
            raise Trip(
                f"measured {show(celsius, '°C')} has been more than "
                f"{show(settings.deviation_celsius, '°C')} from the setpoint of "
                f"{show(setpoint_celsius, '°C')} for over {show(settings.deviation_time_s, 's')} "
                "(option deviation)."
            )
