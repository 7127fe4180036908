"""What Impulse answers to one request: JSON in, JSON out, on a simulated heating holder.

Facts: the requests that impulsePy 3.1.0 and 1.0.0 send and what they read from the replies (PyPI,
DENSsolutions). Inferred, since no public text shows them: which requests are refused while Impulse
is not in control, that ``stopRamp`` without a ramp is an invalid operation, the words of messages,
the last part of an error's ``$type``, the units of the ``heat`` channel, and everything about a
device that is not connected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from acquire.clock import Clock
from acquire.errors import HotstageError
from acquire.instruments import HeatingHolder, HolderState, Limit

CONTROL = "control"
"""The status in which Impulse obeys."""
NO_CONTROL = "noControl"
LONGEST_REQUEST = 64 << 10
_HEAT = "heat"
_DEVICES = ("bias", "gas", "liquid")
"""Stimuli that Impulse knows and that are not connected here."""
_CONTROLS = ("heat", "profileController", *_DEVICES)
_IMMEDIATELY = 1e-9

StopRamp = Literal["holds", "jumps"]
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Property:
    """One quantity of a data channel; precision is its number of decimals."""

    unit: str
    precision: int


PROPERTIES: Mapping[str, Property] = {
    "sequenceNumber": Property("", 0),
    "timeStamp": Property("", 0),
    "experimentDuration": Property("s", 3),
    "temperatureMeasured": Property("°C", 6),
    "temperatureSetpoint": Property("°C", 6),
    "powerMeasured": Property("mW", 3),
    "currentMeasured": Property("A", 18),
    "voltageMeasured": Property("V", 15),
}
"""Of the channel ``heat``; the decimals are those of impulsePy 1.0.0, the units are inferred."""


class _Refused(Exception):
    def __init__(self, code: str, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.reply: dict[str, Any] = {
            "resultCode": code,
            "message": message,
            "data": {} if errors is None else {"errors": errors},
        }


@dataclass
class Impulse:
    """The state of Impulse behind its control socket; used by one thread.

    Args:
        holder: what is heated.
        clock: which ramp times follow.
        stop_ramp: whether ``stopRamp`` freezes the setpoint where it is, or jumps to the ramp's end;
            the real one's behaviour is not documented.
    """

    holder: HeatingHolder
    clock: Clock
    stop_ramp: StopRamp = "holds"
    status: str = CONTROL
    events: list[Event] = field(default_factory=list)
    """To be published, oldest first."""
    _ramping: bool = False
    _fault: str = ""

    def answer(self, request: bytes) -> bytes:
        """The reply to any bytes; never raises."""
        try:
            reply = self._carry_out(_read(request))
        except _Refused as refusal:
            reply = refusal.reply
        except HotstageError as error:
            # the holder refuses: a latched fault, or it is on its way to its safe state
            reply = _Refused("invalidOperation", str(error)).reply
        return json.dumps(reply, allow_nan=False).encode()

    def look(self) -> None:
        """Notice what has happened to the holder since the last look."""
        reading = self.holder.read()
        if self._ramping and reading.state is not HolderState.RAMPING:
            self._ramping = False
            if reading.state is HolderState.HOLDING:
                self._tell("data.event.stimulusActionFinished", stimulusType=_HEAT)
        if reading.fault != self._fault:
            self._fault = reading.fault
            if reading.fault:
                self._tell("data.event.popupRaised", message=f"Heater error: {reading.fault}")

    def change_status(self, status: str, why: str) -> None:
        """Take control away or give it back, and publish that."""
        if status == self.status:
            return
        self.status = status
        self._tell("data.event.impulse.stateChanged", newState=status)
        self._tell("data.event.notificationRaised", message=why)

    def data(self, sequence: int, duration_s: float, stamp: str) -> dict[str, Any]:
        """One message of the channel ``heat``; what cannot be measured is null."""
        reading = self.holder.read()
        power_w = reading.power_mw * 1e-3
        resistance = reading.resistance_ohm
        current_a = math.sqrt(power_w / resistance) if resistance > 0 and power_w >= 0 else math.nan
        values = {
            "experimentDuration": duration_s,
            "temperatureMeasured": reading.measured_celsius,
            "temperatureSetpoint": reading.setpoint_celsius,
            "powerMeasured": reading.power_mw,
            "currentMeasured": current_a,
            "voltageMeasured": current_a * resistance,
        }
        return {
            "sequenceNumber": sequence,
            "timeStamp": stamp,
            **{
                name: round(value, PROPERTIES[name].precision) if math.isfinite(value) else None
                for name, value in values.items()
            },
        }

    # ------------------------------------------------------------------------- requests

    def _carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        kind = request["$type"]
        known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "control.impulse.getStatus": lambda _: {"status": self.status},
            "control.impulse.getAvailableDataChannels": lambda _: {"activeChannels": [_HEAT]},
            "control.impulse.getAvailableProperties": _properties,
            "control.impulse.getPropertyInformation": _property,
            "control.heat.startRamp": self._start_ramp,
            "control.heat.stopRamp": self._stop_ramp,
            "control.profileController.loadProfile": _load_profile,
            "control.profileController.controlProfile": _control_profile,
        }
        _, _, rest = kind.partition(".")
        family = rest.partition(".")[0]
        if kind not in known and not (kind.startswith("control.") and family in _DEVICES):
            raise _Refused("badRequest", f"Request type {kind[:200]!r} is not known.")
        if family in _CONTROLS and self.status != CONTROL:
            raise _Refused("invalidOperation", f"Impulse is not in control (status {self.status}).")
        if family in _DEVICES:
            raise _Refused("invalidOperation", f"No {family} device is connected.")
        return {"resultCode": "ok", "message": "", "data": known[kind](request)}

    def _start_ramp(self, request: dict[str, Any]) -> dict[str, Any]:
        high, fastest = self._limits()
        target = _number(request, "temperature", high.low, high.high)
        given = [name for name in ("rampTime", "rampRate") if name in request]
        if len(given) != 1:
            _invalid("rampTime", "required", "Give either rampTime (s) or rampRate (°C/s).")
        change = abs(target - self.holder.read().setpoint_celsius)
        if given == ["rampTime"]:
            duration = _number(request, "rampTime", 0.0, 1e6)
            # at once: as fast as the device can
            rate = change / duration if duration > _IMMEDIATELY else fastest.high
            if rate > fastest.high:
                _invalid("rampTime", "outOfRange", f"At least {change / fastest.high:.3g} s.")
        else:
            rate = _number(request, "rampRate", fastest.low, fastest.high)
        self.holder.ramp(target, max(rate, fastest.low))
        self._ramping = True
        return {}

    def _stop_ramp(self, request: dict[str, Any]) -> dict[str, Any]:
        reading = self.holder.read()
        if reading.state is not HolderState.RAMPING:
            raise _Refused("invalidOperation", "There is no ramp to stop.")
        if self.stop_ramp == "jumps":
            self.holder.ramp(reading.target_celsius, self._limits()[1].high)
        else:
            self.holder.hold()
        self._ramping = False
        return {}

    def _limits(self) -> tuple[Limit, Limit]:
        found = {limit.quantity: limit for limit in self.holder.describe().limits}
        return found["temperature"], found["ramp_rate"]

    def _tell(self, kind: str, **facts: Any) -> None:
        self.events.append({"$type": kind, **facts})


def _read(request: bytes) -> dict[str, Any]:
    if len(request) > LONGEST_REQUEST:
        raise _Refused("badRequest", f"A request of {len(request)} bytes is too long.")
    try:
        read = json.loads(request, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Refused("badRequest", "The request is not JSON.") from error
    if not isinstance(read, dict) or not isinstance(read.get("$type"), str):
        raise _Refused("badRequest", "A request is an object with a text $type.")
    return read


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(request: dict[str, Any], name: str, low: float, high: float) -> float:
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _invalid(name, "required" if value is None else "wrongType", "A number is needed.")
    if not low <= value <= high:  # a huge whole number too, which no float can hold
        _invalid(name, "outOfRange", f"{low:g} to {high:g} is allowed.")
    return float(value)


def _invalid(parameter: str, kind: str, description: str) -> NoReturn:
    error = {
        "parameter": parameter,
        "$type": f"control.error.{kind}",
        "description": description,
    }
    raise _Refused("invalidInput", "The request has invalid parameters", [error])


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        _invalid(name, "required" if value is None else "wrongType", "A text is needed.")
    return value


def _properties(request: dict[str, Any]) -> dict[str, Any]:
    _channel(request)
    return {"properties": list(PROPERTIES)}


def _property(request: dict[str, Any]) -> dict[str, Any]:
    channel, name = _channel(request), _text(request, "propertyName")
    if name not in PROPERTIES:
        _invalid("propertyName", "unknown", f"Channel {channel} has no such property.")
    found = PROPERTIES[name]
    return {
        "channelName": channel,
        "propertyName": name,
        "unit": found.unit,
        "precision": found.precision,
    }


def _channel(request: dict[str, Any]) -> str:
    channel = _text(request, "channelName")
    if channel != _HEAT:
        _invalid("channelName", "unknown", f"The only active channel is {_HEAT}.")
    return channel


def _load_profile(request: dict[str, Any]) -> dict[str, Any]:
    _text(request, "path")
    # profiles are made in Impulse's own window, which a far end does not have
    _invalid("path", "fileNotFound", "There is no such profile.")


def _control_profile(request: dict[str, Any]) -> dict[str, Any]:
    _text(request, "action")
    raise _Refused("invalidOperation", "No profile is loaded.")
