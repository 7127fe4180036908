"""Calls methods of a hardened daemon: any thread, a deadline on every call, and no command ever sent twice."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from Pyro5 import protocol

from acquire.errors import LinkError
from acquire.remote.buffers import Buffers
from acquire.remote.messages import (
    MAX_MESSAGE_BYTES,
    Bytes,
    MalformedMessage,
    Message,
    Where,
    decode,
    encode,
    parse_address,
    receive,
    send,
)
from acquire.remote.tls import Identity, own_identity
from acquire.remote.wire import pack, unpack_error

logger = logging.getLogger(__name__)

CONNECT_S = 2.0
_GREETING = frozenset({protocol.MSG_CONNECTOK, protocol.MSG_CONNECTFAIL})
_RESULT = frozenset({protocol.MSG_RESULT})
_NOTHING: Bytes = np.empty(0, np.uint8)


class Link:
    """A thread-safe way to one object of a daemon: every calling thread has a connection of its own.

    A call that gets no answer raises LinkError and its connection is dropped; what the server did is
    then unknown, so nothing is repeated. The next call connects anew.

    Args:
        address: ``HOST:PORT`` on this machine, or ``tls://HOST:PORT``.
        timeout_s: wall seconds in which a call must be answered, unless it says otherwise.
        mend: what a person can do when nothing answers.
        identity: what it shows to a server of TLS; default the user's own.

    Raises:
        ConfigError: beyond loopback without TLS, or no identity. Nothing is connected yet.
    """

    def __init__(
        self,
        address: str,
        object_id: str,
        timeout_s: float = 5.0,
        *,
        mend: str = "Is it running? Start it with `hotstage serve STATION`.",
        identity: Identity | None = None,
    ) -> None:
        self.address = address
        self.object_id = object_id
        self._where = parse_address(address)
        self._context = (identity or own_identity()).client_context() if self._where.tls else None
        self._timeout_s = timeout_s
        self._mend = mend
        if self._where.tls:
            self._mend += (
                " If it is, is our certificate valid and allowed there (`hotstage keys list`)?"
            )
        self._local = threading.local()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """The plain value that the method returns.

        Raises:
            LinkError: no server, no answer in time, or an answer that cannot be read.
            HotstageError: as raised by the method, same class and message.
        """
        return self._call(method, arguments, timeout_s)[0]

    def call_with_blobs(
        self, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> tuple[Any, Bytes]:
        """The plain value and the raw bytes beside it (see :func:`acquire.remote.wire.unpack_frame`)."""
        value, blobs = self._call(method, arguments, timeout_s)
        if not isinstance(value, dict) or set(value) != {"value", "more"}:
            raise LinkError(f"{self.address}: {method} did not answer with data.")
        return value["value"], blobs

    def questions(self) -> Questions:
        """A connection of its own, on which to ask before earlier answers have come; raises LinkError."""
        return Questions(self, self._connect(time.monotonic() + CONNECT_S))

    def wait_until_there(self, patience_s: float) -> None:
        """Connect, trying again for up to ``patience_s`` wall seconds; raises LinkError."""
        give_up = time.monotonic() + patience_s
        pause_s = 0.05
        while True:
            try:
                self._connection(time.monotonic() + CONNECT_S)
                return
            except LinkError:
                if time.monotonic() + pause_s > give_up or self._closed:
                    raise
            time.sleep(pause_s)
            pause_s = min(0.5, 2 * pause_s)

    def drop(self) -> None:
        """Forget the calling thread's connection; the next call connects anew."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """End every thread's connection; later calls raise LinkError."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for connection in connections:
            connection.close()

    def _call(
        self, method: str, arguments: tuple[Any, ...], timeout_s: float | None
    ) -> tuple[Any, Bytes]:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        request = self._encode(method, arguments)
        connection = self._connection(deadline)
        with self._told(method, limit_s, self.drop):
            flags, value, blobs = connection.answer(connection.ask(request, deadline), deadline)
        if flags & protocol.FLAGS_EXCEPTION:
            raise unpack_error(value)
        return value, blobs

    def _encode(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        return encode([self.object_id, method, [pack(item) for item in arguments], {}])

    @contextmanager
    def _told(self, method: str, limit_s: float, drop: Callable[[], None]) -> Iterator[None]:
        """Give up a connection on which something failed, and say so as LinkError."""
        try:
            yield
        except TimeoutError as error:
            drop()
            raise LinkError(
                f"the server at {self.address} did not answer {method!r} within {limit_s:g} s; "
                "what it did is not known. Read its state before going on."
            ) from error
        except (OSError, LinkError) as error:
            drop()
            raise LinkError(
                f"the server at {self.address} was lost during {method!r} ({_cause(error)}); "
                f"what it did is not known. {self._mend}"
            ) from error
        except BaseException:
            drop()  # interrupted: the answer would be taken for that of the next call
            raise

    def _connection(self, deadline: float) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.usable():
            return connection
        self.drop()
        connection = self._connect(deadline)
        self._local.connection = connection
        return connection

    def _connect(self, deadline: float) -> _Connection:
        if self._closed:
            raise LinkError(f"the link to {self.address} was closed here.")
        by = min(deadline, time.monotonic() + CONNECT_S)
        try:
            connection = _Connection(self._where, self.object_id, by, self._context)
        except (OSError, LinkError) as error:
            raise LinkError(
                f"no server answers at {self.address} ({_cause(error)}). {self._mend}"
            ) from error
        with self._lock:
            self._open.add(connection)
        return connection


class Questions:
    """Questions to one object that are asked before the answers to earlier ones have come.

    Answers come in the order of the questions. For one thread; made by :meth:`Link.questions`. After
    an error of the connection nothing more can be asked.
    """

    def __init__(self, link: Link, connection: _Connection) -> None:
        self._link = link
        self._connection = connection
        self._open: deque[tuple[int, str]] = deque()

    @property
    def here(self) -> bool:
        """Whether the server seems to be on this computer (a forwarded port looks the same)."""
        return self._connection.here

    @property
    def unanswered(self) -> int:
        """Questions without an answer yet."""
        return len(self._open)

    def usable(self) -> bool:
        """Whether more can be asked, as far as can be told."""
        return bool(self._open) or self._connection.usable()

    def ask(self, method: str, *arguments: Any, within_s: float) -> None:
        """Send a question; raises LinkError."""
        request = self._link._encode(method, arguments)
        with self._link._told(method, within_s, self.close):
            seq = self._connection.ask(request, time.monotonic() + within_s)
        self._open.append((seq, method))

    def answer(self, within_s: float) -> tuple[Any, Bytes]:
        """Value and blobs that answer the oldest question; raises LinkError, or what the method raised."""
        method = self._open[0][1]
        value, blobs = self._answer(within_s)
        if not isinstance(value, dict) or set(value) != {"value", "more"}:
            raise LinkError(f"{self._link.address}: {method} did not answer with data.")
        return value["value"], blobs

    def call(self, method: str, *arguments: Any, within_s: float) -> Any:
        """Ask and wait for a plain value; only when nothing is unanswered. Raises as :meth:`answer`."""
        self.ask(method, *arguments, within_s=within_s)
        return self._answer(within_s)[0]

    def _answer(self, within_s: float) -> tuple[Any, Bytes]:
        seq, method = self._open[0]
        with self._link._told(method, within_s, self.close):
            flags, value, blobs = self._connection.answer(seq, time.monotonic() + within_s)
        self._open.popleft()
        if flags & protocol.FLAGS_EXCEPTION:
            raise unpack_error(value)
        return value, blobs

    def close(self) -> None:
        """End the connection; idempotent."""
        self._open.clear()
        self._connection.close()


class _Connection:
    """One connection of one thread."""

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
        self._seq = 0
        self._buffers = Buffers()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.here: bool = sock.getsockname()[0] == sock.getpeername()[0]
        try:
            greeting = encode({"handshake": "hello", "object": object_id})
            send(sock, protocol.MSG_CONNECT, 0, greeting)
            reply = receive(sock, _GREETING, 1 << 20, deadline)
            if reply.kind == protocol.MSG_CONNECTFAIL:
                raise LinkError(f"refused: {decode(reply.payload)}")
        except BaseException:
            self.close()
            raise

    def usable(self) -> bool:
        """Whether the peer is still there and owes nothing, as far as can be told without asking."""
        if not self.close.alive:
            return False
        try:
            self._sock.settimeout(0)
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
        reply = receive(self._sock, _RESULT, MAX_MESSAGE_BYTES, deadline, self._buffers.take)
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


def _cause(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "nothing answered in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"it is not who it should be: {error}"
    if isinstance(error, ssl.SSLError):
        return f"refused in the TLS handshake: {error}"
    return str(error)
