"""The far end of temscript: the HTTP server that runs beside a Thermo Fisher microscope.

One request at a time, as the single-threaded server has it: while images are acquired nobody else is
answered, and a client that has gone is only noticed afterwards. HTTP/1.0, a connection for every request.
Dwell times are seconds of the simulation's clock.

Sources: niermann/temscript 2.1 (BSD), ``server.py`` (endpoints, 204, 404, 500, gzip beyond 256 bytes, 4096 bytes
of body) and ``marshall.py``. Differences: it listens on loopback only, knows JSON only (pickle is never sent), and
refuses heads beyond 16 KiB.
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from acquire.farends import FarEnd, FarEndContext
from simulators import faults as fault_options
from simulators import options
from simulators.faults import Faults
from simulators.scan import SimulatedScan
from simulators.wires.behind import simulation
from simulators.wires.listening import Connection, Listener
from simulators.wires.tem_microscope import STAGE_LIMITS, TemMicroscope

logger = logging.getLogger(__name__)

PORT = "http"
LONGEST_BODY = 4096
LONGEST_HEAD = 16 << 10
COMPRESS_FROM = 256
PATIENCE_S = 10.0
"""Wall seconds for a request that has begun."""


def serve(
    context: FarEndContext,
    *,
    detectors: Sequence[str] = ("haadf", "abf"),
    full_size: int = 2048,
    field_times_magnification: str = "0.1 m",
    faults: Mapping[str, float] | None = None,
) -> FarEnd:
    """Listen on port ``http``: the entry point ``temscript`` of ``hotstage.wires``.

    Args:
        context: the station's simulation and clock.
        detectors: of the simulation; the microscope has them in capitals.
        full_size: pixels of an unbinned STEM image, along a side.
        field_times_magnification: width of the field at a magnification of 1.
        faults: shares of replies that go wrong, by fault.

    Raises:
        TypeError, ValueError: an option cannot be used.
        OSError: the port cannot be had.
    """
    context.expect(PORT)
    behind = simulation(context)
    scan = behind.instruments["scan"]
    if not isinstance(scan, SimulatedScan):
        raise ValueError("the simulation has no scan.")
    if isinstance(detectors, str) or not detectors:
        raise TypeError('detectors must be a list of names, for example ["haadf", "abf"].')
    for name in detectors:
        if name not in scan.describe().detectors:
            known = ", ".join(scan.describe().detectors)
            raise ValueError(f"detectors: there is no {name!r}; there are {known}.")
    if isinstance(full_size, bool) or full_size not in (512, 1024, 2048, 4096):
        raise ValueError(f"full_size = {full_size!r} refused: write 512, 1024, 2048 or 4096.")
    closing = context.clock.signal()
    microscope = TemMicroscope(
        behind.world,
        scan,
        context.clock,
        {name.upper(): name for name in detectors},
        full_size,
        options.quantity("field_times_magnification", field_times_magnification, "nm", 1e6, 1e9),
        closing,
    )
    made = fault_options.from_options(faults, behind.world.seed)
    return TemscriptEnd(context, microscope, made)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class TemscriptEnd:
    """The listening far end."""

    def __init__(self, context: FarEndContext, microscope: TemMicroscope, faults: Faults) -> None:
        self.faults = faults
        self._microscope = microscope
        self._closing = microscope.closing
        self._one_at_a_time = threading.Lock()
        self._listener = Listener(
            context.where(PORT), self._serve, name=context.name, faults=faults, at_most=32
        )

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of the port ``http``."""
        return {PORT: self._listener.address}

    def close(self) -> None:
        """End everything; idempotent."""
        self._closing.set()
        self._listener.close()

    def _serve(self, connection: Connection) -> None:
        try:
            request = _receive(connection)
        except ValueError as error:
            connection.send(_error(HTTPStatus.BAD_REQUEST, str(error)))
            return
        with self._one_at_a_time:
            reply = self._answer(request)
        connection.send(reply)

    def _answer(self, request: _Request) -> bytes:
        try:
            url = urlparse(request.target)
            query = parse_qs(url.query)
            if not url.path.startswith("/v1/"):
                raise KeyError(f"Unknown API version: {request.target}")
            endpoint = url.path.removeprefix("/v1/")
            if request.method == "GET":
                return _result(self._get(endpoint, query), request.headers)
            if request.method == "PUT":
                self._put(endpoint, query, request)
                return _result(None, request.headers)
            return _error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({request.method!r})")
        except KeyError as error:
            return _error(HTTPStatus.NOT_FOUND, str(error))
        except Exception as error:  # noqa: BLE001  as the server does: it lives on
            words = f"Error handling request '{request.target}': {error}"
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, words)

    def _get(self, endpoint: str, query: Mapping[str, list[str]]) -> Any:
        if endpoint == "acquire":
            return self._microscope.acquire(tuple(query.get("detectors", ())))
        if endpoint.startswith("stem_detector_param/"):
            return self._microscope.detector_param(unquote(endpoint.partition("/")[2]))
        if endpoint.startswith("camera_param/"):
            raise KeyError("No camera with this name")
        try:
            return self._microscope.get(endpoint)
        except KeyError:
            raise KeyError(f"Unknown endpoint: '{endpoint}'") from None

    def _put(self, endpoint: str, query: Mapping[str, list[str]], request: _Request) -> None:
        if len(request.body) > LONGEST_BODY:
            raise ValueError("Too much content...")
        value = json.loads(request.body.decode("utf-8"))
        # any text is true there, "0" too
        ignore = bool(query.get("ignore_errors", [""])[0])
        if endpoint == "stem_acquisition_param":
            self._microscope.set_acquisition(value, ignore)
        elif endpoint.startswith("stem_detector_param/"):
            name = unquote(endpoint.partition("/")[2])
            self._microscope.set_detector_param(name, value, ignore)
        elif endpoint == "stage_position":
            axes = {axis: value[axis] for axis in value if axis in STAGE_LIMITS}
            self._microscope.set_stage_position(axes, query.get("method", ["GO"])[0])
        elif endpoint == "column_valves_open":
            self._microscope.set_valves_open(bool(value))
        elif endpoint == "normalize":
            str(value).upper()  # there is nothing to normalize
        else:
            self._microscope.put(endpoint, value)


def _receive(connection: Connection) -> _Request:
    """The next request; raises ValueError if it is none, OSError when the connection is over."""
    words = connection.receive_line(at_most=LONGEST_HEAD).decode("latin-1").split()
    if len(words) not in (2, 3):
        raise ValueError("Bad request syntax")
    headers: dict[str, str] = {}
    size = 0
    while line := connection.receive_line(at_most=LONGEST_HEAD).strip():
        size += len(line)
        if size > LONGEST_HEAD:
            raise ValueError("Too many headers")
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise ValueError("Bad content length")
    # one byte more than is allowed is enough to know that it is too much
    body = connection.receive_exactly(min(int(length[:9]), LONGEST_BODY + 1), within_s=PATIENCE_S)
    return _Request(words[0], words[1], headers, body)


def _result(value: Any, headers: Mapping[str, str]) -> bytes:
    if value is None:
        return _head(HTTPStatus.NO_CONTENT, {})
    payload = json.dumps(value).encode("utf-8")
    about = {}
    accepted = [x.split(";", 1)[0].strip() for x in headers.get("accept-encoding", "").split(",")]
    if len(payload) > COMPRESS_FROM and "gzip" in accepted:
        payload = gzip.compress(payload, 1)  # faster than the server's own level, and all the same
        about["Content-Encoding"] = "gzip"
    about |= {"Content-Length": str(len(payload)), "Content-Type": "application/json"}
    return _head(HTTPStatus.OK, about) + payload


def _error(status: HTTPStatus, words: str) -> bytes:
    # the reason is the message, as the server writes it, and must stay on its line
    reason = " ".join(words.split())
    payload = f"<html><body><p>{status.value}: {reason}</p></body></html>".encode()
    about = {"Content-Type": "text/html;charset=utf-8", "Content-Length": str(len(payload))}
    return _head(status, about, reason) + payload


def _head(status: HTTPStatus, about: Mapping[str, str], reason: str = "") -> bytes:
    lines = [f"HTTP/1.0 {status.value} {reason or status.phrase}", "Server: BaseHTTP/0.6 Python"]
    lines += [f"{name}: {value}" for name, value in about.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
