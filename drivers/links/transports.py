"""Ways to move bytes to a device and back, each call with a deadline: TCP and pyserial URLs."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from typing import Any, Protocol

import serial

SLICE_S = 0.05
"""A blocked receive looks this often whether it shall be cut."""
SERIAL_SLICE_S = 0.01
"""A blocked read of a serial line looks this often at its deadline, and whether it was closed."""
WRITE_S = 1.0
CHUNK = 1 << 16
_SOCKET = "socket://"
_HOST_AND_PORT = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):\d+$")


class Transport(Protocol):
    """An open connection; deadlines are on :func:`time.monotonic`."""

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send everything; raises TimeoutError, OSError."""

    def receive(self, into: memoryview, deadline: float) -> int:
        """Receive at least one byte into a buffer and say how many.

        Returns 0 if none came by ``deadline``; with one that has passed, it looks and does not wait.

        Raises:
            ConnectionError: the peer has ended the connection.
            OSError: it is broken.
        """

    def close(self) -> None:
        """End the connection; idempotent, and a receive that another thread is in ends with an error."""


class TcpTransport:
    """A TCP connection without delays of its own.

    Args:
        address: ``HOST:PORT``.
        deadline: for the connection.

    Raises:
        ValueError: the address is none.
        OSError: nothing accepts it in time.
    """

    def __init__(self, address: str, deadline: float) -> None:
        where = parse_address(address)
        self._socket = socket.create_connection(where, timeout=_left(deadline))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send everything; raises TimeoutError, OSError."""
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(data)

    def receive(self, into: memoryview, deadline: float) -> int:
        """Receive at least one byte, or return 0 at the deadline; raises OSError."""
        self._socket.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            got = self._socket.recv_into(into)
        except (TimeoutError, BlockingIOError):
            return 0
        if not got:
            raise ConnectionError("the device ended the connection")
        return got

    def close(self) -> None:
        """End the connection; idempotent."""
        with contextlib.suppress(OSError):  # it was not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class SerialTransport:
    """A serial line, or what pyserial opens by a URL: ``COM3``, ``/dev/ttyUSB0``, ``rfc2217://…``.

    Args:
        url: as pyserial's ``serial_for_url`` takes it.
        settings: ``baudrate``, ``bytesize``, ``parity``, ``stopbits`` and so on.

    Raises:
        ValueError: the URL or a setting is none.
        OSError: it cannot be opened.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        self._port = serial.serial_for_url(
            url, timeout=SERIAL_SLICE_S, write_timeout=WRITE_S, **settings
        )
        self._reading = threading.Lock()
        self._closed = False
        self._port.reset_input_buffer()

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send everything; raises TimeoutError, OSError."""
        self._refuse_if_closed()
        try:
            self._port.write(bytes(data))
        except serial.SerialTimeoutException as error:
            raise TimeoutError("the line does not take what is sent") from error

    def receive(self, into: memoryview, deadline: float) -> int:
        """Receive at least one byte, or return 0 at the deadline; raises OSError."""
        while True:
            with self._reading:
                self._refuse_if_closed()
                waiting = self._port.in_waiting
                if waiting:
                    return self._take(into, waiting)
                if time.monotonic() >= deadline:
                    return 0
                first = self._port.read(1)
                if first:
                    into[:1] = first
                    return 1 + self._take(into[1:], self._port.in_waiting)

    def close(self) -> None:
        """Close the line; idempotent."""
        self._closed = True
        # pyserial does not bear it that a line is closed while another thread reads it
        with self._reading:
            self._port.close()

    def _take(self, into: memoryview, count: int) -> int:
        data = self._port.read(min(len(into), count)) if count and len(into) else b""
        into[: len(data)] = data
        return len(data)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConnectionError("the line was closed here")


def open_line(url: str, deadline: float, **settings: Any) -> Transport:
    """Open what a person writes as a port.

    ``HOST:PORT`` and ``socket://HOST:PORT`` are raw TCP; anything else is for pyserial, with the
    serial ``settings``.

    Raises:
        ValueError: it is none of these.
        OSError: it cannot be opened.
    """
    address = url.removeprefix(_SOCKET)
    if address != url or _HOST_AND_PORT.match(url):
        return TcpTransport(address, deadline)
    return SerialTransport(url, **settings)


def check_line(url: str) -> str:
    """``url`` if :func:`open_line` can use it as far as its writing goes; raises ValueError."""
    if not isinstance(url, str) or not url.strip():
        raise ValueError(
            f"port {url!r} refused: write COM3, /dev/ttyUSB0, HOST:PORT, socket://HOST:PORT or "
            "rfc2217://HOST:PORT."
        )
    if url.startswith(_SOCKET):
        parse_address(url.removeprefix(_SOCKET))
    elif _HOST_AND_PORT.match(url):
        parse_address(url)
    return url


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(
            f"address {address!r} refused: write HOST:PORT, for example 127.0.0.1:5557."
        )
    return host.strip("[]"), int(port)


def _left(deadline: float) -> float:
    return max(1e-3, deadline - time.monotonic())
