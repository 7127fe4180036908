"""A stand-in of a DECTRIS detector for the driver's tests: scripted, small, written from the facts."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cbor2
import numpy as np
import zmq

SHAPE = (4, 128)
SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""What every message of a real detector begins with (stream2.c, RFC 8949, 3.4.6)."""


def lz4_literals(data: bytes) -> bytes:
    """A block of LZ4 that holds only literals."""
    count = len(data)
    if count < 15:
        return bytes([count << 4]) + data
    more, rest = divmod(count - 15, 255)
    return bytes([0xF0]) + b"\xff" * more + bytes([rest]) + data


def cbor_image(series: int, number: int, pixels: Any, start_s: float, stop_s: float) -> bytes:
    block = lz4_literals(pixels.astype("<u2").tobytes())
    size = pixels.size * 2
    packed = struct.pack(">QII", size, size, len(block)) + block
    array = cbor2.CBORTag(
        40,
        [list(pixels.shape), cbor2.CBORTag(69, cbor2.CBORTag(56500, ["lz4", 0, packed]))],
    )
    return SELF_DESCRIBED + cbor2.dumps(
        {
            "type": "image",
            "data": {"threshold_1": array},
            "image_id": number,
            "series_id": series,
            "real_time": [round((stop_s - start_s) * 1e8), 10**8],
            "start_time": [round(start_s * 1e8), 10**8],
            "stop_time": [round(stop_s * 1e8), 10**8],
        }
    )


def legacy_image(
    series: int, number: int, pixels: Any, start_s: float, stop_s: float
) -> list[bytes]:
    raw = pixels.astype("<u2").tobytes()
    return [
        json.dumps({"htype": "dimage-1.0", "series": series, "frame": number, "hash": ""}).encode(),
        json.dumps(
            {
                "htype": "dimage_d-1.0",
                "shape": list(reversed(pixels.shape)),
                "type": "uint16",
                "encoding": "lz4<",
                "size": len(raw),
            }
        ).encode(),
        lz4_literals(raw),
        json.dumps(
            {
                "htype": "dconfig-1.0",
                "start_time": round(start_s * 1e9),
                "stop_time": round(stop_s * 1e9),
                "real_time": round((stop_s - start_s) * 1e9),
            }
        ).encode(),
    ]


class SimplonDouble:
    """Answers REST and pushes images of ``image(number)``; ``mangle`` may change a message."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {
            "description": "Dectris ELA Si 0.5M",
            "detector_number": "E-01-0001",
            "x_pixels_in_detector": SHAPE[1],
            "y_pixels_in_detector": SHAPE[0],
            "count_time": 0.5,
            "frame_time": 0.6,
            "nimages": 1,
            "ntrigger": 1,
            "trigger_mode": "exts",
        }
        self.stream: dict[str, Any] = {"mode": "disabled", "format": "legacy"}
        self.state = "idle"
        self.requests: list[tuple[str, str, Any]] = []
        self.series = 6
        self.rate = 1.0
        self.answer: Callable[[str, str], tuple[int, bytes] | None] = lambda method, path: None
        self.mangle: Callable[[int, list[bytes]], list[list[bytes]]] = lambda n, parts: [parts]
        self.image = lambda number: np.full(SHAPE, number + 1, np.uint16)
        self.told: dict[str, Any] = {}
        """What the start of a series tells beside its number."""
        self._stop = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._push = self._context.socket(zmq.PUSH)
        self._push.setsockopt(zmq.LINGER, 0)
        self._push.setsockopt(zmq.SNDTIMEO, 100)
        port = self._push.bind_to_random_port("tcp://127.0.0.1")
        self.stream_address = f"127.0.0.1:{port}"
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._reply(*double._get(self.path))

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with contextlib.suppress(OSError):
                    self._reply(*double._put(self.path, body))

            def _reply(self, status: int, payload: bytes) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def __enter__(self) -> SimplonDouble:
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)
        with self._lock:
            self._context.destroy(0)

    def commands(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests if "/command/" in path]

    def push(self, parts: list[bytes]) -> None:
        with self._lock, contextlib.suppress(zmq.ZMQError):  # what nobody reads is lost
            self._push.send_multipart(parts)

    def _get(self, path: str) -> tuple[int, bytes]:
        self.requests.append(("GET", path, None))
        if answer := self.answer("GET", path):
            return answer
        module, _, api, kind, name = path.strip("/").split("/")
        if api != "1.8.0":
            return 404, b"no such version"
        if kind == "status":
            return 200, json.dumps({"value": self.state, "value_type": "string"}).encode()
        table = self.config if module == "detector" else self.stream
        if name not in table:
            return 404, b"no such parameter"
        found = {"value": table[name], "access_mode": "rw"}
        if name == "count_time":
            found |= {"min": 1e-4, "max": 1800.0, "unit": "s"}
        return 200, json.dumps(found).encode()

    def _put(self, path: str, body: bytes) -> tuple[int, bytes]:
        value = json.loads(body)["value"] if body else None
        self.requests.append(("PUT", path, value))
        if answer := self.answer("PUT", path):
            return answer
        module, _, _, kind, name = path.strip("/").split("/")
        if kind == "config":
            if self.state != "idle":
                return 403, b"armed"
            (self.config if module == "detector" else self.stream)[name] = value
            return 200, json.dumps([name]).encode()
        return self._command(name)

    def _command(self, name: str) -> tuple[int, bytes]:
        if name == "arm":
            self.series += 1
            self.state = "ready"
            self._stop.clear()
            if self.stream["format"] == "cbor":
                start = {"type": "start", "series_id": self.series, **self.told}
                self.push([SELF_DESCRIBED + cbor2.dumps(start)])
            else:
                head = {"htype": "dheader-1.0", "series": self.series, "header_detail": "basic"}
                self.push([json.dumps(head).encode(), json.dumps(self.told).encode()])
            return 200, json.dumps({"sequence id": self.series}).encode()
        if name == "trigger":
            self.state = "acquire"
            self._expose()
            self.state = "idle"
            return 200, b""
        if name in ("abort", "disarm"):
            self._stop.set()
            self.state = "idle"
            return 200, json.dumps({"sequence id": self.series}).encode()
        return 404, b"no such command"

    def _expose(self) -> None:
        series, count_s = self.series, self.config["count_time"]
        make = cbor_image if self.stream["format"] == "cbor" else legacy_image
        for number in range(self.config["nimages"]):
            if self._stop.wait(self.config["frame_time"] / self.rate):
                break
            start_s = 3.0 + number * self.config["frame_time"]
            made = make(series, number, self.image(number), start_s, start_s + count_s)
            parts = made if isinstance(made, list) else [made]
            for message in self.mangle(number, parts):
                self.push(message)
        end = {"type": "end", "series_id": series, "htype": "dseries_end-1.0", "series": series}
        legacy = self.stream["format"] != "cbor"
        self.push([json.dumps(end).encode() if legacy else SELF_DESCRIBED + cbor2.dumps(end)])


def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come to pass"
        time.sleep(0.005)
