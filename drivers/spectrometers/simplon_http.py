"""One HTTP request on a connection of its own, within a deadline, that can be cut at every moment.

The time-outs of HTTP libraries begin anew with every byte, and nothing but another thread ends them. Here
the socket itself looks at the deadline and at the cut, 20 times a second, while it connects, too.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acquire.acquisition import Cut
from drivers.links import ExchangeCut

SLICE_S = 0.05
"""A request looks this often whether it is cut."""
LARGEST_REPLY = 1 << 20
_PIECE = 64 << 10
_UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)}
_WITHOUT_LINGERING = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply."""

    status: int
    reason: str
    payload: bytes


def request(
    where: tuple[str, int], method: str, path: str, body: bytes | None, deadline: float, cut: Cut
) -> Reply:
    """Send a request and receive all of its reply.

    A request without a complete reply is taken back as far as it has not left this computer, so
    that it does not reach the device after later ones.

    Args:
        where: host and port.
        method: such as ``PUT``.
        path: of the URL.
        body: JSON, or empty; None for none.
        deadline: on :func:`time.monotonic`.
        cut: ends the request when it turns true, wherever it is.

    Raises:
        ExchangeCut: it was cut.
        OSError, http.client.HTTPException: no complete reply, TimeoutError at the deadline.
    """
    line = _connected(where, deadline, cut)
    connection = http.client.HTTPConnection(*where)
    connection.sock = line
    complete = False
    try:
        reply = _exchange(connection, method, path, body)
        complete = True
        return reply
    finally:
        if not complete:
            line.take_back()
        connection.close()
        line.close()


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> Reply:
    headers = {"Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body, headers)
    with connection.getresponse() as response:
        payload = bytearray()
        while piece := response.read(_PIECE):
            payload += piece
            if len(payload) > LARGEST_REPLY:
                raise http.client.HTTPException(f"more than {LARGEST_REPLY} bytes")
        if response.length:
            raise http.client.IncompleteRead(bytes(payload), response.length)
        return Reply(response.status, response.reason, bytes(payload))


def _connected(where: tuple[str, int], deadline: float, cut: Cut) -> _Line:
    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(*where, type=socket.SOCK_STREAM):
        line = _Line(family, kind, protocol, deadline, cut)
        try:
            line.reach(address)
            return line
        except OSError as error:
            line.close()
            failed = error
        except BaseException:
            line.close()
            raise
    raise failed or OSError("the address has no host")


class _Line(socket.socket):
    """A TCP connection whose every wait looks at a deadline and at a cut; for one thread."""

    def __init__(
        self, family: int, kind: int, protocol: int, deadline: float, cut: Callable[[], bool]
    ) -> None:
        super().__init__(family, kind, protocol)
        self.setblocking(False)
        self._deadline = deadline
        self._cut = cut

    def reach(self, address: Any) -> None:
        """Connect; raises ExchangeCut, OSError."""
        code = self.connect_ex(address)
        if code in _UNDER_WAY:
            self._wait(selectors.EVENT_WRITE)
            code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything; raises ExchangeCut, OSError."""
        left = memoryview(data).cast("B")
        while left:
            self._wait(selectors.EVENT_WRITE)
            with contextlib.suppress(BlockingIOError):
                left = left[self.send(left, flags) :]

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive at least one byte, or 0 at the end; raises ExchangeCut, OSError."""
        while True:
            self._wait(selectors.EVENT_READ)
            with contextlib.suppress(BlockingIOError):
                return super().recv_into(buffer, nbytes, flags)

    def take_back(self) -> None:
        """End the connection when it is closed, and send nothing more of what waits here."""
        with contextlib.suppress(OSError):  # ended already
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITHOUT_LINGERING)

    def _wait(self, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self, event)
            while True:
                if self._cut():
                    raise ExchangeCut("the request was cut")
                left_s = self._deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("no complete reply in time")
                if selector.select(min(left_s, SLICE_S)):
                    return
