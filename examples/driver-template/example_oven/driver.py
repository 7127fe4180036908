"""The example oven: a heater that takes setpoints over a line protocol.

Protocol (lines end with LF; the oven answers each with one line):

| request | reply | |
|---|---|---|
| ``ID?`` | ``ID EXAMPLE OVEN 1`` | |
| ``ON`` | ``ON`` | output on |
| ``OFF`` | ``OFF`` | output off |
| ``SET 123.45`` | ``SET 123.45`` | setpoint in °C, as taken |
| ``READ?`` | ``READ 1 123.45 2.345`` | output, °C, mW |
| anything | ``ERROR WORDS`` | refused |

Sources: none; the oven is invented, to show how a driver is written. In yours, say where each fact
comes from, what of it is inferred, and that it was not tried on hardware until it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from acquire.clock import Clock
from acquire.errors import InstrumentError
from acquire.instruments import Description, Limit
from acquire.station import DriverContext
from drivers.holders.actuator import Measurement, RegulatedSettings, Trip, Unwanted
from drivers.holders.regulated import RegulatedHolder
from drivers.links import Link, MalformedReply, Wire, check_line, open_line
from drivers.options import quantity

DRIVER = "example_oven"
MODEL = "EXAMPLE OVEN"
COMMAND_S = 0.5
"""Wall seconds for a command and its reply."""
AMBIENT_CELSIUS = 25.0
_READING = re.compile(r"READ ([01]) (-?\d+\.\d\d) (\d+\.\d{3})")


def open_oven(
    context: DriverContext,
    *,
    port: str,
    maximum_temperature: str,
    maximum_ramp_rate: str = "100 °C/s",
    period: str = "50 ms",
) -> RegulatedHolder:
    """Open the oven with its output off: the entry point ``example_oven`` of ``hotstage.drivers``.

    Args:
        context: role, clock and station file.
        port: ``COM3``, ``/dev/ttyUSB0``, ``HOST:PORT``, ``socket://HOST:PORT``, ``rfc2217://…``.
        maximum_temperature: highest setpoint.
        maximum_ramp_rate: fastest ramp.
        period: from one setpoint to the next.

    Raises:
        ValueError: an option cannot be used.
        LinkError, InstrumentError: the oven does not answer, or it is something else.
    """
    highest = quantity("maximum_temperature", maximum_temperature, "°C", 50, 1500)
    fastest = quantity("maximum_ramp_rate", maximum_ramp_rate, "°C/s", 0.01, 500)
    settings = RegulatedSettings(
        period_s=quantity("period", period, "s", 0.01, 5),
        temperature=Limit(
            "temperature", AMBIENT_CELSIUS, highest, "°C", "option maximum_temperature"
        ),
        ramp_rate=Limit("ramp_rate", 1e-3, fastest, "°C/s", "option maximum_ramp_rate"),
        ambient_celsius=AMBIENT_CELSIUS,
        deviation_celsius=50.0,
        deviation_time_s=5.0,
        patience_s=0.5,
    )
    oven = Oven(port, context.clock)
    try:
        oven.off()
    except BaseException:
        oven.close()
        raise
    description = Description(
        role=context.role,
        model=MODEL,
        driver=DRIVER,
        limits=(settings.temperature, settings.ramp_rate),
        details={"period_s": settings.period_s},
    )
    # ramps, safe states, trips, and switching off until it is confirmed, over what Oven can do
    return RegulatedHolder(oven, lambda: description, settings, context.clock, "example oven")


class Oven:
    """The protocol: one method for each thing that :class:`drivers.holders.actuator.Actuator` needs."""

    def __init__(self, port: str, clock: Clock) -> None:
        check_line(port)
        self._clock = clock
        self._link = Link(
            lambda by: open_line(port, by, baudrate=9600),
            what=f"the oven at {port}",
            mend="Is it switched on, its cable in place, and no other program using the port?",
            greet=_greet,
        )

    def begin(self, wanted: Callable[[], bool]) -> Measurement:
        """Switch on at ambient temperature, unless somebody has called ``make_safe`` meanwhile."""
        self._set(AMBIENT_CELSIUS)
        if not wanted():
            raise Unwanted("the oven was not switched on, since it shall be off.")
        self._say("ON", "ON")
        return self._read(expect_on=True)

    def regulate(self, setpoint: Callable[[float], float]) -> Measurement:
        """Read, then send the setpoint of now."""
        measured = self._read(expect_on=True)
        self._set(setpoint(self._clock.now_s()))
        return measured

    def off(self) -> None:
        """Switch off, and read that it is off."""
        self._say("OFF", "OFF")
        self._read(expect_on=False)

    def idle(self, measure: bool) -> Measurement:
        """Read; this oven can measure at any time."""
        return self._read(expect_on=False)

    def examine(self) -> None:
        """Raise Trip if the oven is on, or cannot be read."""
        self._read(expect_on=False)

    def close(self) -> None:
        """Let go of the line."""
        self._link.close()

    def _set(self, celsius: float) -> None:
        text = f"SET {celsius:.2f}"
        self._say(text, text)

    def _say(self, request: str, expected: str) -> None:
        reply = self._ask(request)
        if reply.startswith("ERROR"):
            raise InstrumentError(f"the oven refused {request!r}: {reply}.")
        if reply != expected:
            raise InstrumentError(f"the oven was told {request!r} and took {reply!r}.")

    def _read(self, *, expect_on: bool) -> Measurement:
        before_s = self._clock.now_s()
        reply = self._ask("READ?", _READING.fullmatch)
        after_s = self._clock.now_s()
        found = _READING.fullmatch(reply)
        if found is None:  # ``ERROR …``, which _ask lets pass
            raise InstrumentError(f"the oven refused to be read: {reply}.")
        if (found[1] == "1") is not expect_on:
            words = (
                "off though it was switched on" if expect_on else "on though it was switched off"
            )
            raise Trip(f"the oven's output is {words}.")
        return Measurement(
            t_s=(before_s + after_s) / 2,
            bound_s=(after_s - before_s) / 2,
            celsius=float(found[2]),
            power_mw=float(found[3]),
        )

    def _ask(self, request: str, understood: Callable[[str], object] | None = None) -> str:
        def exchange(wire: Wire) -> str:
            wire.send(request.encode("ascii") + b"\n")
            reply = wire.receive_line().decode("ascii", "replace")
            known = reply.split(" ")[0] in (request.split(" ")[0].rstrip("?"), "ERROR")
            # MalformedReply ends the connection, so that nothing of it reaches the next exchange
            if not known or (
                understood and not reply.startswith("ERROR") and not understood(reply)
            ):
                raise MalformedReply(f"{reply!r} is no reply to {request!r}.")
            return reply

        return self._link.talk(exchange, within_s=COMMAND_S, doing=request)


def _greet(wire: Wire) -> None:
    """Identify the device on every new connection, and tell another one by its words."""
    wire.send(b"ID?\n")
    said = wire.receive_line().decode("ascii", "replace")
    if not said.startswith(f"ID {MODEL}"):
        raise MalformedReply(f"it says {said!r} of itself, and not {MODEL!r}.")
