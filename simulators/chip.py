"""The heating chip: its setpoint, its temperature with thermal lag, R(T), power, safe state and faults.

The control loop makes the chip follow the setpoint with a first-order lag of a few ms. The chip is
read through its resistance R(T) = R0 (1 + alpha (T - T0)); the loss of power is conduction along the
membrane plus radiation from both faces. All questions are about a time that has come; the past never
changes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from acquire.errors import FaultError, InstrumentError
from acquire.instruments import HolderReading, HolderState, SafeState
from simulators.history import KELVIN_AT_0_CELSIUS, TemperatureHistory
from simulators.noise import generator

AMBIENT_CELSIUS = 25.0
_LAG_NODES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0)

Defect = Literal["open_heater", "lost_sense"]


@dataclass(frozen=True, slots=True)
class ChipSettings:
    """Figures of one chip."""

    r0_ohm: float = 120.0
    t0_celsius: float = 25.0
    alpha_per_k: float = 1.9e-3
    time_constant_s: float = 4e-3
    noise_celsius: float = 0.1
    """Standard deviation of a reading."""
    conductance_mw_per_k: float = 8e-3
    emitting_area_um2: float = 5e4
    """Area times emissivity of both faces."""


class HeatingChip:
    """A chip under closed-loop control; writes its temperature into a history. Safe for use by threads."""

    def __init__(self, history: TemperatureHistory, settings: ChipSettings, seed: int) -> None:
        self.settings = settings
        self._history = history
        self._seed = seed
        self._lock = threading.Lock()
        self._mode: Literal["off", "drive", "safing", "tripped"] = "off"
        # the setpoint: from (t, °C) straight to (t, °C), constant after that
        self._program = (0.0, AMBIENT_CELSIUS, 0.0, AMBIENT_CELSIUS)
        self._safe_state = SafeState()
        self._fault = ""
        self._defect: Defect | None = None
        self._wired: Callable[[float], None] | None = None

    def wire(self, changed: Callable[[float], None]) -> None:
        """Take the heater from the controller for a source-meter, which from now on plans the temperature.

        Args:
            changed: called with the time whenever a defect comes or is mended.

        Raises:
            InstrumentError: it is wired already.
        """
        with self._lock:
            if self._wired is not None:
                raise InstrumentError(
                    "the chip is wired to a source-meter already. Give the station one far end for its heater."
                )
            self._wired = changed
            self._mode = "off"
            self._fault = ""

    def unwire(self) -> None:
        """Give the heater back to the controller; idempotent."""
        with self._lock:
            self._wired = None

    @property
    def defect(self) -> Defect | None:
        """What is broken."""
        return self._defect

    def burn(self) -> None:
        """The heater is open from now on: it was too hot. The caller has planned the temperature."""
        self._defect = "open_heater"

    def ramp(self, t_s: float, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Move the setpoint linearly, from where it is, to a target.

        Raises:
            FaultError: a fault is latched.
            InstrumentError: it is on its way to the safe state.
        """
        with self._lock:
            self._refuse(t_s)
            self._drive(t_s, target_celsius, rate_celsius_per_s)

    def hold(self, t_s: float) -> None:
        """Freeze the setpoint where it is; a heater that is off stays off. Raises as :meth:`ramp`."""
        with self._lock:
            self._refuse(t_s)
            # one that holds already goes on: again would only lengthen the history
            if self._state(t_s) is HolderState.RAMPING:
                self._drive(t_s, self._setpoint(t_s), 1.0)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how :meth:`make_safe` shall proceed."""
        with self._lock:
            self._safe_state = safe_state

    def make_safe(self, t_s: float) -> None:
        """Switch off at once, or cool first, as armed; a cooling that runs is not begun anew."""
        with self._lock:
            state = self._state(t_s)
            if self._wired is not None or state in (HolderState.OFF, HolderState.TRIPPED):
                return
            rate, end = self._safe_state.cool_rate_celsius_per_s, self._safe_state.cool_to_celsius
            setpoint = self._setpoint(t_s)
            if rate is None or not rate > 0 or setpoint <= end:
                self._switch_off(t_s, "off")
            elif state is not HolderState.MAKING_SAFE:
                self._drive(t_s, max(end, AMBIENT_CELSIUS), rate, then_off=True)

    def clear_fault(self, t_s: float) -> None:
        """Unlatch a fault; raises FaultError while its cause persists."""
        with self._lock:
            if self._defect is not None and self._fault:
                raise FaultError(f"the fault cannot be cleared, its cause persists: {self._fault}")
            if self._mode == "tripped":
                self._mode = "off"
            self._fault = ""

    def fail(self, t_s: float, defect: Defect) -> None:
        """Break the chip: ``open_heater`` trips at once, ``lost_sense`` only makes readings NaN."""
        with self._lock:
            self._defect = defect
            if self._wired is None and defect == "open_heater":
                self._fault = "the heater's circuit is open."
                self._switch_off(t_s, "tripped")
        if self._wired is not None:
            self._wired(t_s)

    def mend(self) -> None:
        """Undo :meth:`fail`; a latched fault stays latched.

        A wired heater that had burnt feels its source again when that next changes.
        """
        with self._lock:
            self._defect = None

    def read(self, t_s: float) -> HolderReading:
        """What the controller says at a time; the same at the same time."""
        with self._lock:
            state, setpoint = self._state(t_s), self._setpoint(t_s)
            end = self._program[3] if state is not HolderState.OFF else AMBIENT_CELSIUS
            target = AMBIENT_CELSIUS if state is HolderState.TRIPPED else end
            defect, fault = self._defect, self._fault
        celsius = self._history.celsius(t_s)
        noise = generator(self._seed, "chip", max(0, round(t_s * 1e6))).standard_normal()
        resistance = self.resistance_ohm(celsius + self.settings.noise_celsius * float(noise))
        power = self.power_mw(celsius)
        if defect is not None:
            resistance = math.nan
        if state in (HolderState.OFF, HolderState.TRIPPED):
            power = 0.0
        return HolderReading(
            t_s,
            self.temperature_celsius(resistance),
            setpoint,
            target,
            power,
            resistance,
            state,
            fault,
        )

    def resistance_ohm(self, celsius: float) -> float:
        """R(T) of the heater."""
        chip = self.settings
        return chip.r0_ohm * (1 + chip.alpha_per_k * (celsius - chip.t0_celsius))

    def temperature_celsius(self, resistance_ohm: float) -> float:
        """The calibration read backwards."""
        chip = self.settings
        return chip.t0_celsius + (resistance_ohm / chip.r0_ohm - 1) / chip.alpha_per_k

    def power_mw(self, celsius: float) -> float:
        """Power that holds a temperature: conduction and radiation (Stefan-Boltzmann)."""
        chip = self.settings
        kelvin, ambient = celsius + KELVIN_AT_0_CELSIUS, AMBIENT_CELSIUS + KELVIN_AT_0_CELSIUS
        radiated = 5.670374e-8 * chip.emitting_area_um2 * 1e-12 * (kelvin**4 - ambient**4) * 1e3
        return chip.conductance_mw_per_k * (kelvin - ambient) + radiated

    # ------------------------------------------------------------------ under the lock

    def _refuse(self, t_s: float) -> None:
        if self._wired is not None:
            raise InstrumentError(
                "command refused: the heater is wired to a source-meter. Command that instead."
            )
        if self._fault:
            raise FaultError(
                f"the heater is off and stays off: {self._fault} Find the cause, then clear the fault."
            )
        if self._state(t_s) is HolderState.MAKING_SAFE:
            raise InstrumentError(
                "command refused: the heater is on its way to its safe state. Wait until it is off."
            )

    def _state(self, t_s: float) -> HolderState:
        moving = t_s < self._program[2]
        if self._mode == "tripped":
            return HolderState.TRIPPED
        if self._mode == "drive":
            return HolderState.RAMPING if moving else HolderState.HOLDING
        if self._mode == "safing" and moving:
            return HolderState.MAKING_SAFE
        return HolderState.OFF

    def _setpoint(self, t_s: float) -> float:
        if self._state(t_s) in (HolderState.OFF, HolderState.TRIPPED):
            return AMBIENT_CELSIUS
        begin, start, end, target = self._program
        if t_s >= end:
            return target
        return start + (target - start) * (t_s - begin) / (end - begin)

    def _drive(self, t_s: float, target: float, rate: float, *, then_off: bool = False) -> None:
        start = self._setpoint(t_s)
        end = t_s + abs(target - start) / rate
        self._program = (t_s, start, end, target)
        self._mode = "safing" if then_off else "drive"
        lines = [(t_s, start, end, target)]
        lines.append((end, AMBIENT_CELSIUS if then_off else target, math.inf, math.nan))
        self._history.plan(t_s, self._knots(t_s, lines))

    def _switch_off(self, t_s: float, mode: Literal["off", "tripped"]) -> None:
        self._mode = mode
        self._program = (t_s, AMBIENT_CELSIUS, t_s, AMBIENT_CELSIUS)
        self._history.plan(t_s, self._knots(t_s, [(t_s, AMBIENT_CELSIUS, math.inf, math.nan)]))

    def _knots(
        self, t_s: float, lines: list[tuple[float, float, float, float]]
    ) -> list[tuple[float, float]]:
        """The lagging temperature under a drive of straight lines (t0, °C, t1, °C; endless ones flat)."""
        tau = self.settings.time_constant_s
        celsius = self._history.celsius(t_s)
        knots: list[tuple[float, float]] = []
        for begin, start, end, target in lines:
            if end <= begin:
                continue
            slope = 0.0 if math.isinf(end) else (target - start) / (end - begin)
            ends = [] if math.isinf(end) else [end]
            offset = celsius - start + slope * tau
            for t in [*(begin + tau * n for n in _LAG_NODES if begin + tau * n < end), *ends]:
                lagging = start + slope * (t - begin - tau)
                celsius = lagging + offset * math.exp(-(t - begin) / tau)
                knots.append((t, celsius))
            if not ends:
                knots[-1] = (knots[-1][0], start)  # settled
        return knots
