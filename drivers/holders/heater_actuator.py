"""Drives a heater through a source-meter: cold readings, the first currents, the loop's cycle, what trips it.

What it does and why is told by :mod:`drivers.holders.source_meter`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from acquire.clock import Clock, finite_rate
from acquire.errors import InstrumentError
from acquire.units import show
from drivers import scpi
from drivers.four_wire import SETUP_WALL_S, FourWire
from drivers.holders.actuator import Measurement, Trip, Unwanted
from drivers.holders.heater_calibration import Calibration
from drivers.holders.regulator import PowerLimits, PowerRegulator
from drivers.links import MalformedReply, Wire
from drivers.scpi import SourceReading

logger = logging.getLogger(__name__)

SETTLED = 5.0
"""Time constants after which the heater is at rest."""
COLD_AGAIN = 20.0
"""Time constants after which a heater that was switched off is cold."""
LEARNING_RISE_K = 4.0
MOST_LEARNING_STEPS = 24
PROBE_AGAIN_S = 30.0
LOOK_WALL_S = 0.02
"""Switching on looks this often whether it is still wanted."""
SAME_CURRENT = 0.05
"""Share by which two currents may differ that count as the same."""
LEAST_PERIOD = 0.5
"""Of the usual one: clocks that tick every 16 ms give two readings the same time."""
_REFUSED_BITS = (
    (scpi.STATUS_COMPLIANCE | scpi.STATUS_RANGE_COMPLIANCE, "it is in compliance (open heater?)"),
    (scpi.STATUS_OVERFLOW, "the measurement overflowed"),
    (scpi.STATUS_OVER_VOLTAGE, "the over-voltage protection is active"),
    (scpi.STATUS_CONTACT_CHECK, "the contact check failed"),
)


@dataclass(frozen=True, slots=True)
class HeaterSettings:
    """What a person says of heater and loop."""

    calibration: Calibration
    ambient_celsius: float
    maximum_current_a: float
    sense_current_a: float
    time_constant_s: float
    power_per_kelvin_mw: float | None
    cold_within_celsius: float
    """A heater without power that reads further than this from ambient is another one."""
    jump_celsius: float
    """A reading that is so far from the one before at the same current is no temperature."""


class HeaterActuator:
    """Forces currents through a heater whose temperature its resistance tells."""

    def __init__(
        self, wires: FourWire, settings: HeaterSettings, period_s: float, clock: Clock
    ) -> None:
        self._wires = wires
        self._meter = wires.meter
        self._settings = settings
        self._clock = clock
        self._forced_a = 0.0
        self._connection = 0
        self._last_s = 0.0
        self._usual_s = period_s
        self._off_s = -math.inf
        self._probing = False
        self._probed: Measurement | None = None
        self._regulator: PowerRegulator | None = None
        self._wanted: Callable[[], bool] = _always
        self._before: tuple[float, float] | None = None
        """Current (A) and temperature (°C) of the reading before."""

    def open(self) -> None:
        """Connect, switch the output off, bring the device to a known state; raises InstrumentError."""
        if self._meter.talk(self._wires.open, "the set-up", SETUP_WALL_S):
            logger.warning("%s was found switched on; it is switched off", self._meter.what)

    def close(self) -> None:
        """End the connection."""
        self._meter.link.close()

    # --------------------------------------------------------------------------- output off

    def off(self) -> None:
        """Switch off and have it confirmed; the level goes down to the sense current with it."""

        def exchange(wire: Wire) -> None:
            self._meter.off(wire)
            self._force(wire, self._settings.sense_current_a)

        self._regulator = None
        self._probed = None
        # also where the connection must be made anew first, on a slow line
        self._meter.talk(exchange, "switching off", scpi.CONNECT_S)
        self._off_s = self._clock.now_s()

    def idle(self, measure: bool) -> Measurement:
        """See that the output is off; the last cold reading, a new one if that is old."""

        def exchange(wire: Wire) -> None:
            if self._meter.is_on(wire):
                self._meter.off(wire)
                if not self._probing:
                    raise Trip("the output was found switched on though nobody had switched it on.")
            self._probing = False
            if errors := self._meter.errors(wire):
                logger.warning(
                    "%s has errors in its queue: %s", self._meter.what, "; ".join(errors)
                )

        self._meter.talk(exchange, "a look at its output")
        if not measure:
            return Measurement(self._clock.now_s(), 0.0, math.nan, 0.0)
        if self._probed is None or self._clock.now_s() - self._probed.t_s > PROBE_AGAIN_S:
            try:
                self._probed = self._probe()
            except Trip as trip:
                logger.warning("the cold heater cannot be read: %s", trip)
                self._probed = Measurement(self._clock.now_s(), 0.0, math.nan, 0.0)
        return self._probed

    def examine(self) -> None:
        """Read the cold heater once; raises Trip if it cannot be read."""
        self._probed = self._probe()

    def _probe(self) -> Measurement:
        """One reading with the sense current, the output off before and after it."""
        self._wait_until(self._off_s + COLD_AGAIN * self._settings.time_constant_s)
        self._probing = True
        try:
            self._meter.talk(self._switch_on, "switching on for a cold reading", SETUP_WALL_S)
            return self._settled()
        finally:
            # a link that is lost here is found again by idle(), which switches off
            self._meter.talk(self._meter.off, "switching off after a cold reading")
            self._probing = False

    # ---------------------------------------------------------------------------- output on

    def begin(self, wanted: Callable[[], bool]) -> Measurement:
        """Check the cold heater, then learn its power per kelvin unless it is given."""
        self._wanted = wanted
        try:
            return self._begun()
        finally:
            self._wanted = _always

    def _begun(self) -> Measurement:
        self._wait_until(self._off_s + COLD_AGAIN * self._settings.time_constant_s)
        self._meter.talk(self._switch_on, "switching on", SETUP_WALL_S)
        cold = self._settled()
        ambient = self._settings.ambient_celsius
        if abs(cold.celsius - ambient) > self._settings.cold_within_celsius:
            raise Trip(
                f"the cold heater reads {show(cold.resistance_ohm, 'Ω')}, which the calibration says is "
                f"{show(cold.celsius, '°C')}; {show(ambient, '°C')} are expected within "
                f"{show(self._settings.cold_within_celsius, '°C')} (option cold_within). Is this the chip "
                "whose r0, t0 and alpha the station has?"
            )
        warm, per_kelvin = self._learned(cold)
        cold_celsius = cold.celsius - cold.power_mw / per_kelvin
        power = self._forced_a**2 * warm.resistance_ohm * 1e3
        self._regulator = PowerRegulator(
            self._settings.time_constant_s, per_kelvin, cold_celsius, power
        )
        self._last_s = warm.t_s
        self._before = None
        return warm

    def regulate(self, setpoint: Callable[[float], float]) -> Measurement:
        """Read, then force the current until the next reading; raises Trip, LinkError."""
        return self._meter.talk(
            lambda wire: self._cycle(wire, setpoint), "a reading", self._wires.reading_wall_s
        )

    def _cycle(self, wire: Wire, setpoint: Callable[[float], float]) -> Measurement:
        self._check_after_reconnection(wire)
        measured = self._read(wire)
        regulator = self._regulator
        if regulator is None:
            raise Trip("the loop was not begun.")
        self._judge_jump(measured.celsius)
        period_s = measured.t_s - self._last_s
        self._last_s = measured.t_s
        # a mishap that took long does not make the next period long
        self._usual_s += 0.2 * (min(period_s, 4 * self._usual_s) - self._usual_s)
        following = setpoint(measured.t_s + self._usual_s)
        resistance = self._settings.calibration.resistance_ohm(following)
        low_a, high_a = self._settings.sense_current_a, self._settings.maximum_current_a
        regulator.learn(measured.celsius, measured.power_mw)
        power = regulator.next_power_mw(
            measured.celsius,
            setpoint(measured.t_s),
            following,
            max(period_s, LEAST_PERIOD * self._usual_s),
            PowerLimits(low_a**2 * resistance * 1e3, high_a**2 * resistance * 1e3),
        )
        self._force(wire, min(max(math.sqrt(power * 1e-3 / resistance), low_a), high_a))
        return measured

    def _check_after_reconnection(self, wire: Wire) -> None:
        """A device that lost its output or its settings meanwhile is not driven on."""
        if self._connection == self._meter.link.connections:
            return
        if not self._meter.is_on(wire):
            raise Trip("the output was found off after the connection had been lost.")
        if errors := self._meter.left_errors:
            raise Trip(f"after the connection had been lost: {'; '.join(errors)}.")
        try:
            self._wires.verify(wire)
        except MalformedReply:
            raise
        except InstrumentError as error:
            raise Trip(f"after the connection had been lost: {error}") from error
        self._connection = self._meter.link.connections

    def _learned(self, cold: Measurement) -> tuple[Measurement, float]:
        """The last reading, and the power per kelvin in mW/K."""
        if self._settings.power_per_kelvin_mw is not None:
            return cold, self._settings.power_per_kelvin_mw
        for _ in range(MOST_LEARNING_STEPS):
            # twice the power: from below 4 K, the next step cannot go beyond 8 K or so
            forced = min(self._forced_a * math.sqrt(2), self._settings.maximum_current_a)
            self._meter.talk(partial(self._force, amps=forced), "a first current")
            warm = self._settled()
            rise = warm.celsius - cold.celsius
            if rise >= LEARNING_RISE_K:
                return warm, (warm.power_mw - cold.power_mw) / rise
            if forced == self._settings.maximum_current_a:
                break
        raise Trip(
            f"{show(self._forced_a, 'A')} do not warm the heater by {LEARNING_RISE_K:g} °C. Is it the "
            "heater that is connected? Check the wiring and maximum_current."
        )

    def _settled(self) -> Measurement:
        self._wait_until(self._clock.now_s() + SETTLED * self._settings.time_constant_s)
        return self._meter.talk(self._read, "a reading", self._wires.reading_wall_s)

    def _wait_until(self, t_s: float) -> None:
        while (left_s := t_s - self._clock.now_s()) > 0:
            if not self._wanted():
                raise Unwanted("it is not switched on any further.")
            self._clock.sleep(min(left_s, LOOK_WALL_S * finite_rate(self._clock)))

    # ------------------------------------------------------------------- within an exchange

    def _switch_on(self, wire: Wire) -> None:
        self._forced_a = self._settings.sense_current_a
        self._wires.switch_on(wire, self._forced_a)
        self._connection = self._meter.link.connections

    def _force(self, wire: Wire, amps: float) -> None:
        self._wires.force(wire, amps)
        self._forced_a = amps

    def _read(self, wire: Wire) -> Measurement:
        before = self._clock.now_s()
        try:
            reading = self._wires.read(wire)
        except MalformedReply:
            raise
        except InstrumentError as error:
            raise Trip(str(error)) from error
        after = self._clock.now_s()
        self._judge(reading)
        resistance = reading.resistance_ohm
        celsius = self._settings.calibration.celsius(resistance)
        middle, bound = (before + after) / 2, (after - before) / 2
        return Measurement(middle, bound, celsius, reading.power_mw, resistance)

    def _judge_jump(self, celsius: float) -> None:
        """Raise Trip for a step that the current has not made: the loop would heat until it is undone."""
        before, self._before = self._before, (self._forced_a, celsius)
        if before is None or abs(self._forced_a - before[0]) > SAME_CURRENT * before[0]:
            return
        if abs(celsius - before[1]) > self._settings.jump_celsius:
            raise Trip(
                f"the reading went from {show(before[1], '°C')} to {show(celsius, '°C')} at the same "
                "current (a sense contact, or option deviation)."
            )

    def _judge(self, reading: SourceReading) -> None:
        """Raise Trip if a reading says that something is wrong."""
        for bits, meaning in _REFUSED_BITS:
            if reading.status & bits:
                raise Trip(f"the source-meter says that {meaning}.")
        if not reading.status & scpi.STATUS_REMOTE_SENSE:
            raise Trip("the source-meter says that it does not sense four-wire any more.")
        if not (math.isfinite(reading.volts) and math.isfinite(reading.amps)):
            raise Trip("voltage or current is not a number (open heater or lost contact).")
        tolerance = 0.05 * self._forced_a + 0.005 * self._settings.maximum_current_a
        if abs(reading.amps - self._forced_a) > tolerance:
            raise Trip(
                f"the heater carries {show(reading.amps, 'A')}; {show(self._forced_a, 'A')} are forced "
                "(open or shorted heater)."
            )
        low, high = self._settings.calibration.range_ohm
        if not low <= reading.resistance_ohm <= high:
            raise Trip(
                f"a resistance of {show(reading.resistance_ohm, 'Ω')} is outside the calibration, which "
                f"goes from {show(low, 'Ω')} to {show(high, 'Ω')}."
            )


def _always() -> bool:
    return True
