"""HTTP requests to a temscript server, each bounded in all, and one of them can be cut.

Each request has a connection of its own: the server speaks HTTP/1.0 and ends the connection after its
reply, so that no reply can be taken for another's. The time-outs of HTTP libraries count from byte to
byte; here they hold for the whole of a request. Only JSON is asked for, never pickle.

Source: niermann/temscript 2.1 (BSD), ``server.py``, ``marshall.py``: 200 with JSON (gzip if longer than
256 bytes), 204 without content, 404 for an unknown endpoint, 500 for what the microscope refused, with
the reason in the status line; a PUT has at most 4096 bytes.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acquire.clock import Clock
from acquire.errors import InstrumentError, LinkError
from drivers.links import ExchangeCut, MalformedReply, TcpTransport, Wire, cause, parse_address

COMMAND_S = 3.0
"""Wall seconds for a request that the microscope carries out at once."""
CONNECT_S = 2.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
LARGEST_PUT = 4096
LARGEST_REPLY = 1 << 20
LARGEST_HEAD_LINES = 100
JSON = "application/json"
_MEND = "See that the temscript server runs on the microscope's PC, and that the address is right."


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that the server replied, and when."""

    value: Any
    asked_s: float
    """Station time when the request was sent."""
    answered_s: float
    """Station time when its reply began."""


class TemscriptHttp:
    """A temscript server; any thread may ask at any time, and the server answers one after the other.

    Args:
        address: ``HOST:PORT``.
        clock: of the station.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, address: str, clock: Clock) -> None:
        parse_address(address)
        self.address = address
        self._what = f"the temscript server at {address}"
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[TcpTransport] = set()
        self._busy_until = 0.0
        self._closed = threading.Event()

    @property
    def busy_left_s(self) -> float:
        """Wall seconds for which the server may still be taking a frame, and answer nobody."""
        return max(0.0, self._busy_until - time.monotonic())

    def busy_for(self, wall_s: float) -> None:
        """Note that a frame is being taken for so long."""
        self._busy_until = time.monotonic() + wall_s

    def free(self) -> None:
        """Note that no frame is being taken."""
        self._busy_until = 0.0

    def get(
        self,
        endpoint: str,
        *,
        within_s: float = COMMAND_S,
        at_most: int = LARGEST_REPLY,
        cut: Callable[[], bool] | None = None,
    ) -> Answer:
        """Ask for a value.

        Args:
            endpoint: below ``/v1/``.
            within_s: wall seconds, beyond those for which the server is busy.
            at_most: bytes of JSON.
            cut: the connection ends when it turns true; raises ExchangeCut then.

        Raises:
            LinkError: no reply in time, or none that is understood.
            InstrumentError: the server refuses.
        """
        return self._request("GET", endpoint, b"", within_s, at_most, cut)

    def put(self, endpoint: str, value: Any, *, within_s: float = COMMAND_S) -> None:
        """Set a value; raises as :meth:`get`. It is sent once, whatever becomes of it."""
        body = json.dumps(value, allow_nan=False).encode()
        if len(body) > LARGEST_PUT:
            raise InstrumentError(f"{endpoint}: {len(body)} bytes are more than the server takes.")
        self._request("PUT", endpoint, body, within_s, LARGEST_REPLY, None)

    def close(self) -> None:
        """End every request under way; later ones raise LinkError. Idempotent."""
        self._closed.set()
        with self._lock:
            under_way = list(self._open)
        for transport in under_way:
            transport.close()

    def _request(
        self,
        method: str,
        endpoint: str,
        body: bytes,
        within_s: float,
        at_most: int,
        cut: Callable[[], bool] | None,
    ) -> Answer:
        doing = f"{method} {endpoint.partition('?')[0]}"
        deadline = time.monotonic() + self.busy_left_s + within_s
        transport = self._connect(deadline, doing, cut)
        try:
            wire = Wire(transport, deadline, cut)
            asked_s = self._clock.now_s()
            wire.send(self._head(method, endpoint, body) + body)
            status, reason, headers = _read_head(wire)
            answered_s = self._clock.now_s()
            if status >= 400:
                raise InstrumentError(
                    f"{self._what} refuses {doing} with {status}: {reason or 'no reason given'}."
                )
            value = None if status == 204 else _read_json(wire, status, headers, at_most)
            return Answer(value, asked_s, answered_s)
        except (ExchangeCut, LinkError):
            raise
        except MalformedReply as error:
            raise LinkError(
                f"{self._what} answered {doing} with something that is not understood: {error} "
                "What it did is not known."
            ) from error
        except OSError as error:
            raise LinkError(
                f"{self._what} did not answer {doing} ({cause(error)}); what it did is not known. "
                f"{_MEND}"
            ) from error
        finally:
            with self._lock:
                self._open.discard(transport)
            transport.close()

    def _connect(self, deadline: float, doing: str, cut: Callable[[], bool] | None) -> TcpTransport:
        give_up = min(deadline, time.monotonic() + CONNECT_S)
        pause_s = FIRST_PAUSE_S
        while True:
            if self._closed.is_set():
                raise LinkError(f"the link to {self._what} was closed here; {doing} was not sent.")
            if cut is not None and cut():
                raise ExchangeCut(f"{doing} was cut before it was sent.")
            try:
                transport = TcpTransport(self.address, give_up)
            except OSError as error:
                if time.monotonic() + pause_s >= give_up:
                    raise LinkError(
                        f"{self._what} cannot be reached ({cause(error)}); {doing} was not sent. "
                        f"{_MEND}"
                    ) from error
                time.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            with self._lock:
                self._open.add(transport)
            if self._closed.is_set():  # meanwhile, by another thread, which saw nothing to close
                transport.close()
            return transport

    def _head(self, method: str, endpoint: str, body: bytes) -> bytes:
        lines = [
            f"{method} /v1/{endpoint} HTTP/1.1",
            f"Host: {self.address}",
            f"Accept: {JSON}",
            "Accept-Encoding: gzip",
            "Connection: close",
        ]
        if method == "PUT":
            lines += [f"Content-Type: {JSON}", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _read_head(wire: Wire) -> tuple[int, str, dict[str, str]]:
    """Status, reason, headers by lower-case name."""
    version, _, rest = wire.receive_line().decode("latin-1").strip().partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
        raise MalformedReply(f"{version[:40]!r} does not begin a reply of HTTP.")
    headers: dict[str, str] = {}
    for _ in range(LARGEST_HEAD_LINES):
        line = wire.receive_line().decode("latin-1").strip()
        if not line:
            return int(code), reason.strip(), headers
        # a reason of several lines breaks the server's head: what is no header is a part of it
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
        else:
            reason += f" {line}"
    raise MalformedReply("the head of the reply does not end.")


def _read_json(wire: Wire, status: int, headers: dict[str, str], at_most: int) -> Any:
    kind = headers.get("content-type", "").partition(";")[0].strip()
    length = headers.get("content-length", "")
    if status != 200 or kind != JSON or not (length.isascii() and length.isdigit()):
        raise MalformedReply(f"status {status}, type {kind!r}, length {length!r} is no JSON.")
    if int(length) > at_most:
        raise MalformedReply(f"{length} bytes are announced; {at_most} are the most there can be.")
    body = wire.receive(int(length))
    encoding = headers.get("content-encoding", "identity")
    if encoding == "gzip":
        body = _unzip(body, at_most)
    elif encoding != "identity":
        raise MalformedReply(f"encoding {encoding!r} was not asked for.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"this is no JSON: {body[:60]!r}.") from error


def _unzip(packed: bytes, at_most: int) -> bytes:
    machine = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = machine.decompress(packed, at_most)
    except zlib.error as error:
        raise MalformedReply(f"its compression is broken ({error}).") from error
    if not machine.eof or machine.unused_data:
        raise MalformedReply(f"it does not unpack to at most {at_most} bytes.")
    return body
