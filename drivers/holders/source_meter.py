"""MEMS heater on a Keithley 2400-class source-meter: the driver ``source_meter_heater``.

The source-meter forces a current through the heater and measures voltage and current four-wire; the
temperature follows from the resistance by the chip's calibration. The loop is ours: every period it
reads voltage, current, time and status with the error queue, and sets the current for the power that
:mod:`drivers.holders.regulator` gives, over :mod:`drivers.holders.regulated`. The resistance is
computed here from voltage and current, which saves a fifth of the bytes of each reading.

Speed: at 50 Hz and 0.1 line cycles a reading integrates 2 × 2 ms, which leaves room in 20 ms; at one
line cycle it cannot be repeated every 20 ms. On RS-232 the bytes of a period need about 19 ms at
57600 baud and 115 ms at 9600: the loop then takes as long as it takes, its gain does not depend on it.

Safety: the compliance voltage is set and read back before the output is switched on; sensing is
four-wire, and checked in the status of every reading; the off state is high impedance. A trip, with
the output off at once, is: compliance, overflow, contact failure, an error in the queue, a current
that is not the one forced, a resistance outside the calibration, over-temperature, deviation from
the setpoint, a reading that jumps at the same current (a sense contact that reads low would be
heated up for), and readings that fail for longer than ``patience``. A repeated reply is seen by its
time stamp. The device has no watchdog: when this process dies it goes on with the last current, which
is why it lives in a server under a supervisor, and why opening it switches the output off. Should
both die at once, three things remain: the last current is never above ``maximum_current`` nor its
voltage above the compliance, which ``describe`` tells as ``maximum_power_mw``; the temperature stays
about where it was; and, with ``output_enable``, whatever holds the output-enable line of the device
low can let go of it, whereupon the output goes off by itself. ``*RST``, with which opening begins,
switches that line off: an interlock that is wired works only with the option. The auto output-off of
the device (``:SOUR:CLE:AUTO``) is no help: it goes off after each reading, or after a count of readings
within which no other current can be set.

While the output is off, nothing can be measured. To tell the cold temperature, the driver switches the
small sense current on for one reading after every switching off, and every 30 s; no more often,
since the high-impedance off state is a relay's. It does not do so while a fault is latched.

Sources: those of :mod:`drivers.scpi`; output-enable line and auto output-off: Keithley 2400S-900-01,
pages 13-6, 18-9, 18-56, 18-72; chip as in :mod:`drivers.holders.heater_calibration`. Older models call
that line interlock and its command ``:OUTP:INT:STAT`` (2420 manual); one that does not know
``:OUTP:ENAB`` is refused if the option is set. Unverified: everything on hardware; that 0.1 line cycles
with auto-zero fit 20 ms on every model; the noise of a real chip, from which the tuning does not start.
"""

from __future__ import annotations

from acquire.errors import ConfigError
from acquire.instruments import Description, Limit
from acquire.station import DriverContext
from acquire.units import show
from drivers.four_wire import FourWire
from drivers.holders.actuator import RegulatedSettings
from drivers.holders.heater_actuator import HeaterActuator, HeaterSettings
from drivers.holders.heater_calibration import Calibration
from drivers.holders.regulated import RegulatedHolder
from drivers.options import number, quantity, switch
from drivers.scpi import SourceMeter

DRIVER = "source_meter_heater"
SLOWEST_S = 0.05
"""The loop is for membranes, which settle within a reading; a slower heater is another loop's."""


def open_heater(
    context: DriverContext,
    *,
    port: str,
    r0: str,
    alpha: str,
    maximum_temperature: str,
    maximum_current: str,
    compliance: str | None = None,
    t0: str = "25 °C",
    ambient: str = "25 °C",
    maximum_ramp_rate: str = "100 °C/s",
    sense_current: str = "0.2 mA",
    cold_within: str = "30 °C",
    time_constant: str = "4 ms",
    power_per_kelvin: str | None = None,
    period: str = "20 ms",
    nplc: float = 0.1,
    line_frequency: str = "50 Hz",
    deviation: str = "50 °C",
    deviation_time: str = "1 s",
    patience: str = "250 ms",
    baud_rate: int = 9600,
    terminator: str = "LF",
    output_enable: bool = False,
    chip: str = "",
) -> RegulatedHolder:
    """Open a heater on a source-meter and switch its output off.

    Args:
        context: role and clock.
        port: ``COM3``, ``/dev/ttyUSB0``, ``HOST:PORT``, ``socket://HOST:PORT``, ``rfc2217://…``.
        r0: the heater's resistance at ``t0``, from the chip's sheet.
        alpha: its temperature coefficient, "1.9e-3 1/K".
        maximum_temperature: highest setpoint.
        maximum_current: highest current ever forced.
        compliance: voltage beyond which the device reduces the current by itself; default 1.1 times
            what the highest current needs at the highest temperature.
        t0: temperature of ``r0``.
        ambient: temperature of the heater without power, and the lowest setpoint.
        maximum_ramp_rate: fastest ramp; the loop follows 20 ms behind.
        sense_current: for reading the heater while it is cold.
        cold_within: how far from ambient the heater may read without power before it is refused: an r0
            that is 1 % off reads 5 °C wrong when cold, and 13 °C at 800 °C (alpha 1.9e-3 1/K).
        time_constant: thermal, of the heater.
        power_per_kelvin: at low temperature, "8e-3 mW/K"; default: learned when heating begins.
        period: from reading to reading.
        nplc: line cycles per integration, 0.01 to 10.
        line_frequency: of the mains.
        deviation: difference between measured temperature and setpoint that trips …
        deviation_time: … when it lasts longer than this; a step of it between two readings at the
            same current trips at once.
        patience: how long readings may fail while the output is on before that trips.
        baud_rate: of a serial line, as the device is set.
        terminator: ``LF``, ``CR`` or ``CRLF``, as the device is set.
        output_enable: whether an interlock holds the output-enable line of the device low: the output
            is on only as long as it does.
        chip: name of the chip, for the metadata.

    Raises:
        UnitError, ConfigError, ValueError: an option cannot be used.
        LinkError, InstrumentError: the device does not answer, or is not one of the class.
    """
    maximum = quantity("maximum_temperature", maximum_temperature, "°C", 50, 2000)
    cold = quantity("ambient", ambient, "°C", -50, 100)
    highest_a = quantity("maximum_current", maximum_current, "A", 1e-5, 1.05)
    calibration = Calibration(
        quantity("r0", r0, "Ω", 0.1, 1e5),
        quantity("t0", t0, "°C", -50, 100),
        quantity("alpha", alpha, "1/K", 1e-5, 0.1),
        maximum,
    )
    needed_v = highest_a * calibration.range_ohm[1]
    settings = HeaterSettings(
        calibration,
        cold,
        highest_a,
        quantity("sense_current", sense_current, "A", 1e-6, highest_a / 2),
        quantity("time_constant", time_constant, "s", 1e-4, SLOWEST_S),
        quantity("power_per_kelvin", power_per_kelvin, "mW/K", 1e-6, 1e3)
        if power_per_kelvin
        else None,
        quantity("cold_within", cold_within, "Δ°C", 1, 200),
        quantity("deviation", deviation, "Δ°C", 1, 1000),
    )
    limit_v = quantity("compliance", compliance, "V", 2e-4, 210) if compliance else 1.1 * needed_v
    cycles = number("nplc", nplc, 0.01, 10)
    frequency = quantity("line_frequency", line_frequency, "Hz", 50, 60)
    period_s = quantity("period", period, "s", 5e-3, 1)
    if 2 * cycles / frequency > 0.8 * period_s:
        raise ConfigError(
            f"nplc = {nplc:g} refused: voltage and current then integrate for "
            f"{show(2 * cycles / frequency, 's')} of a period of {show(period_s, 's')}. Lower nplc to "
            f"{0.25 * period_s * frequency:.2g}, or lengthen the period."
        )
    regulated = RegulatedSettings(
        period_s=period_s,
        temperature=Limit("temperature", cold, maximum, "°C", "option maximum_temperature"),
        ramp_rate=Limit(
            "ramp_rate",
            1e-3,
            quantity("maximum_ramp_rate", maximum_ramp_rate, "°C/s", 0.01, 5000),
            "°C/s",
            "option maximum_ramp_rate",
        ),
        ambient_celsius=cold,
        deviation_celsius=settings.jump_celsius,
        deviation_time_s=quantity("deviation_time", deviation_time, "s", 0, 600),
        patience_s=quantity("patience", patience, "s", 0, 10),
    )
    meter = SourceMeter(port, "the source-meter heater", baud_rate, terminator)
    wires = FourWire(
        meter,
        highest_a,
        limit_v,
        cycles,
        frequency,
        context.clock,
        enable_line=switch("output_enable", output_enable),
    )
    actuator = HeaterActuator(wires, settings, period_s, context.clock)
    try:
        actuator.open()
        description = _description(context.role, chip, wires, settings, regulated)
        return RegulatedHolder(
            actuator, lambda: description, regulated, context.clock, "source-meter heater"
        )
    except BaseException:
        meter.link.close()
        raise


def _description(
    role: str,
    chip: str,
    wires: FourWire,
    settings: HeaterSettings,
    regulated: RegulatedSettings,
) -> Description:
    identity = wires.meter.known_identity
    calibration = settings.calibration
    return Description(
        role=role,
        model=f"heater on {identity.maker} {identity.model}",
        driver=DRIVER,
        serial=identity.serial,
        limits=(regulated.temperature, regulated.ramp_rate),
        details={
            "chip": chip,
            "firmware": identity.firmware,
            "r0_ohm": calibration.r0_ohm,
            "t0_celsius": calibration.t0_celsius,
            "alpha_per_k": calibration.alpha_per_k,
            "compliance_v": wires.compliance_v,
            "maximum_current_a": settings.maximum_current_a,
            "maximum_power_mw": 1e3 * settings.maximum_current_a * wires.compliance_v,
            "output_enable": "yes" if wires.enable_line else "no",
            "sense_current_a": settings.sense_current_a,
            "period_s": regulated.period_s,
        },
    )
