"""Gives a Eurotherm controller its setpoints and reads it; registers and safety as :mod:`drivers.holders.eurotherm` tells."""

from __future__ import annotations

import logging
import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from acquire.clock import Clock
from acquire.errors import InstrumentError
from acquire.units import show
from drivers.holders.actuator import Measurement, Trip
from drivers.links import MalformedReply, Wire
from drivers.modbus import ModbusDevice, ModbusRefusal

logger = logging.getLogger(__name__)

PROCESS_VALUE = 1
TARGET_SETPOINT = 2
WORKING_SETPOINT = 5
REMOTE_SETPOINT = 26
RATE_LIMIT = 35
STATUS = 75
VERSION = 107
TYPE_CODE = 122
MODE = 199
ACKNOWLEDGE = 274
LOCAL_OR_REMOTE = 276
DISPLAY_UNITS = 516
FLOATS = 0x8000
OPERATING, STANDBY = 0, 1
LOCAL, REMOTE = 0, 1
CELSIUS = "°C"
_UNITS = {0: CELSIUS, 1: "°F", 2: "K"}
_FAULTS = {
    1 << 4: "manual mode",
    1 << 5: "sensor break",
    1 << 6: "loop break",
    1 << 7: "heater fail",
    1 << 8: "load fail",
    1 << 10: "process value out of range",
    1 << 14: "remote setpoint fail",
}
SENSOR_BREAK = 1 << 5
TAKEN_WITHIN_K = 1.0
"""A working setpoint further from what was written was not taken: displays round to a degree."""

REMEMBERED = 3
"""A controller takes a setpoint at its next cycle of about 0.1 s: any of so many last ones may be in force."""


@dataclass(frozen=True, slots=True)
class State:
    """What one look at the controller tells."""

    celsius: float
    target_celsius: float
    output_percent: float
    working_celsius: float
    status: int


class EurothermActuator:
    """Gives a controller its setpoints; raises ValueError for a port, unit or baud rate that is none."""

    def __init__(
        self,
        port: str,
        unit: int,
        baud_rate: int,
        ambient_celsius: float,
        fallback_celsius: float,
        clock: Clock,
        *,
        stated_celsius: bool = False,
    ) -> None:
        self._device = ModbusDevice(port, unit, "the Eurotherm controller", baud_rate, self._greet)
        self._ambient_celsius = ambient_celsius
        self._fallback_celsius = fallback_celsius
        self._clock = clock
        self._stated_celsius = stated_celsius
        self._connection = 0
        self._written_celsius = deque([ambient_celsius], maxlen=REMEMBERED)
        self._type_code: int | None = None
        self.type_name = "of unknown type"
        self.version = ""
        self.units = ""
        """What the temperatures are in, and who says so."""
        self.has_standby = True

    def open(self) -> None:
        """Connect, check how the controller is set, and switch off; raises InstrumentError."""

        def exchange(wire: Wire) -> None:
            try:
                self._device.read(wire, MODE)
            except ModbusRefusal:
                self.has_standby = False
                logger.warning(
                    "%s has no standby mode: off is a remote setpoint at ambient", self._device.what
                )
            # first of all: one that is refused for its settings may be heating
            self._switch_off(wire)
            self.version = self._or(wire, VERSION, "{:x}")
            self._check_settings(wire)

        self._device.talk(exchange, "the set-up")

    def close(self) -> None:
        """End the connection."""
        self._device.link.close()

    # --------------------------------------------------------------------------- output off

    def off(self) -> None:
        """Standby, and the remote setpoint to ambient; confirmed by reading back."""
        self._device.talk(self._switch_off, "switching off")

    def idle(self, measure: bool) -> Measurement:
        """See that the controller is off, refresh its setpoint, and read it."""

        def exchange(wire: Wire) -> State:
            if self.has_standby and self._device.read(wire, MODE) != [STANDBY]:
                self._switch_off(wire)
                raise Trip("the controller was found operating though nobody had switched it on.")
            self._rest_at_ambient(wire)
            if not self.has_standby:
                self._confirm_ambient(wire)
            return self._look(wire)

        before = self._clock.now_s()
        return self._measured(self._device.talk(exchange, "a look at it"), before)

    def examine(self) -> None:
        """Acknowledge its alarms; raises Trip for those that stay."""

        def exchange(wire: Wire) -> State:
            self._device.write(wire, ACKNOWLEDGE, [1])
            return self._look(wire)

        self._judge(self._device.talk(exchange, "acknowledging its alarms"))

    # ---------------------------------------------------------------------------- output on

    def begin(self, wanted: Callable[[], bool]) -> Measurement:
        """Set the remote setpoint to the present temperature, then let the controller operate."""

        def exchange(wire: Wire) -> State:
            self._check_settings(wire)
            state = self._look(wire)
            self._judge(state)
            if not math.isfinite(state.celsius):
                raise Trip("the process value is not a number.")
            self._write_setpoint(wire, max(state.celsius, self._ambient_celsius))
            self._set(wire, LOCAL_OR_REMOTE, REMOTE)
            if self.has_standby:
                self._set(wire, MODE, OPERATING)
            self._connection = self._device.link.connections
            return state

        before = self._clock.now_s()
        return self._measured(self._device.talk(exchange, "switching on"), before)

    def regulate(self, setpoint: Callable[[float], float]) -> Measurement:
        """Read the controller, then write the setpoint; raises Trip, LinkError."""

        def exchange(wire: Wire) -> State:
            again = self._connection != self._device.link.connections
            if again:
                self._check_after_reconnection(wire)
            state = self._look(wire)
            self._judge(state)
            if not state.target_celsius <= self._fallback_celsius:
                raise Trip(self._would_heat(state.target_celsius))
            if not again:
                self._check_taken(state.working_celsius)
            self._write_setpoint(wire, setpoint(self._clock.now_s()))
            return state

        before = self._clock.now_s()
        return self._measured(self._device.talk(exchange, "a reading"), before)

    def _check_taken(self, working_celsius: float) -> None:
        low, high = min(self._written_celsius), max(self._written_celsius)
        if not low - TAKEN_WITHIN_K <= working_celsius <= high + TAKEN_WITHIN_K:
            raise Trip(
                f"the controller works at a setpoint of {show(working_celsius, '°C')}, not at the "
                f"{show(self._written_celsius[-1], '°C')} written. Is it in local, or are its own "
                "setpoint limits narrower?"
            )

    def _check_after_reconnection(self, wire: Wire) -> None:
        if self.has_standby and self._device.read(wire, MODE) != [OPERATING]:
            raise Trip("the controller was found in standby after the connection had been lost.")
        if self._device.read(wire, LOCAL_OR_REMOTE) != [REMOTE]:
            raise Trip("the controller was found in local after the connection had been lost.")
        self._connection = self._device.link.connections

    # ------------------------------------------------------------------- within an exchange

    def _greet(self, wire: Wire) -> None:
        try:
            code = self._device.read(wire, TYPE_CODE)[0]
        except ModbusRefusal:
            logger.warning("%s does not tell its type", self._device.what)
            return
        if code >> 12 not in (2, 3):
            raise InstrumentError(
                f"{self._device.what} has the type code 0x{code:04x}, which is no Eurotherm 2400 or 3200. "
                "Check port and unit."
            )
        if self._type_code not in (None, code):
            raise InstrumentError(
                f"{self._device.what} has become another device: type 0x{code:04x}, not "
                f"0x{self._type_code:04x}. Open the station again if that is meant."
            )
        self._type_code = code
        self.type_name = f"0x{code:04x}"

    def _check_settings(self, wire: Wire) -> None:
        """Refuse a controller that heats on its own or would not follow, or in °F; raises InstrumentError."""
        self.units = self._checked_units(wire)
        target = self._look(wire).target_celsius
        if not target <= self._fallback_celsius:
            raise InstrumentError(f"{self._device.what}: {self._would_heat(target)}")
        limited = self._or(wire, RATE_LIMIT, "{:d}")
        if limited not in ("", "0"):
            raise InstrumentError(
                f"{self._device.what} limits the rate of its setpoint itself (register {RATE_LIMIT} is "
                f"{limited}). Switch its setpoint rate limit off."
            )

    def _checked_units(self, wire: Wire) -> str:
        told = self._or(wire, DISPLAY_UNITS, "{:d}")
        units = _UNITS.get(int(told)) if told else None
        if units == CELSIUS:
            return CELSIUS
        if units is not None:
            raise InstrumentError(
                f"{self._device.what} is set to {units} (register {DISPLAY_UNITS} is {told}); "
                f"temperatures are taken and given in {CELSIUS}. Set its display units to {CELSIUS}."
            )
        if self._stated_celsius:
            return f"{CELSIUS}, as stated in the station"
        raise InstrumentError(
            f"{self._device.what} does not tell its units (register {DISPLAY_UNITS} is "
            f"{told or 'missing'}). If its display shows {CELSIUS}, say so in the station file: "
            f'units = "{CELSIUS}".'
        )

    def _would_heat(self, target_celsius: float) -> str:
        return (
            f"the controller has a target setpoint of its own of {show(target_celsius, '°C')}, to which "
            f"it would heat when the link fails; {show(self._fallback_celsius, '°C')} are allowed "
            "(option fallback_limit). Lower it at the controller."
        )

    def _look(self, wire: Wire) -> State:
        count = WORKING_SETPOINT - PROCESS_VALUE + 1
        raw = self._device.read(wire, FLOATS + 2 * PROCESS_VALUE, 2 * count)
        celsius, target, _, output, working = struct.unpack(">5f", struct.pack(">10H", *raw))
        status = self._device.read(wire, STATUS)[0]
        if status & SENSOR_BREAK:
            celsius = math.nan
        return State(celsius, target, output, working, status)

    def _judge(self, state: State) -> None:
        wrong = [meaning for bit, meaning in _FAULTS.items() if state.status & bit]
        if wrong:
            raise Trip(f"the controller reports {', '.join(wrong)}.")

    def _switch_off(self, wire: Wire) -> None:
        """Standby, whatever becomes of the setpoint; the setpoint, whatever becomes of the standby."""
        refused: InstrumentError | None = None
        if self.has_standby:
            try:
                self._set(wire, MODE, STANDBY)
            except MalformedReply:
                raise
            except InstrumentError as error:
                refused = error
        self._rest_at_ambient(wire)
        if not self.has_standby:
            self._set(wire, LOCAL_OR_REMOTE, REMOTE)
            self._confirm_ambient(wire)
        if refused is not None:
            raise refused

    def _rest_at_ambient(self, wire: Wire) -> None:
        """Refresh a setpoint of ambient; one in standby may refuse it."""
        try:
            self._write_setpoint(wire, self._ambient_celsius)
        except ModbusRefusal:
            if not self.has_standby:
                raise

    def _write_setpoint(self, wire: Wire, celsius: float) -> None:
        words = struct.unpack(">2H", struct.pack(">f", celsius))
        self._device.write(wire, FLOATS + 2 * REMOTE_SETPOINT, words)
        self._written_celsius.append(celsius)

    def _set(self, wire: Wire, register: int, value: int) -> None:
        self._device.write(wire, register, [value])
        took = self._device.read(wire, register)[0]
        if took != value:
            raise InstrumentError(
                f"{self._device.what} was told {value} at register {register} and has {took}."
            )

    def _confirm_ambient(self, wire: Wire) -> None:
        working = self._look(wire).working_celsius
        if not working <= self._ambient_celsius + TAKEN_WITHIN_K:
            raise InstrumentError(
                f"{self._device.what} still works at a setpoint of {show(working, '°C')}; "
                f"{show(self._ambient_celsius, '°C')} were written."
            )

    def _or(self, wire: Wire, register: int, form: str) -> str:
        """A register's value in words, empty if the controller has none."""
        try:
            return form.format(self._device.read(wire, register)[0])
        except ModbusRefusal:
            return ""

    def _measured(self, state: State, before_s: float) -> Measurement:
        after = self._clock.now_s()
        return Measurement((before_s + after) / 2, (after - before_s) / 2, state.celsius)
