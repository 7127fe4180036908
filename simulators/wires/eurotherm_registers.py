"""The register map of a Eurotherm: 16 bit values with the display's decimals, floats, and the display's units.

Sources as in :mod:`simulators.wires.eurotherm_controller`; that every temperature is in the units of the
display, in both forms: inferred.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from simulators.wires.modbus import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusError

FLOATS = 0x8000


class Units(Enum):
    """Of the display: what register 516 says, factor and offset from °C."""

    CELSIUS = ("°C", 0, 1.0, 0.0)
    FAHRENHEIT = ("°F", 1, 1.8, 32.0)
    KELVIN = ("K", 2, 1.0, 273.15)

    def __init__(self, symbol: str, code: int, factor: float, offset: float) -> None:
        self.symbol = symbol
        self.code = code
        self.factor = factor
        self.offset = offset

    @classmethod
    def of(cls, symbol: str) -> Units:
        """The units with a symbol; raises ValueError."""
        for units in cls:
            if units.symbol == symbol:
                return units
        known = ", ".join(units.symbol for units in cls)
        raise ValueError(f"units {symbol!r} refused: choose one of {known}.")


class Kind(Enum):
    """What a value is."""

    NUMBER = "number"
    TEMPERATURE = "temperature"
    DIFFERENCE = "difference of temperatures, or a rate"


@dataclass(frozen=True, slots=True)
class Register:
    """One parameter; temperatures are in °C here."""

    get: Callable[[], float]
    put: Callable[[float], None] | None = None
    kind: Kind = Kind.NUMBER
    decimals: bool = True
    """Whether its 16 bit form has the display's decimals."""


class RegisterMap:
    """Reads and writes words; implements what :class:`~simulators.wires.modbus.Registers` asks for."""

    def __init__(self, registers: Mapping[int, Register], decimals: int, units: Units) -> None:
        self._registers = registers
        self._scale = 10**decimals
        self._units = units

    def read(self, address: int, count: int) -> list[int]:
        """Registers; raises ModbusError 2 if one of them does not exist."""
        # each float is looked up once: its two words must be of the same reading
        floats: dict[int, tuple[int, int]] = {}
        return [self._word(address + k, floats) for k in range(count)]

    def write(self, address: int, values: list[int]) -> None:
        """Registers, none if one does not exist or cannot be written; raises ModbusError 2, 3."""
        wanted = (
            self._floats(address, values) if address >= FLOATS else self._words(address, values)
        )
        for register, number in wanted:
            if register.put is None or not math.isfinite(number):
                raise ModbusError(ILLEGAL_VALUE)
        for register, number in wanted:
            assert register.put is not None
            register.put(self._taken(register.kind, number))

    def _words(self, address: int, values: list[int]) -> list[tuple[Register, float]]:
        wanted = []
        for k, value in enumerate(values):
            register = self._find(address + k)
            signed = value - 0x10000 if value >= 0x8000 else value
            wanted.append((register, signed / (self._scale if register.decimals else 1)))
        return wanted

    def _floats(self, address: int, values: list[int]) -> list[tuple[Register, float]]:
        if address % 2 or len(values) % 2:
            raise ModbusError(ILLEGAL_ADDRESS)
        raw = struct.pack(f">{len(values)}H", *values)
        numbers = struct.unpack(f">{len(values) // 2}f", raw)
        first = (address - FLOATS) // 2
        return [(self._find(first + k), number) for k, number in enumerate(numbers)]

    def _word(self, address: int, floats: dict[int, tuple[int, int]]) -> int:
        if address >= FLOATS:
            number, half = divmod(address - FLOATS, 2)
            if number not in floats:
                shown = struct.pack(">f", self._shown(self._find(number)))
                floats[number] = struct.unpack(">HH", shown)
            return floats[number][half]
        register = self._find(address)
        value = self._shown(register) * (self._scale if register.decimals else 1)
        if not register.decimals:
            return round(value) & 0xFFFF
        return round(min(max(value, -32768), 32767)) & 0xFFFF

    def _find(self, address: int) -> Register:
        register = self._registers.get(address)
        if register is None:
            raise ModbusError(ILLEGAL_ADDRESS)
        return register

    def _shown(self, register: Register) -> float:
        value = register.get()
        if register.kind is Kind.NUMBER:
            return value
        offset = self._units.offset if register.kind is Kind.TEMPERATURE else 0.0
        return value * self._units.factor + offset

    def _taken(self, kind: Kind, number: float) -> float:
        if kind is Kind.NUMBER:
            return number
        offset = self._units.offset if kind is Kind.TEMPERATURE else 0.0
        return (number - offset) / self._units.factor
