"""Calls methods of a hardened daemon: any thread, a deadline on every call, and no command ever sent twice."""

from __future__ import annotations

import logging
import ssl
import threading
import time
import weakref
from collections import deque
from typing import Any

from Pyro5 import protocol

from acquire.errors import LinkError
from acquire.remote.connection import Connection
from acquire.remote.messages import Bytes, encode, parse_address
from acquire.remote.tls import Identity, own_identity
from acquire.remote.wire import pack, unpack_error

logger = logging.getLogger(__name__)

CONNECT_S = 2.0


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
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
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
        """The plain value and the raw bytes beside it (see :func:`acquire.remote.frames.unpack_frames`)."""
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
        connection: Connection | None = getattr(self._local, "connection", None)
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
        try:
            flags, value, blobs = connection.answer(connection.ask(request, deadline), deadline)
        except (OSError, LinkError) as error:
            self.drop()
            raise self._told(error, method, limit_s) from error
        except BaseException:
            self.drop()  # interrupted: the answer would be taken for that of the next call
            raise
        if flags & protocol.FLAGS_EXCEPTION:
            raise unpack_error(value)
        return value, blobs

    def _encode(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        return encode([self.object_id, method, [pack(item) for item in arguments], {}])

    def _told(self, error: OSError | LinkError, method: str, limit_s: float) -> LinkError:
        """What to raise for what went wrong on a connection."""
        if isinstance(error, TimeoutError):
            return LinkError(
                f"the server at {self.address} did not answer {method!r} within {limit_s:g} s; "
                "what it did is not known. Read its state before going on."
            )
        return LinkError(
            f"the server at {self.address} was lost during {method!r} ({_cause(error)}); "
            f"what it did is not known. {self._mend}"
        )

    def _connection(self, deadline: float) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.usable():
            return connection
        self.drop()
        connection = self._connect(deadline)
        self._local.connection = connection
        return connection

    def _connect(self, deadline: float) -> Connection:
        if self._closed:
            raise LinkError(f"the link to {self.address} was closed here.")
        by = min(deadline, time.monotonic() + CONNECT_S)
        try:
            connection = Connection(self._where, self.object_id, by, self._context)
        except (OSError, LinkError, ValueError) as error:  # ValueError: a host's name that is none
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

    def __init__(self, link: Link, connection: Connection) -> None:
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
        try:
            seq = self._connection.ask(request, time.monotonic() + within_s)
        except (OSError, LinkError) as error:
            self.close()
            raise self._link._told(error, method, within_s) from error
        except BaseException:
            self.close()
            raise
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
        try:
            flags, value, blobs = self._connection.answer(seq, time.monotonic() + within_s)
        except (OSError, LinkError) as error:
            self.close()
            raise self._link._told(error, method, within_s) from error
        except BaseException:
            self.close()
            raise
        self._open.popleft()
        if flags & protocol.FLAGS_EXCEPTION:
            raise unpack_error(value)
        return value, blobs

    def close(self) -> None:
        """End the connection; idempotent."""
        self._open.clear()
        self._connection.close()


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
