"""Request and reply on a byte stream, so that no lost, late, split or doubled reply is taken for the next one.

Protocols without message numbers cannot tell a late reply from the present one. So an exchange that
did not end exactly as expected ends the connection, and the next exchange opens a new one: nothing
of the old can reach it. Nothing is ever sent twice, since what the device did is not known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from acquire.errors import HotstageError, InstrumentError, LinkError
from drivers.links.transports import CHUNK, SLICE_S, Transport

logger = logging.getLogger(__name__)

T = TypeVar("T")
CONNECT_S = 2.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
LONGEST_LINE = 64 << 10


class MalformedReply(InstrumentError):
    """A reply that the protocol does not know; says what came and what was expected."""


class ExchangeCut(InstrumentError):
    """An exchange was ended from this side before its reply was complete."""


class Wire:
    """The bytes of one exchange; everything within its deadline.

    Methods raise TimeoutError at the deadline, OSError for a broken connection, ExchangeCut.
    """

    def __init__(
        self, transport: Transport, deadline: float, cut: Callable[[], bool] | None = None
    ) -> None:
        self._transport = transport
        self._deadline = deadline
        self._cut = cut
        self._held = bytearray()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def send(self, data: bytes | memoryview) -> None:
        """Send everything."""
        self._transport.send(data, self._deadline)

    def receive_into(self, into: memoryview) -> None:
        """Fill a buffer of bytes."""
        got = min(len(self._held), len(into))
        into[:got] = self._held[:got]
        del self._held[:got]
        while got < len(into):
            got += self._more(into[got:])

    def receive(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        buffer = bytearray(count)
        self.receive_into(memoryview(buffer))
        return bytes(buffer)

    def receive_line(self, end: bytes = b"\n", at_most: int = LONGEST_LINE) -> bytes:
        """Bytes up to ``end``, without it.

        Raises:
            MalformedReply: no ``end`` within ``at_most`` bytes.
        """
        buffer = memoryview(bytearray(CHUNK))
        searched = 0
        while (found := self._held.find(end, searched)) < 0:
            if len(self._held) > at_most:
                raise MalformedReply(f"{len(self._held)} bytes came without an end of line.")
            searched = max(0, len(self._held) - len(end) + 1)
            self._held += buffer[: self._more(buffer)]
        line = bytes(self._held[:found])
        del self._held[: found + len(end)]
        return line

    def quiet(self, for_s: float) -> bytes:
        """What comes until nothing has come for a while, to let a confused device finish."""
        buffer = memoryview(bytearray(CHUNK))
        came = bytes(self._held)
        self._held.clear()
        while True:
            until = min(self._deadline, time.monotonic() + for_s)
            got = self._transport.receive(buffer, until)
            if not got:
                return came
            if self.left_s <= 0 or len(came) > LONGEST_LINE:
                raise TimeoutError("the device does not stop to send")
            came += bytes(buffer[:got])

    def stray(self) -> int:
        """How many bytes are there that nobody asked for; they are lost."""
        buffer = memoryview(bytearray(CHUNK))
        # a deadline that has passed: only what is there already
        return len(self._held) + self._transport.receive(buffer, time.monotonic())

    def _more(self, into: memoryview) -> int:
        while True:
            if self._cut is not None and self._cut():
                raise ExchangeCut("the exchange was cut.")
            until = self._deadline
            if self._cut is not None:
                until = min(until, time.monotonic() + SLICE_S)
            got = self._transport.receive(into, until)
            if got:
                return got
            if self.left_s <= 0:
                raise TimeoutError("no complete reply came in time")


class Link:
    """A connection to one device, opened when it is first needed and again after every mishap.

    Any thread may call; exchanges never overlap.

    Args:
        connect: opens a transport by a deadline; raises OSError.
        what: the device and its address, for messages.
        mend: what a person can do when it cannot be reached.
        greet: the first exchange on every new connection: identify the device, set it up, read its
            state. It never repeats a command of before.
        connect_s: wall seconds for connection and greeting.
    """

    def __init__(
        self,
        connect: Callable[[float], Transport],
        *,
        what: str,
        mend: str,
        greet: Callable[[Wire], None] | None = None,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._connect = connect
        self._what = what
        self._mend = mend
        self._greet = greet
        self._connect_s = connect_s
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._closed = False
        self._pause_s = 0.0
        self.connections = 0
        """How many were made."""

    def open(self) -> None:
        """Connect and greet now; raises LinkError, or InstrumentError from the greeting."""
        self.talk(lambda wire: None, within_s=self._connect_s, doing="the connection")

    def talk(
        self,
        exchange: Callable[[Wire], T],
        *,
        within_s: float,
        doing: str,
        cut: Callable[[], bool] | None = None,
    ) -> T:
        """Carry out one exchange, on a new connection if need be.

        Args:
            exchange: sends the request and receives all of its reply. HotstageErrors that it raises
                after a complete reply (a device's refusal) keep the connection.
            within_s: wall seconds for all of it, waiting for others' exchanges included.
            doing: the command, for messages.
            cut: looked at every 50 ms, while the connection is made anew, too; when it turns true
                the exchange ends with ExchangeCut, and so does the connection.

        Raises:
            LinkError: no connection, no reply in time, or one that is not understood; what the
                device did is not known, and nothing is sent again.
        """
        deadline = time.monotonic() + within_s
        if not self._lock.acquire(timeout=max(0.0, within_s)):
            raise LinkError(
                f"{self._what} was busy with another command for {within_s:g} s; {doing} was not sent."
            )
        try:
            transport = self._connected(deadline, doing, cut)
            return self._carry_out(exchange, Wire(transport, deadline, cut), doing)
        finally:
            self._lock.release()

    def cut(self) -> None:
        """End the connection under an exchange that another thread is in; it raises LinkError."""
        transport = self._transport
        if transport is not None:
            transport.close()

    def close(self) -> None:
        """End the connection; later exchanges raise LinkError. Idempotent."""
        self._closed = True
        self.cut()

    def _carry_out(self, exchange: Callable[[Wire], T], wire: Wire, doing: str) -> T:
        try:
            result = exchange(wire)
            if stray := wire.stray():
                self._drop()
                logger.warning(
                    "%s sent %d bytes more than it was asked for by %s; the connection is made anew",
                    self._what,
                    stray,
                    doing,
                )
            return result
        except (MalformedReply, ExchangeCut) as error:
            self._drop()
            if isinstance(error, ExchangeCut):
                raise
            raise LinkError(
                f"{self._what} answered {doing} with something that is not understood: {error} "
                "What it did is not known."
            ) from error
        except HotstageError:
            raise
        except OSError as error:  # TimeoutError among them
            self._drop()
            raise LinkError(
                f"{self._what} did not answer {doing} ({cause(error)}); what it did is not known. "
                f"{self._mend}"
            ) from error
        except BaseException:
            self._drop()  # interrupted: the reply would be taken for that of the next exchange
            raise

    def _connected(self, deadline: float, doing: str, cut: Callable[[], bool] | None) -> Transport:
        while True:
            if cut is not None and cut():
                raise ExchangeCut(f"{doing} was cut before it was sent.")
            if self._closed:
                raise LinkError(f"the link to {self._what} was closed here; {doing} was not sent.")
            if self._transport is not None:
                if self._alive(self._transport):
                    return self._transport
                self._drop()
            try:
                return self._make(deadline)
            except OSError as error:
                self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
                if time.monotonic() + self._pause_s >= deadline:
                    raise LinkError(
                        f"{self._what} cannot be reached ({cause(error)}); {doing} was not sent. "
                        f"{self._mend}"
                    ) from error
            time.sleep(self._pause_s)

    def _make(self, deadline: float) -> Transport:
        by = min(deadline, time.monotonic() + self._connect_s)
        transport = self._transport = self._connect(by)
        try:
            if self._closed:  # meanwhile, by another thread, which saw no transport to close
                raise LinkError(f"the link to {self._what} was closed here.")
            if self._greet is not None:
                self._greet(Wire(transport, by))
        except MalformedReply as error:
            self._drop()
            raise LinkError(f"{self._what} is not what was expected: {error}") from error
        except BaseException:
            self._drop()
            raise
        self._pause_s = 0.0
        self.connections += 1
        return transport

    def _alive(self, transport: Transport) -> bool:
        """Whether the peer is still there and owes nothing, as far as can be told without asking."""
        try:
            return not Wire(transport, time.monotonic()).stray()
        except OSError:
            return False

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()


def cause(error: BaseException) -> str:
    """What a low-level error means, in words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no complete answer in time"
    return str(error) or type(error).__name__
