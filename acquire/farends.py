"""The far ends of wires: servers that answer a vendor's protocol for a simulated instrument.

A station with a ``[wires]`` table has drivers that speak real protocols, and simulated instruments
that answer them. A driver finds its far end by an address such as ``@impulse.control``: the port
``control`` of the wire that the station calls ``impulse``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from acquire import plugins
from acquire.clock import Clock
from acquire.errors import ConfigError, HotstageError
from acquire.instruments import Simulation

REFERENCE = "@"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY_PORT = "127.0.0.1:0"


@runtime_checkable
class FarEnd(Protocol):
    """A server that answers on one wire; it listens when it is made."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it listens, by the name of its port, as a driver's option wants it written."""

    def close(self) -> None:
        """End all connections and stop listening; idempotent."""


@dataclass(frozen=True, slots=True)
class FarEndContext:
    """What a far end's factory is given beside its options: ``factory(context, **options)``."""

    name: str
    """What the station calls this wire."""
    clock: Clock
    simulation: Simulation
    """The instruments that answer, and the physics behind them."""
    listen: Mapping[str, str] = field(default_factory=dict)
    """``HOST:PORT`` by the name of a port, where the station wishes one."""
    source: str = ""
    """The station file, for error messages."""

    def where(self, port: str) -> tuple[str, int]:
        """Host and number that a port shall listen on; any free number unless the station says one."""
        host, _, number = self.listen.get(port, ANY_PORT).rpartition(":")
        return host.strip("[]"), int(number)

    def expect(self, *ports: str) -> None:
        """Raise ConfigError if the station wishes a port that this wire does not have."""
        for port in self.listen:
            if port not in ports:
                raise ConfigError(
                    f"{self.source}: wires.{self.name}.listen.{port}: this wire has no such port; "
                    f"it has {', '.join(ports)}."
                )


@dataclass(frozen=True, slots=True)
class WirePlan:
    """One wire as a station file describes it."""

    wire: str
    """Entry point in ``hotstage.wires``."""
    listen: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class FarEnds:
    """All far ends of a station, listening."""

    simulation: Simulation
    ends: Mapping[str, FarEnd]

    @property
    def addresses(self) -> dict[str, str]:
        """Where they listen, by reference without its sign: ``impulse.control``."""
        return {
            f"{name}.{port}": address
            for name, end in self.ends.items()
            for port, address in end.addresses.items()
        }

    def close(self) -> None:
        """Close every one; one that fails keeps no other open."""
        failed: list[Exception] = []
        for end in self.ends.values():
            try:
                end.close()
            except Exception as error:  # noqa: BLE001  raised when all have been closed
                failed.append(error)
        if failed:
            raise failed[0]


def start(
    plans: Mapping[str, WirePlan], simulation: Simulation, clock: Clock, source: str
) -> FarEnds:
    """Start the far ends of a station.

    Raises:
        PluginError: a wire is not known.
        ConfigError: an option cannot be used, or a port cannot be had; nothing listens then.
    """
    ends: dict[str, FarEnd] = {}
    try:
        for name, plan in plans.items():
            factory: Callable[..., FarEnd] = plugins.find(plugins.WIRES, plan.wire)
            context = FarEndContext(name, clock, simulation, plan.listen, source)
            try:
                ends[name] = factory(context, **plan.options)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{source}: wires.{name}.options: {error}") from error
            except OSError as error:
                raise ConfigError(
                    f"{source}: wires.{name} cannot listen: {error}. "
                    "Is another far end running there? Stop it, or choose another port."
                ) from error
    except BaseException:
        FarEnds(simulation, ends).close()
        raise
    return FarEnds(simulation, ends)


def resolve(option: Any, addresses: Mapping[str, str], where: str) -> Any:
    """A driver's option with a reference such as ``@impulse.control`` replaced by its address.

    Raises:
        ConfigError: no far end has that port; ``where`` names the option.
    """
    if not isinstance(option, str) or not option.startswith(REFERENCE):
        return option
    wanted = option.removeprefix(REFERENCE)
    if wanted not in addresses:
        known = ", ".join(REFERENCE + name for name in sorted(addresses)) or "none"
        raise ConfigError(
            f"{where} = {option!r}: no far end listens there; known are {known}. "
            "A reference is @WIRE.PORT, and the wire must be in the station's [wires] table."
        )
    return addresses[wanted]


class Shared:
    """Links that several drivers of one station use together: made for the first, closed with the station."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """What was made under ``key``, or else ``make()``; it must have a ``close()``."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def close(self) -> None:
        """Close everything, last made first; idempotent."""
        failed: list[HotstageError] = []
        while self._made:
            _, thing = self._made.popitem()
            try:
                thing.close()
            except HotstageError as error:
                failed.append(error)
        if failed:
            raise failed[0]
