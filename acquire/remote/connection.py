"""One connection of a client to one object of a daemon."""

from __future__ import annotations

import logging
import socket
import ssl
import time
import weakref
from typing import Any

import numpy as np
from Pyro5 import protocol

from acquire.errors import LinkError
from acquire.remote.buffers import Buffers
from acquire.remote.inbox import Inbox, Message, receive
from acquire.remote.messages import (
    MAX_MESSAGE_BYTES,
    Bytes,
    MalformedMessage,
    Where,
    at_once,
    decode,
    encode,
    send,
)

logger = logging.getLogger(__name__)

_GREETING = frozenset({protocol.MSG_CONNECTOK, protocol.MSG_CONNECTFAIL})
_RESULT = frozenset({protocol.MSG_RESULT})
_NOTHING: Bytes = np.empty(0, np.uint8)


class Connection:
    """For one thread at a time; an object of a daemon, greeted already.

    Raises:
        OSError, LinkError: nobody there, or refused.
    """

    def __init__(
        self, where: Where, object_id: str, deadline: float, context: ssl.SSLContext | None
    ) -> None:
        left_s = max(0.001, deadline - time.monotonic())
        sock = socket.create_connection((where.host, where.port), timeout=left_s)
        if context is not None:
            sock = _secure(sock, where.host, context, deadline)
        # threads end without saying so: their connection must then close by itself
        self.close = weakref.finalize(self, _close, sock)
        self._sock = sock
        self._inbox = Inbox(sock)
        self._seq = 0
        self._buffers = Buffers()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.here: bool = sock.getsockname()[0] == sock.getpeername()[0]
        try:
            greeting = encode({"handshake": "hello", "object": object_id})
            send(sock, protocol.MSG_CONNECT, 0, greeting)
            reply = receive(self._inbox, _GREETING, 1 << 20, deadline)
            if reply.kind == protocol.MSG_CONNECTFAIL:
                raise LinkError(f"refused: {decode(reply.payload)}")
        except BaseException:
            self.close()
            raise

    def usable(self) -> bool:
        """Whether the peer is still there and owes nothing, as far as can be told without asking."""
        if not self.close.alive or not self._inbox.empty:
            return False
        try:
            at_once(self._sock)
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.recv(
                    1
                )  # it knows no peeking; a byte that is owed would be lost, and we too
            else:
                self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def ask(self, request: bytes, deadline: float) -> int:
        """Send a request and return its number."""
        self._seq = (self._seq + 1) & 0xFFFF
        left_s = max(0.001, deadline - time.monotonic())
        send(self._sock, protocol.MSG_INVOKE, self._seq, request, within_s=left_s)
        return self._seq

    def answer(self, seq: int, deadline: float) -> tuple[int, Any, Bytes]:
        """Flags, decoded value and blobs of the answer to a request, the oldest that has none."""
        reply = self._receive(seq, deadline)
        value = decode(reply.payload)
        if reply.blobs is None:
            return reply.flags, value, _NOTHING
        more = value["more"] if isinstance(value, dict) else 0
        parts = [reply.blobs]
        for _ in range(more):
            blobs = self._receive(seq, deadline).blobs
            parts.append(_NOTHING if blobs is None else blobs)
        return reply.flags, value, parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _receive(self, seq: int, deadline: float) -> Message:
        reply = receive(self._inbox, _RESULT, MAX_MESSAGE_BYTES, deadline, self._buffers.take)
        if reply.seq != seq:
            raise MalformedMessage(f"answer {reply.seq} came for request {seq}")
        return reply


def _secure(
    sock: socket.socket, host: str, context: ssl.SSLContext, deadline: float
) -> ssl.SSLSocket:
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _close(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("a connection was gone already")
    sock.close()
