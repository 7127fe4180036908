"""DENSsolutions Impulse: the heating holder (Wildfire, Lightning) behind its ZMQ interface.

Sources. [R] the public ``impulsePy`` 3.1.0 and 1.0.0 of DENSsolutions: request types and keys
(``control.impulse.getStatus``, ``getAvailableDataChannels``, ``getAvailableProperties``,
``getPropertyInformation``, ``control.heat.startRamp {temperature, rampTime}``, ``stopRamp``),
status ``control`` = takes commands, ``resultCode`` with ``message`` and ``data.errors``; the data
socket with topics ``heat`` and ``events`` (``event`` in 1.0.0), ``sequenceNumber``,
``temperatureSetpoint`` and ``temperatureMeasured``, the event ``stimulusActionFinished`` and events
that tell a ``newState``.

[I] not verified: that ``powerMeasured``, ``currentMeasured`` and ``voltageMeasured`` are in the heat
data (else power and resistance read NaN), how units are spelt, that the ramp is linear from the
present setpoint, what the events hold beside the keys above, how often data come.
[M] the default limits: 1300 °C is what Wildfire chips are said to reach; 200 °C/s is a choice.
Nothing here has been tried on hardware.

Decisions where nothing is documented:

- *Off.* No command is known that switches the heater off. Safe is ``startRamp`` to room temperature
  with ``rampTime`` 0; OFF means that after it the setpoint is at room temperature and the measured
  power below ``off_power`` (or not told). Where a ``rampTime`` of 0 is refused, 1 s is sent. A cooling
  that is found to stand still half-way is ended so. The controller may still pass a small measuring
  current.
- *Hold.* What ``stopRamp`` holds is not documented: the data tell. If the setpoint does not stand
  still, or no data tell in time, ``startRamp`` with ``rampTime`` 0 commands the setpoint of that
  moment.
- *Lost replies.* After a request without a reply, the request socket is thrown away and nothing is
  sent again; the data tell what became of it. Since Impulse may carry it out late, a holder that
  was made safe is watched for another 30 s, and made safe again if it heats.
- *Silence.* Without data for ``silence`` (wall time), ``read`` raises LinkError: nothing is known.
- *Control.* When Impulse leaves the status ``control``, nobody here can command the heater: every
  command and, while it is hot, every reading says so and what a person must do. ``make_safe`` goes on
  trying until Impulse takes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import zmq

from acquire.errors import ConfigError, InstrumentError, UnitError
from acquire.instruments import Description, Limit
from acquire.station import DriverContext
from acquire.units import convert, parse, show
from drivers.holders.impulse.control import (
    HOW_TO_GIVE_CONTROL,
    STATUS_IN_CONTROL,
    ControlSocket,
)
from drivers.holders.impulse.holder import ImpulseHolder
from drivers.holders.impulse.situation import Settings
from drivers.holders.impulse.stream import Stream, Units
from drivers.links import parse_address

__all__ = ["ImpulseHolder", "open_impulse"]

SLOWEST_CELSIUS_PER_S = 1e-3
_NEEDED = ("temperatureSetpoint", "temperatureMeasured")
_CELSIUS = ("°c", "degc", "c", "celsius", "℃", "deg c")
_PINGS = 5


def open_impulse(
    context: DriverContext,
    *,
    control: str,
    data: str,
    maximum_temperature: str = "1300 °C",
    maximum_ramp_rate: str = "200 °C/s",
    room_temperature: str = "25 °C",
    off_power: str = "0.5 mW",
    timeout: str = "1 s",
    silence: str = "2 s",
) -> ImpulseHolder:
    """Connect to Impulse: the entry point ``impulse`` of ``hotstage.drivers``.

    Args:
        context: the station.
        control: ``HOST:PORT`` of its commands; Impulse listens on 5557.
        data: ``HOST:PORT`` of its data; Impulse publishes on 5556.
        maximum_temperature: of the holder and its chips.
        maximum_ramp_rate: faster ramps are refused, but for the one to the safe state.
        room_temperature: the setpoint that counts as off, and the lowest there is.
        off_power: a measured power below this counts as off.
        timeout: wall time for a request and its reply.
        silence: wall time without data after which nothing is known.

    Raises:
        ConfigError: an option cannot be used.
        LinkError: Impulse cannot be reached, does not answer, or sends no data.
        InstrumentError: it has no heating holder, or is not in control.
    """

    def read(name: str, text: str, unit: str, low: float, high: float) -> float:
        try:
            value = parse(text, unit)
        except UnitError as error:
            raise ConfigError(
                f"{context.source}: {context.role}.options.{name}: {error}"
            ) from error
        if not low <= value <= high:
            raise ConfigError(
                f"{context.source}: {context.role}.options.{name} = {text!r} refused: "
                f"{show(low, unit)} to {show(high, unit)} is allowed."
            )
        return value

    room = read("room_temperature", room_temperature, "°C", 0, 50)
    hottest = read("maximum_temperature", maximum_temperature, "°C", room, 1500)
    fastest = read("maximum_ramp_rate", maximum_ramp_rate, "°C/s", SLOWEST_CELSIUS_PER_S, 1e5)
    settings = Settings(
        limits=(
            Limit("temperature", room, hottest, "°C", "driver option maximum_temperature"),
            Limit(
                "ramp_rate",
                SLOWEST_CELSIUS_PER_S,
                fastest,
                "°C/s",
                "driver option maximum_ramp_rate",
            ),
        ),
        room_celsius=room,
        off_power_mw=read("off_power", off_power, "mW", 0, 50),
        silence_s=read("silence", silence, "s", 0.1, 60),
    )
    timeout_s = read("timeout", timeout, "s", 0.05, 30)
    for name, address in (("control", control), ("data", data)):
        try:
            parse_address(address)
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{context.source}: {context.role}.options.{name}: {error}"
            ) from error
    return _connect(context, control, data, settings, timeout_s)


def _connect(
    context: DriverContext, control: str, data: str, settings: Settings, timeout_s: float
) -> ImpulseHolder:
    zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    commands = ControlSocket(zmq_context, control, timeout_s)
    try:
        properties = _identify(commands)
        latency_s = _latency(commands)
    except BaseException:
        commands.close()
        zmq_context.term()
        raise
    description = Description(
        role=context.role,
        model="DENSsolutions Impulse heating holder",
        driver="impulse",
        limits=settings.limits,
        details={
            "address": control,
            "latency_s": latency_s,
            "data_properties": ", ".join(properties),
            "off": f"setpoint at {show(settings.room_celsius, '°C')}, "
            f"power up to {show(settings.off_power_mw, 'mW')}",
        },
    )
    holder = ImpulseHolder(
        zmq_context,
        commands,
        ControlSocket(zmq_context, control, timeout_s),
        context.clock,
        settings,
        description,
    )
    try:
        units = Units(
            milliwatt=_worth(properties, "powerMeasured", "mW"),
            ampere=_worth(properties, "currentMeasured", "A"),
            volt=_worth(properties, "voltageMeasured", "V"),
        )
        holder.begin(
            Stream(
                zmq_context,
                data,
                context.clock,
                units,
                silence_s=settings.silence_s,
                on_state=holder.situation.on_state,
                on_restart=holder.situation.on_restart,
            )
        )
    except BaseException:
        holder.release()
        raise
    return holder


def _identify(control: ControlSocket) -> Mapping[str, str]:
    """The units of the heat properties; raises InstrumentError for what is no heating holder in control."""
    status = control.status()
    if status != STATUS_IN_CONTROL:
        raise InstrumentError(
            f"{control.what} is not in control, its status is {status!r}. {HOW_TO_GIVE_CONTROL}"
        )
    channels = _names(control.ask("control.impulse.getAvailableDataChannels"), "activeChannels")
    if "heat" not in channels:
        raise InstrumentError(
            f"{control.what} has no heating holder: its channels are "
            f"{', '.join(channels) or 'none'}. Connect a Wildfire or Lightning holder, and switch "
            "its heating on in Impulse."
        )
    asked = control.ask("control.impulse.getAvailableProperties", channelName="heat")
    properties = {
        name: _unit(
            control.ask(
                "control.impulse.getPropertyInformation", channelName="heat", propertyName=name
            )
        )
        for name in _names(asked, "properties")
    }
    for name in _NEEDED:
        if name not in properties:
            raise InstrumentError(
                f"{control.what} does not tell {name}: its heat channel has "
                f"{', '.join(properties) or 'no properties'}. This driver knows Impulse up to 1.4."
            )
        if properties[name].strip().lower() not in _CELSIUS:
            raise InstrumentError(
                f"{control.what} tells {name} in {properties[name]!r}. Set Impulse to °C."
            )
    return properties


def _latency(control: ControlSocket) -> float:
    """Half of the shortest round trip of a few, in wall s."""
    trips = []
    for _ in range(_PINGS):
        before = time.monotonic()
        control.status()
        trips.append(time.monotonic() - before)
    return round(min(trips) / 2, 6)


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    found = data.get(key)
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _unit(data: Mapping[str, Any]) -> str:
    unit = data.get("unit")
    return unit if isinstance(unit, str) else ""


def _worth(properties: Mapping[str, str], name: str, unit: str) -> float:
    """What a number of a property is in a unit; NaN if it is not told in what."""
    try:
        return convert(1.0, properties[name], unit)
    except (KeyError, UnitError):
        return math.nan
