"""Stands in for an instrument server that stays down, and tells every client why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from acquire.errors import FaultError
from acquire.remote.daemon import HardDaemon
from acquire.remote.server import OBJECT_ID
from acquire.remote.tls import ServerTls

logger = logging.getLogger(__name__)

METHODS = ("about", "invoke", "lease_acquire", "lease_beat", "emergency_off")
OBSERVERS = ("about", "invoke")


class Latched:
    """Answers at a server's address with a latched fault; an emergency off still makes safe.

    Args:
        listen: ``HOST:PORT`` where the server was.
        fault: what every client is told.
        make_safe: carried out on an emergency off.
        tls: as the server's, for an address of TLS.

    Raises:
        HotstageError: no such port.
    """

    def __init__(
        self,
        listen: str,
        fault: str,
        make_safe: Callable[[str], None],
        tls: ServerTls | None = None,
    ) -> None:
        self._fault = fault
        self._make_safe = make_safe
        self._daemon = HardDaemon(listen, name="latched", tls=tls)
        self._daemon.register(OBJECT_ID, self, METHODS, OBSERVERS)

    def __enter__(self) -> Self:
        self._daemon.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._daemon.close()

    def about(self) -> None:
        """Raise FaultError."""
        raise FaultError(self._fault)

    def invoke(self, role: str, method: str, arguments: list[Any], token: str) -> None:
        """Raise FaultError."""
        raise FaultError(self._fault)

    def lease_acquire(self, commander: str) -> None:
        """Raise FaultError."""
        raise FaultError(self._fault)

    def lease_beat(self, token: str) -> None:
        """Raise FaultError."""
        raise FaultError(self._fault)

    def emergency_off(self, reason: str) -> None:
        """Make the hardware safe once more."""
        self._make_safe(f"emergency off ({reason})")
