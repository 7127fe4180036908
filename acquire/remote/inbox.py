"""Receives messages from a socket: each is judged by its header before a byte of its payload is looked at."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from Pyro5 import protocol

from acquire.remote.messages import (
    HEADER,
    MAGIC,
    MESSAGE_S,
    MSGPACK_ID,
    Buffer,
    Bytes,
    MalformedMessage,
    left_until,
)

TIMEOUT_SLACK_S = 0.1
"""A peer that sends byte by byte can exceed a deadline by so much."""
_INBOX_BYTES = 4096
_ACCEPTED_FLAGS = protocol.FLAGS_EXCEPTION | protocol.FLAGS_CORR_ID


class Message(NamedTuple):
    """One message, its payload not yet decoded."""

    kind: int
    flags: int
    seq: int
    payload: Buffer
    blobs: Bytes | None
    """All annotation bytes one after the other, without their headers."""


class Inbox:
    """What has come on a stream socket and was not asked for yet; for one thread.

    A small message comes whole with one call of the system, and so does the beginning of the next.
    """

    __slots__ = ("_end", "_room", "_start", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._room = memoryview(bytearray(_INBOX_BYTES))
        self._start = self._end = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what has come."""
        return self._start == self._end

    def header(self, deadline: float | None) -> tuple[memoryview, float]:
        """The next message's header, and until when the rest of it must have come."""
        self._room[: self._end - self._start] = bytes(self._room[self._start : self._end])
        self._start, self._end = 0, self._end - self._start
        if not self._end:
            self.sock.settimeout(left_until(deadline))
            self._end = self.sock.recv_into(self._room)
            if not self._end:
                raise ConnectionResetError("the connection was closed")
        by = time.monotonic() + MESSAGE_S
        if deadline is not None and deadline < by:
            by = deadline
        while self._end < HEADER.size:
            self.sock.settimeout(left_until(by))
            self._end += _some(self.sock.recv_into(self._room[self._end :]))
        self._start = HEADER.size
        return self._room[: HEADER.size], by

    def payload(self, size: int, by: float) -> Buffer:
        """The next so many bytes, as memory of their own."""
        if size <= self._end - self._start:
            self._start += size
            return bytes(self._room[self._start - size : self._start])
        view = memoryview(bytearray(size))
        self.fill(view, by)
        return view

    def fill(self, view: memoryview, by: float) -> None:
        """Receive exactly what fits into ``view``; raises ConnectionError, TimeoutError, OSError."""
        there = min(len(view), self._end - self._start)
        if there:
            view[:there] = self._room[self._start : self._start + there]
            self._start += there
            view = view[there:]
        again = 0.0
        while len(view):
            # setting it is a call of the system, and TLS gives no more than 16 KiB at a time
            if (now := time.monotonic()) >= again:
                self.sock.settimeout(left_until(by))
                again = now + TIMEOUT_SLACK_S
            view = view[_some(self.sock.recv_into(view)) :]


def receive(
    inbox: Inbox,
    accepted: frozenset[int],
    limit: int,
    deadline: float | None,
    room: Callable[[int], Bytes] | None = None,
) -> Message:
    """The next message.

    Args:
        inbox: of the connection; the timeout of its socket is changed.
        accepted: message kinds that may come now.
        limit: most bytes of payload and annotations together.
        deadline: ``time.monotonic()`` by which it must be complete; None waits for a first byte
            forever, and then ``MESSAGE_S`` for the rest.
        room: gives the memory for so many bytes of annotations; default new memory.

    Raises:
        MalformedMessage: a header, flag, serializer or size that is not allowed.
        ConnectionError, TimeoutError, OSError: nothing more comes.
    """
    header, by = inbox.header(deadline)
    kind, flags, seq, size, annotated = _judge(header, accepted, limit)
    blobs = None
    if annotated:
        buffer = np.empty(annotated, np.uint8) if room is None else room(annotated)
        blobs = _receive_blobs(inbox, buffer, by)
    return Message(kind, flags, seq, inbox.payload(size, by), blobs)


def _judge(
    header: memoryview, accepted: frozenset[int], limit: int
) -> tuple[int, int, int, int, int]:
    tag, version, kind, serializer, flags, seq, size, annotated, _, _, magic = HEADER.unpack(header)
    if tag != b"PYRO" or version != protocol.PROTOCOL_VERSION or magic != MAGIC:
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


def _receive_blobs(inbox: Inbox, buffer: Bytes, by: float) -> Bytes:
    view, size = buffer.data, buffer.nbytes
    head = memoryview(bytearray(8))
    filled = consumed = 0
    while consumed < size:
        if size - consumed < 8:
            raise MalformedMessage("annotations do not add up")
        inbox.fill(head, by)
        length = int.from_bytes(head[4:], "big")
        consumed += 8 + length
        if consumed > size:
            raise MalformedMessage("an annotation is longer than all of them")
        inbox.fill(view[filled : filled + length], by)
        filled += length
    return buffer[:filled]


def _some(got: int) -> int:
    if not got:
        raise ConnectionResetError("the connection was closed in the middle of a message")
    return got
