"""Enforces a station's limits on its holder, and trips the heater when a reading is not to be trusted."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, replace

from acquire.clock import Clock
from acquire.errors import FaultError, HotstageError, LimitError
from acquire.instruments import (
    Description,
    HeatingHolder,
    HolderReading,
    HolderState,
    Limit,
    RampRequest,
    SafeState,
)
from acquire.units import show

logger = logging.getLogger(__name__)

WATCH_PERIOD_S = 0.5
CLOSE_PATIENCE_S = 2.0
"""Wall seconds that closing waits for a reading under way."""
_HEATING = (HolderState.RAMPING, HolderState.HOLDING, HolderState.MAKING_SAFE)
"""States with the output on: a slow way down to the safe state heats, too."""


@dataclass(frozen=True, slots=True)
class HolderLimits:
    """What a station allows its holder."""

    temperature_celsius: float
    ramp_rate_celsius_per_s: float
    deviation_celsius: float
    deviation_time_s: float
    source: str
    """Where a person can change them."""


class GuardedHolder:
    """A holder under a station's limits, watched by a task of its own for as long as it is open.

    Trips (output off, fault latched) on a measured temperature above the limit, on a reading that
    is not finite, on a deviation from the setpoint that lasts, and on readings that fail while the
    heater is on. A heater that cannot be switched off is told again at every look.
    """

    def __init__(self, holder: HeatingHolder, limits: HolderLimits, clock: Clock) -> None:
        self._holder = holder
        self._limits = limits
        self._clock = clock
        self._fault = ""
        self._deviates_since: float | None = None
        self._lock = threading.Lock()
        self._closed = clock.signal()
        self._task = clock.spawn(self._watch, "holder-guard")

    def describe(self) -> Description:
        """The holder's description, with the station's limits added."""
        inner = self._holder.describe()
        own = (
            Limit(
                "temperature", -273.15, self._limits.temperature_celsius, "°C", self._limits.source
            ),
            Limit(
                "ramp_rate", 0.0, self._limits.ramp_rate_celsius_per_s, "°C/s", self._limits.source
            ),
        )
        return replace(inner, limits=(*inner.limits, *own))

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if the station or the driver refuses the ramp."""
        limits = self._limits
        if not math.isfinite(request.target_celsius) or not math.isfinite(
            request.rate_celsius_per_s
        ):
            raise LimitError(
                f"ramp to {request.target_celsius} °C at {request.rate_celsius_per_s} °C/s refused: "
                "both must be finite numbers."
            )
        if request.target_celsius > limits.temperature_celsius:
            raise LimitError(
                f"ramp to {show(request.target_celsius, '°C')} refused: the station allows "
                f"{show(limits.temperature_celsius, '°C')} ({limits.source}.temperature). "
                "Lower the target or raise the limit."
            )
        if request.rate_celsius_per_s <= 0:
            raise LimitError(
                f"ramp rate {show(request.rate_celsius_per_s, '°C/s')} refused: it must be above 0; "
                "the direction follows from the target."
            )
        if request.rate_celsius_per_s > limits.ramp_rate_celsius_per_s:
            raise LimitError(
                f"ramp rate {show(request.rate_celsius_per_s, '°C/s')} refused: the station allows "
                f"{show(limits.ramp_rate_celsius_per_s, '°C/s')} ({limits.source}.ramp_rate). "
                "Lower the rate or raise the limit."
            )
        self._holder.check(request)

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a ramp within the limits; raises LimitError, FaultError."""
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        self._refuse_if_tripped()
        self._holder.ramp(target_celsius, rate_celsius_per_s)

    def hold(self) -> None:
        """Freeze the setpoint; raises FaultError."""
        self._refuse_if_tripped()
        self._holder.hold()

    def read(self) -> HolderReading:
        """A reading of the holder, judged as it passes.

        While a fault is latched its state is TRIPPED once the output is off, MAKING_SAFE until then.
        """
        reading = self._holder.read()
        self._judge(reading)
        if not self._fault:
            return reading
        # a device that cannot be told to switch off must not be said to be off
        state = HolderState.MAKING_SAFE if reading.state in _HEATING else HolderState.TRIPPED
        why = f"{self._fault} {reading.fault}" if reading.fault else self._fault
        return replace(reading, state=state, fault=why)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed; a cooling rate beyond the limits is refused."""
        rate = safe_state.cool_rate_celsius_per_s
        if rate is not None:
            self.check(RampRequest(safe_state.cool_to_celsius, rate))
        self._holder.arm_safe_state(safe_state)

    def make_safe(self, reason: str) -> None:
        """Bring the holder to its safe state."""
        self._holder.make_safe(reason)

    def clear_fault(self) -> None:
        """Unlatch a trip; raises FaultError while its cause persists."""
        self._holder.clear_fault()
        reading = self._holder.read()
        if reading.state is HolderState.MAKING_SAFE:
            raise FaultError(
                f"the fault cannot be cleared yet: the heater is not known to be off. {self._fault}"
            )
        # the output is off, so that of all causes only the temperature still shows
        if self._too_hot(reading):
            raise FaultError(
                f"the fault cannot be cleared yet: {show(reading.measured_celsius, '°C')} is still "
                f"above the station's limit. {self._fault}"
            )
        with self._lock:
            self._fault = ""
            self._deviates_since = None
        self._judge(reading)
        self._refuse_if_tripped()

    def close(self) -> None:
        """Make safe and stop watching; idempotent."""
        if self._closed.is_set():
            return
        self._holder.make_safe("the station is being closed")
        with self._clock.enrolled("close"):
            self._closed.set()
            self._task.join(CLOSE_PATIENCE_S * min(self._clock.rate, 1e6))

    def _refuse_if_tripped(self) -> None:
        if self._fault:
            raise FaultError(
                f"the heater is off and stays off: {self._fault} Find the cause, then clear the "
                "fault."
            )

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_PERIOD_S):
            tripped, heating = bool(self._fault), True
            try:
                reading = self._holder.read()
                heating = reading.state in _HEATING
                self._judge(reading)
            except Exception as error:  # noqa: BLE001  whatever a driver raises, the watch goes on
                words = str(error) if isinstance(error, HotstageError) else repr(error)
                self._trip(f"the holder could not be read: {words}")
            if tripped and heating:
                self._switch_off(self._fault)

    def _judge(self, reading: HolderReading) -> None:
        if reading.state not in _HEATING:
            self._deviates_since = None
            return
        measured, limits = reading.measured_celsius, self._limits
        if not math.isfinite(measured):
            self._trip("the measured temperature is not a number (open heater or lost contact).")
        elif self._too_hot(reading):
            self._trip(
                f"measured {show(measured, '°C')} is above the station's limit of "
                f"{show(limits.temperature_celsius, '°C')} ({limits.source}.temperature)."
            )
        elif abs(measured - reading.setpoint_celsius) <= limits.deviation_celsius:
            self._deviates_since = None
        elif self._deviates_since is None:
            self._deviates_since = reading.t_s
        elif reading.t_s - self._deviates_since > limits.deviation_time_s:
            self._trip(
                f"measured {show(measured, '°C')} has been more than "
                f"{show(limits.deviation_celsius, '°C')} from the setpoint of "
                f"{show(reading.setpoint_celsius, '°C')} for over "
                f"{show(limits.deviation_time_s, 's')} ({limits.source}.deviation)."
            )

    def _trip(self, cause: str) -> None:
        with self._lock:
            if self._fault:
                return
            self._fault = cause
        logger.error("heater tripped: %s", cause)
        self._switch_off(cause)

    def _switch_off(self, cause: str) -> None:
        try:
            self._holder.arm_safe_state(SafeState())
        except Exception:
            logger.exception("the tripped heater could not be told to switch off at once")
        try:
            self._holder.make_safe(cause)
        except Exception:
            logger.exception("the tripped heater could not be made safe; it will be told again")

    def _too_hot(self, reading: HolderReading) -> bool:
        limit = self._limits.temperature_celsius
        # 2 %: noise and overshoot at the very limit are not a runaway
        return reading.measured_celsius > limit + 0.02 * abs(limit)
