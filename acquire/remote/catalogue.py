"""Which methods of which instruments may be called from afar, and which of them need control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from acquire.errors import LinkError
from acquire.instruments import (
    Channel,
    ChecksExposure,
    HeatingHolder,
    Instrument,
    Scan,
    Spectrometer,
)

KINDS: Mapping[str, type[Any]] = {
    "holder": HeatingHolder,
    "scan": Scan,
    "spectrometer": Spectrometer,
    "channel": Channel,
}
FREE: Mapping[str, frozenset[str]] = {
    "holder": frozenset({"describe", "check", "read", "make_safe"}),
    "scan": frozenset({"describe", "check", "blanked", "make_safe"}),
    "spectrometer": frozenset({"describe", "check", "check_exposure", "make_safe"}),
    "channel": frozenset({"describe", "read", "make_safe"}),
}
OPTIONAL: Mapping[str, type[Any]] = {"check_exposure": ChecksExposure}
"""Protocols of methods that not every instrument of a kind has."""
LEASED: Mapping[str, frozenset[str]] = {
    "holder": frozenset({"ramp", "hold", "arm_safe_state", "clear_fault"}),
    "scan": frozenset({"arm", "park", "shift", "blank", "disarm"}),
    "spectrometer": frozenset({"tune", "arm", "disarm"}),
    "channel": frozenset(),
}


def kind_of(role: str) -> str:
    """The kind of instrument that stands in a role; every other role is a channel."""
    return role if role in KINDS else "channel"


def method_of(kind: str, name: str) -> Callable[..., Any]:
    """The protocol's method, whose annotations say what crosses; raises LinkError if none is offered."""
    if name not in FREE[kind] and name not in LEASED[kind]:
        raise LinkError(f"a {kind} offers no method {name!r} from afar.")
    protocol = OPTIONAL.get(name, KINDS[kind])
    found: Callable[..., Any] = getattr(protocol, name, None) or getattr(Instrument, name)
    return found


def needs_control(kind: str, name: str, arguments: list[Any]) -> bool:
    """Whether only the commander may do this; blanking the beam is for everyone."""
    if kind == "scan" and name == "blank":
        return arguments != [True]
    return name in LEASED[kind]


def only_reads(kind: str, name: str) -> bool:
    """Whether it changes nothing at all, so that an observer may do it."""
    return name in FREE[kind] and name != "make_safe"
