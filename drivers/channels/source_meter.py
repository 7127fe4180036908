"""Four-point resistance of a film with a Keithley 2400-class source-meter: the driver ``source_meter_resistance``.

A small current is forced through the outer contacts, and the voltage between the inner ones is
measured. The output is switched on by the first reading and stays on, so that readings follow each
other within the integration time; ``make_safe`` switches it off, and the next reading on again. The
current is small enough to do no harm, which is the person's to say (``current``, ``compliance``).

The resistance is voltage over current. What the resistivity is depends on the contacts' geometry,
which the driver does not know. Thermal voltages are not cancelled: at small resistances a few µV in
the contacts show.

Sources and what is unverified: as in :mod:`drivers.scpi`. Nothing was tried on hardware.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from acquire.clock import Clock
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import Description, Limit
from acquire.station import DriverContext
from acquire.units import show
from drivers import scpi
from drivers.four_wire import SETUP_WALL_S, FourWire
from drivers.links import Wire
from drivers.options import number, quantity
from drivers.safekeeping import Safekeeper
from drivers.scpi import SourceMeter, SourceReading

DRIVER = "source_meter_resistance"
CLOSE_WALL_S = 3.0
_LIMITED = scpi.STATUS_COMPLIANCE | scpi.STATUS_RANGE_COMPLIANCE | scpi.STATUS_OVERFLOW


def open_resistance(
    context: DriverContext,
    *,
    port: str,
    current: str = "1 µA",
    compliance: str = "10 V",
    nplc: float = 1.0,
    line_frequency: str = "50 Hz",
    baud_rate: int = 9600,
    terminator: str = "LF",
) -> ResistanceChannel:
    """Open a source-meter as a resistance channel, its output off.

    Args:
        context: role and clock.
        port: as for the heater: ``COM3``, ``HOST:PORT``, ``socket://…``, ``rfc2217://…``.
        current: forced through the film.
        compliance: highest voltage; the highest resistance is that over the current.
        nplc: line cycles per integration, 0.01 to 10.
        line_frequency: of the mains.
        baud_rate: of a serial line, as the device is set.
        terminator: ``LF``, ``CR`` or ``CRLF``, as the device is set.

    Raises:
        UnitError, ConfigError, ValueError: an option cannot be used.
        LinkError, InstrumentError: the device does not answer, or is not one of the class.
    """
    forced_a = quantity("current", current, "A", 1e-9, 0.1)
    compliance_v = quantity("compliance", compliance, "V", 2e-4, 210)
    cycles = number("nplc", nplc, 0.01, 10)
    frequency = quantity("line_frequency", line_frequency, "Hz", 50, 60)
    meter = SourceMeter(port, f"the source-meter of {context.role}", baud_rate, terminator)
    try:
        wires = FourWire(meter, forced_a, compliance_v, cycles, frequency, context.clock)
        channel = ResistanceChannel(wires, context.role, context.clock)
    except BaseException:
        meter.link.close()
        raise
    return channel


class ResistanceChannel:
    """A film's four-point resistance; any thread may call it."""

    def __init__(self, wires: FourWire, role: str, clock: Clock) -> None:
        self._wires = wires
        self._meter = wires.meter
        self._current_a = wires.range_a
        self._compliance_v = wires.compliance_v
        self._connection = 0
        self._meter.talk(self._wires.open, "the set-up", SETUP_WALL_S)
        self._description = self._describe(role)
        self._keeper = Safekeeper(self._off, clock, self._meter.what)
        self._closed = False

    def describe(self) -> Description:
        """Identity, the highest resistance, and the units of what :meth:`read` gives."""
        return self._description

    def read(self) -> Mapping[str, float]:
        """``resistance`` (Ω), ``voltage`` (V) and ``current`` (A), measured now.

        Raises:
            InstrumentError: the circuit is open, or beyond what current and compliance can measure.
            LinkError: the device does not answer.
        """
        if unknown := self._keeper.unknown:
            raise LinkError(
                f"{self._meter.what} is being switched off, and has not confirmed it yet: {unknown}"
            )
        reading = self._meter.talk(
            self._read, "a reading", SETUP_WALL_S + self._wires.reading_wall_s
        )
        self._judge(reading)
        return {
            "resistance": reading.resistance_ohm,
            "voltage": reading.volts,
            "current": reading.amps,
        }

    def make_safe(self, reason: str) -> None:
        """Switch the output off, however long that takes; returns at once, never raises."""
        if not self._closed:
            self._keeper.demand()

    def close(self) -> None:
        """Switch off, wait until that is confirmed, and let go of the device; idempotent.

        Raises:
            LinkError: it could not be confirmed within 3 s; everything is released all the same.
        """
        if self._closed:
            return
        self._closed = True
        self._keeper.demand()
        unknown = self._keeper.close(CLOSE_WALL_S)
        self._meter.link.close()
        if unknown:
            raise LinkError(
                f"{self._meter.what} was closed, but whether its output is off is not known: {unknown}"
            )

    # ------------------------------------------------------------------- within an exchange

    def _off(self) -> None:
        self._meter.talk(self._meter.off, "switching off")

    def _read(self, wire: Wire) -> SourceReading:
        if self._connection != self._meter.link.connections or not self._meter.is_on(wire):
            self._wires.switch_on(wire, self._current_a)
            self._connection = self._meter.link.connections
        return self._wires.read(wire)

    def _judge(self, reading: SourceReading) -> None:
        highest = show(self._compliance_v / self._current_a, "Ω")
        if reading.status & _LIMITED or not math.isfinite(reading.resistance_ohm):
            raise InstrumentError(
                f"{self._meter.what} finds an open circuit, or a resistance above {highest}, which is "
                f"{show(self._compliance_v, 'V')} at {show(self._current_a, 'A')}: check the contacts, "
                "lower the current or raise the compliance."
            )
        if not reading.status & scpi.STATUS_REMOTE_SENSE:
            raise InstrumentError(f"{self._meter.what} does not sense four-wire any more.")
        if abs(reading.amps - self._current_a) > 0.1 * self._current_a:
            raise InstrumentError(
                f"{self._meter.what} forces {show(self._current_a, 'A')} and measures "
                f"{show(reading.amps, 'A')}: check the contacts."
            )

    def _describe(self, role: str) -> Description:
        identity = self._meter.known_identity
        return Description(
            role=role,
            model=f"four-point resistance on {identity.maker} {identity.model}",
            driver=DRIVER,
            serial=identity.serial,
            limits=(
                Limit(
                    "resistance",
                    0.0,
                    self._compliance_v / self._current_a,
                    "Ω",
                    "options current and compliance",
                ),
            ),
            details={
                "resistance": "Ω",
                "voltage": "V",
                "current": "A",
                "forced_current_a": self._current_a,
                "compliance_v": self._compliance_v,
                "firmware": identity.firmware,
            },
        )
