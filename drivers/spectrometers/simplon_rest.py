"""The REST interface of a DECTRIS detector: one connection per request, each within a deadline.

Sources: DECTRIS, SIMPLON API 1.8.0 (public manuals of EIGER2, and dectris/documentation, ``stream_v2``):
``GET``/``PUT /<module>/api/1.8.0/<config|status|command>/<name>``; a value travels as ``{"value": …}`` with
its ``min``, ``max`` and ``allowed_values``. Nothing was tried on hardware.

A connection of its own for every request keeps a late or doubled reply from being taken for another's,
and lets ``abort`` through while ``trigger`` is still waiting for its exposures.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from acquire.errors import InstrumentError, LinkError
from drivers.links import cause, parse_address

COMMAND_S = 3.0
"""Wall seconds for a request that exposes nothing."""
LARGEST_REPLY = 1 << 20
_PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value of the detector, and the range that it may be in."""

    value: Any
    low: float = -math.inf
    high: float = math.inf

    def number(self, name: str) -> float:
        """The value as a finite number; raises LinkError."""
        value = self.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise LinkError(f"the detector says {name} = {value!r}, which is no number.")
        return float(value)


class Rest:
    """Requests to one detector; any thread may call.

    Args:
        address: ``HOST:PORT`` of the detector's control unit, whose port is 80.
        api: version of the interface.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, address: str, api: str) -> None:
        self._where = parse_address(address)
        self._api = api
        self.what = f"the detector at {address}"

    def get(self, module: str, kind: str, name: str, within_s: float = COMMAND_S) -> Parameter:
        """A parameter: ``get("detector", "config", "count_time")``; raises LinkError, InstrumentError."""
        reply = self._ask("GET", f"/{module}/api/{self._api}/{kind}/{name}", None, within_s)
        if not isinstance(reply, dict) or "value" not in reply:
            raise self._misunderstood(name, reply)
        low, high = (reply.get(end) for end in ("min", "max"))
        return Parameter(
            reply["value"],
            -math.inf if not isinstance(low, int | float) else float(low),
            math.inf if not isinstance(high, int | float) else float(high),
        )

    def set(self, module: str, name: str, value: object) -> None:
        """Set a parameter of the configuration; raises LinkError, InstrumentError."""
        path = f"/{module}/api/{self._api}/config/{name}"
        self._ask("PUT", path, json.dumps({"value": value}).encode(), COMMAND_S)

    def command(self, module: str, name: str, within_s: float = COMMAND_S) -> Any:
        """Carry out a command, and what it returns; raises LinkError, InstrumentError."""
        return self._ask("PUT", f"/{module}/api/{self._api}/command/{name}", b"", within_s)

    def _ask(self, method: str, path: str, body: bytes | None, within_s: float) -> Any:
        deadline = time.monotonic() + within_s
        connection = http.client.HTTPConnection(*self._where, timeout=within_s)
        try:
            connection.connect()
            # time-outs of sockets begin anew with every byte that comes
            watchdog = threading.Timer(
                max(0.0, deadline - time.monotonic()), _cut, args=(connection.sock,)
            )
            watchdog.daemon = True
            watchdog.start()
            try:
                status, reason, payload = _exchange(connection, method, path, body)
            finally:
                watchdog.cancel()
                watchdog.join()
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() >= deadline
            why = f"no complete answer within {within_s:g} s" if late else cause(error)
            raise LinkError(
                f"{self.what} did not answer {method} {path} ({why}); what it did is not known. "
                "See that its control unit is on, and that the address is right."
            ) from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            words = payload[:300].decode("utf-8", "replace").strip()
            raise InstrumentError(
                f"{self.what} refused {method} {path}: {status} {reason}. {words}".rstrip()
            )
        if not payload.strip():
            return None
        try:
            return json.loads(payload)
        except ValueError as error:
            raise self._misunderstood(path, payload[:60]) from error

    def _misunderstood(self, what: str, reply: object) -> LinkError:
        return LinkError(
            f"{self.what} answered {what} with something that is not understood: {str(reply)[:80]!r}. "
            "Does the address belong to a DECTRIS detector?"
        )


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> tuple[int, str, bytes]:
    headers = {"Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    payload = bytearray()
    while piece := response.read(_PIECE):
        payload += piece
        if len(payload) > LARGEST_REPLY:
            raise http.client.HTTPException(f"more than {LARGEST_REPLY} bytes")
    if response.length:
        raise http.client.IncompleteRead(bytes(payload), response.length)
    return response.status, response.reason, bytes(payload)


def _cut(sock: socket.socket | None) -> None:
    with contextlib.suppress(OSError):  # closed already
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
