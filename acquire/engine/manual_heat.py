"""The heater in somebody's hand: ramps, holds, cools, and is switched off where it was to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from acquire.engine.actions import ARRIVED_CELSIUS
from acquire.engine.core import Engine
from acquire.errors import FaultError, InstrumentError
from acquire.instruments import HolderReading, HolderState, RampRequest
from acquire.units import show

COLD_CELSIUS = 25.0
"""Cooling by hand ends here, with the heater off."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the heater was told."""

    words: str
    at_s: float
    """When, on the station's clock."""
    off_at_celsius: float = math.nan
    """Where the heater is to be switched off; NaN if nowhere."""


class HandHeat:
    """For one thread at a time, but for :meth:`switched_off`; ``note`` writes to the log."""

    def __init__(self, engine: Engine, note: Callable[[str], None]) -> None:
        self._engine = engine
        self._station = engine.station
        self._note = note
        self._told: _Told | None = None
        self._offs = 0
        """How often the heater was switched off at once."""

    @property
    def words(self) -> str:
        """What the heater was told; empty if nothing."""
        told = self._told
        return "" if told is None else told.words

    def ramp(self, request: RampRequest) -> None:
        """Ramp and hold; raises FaultError, LimitError, InstrumentError."""
        words = (
            f"to {show(request.target_celsius, '°C')} at {show(request.rate_celsius_per_s, '°C/s')}"
        )
        start = self._go(request, words)
        self._note(f"heater from {show(start.setpoint_celsius, '°C')} {words}")

    def cooling(self, rate_celsius_per_s: float) -> RampRequest | None:
        """The ramp that cools, checked; None if there is nothing to ramp.

        Raises:
            InstrumentError: the heater is off.
            LimitError: too fast.
        """
        holder = self._station.holder
        reading = holder.read()
        if reading.state is HolderState.OFF:
            raise InstrumentError("the heater is off already: it cools by itself.")
        limits = holder.describe().limits
        low = [limit.low for limit in limits if limit.quantity == "temperature"]
        request = RampRequest(max([COLD_CELSIUS, *low]), rate_celsius_per_s)
        holder.check(request)
        return request if reading.setpoint_celsius > request.target_celsius else None

    def cool(self, request: RampRequest) -> None:
        """Ramp down, and switch off there; raises as :meth:`ramp`."""
        words = (
            f"cools to {show(request.target_celsius, '°C')} at "
            f"{show(request.rate_celsius_per_s, '°C/s')}, then off"
        )
        self._go(request, words, request.target_celsius)
        self._note(f"heater {words}")

    def hold(self) -> None:
        """Freeze the temperature where it is."""
        self._station.holder.hold()
        held = show(self._station.holder.read().setpoint_celsius, "°C")
        self._told = _Told(f"held at {held}", self._station.clock.now_s())
        self._note(f"heater held at {held}")

    def switched_off(self) -> None:
        """It was switched off at once, by whatever way: a ramp that is under way may not undo it."""
        self._offs += 1
        self._told = None

    def look(self, reading: HolderReading | None) -> str:
        """Judge a reading: forget what is over, switch off where that is to be; returns a fault."""
        told = self._told
        if told is None or reading is None or reading.t_s <= told.at_s:
            return ""
        self._engine.by_hand.warmed(reading.setpoint_celsius)
        if reading.state in (HolderState.OFF, HolderState.TRIPPED):
            self._told = None
            return reading.fault
        here = abs(reading.setpoint_celsius - told.off_at_celsius) <= ARRIVED_CELSIUS
        if here and reading.state is HolderState.HOLDING:
            self._station.holder.make_safe("cooled by hand")
        return ""

    def _go(
        self, request: RampRequest, words: str, off_at_celsius: float = math.nan
    ) -> HolderReading:
        holder, offs = self._station.holder, self._offs
        start = holder.read()
        if start.state is HolderState.TRIPPED:
            raise FaultError(f"the heater is tripped: {start.fault} Clear the fault first.")
        holder.ramp(request.target_celsius, request.rate_celsius_per_s)
        self._told = _Told(words, self._station.clock.now_s(), off_at_celsius)
        if self._offs != offs:
            self._told = None
            holder.make_safe("heater off was pressed meanwhile")
            raise InstrumentError("heater off was pressed meanwhile; the heater is off.")
        return start
