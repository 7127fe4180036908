"""A source-meter as a four-wire current source: its set-up, read back, and readings that cannot be old ones."""

from __future__ import annotations

from acquire.clock import Clock, finite_rate
from acquire.errors import InstrumentError
from drivers import scpi
from drivers.links import MalformedReply, Wire
from drivers.scpi import SourceMeter, SourceReading, amperes

SETUP_WALL_S = 2.0
_SLOWER = 10.0
"""Auto-zero, two functions and a change of range make a reading longer than one integration."""


class FourWire:
    """Forces a current and measures voltage and current; methods are parts of one exchange.

    Args:
        meter: the device.
        range_a: highest current that is forced.
        compliance_v: voltage beyond which the device reduces the current by itself.
        nplc: line cycles per integration.
        line_frequency_hz: of the mains.
        clock: the station's.
        enable_line: whether the output is on only while the device's output-enable line is held low.
    """

    def __init__(
        self,
        meter: SourceMeter,
        range_a: float,
        compliance_v: float,
        nplc: float,
        line_frequency_hz: float,
        clock: Clock,
        *,
        enable_line: bool = False,
    ) -> None:
        self.meter = meter
        self.range_a = range_a
        self.compliance_v = compliance_v
        self.enable_line = enable_line
        self._nplc = nplc
        self._device_s = -1.0
        self.reading_wall_s = _SLOWER * nplc / line_frequency_hz / finite_rate(clock)
        """Longest that integrating one reading takes."""

    def open(self, wire: Wire) -> bool:
        """Switch off, reset and set up; whether the output was found on."""
        was_on = self.meter.is_on(wire)
        self.meter.off(wire)
        self.meter.set_up(wire, ["*RST"])
        self.prepare(wire, 0.0)
        self.meter.off(wire)
        return was_on

    def prepare(self, wire: Wire, level_a: float) -> None:
        """Every setting that safety and readings rest upon, read back; the output must be off."""
        self.meter.set_up(
            wire,
            [
                ":OUTP:SMOD HIMP",
                ":SYST:RSEN 1",
                ":SOUR:FUNC CURR",
                ":SOUR:CURR:MODE FIX",
                f":SOUR:CURR:RANG {amperes(self.range_a)}",
                f":SOUR:CURR {amperes(level_a)}",
                ":SOUR:DEL 0",
                ":SOUR:CLE:AUTO 0",
                ":ARM:COUN 1",
                ":TRIG:COUN 1",
                ":TRIG:DEL 0",
                f":SENS:VOLT:PROT {amperes(self.compliance_v)}",
                ":SENS:FUNC:CONC 1",
                ":SENS:FUNC 'VOLT','CURR'",
                ":SENS:VOLT:RANG:AUTO 1",
                f":SENS:VOLT:NPLC {self._nplc:g}",
                ":FORM:DATA ASC",
                ":FORM:ELEM VOLT,CURR,TIME,STAT",
                # *RST has made the device deaf to that line
                *([":OUTP:ENAB 1"] if self.enable_line else []),
            ],
        )
        self.verify(wire)
        self._device_s = -1.0

    def verify(self, wire: Wire) -> None:
        """Raise InstrumentError if compliance, sensing or interlock are not as they were set."""
        self.meter.verify(wire, ":SENS:VOLT:PROT?", self.compliance_v, 0.01 * self.compliance_v)
        self.meter.verify(wire, ":SYST:RSEN?", 1, 0)
        if self.enable_line:
            self.meter.verify(wire, ":OUTP:ENAB?", 1, 0)

    def switch_on(self, wire: Wire, level_a: float) -> None:
        """Set everything up anew, then switch the output on."""
        self.meter.off(wire)
        self.prepare(wire, level_a)
        self.meter.on(wire)

    def force(self, wire: Wire, level_a: float) -> None:
        """Set the current."""
        self.meter.write(wire, f":SOUR:CURR {amperes(level_a)}")

    def read(self, wire: Wire) -> SourceReading:
        """A reading that is newer than the one before.

        Raises:
            InstrumentError: the device has an error in its queue.
            MalformedReply: the reading is an old one, or none.
        """
        reading, errors = self.meter.read(wire)
        if not scpi.newer(reading.time_s, self._device_s):
            raise MalformedReply(
                f"its time stamp {reading.time_s:g} s is not later than {self._device_s:g} s: the reply "
                "is an old one."
            )
        self._device_s = reading.time_s
        if errors:
            raise InstrumentError(f"the source-meter reports an error: {'; '.join(errors)}.")
        return reading
