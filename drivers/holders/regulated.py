"""A heating holder whose ramps and safe states are our own, over a device that only takes setpoints.

:mod:`drivers.holders.control_task` talks to the device; here are the commands, and what is told of it:
until an output that is to be off was confirmed to be, :meth:`RegulatedHolder.read` says that it is not
known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from acquire.clock import Clock, finite_rate
from acquire.errors import FaultError, InstrumentError, LimitError, LinkError
from acquire.instruments import (
    Description,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
)
from acquire.units import show
from drivers.holders.actuator import Actuator, RegulatedSettings
from drivers.holders.control_task import ON, ControlTask, Mode
from drivers.holders.program import Program

logger = logging.getLogger(__name__)

READ_WALL_S = 1.5
"""Longest that ``read`` waits for a reading that is newer than the last command."""
CHANGE_WALL_S = 5.0
"""The same while the output is switched on, or is off: a slow line takes long for all the settings."""
CLOSE_WALL_S = 3.0


class RegulatedHolder:
    """A heating holder over an :class:`Actuator` whose output is off; any thread may call it."""

    def __init__(
        self,
        actuator: Actuator,
        describe: Callable[[], Description],
        settings: RegulatedSettings,
        clock: Clock,
        name: str,
    ) -> None:
        self._actuator = actuator
        self._describe = describe
        self._settings = settings
        self._clock = clock
        self._name = name
        self._safe_state = SafeState()
        self._task = ControlTask(actuator, settings, clock, name)

    # ------------------------------------------------------------------------ commands

    def describe(self) -> Description:
        """Identity, limits and what the device took."""
        return self._describe()

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if the ramp would be refused; never moves anything."""
        for limit, value, what in (
            (self._settings.temperature, request.target_celsius, "ramp to"),
            (self._settings.ramp_rate, request.rate_celsius_per_s, "ramp rate"),
        ):
            if not limit.low <= value <= limit.high:
                raise LimitError(
                    f"{what} {show(value, limit.unit)} refused: the {self._name} allows "
                    f"{show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
                    f"({limit.source}). Choose a value in between, or change the limit there."
                )

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a linear ramp; raises LimitError, FaultError, InstrumentError while making safe, LinkError."""
        task = self._task
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        with task.changed:
            self._refuse()
            now = self._clock.now_s()
            if task.mode is Mode.OFF:
                task.program = Program.holding(now, self._settings.ambient_celsius)
            task.program = task.program.ramp(now, target_celsius, rate_celsius_per_s)
            task.go(Mode.STARTING if task.mode is Mode.OFF else task.mode)

    def hold(self) -> None:
        """Freeze the setpoint; an output that is off stays off. Raises as :meth:`ramp`."""
        task = self._task
        with task.changed:
            self._refuse()
            if task.mode is not Mode.OFF:
                task.program = task.program.hold(self._clock.now_s())
                task.go(task.mode)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed; raises LimitError for a cooling beyond the limits."""
        rate = safe_state.cool_rate_celsius_per_s
        if rate is not None:
            self.check(RampRequest(safe_state.cool_to_celsius, rate))
        with self._task.changed:
            self._safe_state = safe_state

    def make_safe(self, reason: str) -> None:
        """Switch off, or cool and then switch off, as armed; idempotent, returns at once, never raises."""
        task = self._task
        with task.changed:
            if task.mode in (Mode.OFF, Mode.STOPPING):
                return
            logger.info("%s is made safe: %s", self._name, reason)
            now = self._clock.now_s()
            rate, end = self._safe_state.cool_rate_celsius_per_s, self._safe_state.cool_to_celsius
            end = max(end, self._settings.ambient_celsius)
            if task.mode is Mode.STARTING or rate is None or task.program.setpoint(now) <= end:
                task.go(Mode.STOPPING)
            elif task.mode is Mode.DRIVING:
                task.program = task.program.ramp(now, end, rate)
                task.go(Mode.COOLING)

    def clear_fault(self) -> None:
        """Unlatch a fault; raises FaultError while its cause persists, or while it is not known."""
        task = self._task
        with task.changed:
            if not task.fault:
                return
            if task.mode is not Mode.OFF:
                raise FaultError(
                    f"the fault cannot be cleared yet: that the output of the {self._name} is off has "
                    f"not been confirmed. {task.lost or task.fault}"
                )
        try:
            task.forgive()
        except InstrumentError as error:
            raise FaultError(
                f"the fault cannot be cleared, its cause persists: {error} ({task.fault})"
            ) from error

    def close(self) -> None:
        """Switch off, wait until that is confirmed, and let go of the device; idempotent.

        Raises:
            LinkError: it could not be confirmed within 3 s. Everything is released all the same.
        """
        task = self._task
        if task.ended:
            return
        with task.changed:
            if task.mode is not Mode.OFF:
                task.go(Mode.STOPPING)
            known = task.changed.wait_for(lambda: task.mode is Mode.OFF, CLOSE_WALL_S)
            why = task.lost
        task.end(CLOSE_WALL_S)
        self._actuator.close()
        if not known:
            raise LinkError(
                f"the {self._name} was closed, but whether its heater is off is not known: {why} "
                "Switch it off at the device."
            )

    # ------------------------------------------------------------------------- reading

    def read(self) -> HolderReading:
        """A reading that is newer than the last command.

        Raises:
            LinkError: the device does not answer; what it does is not known.
        """
        task = self._task
        began = time.monotonic()
        with task.changed:
            while True:
                reading = self._answer()
                if reading is not None:
                    return reading
                changing = task.mode in (Mode.OFF, Mode.STARTING)
                until = began + (CHANGE_WALL_S if changing else READ_WALL_S)
                left_s = max(0.0, until - time.monotonic())
                if task.lost or not task.changed.wait(left_s):
                    raise LinkError(self._unknown())

    def _answer(self) -> HolderReading | None:
        task = self._task
        latest = task.latest
        if task.lost and task.mode not in ON:
            return None
        if latest is None or latest.t_s < task.since_s or task.mode is Mode.STOPPING:
            return None
        on = task.mode is not Mode.OFF
        if on and self._clock.now_s() - latest.t_s > self._stale_s():
            return None
        ambient = self._settings.ambient_celsius
        return HolderReading(
            latest.t_s,
            latest.celsius,
            task.program.setpoint(latest.t_s) if on else ambient,
            task.program.target_celsius if on else ambient,
            latest.power_mw,
            latest.resistance_ohm,
            self._state(latest.t_s),
            task.fault,
        )

    def _state(self, t_s: float) -> HolderState:
        task = self._task
        if task.fault:
            return HolderState.TRIPPED
        if task.mode is Mode.OFF:
            return HolderState.OFF
        if task.mode is Mode.COOLING:
            return HolderState.MAKING_SAFE
        return HolderState.RAMPING if task.program.moving(t_s) else HolderState.HOLDING

    def _stale_s(self) -> float:
        wall_s = self._settings.patience_s + READ_WALL_S
        return 10 * self._settings.period_s + wall_s * finite_rate(self._clock)

    def _unknown(self) -> str:
        task = self._task
        if task.mode is Mode.STOPPING:
            cause = task.lost or "the device has not answered yet."
            fault = f" It was tripped: {task.fault}" if task.fault else ""
            return (
                f"whether the heater of the {self._name} is off is not known yet; it is told again "
                f"until it confirms: {cause}{fault}"
            )
        return task.lost or (
            f"the {self._name} has given no reading in time; what it does is not known."
        )

    def _refuse(self) -> None:
        task = self._task
        if task.ended:
            raise InstrumentError(f"the {self._name} was closed; open the station again.")
        if task.fault:
            raise FaultError(
                f"the heater is off and stays off: {task.fault} Find the cause, then clear the fault."
            )
        if task.mode in (Mode.COOLING, Mode.STOPPING):
            raise InstrumentError(
                "command refused: the heater is on its way to its safe state. Wait until it is off."
            )
        if task.lost:
            raise LinkError(f"command refused: {task.lost}")
