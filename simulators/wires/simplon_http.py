"""A small HTTP/1.1 server for far ends: requests with a length, on connections that may stay open.

Whatever comes, memory is bounded, and what is no HTTP ends only its own connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from simulators.wires.listening import Connection

logger = logging.getLogger(__name__)

LONGEST_LINE = 8 << 10
MOST_HEADERS = 100
LARGEST_BODY = 1 << 20
BODY_S = 10.0
"""Wall seconds for a body that has begun."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    """Without the query."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What it is told."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def pack(self, keep: bool) -> bytes:
        """The bytes on the wire."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keep else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


class _Bad(Exception):
    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def serve(connection: Connection, answer: Callable[[Request], Response]) -> None:
    """Answer requests until the connection ends; raises OSError then."""
    keep = True
    while keep:
        try:
            request, keep = _receive(connection)
        except (_Bad, ValueError, TimeoutError) as error:
            status = error.status if isinstance(error, _Bad) else HTTPStatus.BAD_REQUEST
            logger.info("%s sent what is no request: %s", connection.peer, error)
            connection.send(Response(status).pack(keep=False))
            return
        response = answer(request)
        packed = response.pack(keep)
        if request.method == "HEAD":
            packed = packed[: len(packed) - len(response.body)]
        connection.send(packed)


def _receive(connection: Connection) -> tuple[Request, bool]:
    """The next request, and whether the connection stays open after it."""
    line = _line(connection)
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[0].isalpha():
        raise _Bad(HTTPStatus.BAD_REQUEST)
    headers = _headers(connection)
    if "transfer-encoding" in headers:
        raise _Bad(HTTPStatus.LENGTH_REQUIRED)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _Bad(HTTPStatus.BAD_REQUEST)
    if len(length) > 9 or int(length) > LARGEST_BODY:
        raise _Bad(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if headers.get("expect", "").lower() == "100-continue":
        connection.send_as_is(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = connection.receive_exactly(int(length), within_s=BODY_S)
    wish = headers.get("connection", "").lower()
    keep = wish == "keep-alive" if words[2] == "HTTP/1.0" else wish != "close"
    return Request(words[0].upper(), words[1].partition("?")[0], body), keep


def _headers(connection: Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    for _ in range(MOST_HEADERS):
        line = _line(connection)
        if not line:
            return found
        name, colon, value = line.partition(":")
        if not colon:
            raise _Bad(HTTPStatus.BAD_REQUEST)
        found[name.strip().lower()] = value.strip()
    raise _Bad(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _line(connection: Connection) -> str:
    return connection.receive_line(at_most=LONGEST_LINE).decode("latin-1").rstrip("\r")
