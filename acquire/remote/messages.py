"""Strict Pyro5 messages on a socket: one serializer, no compression, bounded sizes, a deadline on everything.

Pyro5's own receiver decodes whatever serializer and compression a peer names. Here the header is
judged before a byte of the payload is looked at, so a foreign payload never reaches a decoder.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
_MAGIC = 0x4DC5
_HEADER = struct.Struct("!4sHBBHHII16sHH")
_ACCEPTED_FLAGS = protocol.FLAGS_EXCEPTION | protocol.FLAGS_CORR_ID
_JOIN_BYTES = 1 << 16

Buffer = bytes | bytearray | memoryview
Bytes = NDArray[np.uint8]


class MalformedMessage(ConnectionError):
    """What came is not a message that this protocol allows; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its payload not yet decoded."""

    kind: int
    flags: int
    seq: int
    payload: Buffer
    blobs: Bytes | None
    """All annotation bytes one after the other, without their headers."""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` on this machine.

    Raises:
        ConfigError: not an address, or beyond loopback.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"address {address!r} refused: write HOST:PORT, for example 127.0.0.1:7746."
        )
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError(
            f"address {address!r} refused: host {host!r} is beyond this machine, which needs mutual "
            "TLS and is not available yet; use 127.0.0.1."
        )
    return ("127.0.0.1" if host == "localhost" else host), int(port)


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


def receive(
    sock: socket.socket, accepted: frozenset[int], limit: int, deadline: float | None
) -> Message:
    """One message from ``sock``.

    Args:
        sock: a stream socket; its timeout is changed.
        accepted: message kinds that may come now.
        limit: most bytes of payload and annotations together.
        deadline: ``time.monotonic()`` by which it must be complete; None waits for a first byte
            forever, and then ``MESSAGE_S`` for the rest.

    Raises:
        MalformedMessage: a header, flag, serializer or size that is not allowed.
        ConnectionError, TimeoutError, OSError: nothing more comes.
    """
    header = memoryview(bytearray(_HEADER.size))
    sock.settimeout(_left(deadline))
    got = sock.recv_into(header)
    if got == 0:
        raise ConnectionResetError("the connection was closed")
    by = min(deadline or float("inf"), time.monotonic() + MESSAGE_S)
    _fill(sock, header[got:], by)
    kind, flags, seq, size, annotated = _judge(header, accepted, limit)
    blobs = _receive_blobs(sock, annotated, by) if annotated else None
    payload = memoryview(bytearray(size))
    _fill(sock, payload, by)
    return Message(kind, flags, seq, payload, blobs)


def _judge(
    header: memoryview, accepted: frozenset[int], limit: int
) -> tuple[int, int, int, int, int]:
    tag, version, kind, serializer, flags, seq, size, annotated, _, _, magic = _HEADER.unpack(
        header
    )
    if tag != b"PYRO" or version != protocol.PROTOCOL_VERSION or magic != _MAGIC:
        raise MalformedMessage("not a Pyro5 message")
    if kind not in accepted:
        raise MalformedMessage(f"message kind {kind} is not expected now")
    if serializer != MSGPACK_ID:
        raise MalformedMessage(f"serializer {serializer} refused; only msgpack is spoken here")
    if flags & ~_ACCEPTED_FLAGS:
        raise MalformedMessage(f"message flags {flags:#x} refused")
    if size + annotated > limit:
        raise MalformedMessage(
            f"message of {size + annotated} bytes refused; the limit is {limit} bytes"
        )
    return kind, flags, seq, size, annotated


def _receive_blobs(sock: socket.socket, size: int, by: float) -> Bytes:
    buffer = np.empty(size, np.uint8)
    view = buffer.data
    head = memoryview(bytearray(8))
    filled = consumed = 0
    while consumed < size:
        if size - consumed < 8:
            raise MalformedMessage("annotations do not add up")
        _fill(sock, head, by)
        length = int.from_bytes(head[4:], "big")
        consumed += 8 + length
        if consumed > size:
            raise MalformedMessage("an annotation is longer than all of them")
        _fill(sock, view[filled : filled + length], by)
        filled += length
    return buffer[:filled]


def _fill(sock: socket.socket, view: memoryview, by: float) -> None:
    while len(view):
        sock.settimeout(_left(by))
        got = sock.recv_into(view)
        if got == 0:
            raise ConnectionResetError("the connection was closed in the middle of a message")
        view = view[got:]


def _left(deadline: float | None) -> float | None:
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
    chunks = list(_chunks(blobs))
    annotated = sum(8 + len(chunk) for chunk in chunks)
    if len(payload) + annotated > MAX_MESSAGE_BYTES:
        raise LinkError(
            f"a message of {len(payload) + annotated} bytes was not sent: "
            f"the limit is {MAX_MESSAGE_BYTES} bytes."
        )
    header = _HEADER.pack(
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
        _MAGIC,
    )
    pieces: list[Buffer] = [header]
    for number, chunk in enumerate(chunks):
        pieces += (b"B%03X" % number + len(chunk).to_bytes(4, "big"), chunk)
    pieces.append(payload)
    _send_pieces(sock, pieces, time.monotonic() + within_s)


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


def _send_all(sock: socket.socket, data: Buffer, by: float) -> None:
    sock.settimeout(_left(by))
    sock.sendall(data)


def _chunks(blobs: Sequence[Buffer]) -> Iterator[memoryview]:
    for blob in blobs:
        view = memoryview(blob).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]


def groups(blobs: Sequence[Buffer]) -> list[list[memoryview]]:
    """Blobs cut so that each group fits one message."""
    found: list[list[memoryview]] = [[]]
    size = 0
    for chunk in _chunks(blobs):
        if size + len(chunk) > GROUP_BYTES:
            found.append([])
            size = 0
        found[-1].append(chunk)
        size += len(chunk)
    return found
