"""Strict Pyro5 messages on a socket: one serializer, no compression, bounded sizes, a deadline on everything.

Pyro5's own receiver decodes whatever serializer and compression a peer names. Here the header is
judged before a byte of the payload is looked at, so a foreign payload never reaches a decoder.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray
from Pyro5 import protocol

from acquire.errors import ConfigError, LinkError

MAX_MESSAGE_BYTES = 64 << 20
MAX_REQUEST_BYTES = 4 << 20
"""A request carries settings, never data."""
CHUNK_BYTES = 4 << 20
GROUP_BYTES = 32 << 20
"""Blobs beyond this follow in further messages of the same reply."""
MESSAGE_S = 10.0
"""A message that has begun must be complete within this time."""
MSGPACK_ID = 4
MAGIC = 0x4DC5
HEADER = struct.Struct("!4sHBBHHII16sHH")
_JOIN_BYTES = 1 << 16
_GATHER = 512
"""Pieces in one call; systems allow 1024."""

Buffer = bytes | bytearray | memoryview
Bytes = NDArray[np.uint8]


class MalformedMessage(ConnectionError):
    """What came is not a message that this protocol allows; the connection cannot go on."""


LOOPBACK = ("127.0.0.1", "localhost", "::1")
TLS_PREFIX = "tls://"


class Where(NamedTuple):
    """Where a daemon listens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TLS_PREFIX if self.tls else ''}{host}:{self.port}"


def parse_address(address: str) -> Where:
    """``HOST:PORT`` on this machine, or ``tls://HOST:PORT`` anywhere.

    Raises:
        ConfigError: not an address, or beyond loopback without TLS.
    """
    tls = address.startswith(TLS_PREFIX)
    host, _, port = address.removeprefix(TLS_PREFIX).rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(
            f"address {address!r} refused: write HOST:PORT, for example 127.0.0.1:7746."
        )
    if host not in LOOPBACK and not tls:
        raise ConfigError(
            f"address {address!r} refused: host {host!r} is beyond this machine, which needs mutual "
            f"TLS; write {TLS_PREFIX}{host}:{port} and see `hotstage keys --help`, or use 127.0.0.1."
        )
    return Where("127.0.0.1" if host == "localhost" and not tls else host, int(port), tls)


def encode(value: Any) -> bytes:
    """``value`` as msgpack; raises LinkError for what msgpack cannot carry."""
    try:
        packed = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise LinkError(f"a value cannot cross the wire: {error}.") from error
    if not isinstance(packed, bytes):
        raise LinkError("a value cannot cross the wire: msgpack made nothing of it.")
    return packed


def decode(payload: Buffer) -> Any:
    """Plain values from msgpack; extension types are refused. Raises LinkError."""
    try:
        return msgpack.unpackb(payload, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except Exception as error:  # msgpack raises half a dozen kinds for bad input
        raise LinkError(
            f"a message is not valid msgpack: {type(error).__name__}: {error}."
        ) from error


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"msgpack extension type {code} is not used here")


def at_once(sock: socket.socket) -> None:
    """From now on calls raise BlockingIOError instead of waiting."""
    if sock.gettimeout() != 0:  # setting it is a call of the system
        sock.settimeout(0)


def left_until(deadline: float | None) -> float | None:
    """Seconds until a deadline of ``time.monotonic()``, None if there is none; raises TimeoutError after it."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def send(
    sock: socket.socket,
    kind: int,
    seq: int,
    payload: Buffer,
    *,
    flags: int = 0,
    blobs: Sequence[Buffer] = (),
    within_s: float = MESSAGE_S,
) -> None:
    """Send one message, its blobs as annotations of at most ``CHUNK_BYTES`` and without copying them.

    Raises:
        LinkError: larger than ``MAX_MESSAGE_BYTES``; nothing was sent.
        OSError, TimeoutError: the connection is lost.
    """
    annotations = list(_annotations(blobs)) if blobs else []
    annotated = sum(8 + size for size, _ in annotations)
    if len(payload) + annotated > MAX_MESSAGE_BYTES:
        raise LinkError(
            f"a message of {len(payload) + annotated} bytes was not sent: "
            f"the limit is {MAX_MESSAGE_BYTES} bytes."
        )
    header = HEADER.pack(
        b"PYRO",
        protocol.PROTOCOL_VERSION,
        kind,
        MSGPACK_ID,
        flags,
        seq,
        len(payload),
        annotated,
        b"\0" * 16,
        0,
        MAGIC,
    )
    if not blobs and len(payload) <= _JOIN_BYTES:
        _send_small(sock, b"".join((header, payload)), within_s)
        return
    pieces: list[Buffer] = [header]
    for number, (size, parts) in enumerate(annotations):
        pieces.append(b"B%03X" % number + size.to_bytes(4, "big"))
        pieces += parts
    pieces.append(payload)
    by = time.monotonic() + within_s
    if isinstance(sock, ssl.SSLSocket) or not hasattr(sock, "sendmsg"):
        _send_pieces(sock, pieces, by)
    else:
        _send_gathered(sock, pieces, by)


def _annotations(blobs: Sequence[Buffer]) -> Iterator[tuple[int, list[memoryview]]]:
    """Blobs cut and put together so that each annotation is as large as it may be: size and parts."""
    size, parts = 0, list[memoryview]()
    for chunk in _chunks(blobs):
        if parts and size + len(chunk) > CHUNK_BYTES:
            yield size, parts
            size, parts = 0, []
        size += len(chunk)
        parts.append(chunk)
    if parts:
        yield size, parts


def _send_gathered(sock: socket.socket, pieces: Sequence[Buffer], by: float) -> None:
    """All pieces in as few calls of the system as possible."""
    left = [memoryview(piece) for piece in pieces if len(piece)]
    first = 0
    while first < len(left):
        sock.settimeout(left_until(by))
        sent = sock.sendmsg(left[first : first + _GATHER])
        while first < len(left) and sent >= len(left[first]):
            sent -= len(left[first])
            first += 1
        if sent:
            left[first] = left[first][sent:]


def _send_pieces(sock: socket.socket, pieces: Sequence[Buffer], by: float) -> None:
    """Small neighbours travel together, large pieces as they are."""
    small: list[Buffer] = []
    for piece in pieces:
        small.append(piece)
        if len(piece) > _JOIN_BYTES:
            small.pop()
            if small:
                _send_all(sock, b"".join(small), by)
                small = []
            _send_all(sock, piece, by)
    if small:
        _send_all(sock, b"".join(small), by)


def _send_small(sock: socket.socket, data: bytes, within_s: float) -> None:
    if not isinstance(sock, ssl.SSLSocket):
        at_once(sock)  # there is room, nearly always: not worth to ask for it first
        with suppress(BlockingIOError):
            data = data[sock.send(data) :]
    if data:
        sock.settimeout(within_s)
        sock.sendall(data)


def _send_all(sock: socket.socket, data: Buffer, by: float) -> None:
    sock.settimeout(left_until(by))
    sock.sendall(data)


def _chunks(blobs: Sequence[Buffer]) -> Iterator[memoryview]:
    for blob in blobs:
        view = memoryview(blob).cast("B")
        if len(view) <= CHUNK_BYTES:
            yield view
            continue
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]


def groups(blobs: list[Buffer]) -> list[list[Buffer]]:
    """Blobs cut so that each group fits one message."""
    if sum(map(len, blobs)) <= GROUP_BYTES:
        return [blobs]
    found: list[list[Buffer]] = [[]]
    size = 0
    for chunk in _chunks(blobs):
        if size + len(chunk) > GROUP_BYTES:
            found.append([])
            size = 0
        found[-1].append(chunk)
        size += len(chunk)
    return found
