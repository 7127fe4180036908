"""The closed loop of a heater that is regulated by its driver, on a far end in real time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from acquire.clock import WallClock
from acquire.errors import ConfigError, HotstageError
from acquire.instruments import HeatingHolder, HolderState
from acquire.station import Station
from acquire.station.station import installed

DRIVER = "source_meter_heater"
TARGET_CELSIUS, RATE_CELSIUS_PER_S = 800.0, 5.0
FROM_CELSIUS = 30.0
QUICK_FROM_CELSIUS = 785.0
FAST_CELSIUS_PER_S = 100.0
HOLD_S = 5.0
SETTLE_S = 1.0
READ_EVERY_S = 0.004
HELD_S = 60.0


@dataclass
class Followed:
    """A ramp as it was followed; temperatures in °C."""

    off: list[float] = field(default_factory=list)
    """Distance of every reading from the setpoint."""
    truly_off: list[float] = field(default_factory=list)
    """The same for the temperature at the far end."""
    highest: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    """Between readings."""

    @property
    def worst(self) -> float:
        """Largest distance of all."""
        return max(*self.off, *self.truly_off)

    @property
    def overshoot(self) -> float:
        """Above the target, as read or as it was."""
        return max(0.0, self.highest - TARGET_CELSIUS)

    @property
    def period_s(self) -> float:
        """Median time from one reading to the next."""
        return float(np.median(self.gaps_s))


def _station() -> Station:
    for name in sorted(installed()):
        station = Station.load(name)
        if station.file.wires and station.file.holder.driver == DRIVER:
            return station
    raise ConfigError(f"no installed station has a far end for the driver {DRIVER!r}.")


def follow(*, quick: bool) -> Followed:
    """Ramp to 800 °C at 5 °C/s from about room temperature, or ``quick`` from a little below.

    Raises:
        HotstageError: there is no such station, or its holder does not get there.
    """
    station, clock = _station(), WallClock()
    far_ends = station.start_far_ends(clock)
    opener = station.opener(clock, far_ends.addresses)
    try:
        holder, true = opener.open("holder"), far_ends.simulation.instruments["holder"]
        if not isinstance(holder, HeatingHolder) or not isinstance(true, HeatingHolder):
            raise HotstageError(f"station {station.name} has no heating holder.")
        try:
            holder.ramp(QUICK_FROM_CELSIUS if quick else FROM_CELSIUS, FAST_CELSIUS_PER_S)
            _await_hold(holder, clock)
            clock.sleep(SETTLE_S)
            holder.ramp(TARGET_CELSIUS, RATE_CELSIUS_PER_S)
            return _record(holder, true, clock)
        finally:
            holder.make_safe("the bench has seen enough")
            close = getattr(holder, "close", None)
            if callable(close):
                close()
    finally:
        opener.close()
        far_ends.close()


def _await_hold(holder: HeatingHolder, clock: WallClock) -> None:
    give_up = clock.now_s() + HELD_S
    while (reading := holder.read()).state is not HolderState.HOLDING:
        if clock.now_s() > give_up or reading.state is HolderState.TRIPPED:
            raise HotstageError(f"the holder does not get where the ramp shall begin: {reading}")
        clock.sleep(0.02)


def _record(holder: HeatingHolder, true: HeatingHolder, clock: WallClock) -> Followed:
    """Read until the target has been held for a while."""
    found, pause = Followed(), threading.Event()
    times: list[float] = []
    held_since: float | None = None
    while held_since is None or clock.now_s() - held_since < HOLD_S:
        reading = holder.read()
        if reading.state not in (HolderState.RAMPING, HolderState.HOLDING):
            raise HotstageError(f"the ramp has ended: {reading}")
        if not times or reading.t_s > times[-1]:
            times.append(reading.t_s)
            celsius = true.read().measured_celsius
            # the setpoint has gone on since the reading
            ahead = min(
                TARGET_CELSIUS - reading.setpoint_celsius,
                RATE_CELSIUS_PER_S * max(0.0, clock.now_s() - reading.t_s),
            )
            found.off.append(abs(reading.measured_celsius - reading.setpoint_celsius))
            found.truly_off.append(abs(celsius - reading.setpoint_celsius - ahead))
            found.highest = max(found.highest, reading.measured_celsius, celsius)
        if held_since is None and reading.state is HolderState.HOLDING:
            held_since = clock.now_s()
        pause.wait(READ_EVERY_S)
    found.gaps_s = [later - earlier for earlier, later in pairwise(times)]
    return found
