"""The REST interface of SIMPLON 1.8.0: detector, stream, monitor and file writer.

Sources: as in :mod:`simulators.wires.simplon_parameters`. A PUT replies the list of what changed, ``arm``
and the commands that end a series its number. 404: no such thing; 403: not now, or read-only; 400: not
so. Inferred: these three.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.wires.simplon_detector import Detector, Forbidden
from simulators.wires.simplon_http import Request, Response
from simulators.wires.simplon_messages import Image, Series
from simulators.wires.simplon_parameters import Parameters, Refused, statuses
from simulators.wires.simplon_stream import Pusher

VERSION = "1.8.0"


class Monitor:
    """Keeps the last image for whoever asks."""

    def __init__(self, config: Parameters) -> None:
        self.config = config
        self._last: tuple[int, Image] | None = None

    def start(self, series: Series) -> None:
        """Nothing to keep yet."""

    def image(self, series: Series, image: Image) -> None:
        """Keep it, if enabled."""
        if self.config["mode"] == "enabled":
            self._last = (series.number, image)

    def end(self, series: Series) -> None:
        """The last image stays."""

    def clear(self) -> None:
        """Forget it."""
        self._last = None

    def names(self) -> list[list[int]]:
        """Series and number of what is kept."""
        last = self._last
        return [] if last is None else [[last[0], last[1].number]]

    def tiff(self) -> bytes | None:
        """The last image as an uncompressed TIFF."""
        last = self._last
        return None if last is None else _tiff(last[1].pixels)


@dataclass(frozen=True, slots=True)
class Module:
    """One part of the interface."""

    config: Parameters
    status: Callable[[], Mapping[str, tuple[Any, str]]]
    commands: Mapping[str, Callable[[Any], Any]]


class Api:
    """Answers requests; any number at a time."""

    def __init__(
        self,
        detector: Detector,
        configs: Mapping[str, Parameters],
        monitor: Monitor,
        pushers: Mapping[str, Pusher],
    ) -> None:
        self._detector = detector
        self._monitor = monitor
        self._pushers = pushers
        self._modules = {
            "detector": Module(
                configs["detector"],
                lambda: {
                    "error": ([], "list"),
                    "humidity": (5.0, "float"),
                    "state": (detector.state, "string"),
                    "temperature": (24.0, "float"),
                },
                {
                    "arm": lambda _: {"sequence id": detector.arm()},
                    "trigger": detector.trigger,
                    "disarm": lambda _: {"sequence id": detector.disarm()},
                    "cancel": lambda _: {"sequence id": detector.disarm()},
                    "abort": lambda _: {"sequence id": detector.abort()},
                    "initialize": lambda _: detector.initialize(),
                    "status_update": lambda _: None,
                },
            ),
            "stream": Module(
                configs["stream"],
                lambda: {
                    "dropped": (sum(p.dropped for p in pushers.values()), "uint"),
                    "error": ([], "list"),
                    "state": ("ready", "string"),
                },
                {"initialize": lambda _: self._initialize_stream()},
            ),
            "monitor": Module(
                configs["monitor"],
                lambda: {
                    "dropped": (0, "uint"),
                    "error": ([], "list"),
                    "state": ("normal", "string"),
                },
                {"clear": lambda _: monitor.clear(), "initialize": lambda _: monitor.clear()},
            ),
            "filewriter": Module(
                configs["filewriter"],
                lambda: {
                    "error": ([], "list"),
                    "files": ([], "list"),
                    "state": ("disabled", "string"),
                },
                {"clear": lambda _: None, "initialize": lambda _: None},
            ),
        }

    def answer(self, request: Request) -> Response:
        """What a request is told."""
        name, _, rest = request.path.strip("/").partition("/")
        if name not in self._modules or not rest.startswith("api/"):
            return _error(HTTPStatus.NOT_FOUND, f"no {request.path[:80]}")
        if rest == "api/version":
            return _json({"value": VERSION, "value_type": "string"})
        version, _, rest = rest.removeprefix("api/").partition("/")
        kind, _, item = rest.partition("/")
        if version != VERSION:
            return _error(HTTPStatus.NOT_FOUND, f"no version {version[:20]!r}, there is {VERSION}")
        try:
            match request.method, kind:
                case (("GET" | "HEAD"), _):
                    return self._get(name, kind, item)
                case "PUT", "config":
                    return self._configure(name, item, _body(request))
                case "PUT", "command":
                    return self._command(name, item, _body(request) if request.body else None)
        except Refused as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        except Forbidden as error:
            return _error(HTTPStatus.FORBIDDEN, str(error))
        return _error(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} {kind[:20]}")

    def _get(self, name: str, kind: str, item: str) -> Response:
        module = self._modules[name]
        if kind == "config":
            found = {key: module.config.tell(key) for key in module.config.names()}
        elif kind == "status":
            found = statuses(module.status())
        elif kind == "command":
            found = {key: {} for key in module.commands}
        elif (name, kind) == ("monitor", "images"):
            return self._image(item)
        else:
            return _error(HTTPStatus.NOT_FOUND, f"no {name}/{kind[:40]}")
        if not item:
            return _json(found)
        if item == "keys":
            return _json(sorted(found))
        if item not in found or kind == "command":
            return _error(HTTPStatus.NOT_FOUND, f"no {name} {kind} {item[:80]!r}")
        return _json(found[item])

    def _image(self, item: str) -> Response:
        if not item:
            return _json(self._monitor.names())
        picture = self._monitor.tiff() if item in ("monitor", "next") else None
        if picture is None:
            return _error(HTTPStatus.NOT_FOUND, "no image")
        return Response(HTTPStatus.OK, picture, "application/tiff")

    def _configure(self, name: str, item: str, body: Any) -> Response:
        config = self._modules[name].config
        wanted = {item: body} if item else body
        if not isinstance(wanted, dict):
            raise Refused("a map of parameters is needed")
        for key, entry in wanted.items():
            if key not in config:
                return _error(HTTPStatus.NOT_FOUND, f"no {name} config {key[:80]!r}")
            if not isinstance(entry, dict) or "value" not in entry:
                raise Refused('write {"value": ...}')
            if not config.writable(key):
                raise Forbidden(f"{key} is read-only")
        if name in ("detector", "stream") and not self._detector.configurable:
            raise Forbidden(f"{name} config in state {self._detector.state!r}: disarm first")
        changed: dict[str, None] = {}
        for key, entry in wanted.items():
            changed |= dict.fromkeys(config.put(key, entry["value"]))
        return _json(list(changed))

    def _command(self, name: str, item: str, body: Any) -> Response:
        commands = self._modules[name].commands
        if item not in commands:
            return _error(HTTPStatus.NOT_FOUND, f"no {name} command {item[:80]!r}")
        value = body.get("value") if isinstance(body, dict) else body
        result = commands[item](value)
        return Response(HTTPStatus.OK) if result is None else _json(result)

    def _initialize_stream(self) -> None:
        for pusher in self._pushers.values():
            pusher.forget()
        self._modules["stream"].config.put("mode", "disabled")


def _body(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refused("the body is no JSON") from error


def _json(value: Any) -> Response:
    return Response(HTTPStatus.OK, json.dumps(value).encode())


def _error(status: HTTPStatus, reason: str) -> Response:
    return Response(status, json.dumps({"error": reason}).encode())


def _tiff(pixels: NDArray[Any]) -> bytes:
    """One strip of unsigned integers, little-endian (TIFF 6.0, section 8)."""
    rows, columns = pixels.shape
    data = np.ascontiguousarray(pixels).tobytes()
    entries = (
        (256, 4, columns),
        (257, 4, rows),
        (258, 3, 8 * pixels.dtype.itemsize),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, len(data)),
        (339, 3, 1),
    )
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    pad = b"\0" * (len(data) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(pad))
    return head + data + pad + struct.pack("<H", len(entries)) + table + b"\0\0\0\0"
