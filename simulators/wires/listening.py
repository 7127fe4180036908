"""A small threaded TCP listener on loopback for far ends: bounded in connections, buffers and time.

A far end gives it a function that serves one connection. Whatever a client sends, it can only end
its own connection: an exception of the function is logged and closes that one. Replies pass through
the far end's :class:`~simulators.faults.Faults`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from simulators.faults import Faults

logger = logging.getLogger(__name__)

SLICE_S = 0.05
"""How often a waiting connection looks whether it shall end, in wall seconds."""
SEND_S = 10.0
"""A client that does not read its replies for so long loses its connection."""
CONNECTIONS = 8
IDLE_S = 3600.0
LONGEST_LINE = 64 << 10
_CHUNK = 64 << 10


class ConnectionEnded(ConnectionError):
    """The client went away, was silent or deaf for too long, or the far end closes."""


class Connection:
    """The byte stream of one client, for the thread that serves it.

    All methods raise ConnectionEnded when the stream is over; a serving function lets it pass.
    """

    def __init__(self, connected: socket.socket, peer: str, faults: Faults, idle_s: float) -> None:
        self.peer = peer
        """Address of the client, for logs."""
        self.active = time.monotonic()
        """When bytes last came."""
        self._socket = connected
        self._socket.settimeout(SLICE_S)
        self._faults = faults
        self._idle_s = idle_s
        self._held = bytearray()
        self._closed = threading.Event()
        self._hung = False
        self._sending = threading.Lock()

    # ---------------------------------------------------------------------- receiving

    def receive(self, at_most: int = _CHUNK) -> bytes:
        """What comes next, at least one byte."""
        while not self._held:
            self._more()
        return self._take(min(at_most, len(self._held)))

    def receive_exactly(self, count: int, *, within_s: float | None = None) -> bytes:
        """Exactly ``count`` bytes; raises TimeoutError if they take more than ``within_s`` wall seconds.

        Memory grows with what has come, not with what was announced; a far end still bounds ``count``.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        while len(self._held) < count:
            self._more(deadline)
        return self._take(count)

    def receive_line(self, ends: bytes = b"\n", *, at_most: int = LONGEST_LINE) -> bytes:
        """Bytes up to any one of the bytes ``ends``, without it; raises as :meth:`receive_until`."""
        return self.receive_until(ends, at_most=at_most)[0]

    def receive_until(self, ends: bytes, *, at_most: int = LONGEST_LINE) -> tuple[bytes, bytes]:
        """Bytes up to any one of the bytes ``ends``, and which of them it was.

        Raises:
            ValueError: more than ``at_most`` bytes without an end; they are lost, and what follows
                is still read.
        """
        searched = 0
        while True:
            found = [i for end in ends if (i := self._held.find(end, searched)) >= 0]
            if found and min(found) <= at_most:
                return self._take(min(found)), self._take(1)
            if found:
                self._take(min(found) + 1)
                raise ValueError(f"a line of more than {at_most} bytes")
            searched = len(self._held)
            if searched > at_most:
                self._held.clear()
                raise ValueError(f"a line of more than {at_most} bytes")
            self._more()

    def peek(self, wait_s: float = 0.0) -> bytes:
        """What has come and was not taken yet, after waiting for some for at most ``wait_s`` wall seconds.

        Reads no more while much of it is held already.
        """
        deadline = time.monotonic() + wait_s
        if len(self._held) > LONGEST_LINE:
            self._wait(wait_s)
            return bytes(self._held)
        with contextlib.suppress(TimeoutError):
            self._more(deadline)
        return bytes(self._held)

    def skip(self, any_of: bytes) -> None:
        """Forget what comes next and was received already, as far as it is one of these bytes."""
        if self._held and self._held[0] in any_of:
            del self._held[: len(self._held) - len(self._held.lstrip(any_of))]

    def drop(self, count: int) -> None:
        """Forget the first ``count`` bytes of :meth:`peek`."""
        del self._held[:count]

    # ------------------------------------------------------------------------ sending

    def send(self, reply: bytes) -> None:
        """Send one reply (call once per reply: faults happen to replies). Any thread may send."""
        with self._sending:
            self._check()
            if self._hung:
                return
            delivery = self._faults.deliver(reply)
            for piece in delivery.pieces:
                if piece.after_s > 0:
                    self._wait(piece.after_s)
                self.send_as_is(piece.data)
            self._hung = delivery.hang
            if delivery.disconnect:
                self.close()
                raise ConnectionEnded("cut by a fault")

    def send_as_is(self, data: bytes | memoryview) -> None:
        """Send bytes that no fault may touch, such as later chunks of a large reply."""
        rest = memoryview(data)
        deadline = time.monotonic() + SEND_S
        while rest:
            self._check()
            if time.monotonic() > deadline:
                raise ConnectionEnded("the client does not read")
            try:
                sent = self._socket.send(rest)
            except (TimeoutError, BlockingIOError):
                continue
            except OSError as error:
                raise ConnectionEnded(str(error)) from error
            rest = rest[sent:]
            deadline = time.monotonic() + SEND_S

    # ------------------------------------------------------------------------- ending

    @property
    def closed(self) -> bool:
        """Whether it has been closed from this side."""
        return self._closed.is_set()

    def close(self) -> None:
        """End the connection; wakes the thread that serves it. Idempotent."""
        self._closed.set()
        with contextlib.suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket back; only for the thread that serves."""
        self.close()
        self._socket.close()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    def _check(self) -> None:
        if self._closed.is_set():
            raise ConnectionEnded("closed by the far end")
        if self._faults.unplugged:
            self.close()
            raise ConnectionEnded("the cable is out")

    def _wait(self, duration_s: float) -> None:
        if self._closed.wait(duration_s):
            raise ConnectionEnded("closed by the far end")

    def _more(self, deadline: float | None = None) -> None:
        """Wait for bytes; raises TimeoutError at the deadline, having looked at least once."""
        while True:
            self._check()
            left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            try:
                # a thread that sends meanwhile only looks more often
                self._socket.settimeout(max(left, 0.0))
                came = self._socket.recv(_CHUNK)
            except (TimeoutError, BlockingIOError) as error:
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    raise TimeoutError from error
                if now - self.active > self._idle_s:
                    raise ConnectionEnded("silent for too long") from None
                continue
            except OSError as error:
                raise ConnectionEnded(str(error)) from error
            finally:
                with contextlib.suppress(OSError):  # closed meanwhile
                    self._socket.settimeout(SLICE_S)
            if not came:
                raise ConnectionEnded("the client closed")
            self.active = time.monotonic()
            self._held += came
            return


class Listener:
    """Accepts connections and serves each in a thread of its own.

    Args:
        where: host and number of the port (0: any free one), from ``FarEndContext.where``.
        serve: serves one connection until it returns or raises.
        name: of the far end, for threads and logs.
        faults: what happens to its replies.
        at_most: connections at one time. One more ends the one that has been silent longest, so
            that forgotten connections never keep a new client out; 1 means that the newest wins.
        idle_s: a connection that has been silent for so many wall seconds ends.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(
        self,
        where: tuple[str, int],
        serve: Callable[[Connection], None],
        *,
        name: str,
        faults: Faults | None = None,
        at_most: int = CONNECTIONS,
        idle_s: float = IDLE_S,
    ) -> None:
        self.faults = faults or Faults()
        self._serve = serve
        self._name = name
        self._at_most = at_most
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}
        self._closing = threading.Event()
        # create_server sets SO_REUSEADDR where that does not let two servers share a port
        self._socket = socket.create_server(where, backlog=32)
        self._socket.settimeout(SLICE_S)
        host, port = self._socket.getsockname()[:2]
        self._address = f"{host}:{port}"
        self._thread = threading.Thread(target=self._accept, name=f"{name} listens", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``HOST:PORT`` where it listens."""
        return self._address

    @property
    def connections(self) -> int:
        """How many are open now."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        """End all connections and stop listening; idempotent."""
        self._closing.set()
        self._thread.join(2.0)
        self._socket.close()
        with self._lock:
            serving = list(self._open.items())
        for connection, _ in serving:
            connection.close()
        for _, thread in serving:
            if thread is not threading.current_thread():
                thread.join(2.0)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connected, peer = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._closing.is_set():
                    return
                # no file handles left, or a client that went away again: neither ends the far end
                logger.warning("%s could not accept a connection: %s", self._name, error)
                self._closing.wait(SLICE_S)
                continue
            if self.faults.unplugged:
                connected.close()
                continue
            while self.connections > 4 * self._at_most and not self._closing.wait(SLICE_S):
                pass  # those that gave way are still ending
            self._start(connected, f"{peer[0]}:{peer[1]}")

    def _start(self, connected: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(connected, peer, self.faults, self._idle_s)
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"{self._name} serves {peer}", daemon=True
        )
        with self._lock:
            held = [c for c in self._open if not c.closed]
            if len(held) >= self._at_most:
                oldest = min(held, key=lambda c: c.active)
                logger.info("%s: %s gives way to %s", self._name, oldest.peer, peer)
                oldest.close()
            self._open[connection] = thread
        thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        except OSError as error:  # ConnectionEnded and TimeoutError among them
            logger.debug("%s: connection of %s ended: %s", self._name, connection.peer, error)
        except Exception:
            logger.exception("%s: serving %s failed", self._name, connection.peer)
        finally:
            connection.release()
            with self._lock:
                self._open.pop(connection, None)
