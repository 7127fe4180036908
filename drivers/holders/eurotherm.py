"""Furnace or holder on a Eurotherm 2400 or 3200 controller over Modbus: the driver ``eurotherm``.

The controller closes the loop; the driver makes the ramps, writing the remote setpoint (register 26)
every period from :mod:`drivers.holders.regulated` and reading the process value, the working setpoint,
the output and the status. Numbers are read and written as IEEE floats at ``0x8000 + 2 · register``,
high word first. The target setpoint (register 2, EEPROM with a limited number of writes) is read and
never written.

Safety: a controller whose remote setpoint is not refreshed falls back to its own target setpoint [M],
and so does one that is switched to local. Therefore a controller whose target setpoint is above
``fallback_limit`` is refused: a dead link then cools. Off is the standby mode (register 199 = 1, all
outputs off), read back, and the first thing that is done to a controller that is opened; one that
has no such register is brought to a remote setpoint at ambient instead, confirmed by its working
setpoint and refreshed while it is off. Trips are the status bits sensor break, loop break, heater
fail, load fail, process value out of range, remote setpoint fail and manual mode, a target setpoint
that was raised above ``fallback_limit``, a working setpoint that is not the one written,
over-temperature, deviation, and readings that fail for longer than ``patience``.

Units: all temperatures are in the units of the controller's display (register 516: 0 °C, 1 °F, 2 K). One
that shows °F or K is refused when it is opened and whenever it is switched on. Where the register is
missing or says something else, a person has to state ``units = "°C"``; a statement never overrules a
register that says °F or K.

Sources: thaeber/eurothermlib and AERCO's register table, both public. Register
122, type code ``0x2xxx`` for the 2000 series with the range in the second digit, 107 version: two
public drivers that cite handbook HA026230. Registers 35 (setpoint rate limit, 0 none) and 199 (mode),
status bits 4 and 12: handbook HA028651 of the 3200. Register 516: a public driver of the 3500 series.
Unverified: the meaning of 276 (1 remote, 0 local) [I]; that 199 is the same on a 2400 [I], and the type
code of a 3200 [I: any of the 0x3000]; how long a remote setpoint lasts [M]; that function 16 writes a
float of the remote setpoint to RAM only [M]; that 516 is the same on a 2400 and a 3200 [M]; that 26 is a
2400's remote setpoint: so says AERCO's table, while another public driver takes 485 there. One that does
not take it trips at once, since its working setpoint is not the one written. Nothing was tried on hardware.
"""

from __future__ import annotations

from acquire.errors import ConfigError
from acquire.instruments import Description, Limit
from acquire.station import DriverContext
from drivers.holders.actuator import RegulatedSettings
from drivers.holders.eurotherm_actuator import CELSIUS, EurothermActuator
from drivers.holders.regulated import RegulatedHolder
from drivers.options import quantity, whole

DRIVER = "eurotherm"


def open_eurotherm(
    context: DriverContext,
    *,
    port: str,
    maximum_temperature: str,
    unit: int = 1,
    ambient: str = "25 °C",
    maximum_ramp_rate: str = "50 °C/s",
    fallback_limit: str = "50 °C",
    period: str = "250 ms",
    deviation: str = "50 °C",
    deviation_time: str = "30 s",
    patience: str = "1 s",
    baud_rate: int = 9600,
    units: str = "",
    model: str = "",
) -> RegulatedHolder:
    """Open a Eurotherm controller and switch its outputs off.

    Args:
        context: role and clock.
        port: ``COM3``, ``/dev/ttyUSB0``, ``rfc2217://…``; ``HOST:PORT`` or ``socket://HOST:PORT`` for
            RTU framing over TCP; ``tcp://HOST:PORT`` for Modbus TCP.
        maximum_temperature: highest setpoint.
        unit: the controller's Modbus address.
        ambient: temperature without heating, and the lowest setpoint.
        maximum_ramp_rate: fastest ramp.
        fallback_limit: highest target setpoint that the controller may have of its own.
        period: from one remote setpoint to the next.
        deviation: difference between measured temperature and setpoint that trips …
        deviation_time: … when it lasts longer than this.
        patience: how long readings may fail while the heating is on before that trips.
        baud_rate: of a serial line with 8 data bits, no parity, one stop bit.
        units: "°C" states what the display shows, for a controller that does not tell.
        model: name of furnace or holder, for the metadata.

    Raises:
        UnitError, ConfigError, ValueError: an option cannot be used.
        LinkError, InstrumentError: the controller does not answer, or cannot be used as it is set.
    """
    maximum = quantity("maximum_temperature", maximum_temperature, "°C", 50, 2000)
    cold = quantity("ambient", ambient, "°C", -50, 100)
    regulated = RegulatedSettings(
        period_s=quantity("period", period, "s", 0.1, 5),
        temperature=Limit("temperature", cold, maximum, "°C", "option maximum_temperature"),
        ramp_rate=Limit(
            "ramp_rate",
            1e-4,
            quantity("maximum_ramp_rate", maximum_ramp_rate, "°C/s", 1e-3, 500),
            "°C/s",
            "option maximum_ramp_rate",
        ),
        ambient_celsius=cold,
        deviation_celsius=quantity("deviation", deviation, "Δ°C", 1, 1000),
        deviation_time_s=quantity("deviation_time", deviation_time, "s", 0, 3600),
        patience_s=quantity("patience", patience, "s", 0, 60),
    )
    fallback = quantity("fallback_limit", fallback_limit, "°C", cold, maximum)
    address = whole("unit", unit, 1, 247)
    if units not in ("", CELSIUS):
        raise ConfigError(
            f'option units = "{units}" refused: only "{CELSIUS}" can be stated. Set the controller to '
            f"{CELSIUS}."
        )
    actuator = EurothermActuator(
        port, address, baud_rate, cold, fallback, context.clock, stated_celsius=units == CELSIUS
    )
    try:
        actuator.open()
        description = Description(
            role=context.role,
            model=model or f"Eurotherm {actuator.type_name}",
            driver=DRIVER,
            limits=(regulated.temperature, regulated.ramp_rate),
            details={
                "type_code": actuator.type_name,
                "version": actuator.version,
                "units": actuator.units,
                "off_is": "standby" if actuator.has_standby else "remote setpoint at ambient",
                "fallback_limit_celsius": fallback,
                "period_s": regulated.period_s,
            },
        )
        return RegulatedHolder(
            actuator, lambda: description, regulated, context.clock, "Eurotherm controller"
        )
    except BaseException:
        actuator.close()
        raise
