"""A Eurotherm 3200 on the heating chip: its registers, its alarms, its remote setpoint. No wire.

Sources: HA028651 (3200 series engineering handbook) issue 7, pages 81 to 83, read on a public manual
site: addresses, the status bitmap, modes, that 2, 24 and 25 wear out a memory. thaeber/eurothermlib:
floats at 0x8000 + 2 · address, high word first. 516 (display units): a public driver of the 3500 series.
Unverified: a remote setpoint that is not written for 5 s falls back to the local one and sets bit 14, and
comes back when it is written again (memory); what is beyond a limit is answered by exception 3, unknown
registers by 2 (inferred); the type code; that 516 is the same here, and is written in configuration mode
only (memory); that a broken sensor reads high (configurable on the device). What the device can do and
this does not: manual output other than 0, programmer, cooling, autotune.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from acquire.clock import Clock
from acquire.errors import InstrumentError
from acquire.instruments import HolderState, SafeState
from simulators.chip import AMBIENT_CELSIUS, HeatingChip
from simulators.history import TemperatureHistory
from simulators.noise import generator
from simulators.wires.eurotherm_registers import Kind, Register, RegisterMap, Units
from simulators.wires.modbus import ILLEGAL_VALUE, ModbusError

REMOTE_TIMEOUT_S = 5.0
FASTEST_CELSIUS_PER_S = 1000.0
_SECONDS_PER_UNIT = (60.0, 3600.0, 1.0)  # of the setpoint's rate limit: min, h, s
_HOTTEST_POWER_CELSIUS = 1300.0
# ITS-90, type K, rounded: °C, mV
_THERMOCOUPLE = (
    (-200, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1372),
    (-5.891, 0, 4.096, 8.138, 12.209, 16.397, 20.644, 24.905, 29.129, 33.275, 37.326, 41.276, 45.119,
     48.838, 52.410, 54.886),
)  # fmt: skip

ALARM_1, SENSOR_BREAK, LOOP_BREAK, HEATER_FAIL = 0x1, 0x20, 0x40, 0x80
MANUAL, OUT_OF_RANGE, NEW_ALARM, RAMP_RUNNING, REMOTE_FAIL = 0x10, 0x400, 0x1000, 0x2000, 0x4000
OPERATING, STANDBY = 0, 1


class Eurotherm:
    """The controller on its chip; safe for use by threads. Implements :class:`~simulators.wires.modbus.Registers`."""

    def __init__(
        self,
        clock: Clock,
        chip: HeatingChip,
        history: TemperatureHistory,
        seed: int,
        *,
        decimals: int = 1,
        type_code: int = 0x3216,
        highest_celsius: float = 1300.0,
        lowest_celsius: float = 0.0,
        address: int = 1,
        units: Units = Units.CELSIUS,
    ) -> None:
        self._clock = clock
        self._chip = chip
        self._history = history
        self._seed = seed
        self._lock = threading.RLock()
        self._readings = 0
        self._limits = [lowest_celsius, highest_celsius]
        self._setpoints = [max(lowest_celsius, AMBIENT_CELSIUS)] * 2  # SP1, SP2
        self._selected = 0
        self._remote_celsius = self._setpoints[0]
        self._remote = False
        self._remote_failed = False
        self._written_s = -math.inf
        self._rate = 0.0
        self._rate_unit = 0
        self._mode = OPERATING
        self._manual = False
        self._alarms = [highest_celsius, highest_celsius]
        self._acknowledged = True
        self._commanded: tuple[float, float] | None = None
        self.memory_writes = 0
        """How often a register was written that wears out."""
        registers = self._map(decimals, type_code, address, units)
        self._registers = RegisterMap(registers, decimals, units)
        self.step()

    # ---------------------------------------------------------------------- registers

    def read(self, address: int, count: int) -> list[int]:
        """Registers; raises ModbusError 2 if one of them does not exist."""
        with self._lock:
            self.step()
            return self._registers.read(address, count)

    def write(self, address: int, values: list[int]) -> None:
        """Registers, all or none; raises ModbusError 2, 3."""
        with self._lock:
            self.step()
            self._registers.write(address, values)
            self.step()

    def _map(
        self, decimals: int, type_code: int, address: int, units: Units
    ) -> dict[int, Register]:
        return {
            1: Register(self._process_value, kind=Kind.TEMPERATURE),
            2: Register(self._local, self._put_local, kind=Kind.TEMPERATURE),
            3: Register(self._output, self._put_output),
            4: Register(self._output),
            5: Register(self._working, kind=Kind.TEMPERATURE),
            11: Register(lambda: -200.0, kind=Kind.TEMPERATURE),
            12: Register(lambda: 1372.0, kind=Kind.TEMPERATURE),
            13: Register(
                lambda: self._alarms[0],
                lambda v: self._alarms.__setitem__(0, v),
                kind=Kind.TEMPERATURE,
            ),
            14: Register(
                lambda: self._alarms[1],
                lambda v: self._alarms.__setitem__(1, v),
                kind=Kind.TEMPERATURE,
            ),
            15: Register(lambda: self._selected, self._put_selected, decimals=False),
            23: Register(lambda: 0, decimals=False),
            24: Register(
                lambda: self._setpoints[0],
                lambda v: self._put_setpoint(0, v),
                kind=Kind.TEMPERATURE,
            ),
            25: Register(
                lambda: self._setpoints[1],
                lambda v: self._put_setpoint(1, v),
                kind=Kind.TEMPERATURE,
            ),
            26: Register(lambda: self._remote_celsius, self._put_remote, kind=Kind.TEMPERATURE),
            35: Register(lambda: self._rate, self._put_rate, kind=Kind.DIFFERENCE),
            39: Register(lambda: self._process_value() - self._working(), kind=Kind.DIFFERENCE),
            75: Register(self._status, decimals=False),
            76: Register(lambda: ~self._status() & 0xFFFF, decimals=False),
            107: Register(lambda: 0x0304, decimals=False),
            111: Register(
                lambda: self._limits[1], lambda v: self._put_limit(1, v), kind=Kind.TEMPERATURE
            ),
            112: Register(
                lambda: self._limits[0], lambda v: self._put_limit(0, v), kind=Kind.TEMPERATURE
            ),
            122: Register(lambda: type_code, decimals=False),
            131: Register(lambda: address, decimals=False),
            199: Register(lambda: self._mode, self._put_mode, decimals=False),
            202: Register(self._millivolt),
            258: Register(lambda: bool(self._status() & SENSOR_BREAK), decimals=False),
            273: Register(lambda: self._manual, self._put_manual, decimals=False),
            274: Register(lambda: 0, self._put_acknowledge, decimals=False),
            276: Register(lambda: self._remote, self._put_select, decimals=False),
            516: Register(lambda: units.code, decimals=False),
            525: Register(lambda: decimals, decimals=False),
            531: Register(lambda: self._rate_unit, self._put_rate_unit, decimals=False),
        }

    # -------------------------------------------------------------------- what it does

    def step(self) -> None:
        """Look at time, sensor and heater; to be called often (a far end does so by itself)."""
        with self._lock:
            now_s = self._clock.now_s()
            lapsed = self._remote and now_s - self._written_s > REMOTE_TIMEOUT_S
            if lapsed and not self._remote_failed:
                self._acknowledged = False
            self._remote_failed = lapsed
            self._drive(now_s)

    def _drive(self, now_s: float) -> None:
        """Let the chip follow, where something has changed."""
        broken = self._chip.defect is not None
        if broken or self._mode == STANDBY or self._manual:
            if self._commanded is not None:
                self._acknowledged = self._acknowledged and not broken
                self._commanded = None
                self._chip.arm_safe_state(SafeState())
                self._chip.make_safe(now_s)
            return
        target = self._remote_celsius if self._remote and not self._remote_failed else self._local()
        rate = self._rate / _SECONDS_PER_UNIT[self._rate_unit] or FASTEST_CELSIUS_PER_S
        wanted = (max(target, AMBIENT_CELSIUS), min(rate, FASTEST_CELSIUS_PER_S))
        if wanted == self._commanded:
            return
        try:
            self._chip.clear_fault(now_s)  # alarms of this controller do not latch its output
            self._chip.ramp(now_s, *wanted)
        except InstrumentError:
            self._commanded = None  # broken a moment ago: the next step sees it
        else:
            self._commanded = wanted

    # ------------------------------------------------------------------------- values

    def _local(self) -> float:
        return self._setpoints[self._selected]

    def _working(self) -> float:
        if self._commanded is None:
            return self._local()
        target = self._remote_celsius if self._remote and not self._remote_failed else self._local()
        reading = self._chip.read(self._clock.now_s())
        # a chip cannot be cooled below its surroundings, a setpoint can be there
        return reading.setpoint_celsius if reading.state is HolderState.RAMPING else target

    def _process_value(self) -> float:
        if self._chip.defect == "lost_sense":
            return 1372.0 * 1.05
        self._readings += 1
        noise = generator(self._seed, "eurotherm", self._readings).standard_normal()
        celsius = self._history.celsius(self._clock.now_s())
        return celsius + self._chip.settings.noise_celsius * float(noise)

    def _millivolt(self) -> float:
        celsius, millivolt = _THERMOCOUPLE
        return float(np.interp(self._process_value(), celsius, millivolt))

    def _output(self) -> float:
        if self._commanded is None:
            return 0.0
        celsius = self._history.celsius(self._clock.now_s())
        full = self._chip.power_mw(_HOTTEST_POWER_CELSIUS)
        return min(100.0, max(0.0, 100 * self._chip.power_mw(celsius) / full))

    def _status(self) -> int:
        now_s = self._clock.now_s()
        moving = self._commanded is not None and (
            self._chip.read(now_s).state is HolderState.RAMPING and self._rate > 0
        )
        hot = self._chip.defect != "lost_sense" and self._history.celsius(now_s) > self._alarms[0]
        bits = {
            ALARM_1: hot,
            MANUAL: self._manual,
            SENSOR_BREAK: self._chip.defect == "lost_sense",
            OUT_OF_RANGE: self._chip.defect == "lost_sense",
            LOOP_BREAK: self._chip.defect == "open_heater",
            HEATER_FAIL: self._chip.defect == "open_heater",
            NEW_ALARM: not self._acknowledged,
            RAMP_RUNNING: moving,
            REMOTE_FAIL: self._remote_failed,
        }
        return sum(bit for bit, is_set in bits.items() if is_set)

    # ----------------------------------------------------------------------- settings

    def _within(self, celsius: float) -> float:
        if not self._limits[0] <= celsius <= self._limits[1]:
            raise ModbusError(ILLEGAL_VALUE)
        return celsius

    def _put_local(self, celsius: float) -> None:
        self._put_setpoint(self._selected, celsius)

    def _put_setpoint(self, which: int, celsius: float) -> None:
        self._setpoints[which] = self._within(celsius)
        self.memory_writes += 1

    def _put_remote(self, celsius: float) -> None:
        self._remote_celsius = self._within(celsius)
        self._written_s = self._clock.now_s()

    def _put_select(self, value: float) -> None:
        remote = bool(_one_of(value, 2))
        if remote and not self._remote:
            self._written_s = self._clock.now_s()  # its time begins
        self._remote = remote

    def _put_selected(self, value: float) -> None:
        self._selected = _one_of(value, 2)

    def _put_mode(self, value: float) -> None:
        self._mode = _one_of(value, 2)

    def _put_manual(self, value: float) -> None:
        self._manual = bool(_one_of(value, 2))

    def _put_output(self, value: float) -> None:
        if value != 0:
            raise ModbusError(ILLEGAL_VALUE)

    def _put_rate(self, value: float) -> None:
        if not 0 <= value <= 60 * FASTEST_CELSIUS_PER_S:
            raise ModbusError(ILLEGAL_VALUE)
        self._rate = value

    def _put_rate_unit(self, value: float) -> None:
        self._rate_unit = _one_of(value, 3)

    def _put_limit(self, which: int, value: float) -> None:
        limits = list(self._limits)
        limits[which] = value
        if not -200 <= limits[0] < limits[1] <= 1372:
            raise ModbusError(ILLEGAL_VALUE)
        self._limits = limits

    def _put_acknowledge(self, value: float) -> None:
        if _one_of(value, 2):
            self._acknowledged = True


def _one_of(value: float, count: int) -> int:
    if value not in range(count):
        raise ModbusError(ILLEGAL_VALUE)
    return int(value)
