"""The far end of the SIMPLON API over simulated instruments, and what a detector's user has to reach it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import numpy as np
import pytest
import urllib3
import zmq

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from drivers.spectrometers.simplon_codecs import unpack
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.simplon import Simplon, serve

ROWS, COLUMNS = 64, 256
ZERO_LOSS = 100
RATE = 5.0
SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""What every message of version 2 begins with: DECTRIS's stream2.c looks for it."""


try:  # DECTRIS's own decompressor where it is installed: it has no binary wheels
    from dectris.compression import decompress  # type: ignore[import-untyped]
except ImportError:

    def decompress(data: bytes, algorithm: str, elem_size: int = 4) -> bytes:
        return unpack(data, algorithm, elem_size, int.from_bytes(data[:8], "big"))


class Client:
    """What a detector's user has: REST and a PULL socket."""

    def __init__(self, far_end: Simplon, port: str) -> None:
        self._http = urllib3.PoolManager(timeout=5.0, retries=False, maxsize=4)
        self._root = f"http://{far_end.addresses['api']}"
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"tcp://{far_end.addresses[port]}")

    def close(self) -> None:
        self.socket.close()
        self._context.term()
        self._http.clear()

    def get(self, path: str) -> Any:
        reply = self._http.request("GET", f"{self._root}/{path}")
        assert reply.status == 200, (path, reply.status, reply.data)
        return json.loads(reply.data)

    def value(self, path: str) -> Any:
        return self.get(path)["value"]

    def put(self, path: str, value: Any = None) -> tuple[int, Any]:
        body = None if value is None else json.dumps({"value": value}).encode()
        reply = self._http.request("PUT", f"{self._root}/{path}", body=body)
        return reply.status, json.loads(reply.data) if reply.data else None

    def config(self, **values: Any) -> None:
        for name, value in values.items():
            assert self.put(f"detector/api/1.8.0/config/{name}", value)[0] == 200

    def stream(self, **values: Any) -> None:
        for name, value in values.items():
            assert self.put(f"stream/api/1.8.0/config/{name}", value)[0] == 200

    def command(self, name: str, value: Any = None) -> tuple[int, Any]:
        return self.put(f"detector/api/1.8.0/command/{name}", value)

    @property
    def state(self) -> str:
        return str(self.value("detector/api/1.8.0/status/state"))

    def parts(self, within_s: float = 3.0) -> list[bytes]:
        assert self.socket.poll(int(within_s * 1000)), "no message came"
        return self.socket.recv_multipart()

    def message(self) -> dict[str, Any]:
        (part,) = self.parts()
        assert part.startswith(SELF_DESCRIBED)
        found = cbor2.loads(part[len(SELF_DESCRIBED) :], tag_hook=_unpack)
        assert isinstance(found, dict)
        return found


def _unpack(*given: Any) -> Any:
    # the order of its arguments differs between versions of cbor2
    tag = next(one for one in given if isinstance(one, cbor2.CBORTag))
    if tag.tag == 56500:
        algorithm, size, data = tag.value
        return decompress(data, algorithm, elem_size=size)
    if tag.tag in (64, 69, 70):
        return np.frombuffer(tag.value, {64: "u1", 69: "<u2", 70: "<u4"}[tag.tag])
    if tag.tag == 40:
        shape, data = tag.value
        return data.reshape(shape)
    return tag


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=5, drift=False)


Maker = Callable[..., Simplon]


@pytest.fixture
def make(simulation: ExsolutionSimulation) -> Iterator[Maker]:
    made: list[Simplon] = []

    def one(**options: Any) -> Simplon:
        simulation.world.column.blank(False)
        simulation.world.energy_filter = None
        context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
        far_end = serve(context, **{"rows": ROWS, "columns": COLUMNS, **options})
        assert isinstance(far_end, Simplon)
        made.append(far_end)
        return far_end

    yield one
    for far_end in made:
        far_end.close()
        far_end.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def one(far_end: Simplon, port: str = "stream2") -> Client:
        made.append(Client(far_end, port))
        return made[-1]

    yield one
    for client in made:
        client.close()


Connect = Callable[..., Client]
