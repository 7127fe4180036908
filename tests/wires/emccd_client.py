"""A client of the SerialEMCCD socket that writes every byte itself, and helpers of its tests."""

from __future__ import annotations

import contextlib
import math
import socket
import struct

import numpy as np
from numpy.typing import NDArray

from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation
from simulators.wires.emccd_packets import LONGEST_CHUNK
from simulators.wires.serialemccd import SerialEmccd, serve

RATE = 20.0
HANDSHAKE = bytes.fromhex("08000000 18000000")


class Client:
    """Sends and receives what the plugin's source says, without any of the far end's code."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def close(self) -> None:
        self.socket.close()

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self.socket.recv(min(1 << 20, count - len(got)))
            if not more:
                raise ConnectionError("closed by the far end")
            got += more
        return got

    def reply(self) -> bytes:
        """A packet without its leading count."""
        (length,) = struct.unpack("<i", self.receive(4))
        return self.receive(length - 4)

    def raw(self, packet: bytes) -> bytes:
        self.socket.sendall(packet)
        return self.reply()

    def call(
        self,
        code: int,
        longs: tuple[int, ...] = (),
        bools: tuple[int, ...] = (),
        doubles: tuple[float, ...] = (),
        array: bytes = b"",
        results: str = "",
    ) -> tuple[float, ...]:
        body = struct.pack(
            f"<i{len(longs)}i{len(bools)}i{len(doubles)}d", code, *longs, *bools, *doubles
        )
        reply = self.raw(struct.pack("<i", 4 + len(body) + len(array)) + body + array)
        if len(reply) == 4:  # a refusal, or nothing but a value
            return struct.unpack("<i", reply)
        return struct.unpack(f"<i{results}", reply)

    def script(self, text: str) -> tuple[int, float]:
        data = text.encode("latin-1") + b"\0"
        data += b"\0" * (-len(data) % 4)
        value, result = self.call(1, (len(data) // 4,), (0,), array=data, results="d")
        return int(value), result

    def value(self, expression: str) -> float:
        code, result = self.script(f"number v = {expression}\nExit(v)\n")
        assert code == 0
        return result

    def image(self, numbers: tuple[float, ...]) -> NDArray[np.uint16]:
        value, size, width, height, chunks = (int(n) for n in numbers)
        assert value == 0
        assert chunks == max(1, -(-2 * size // LONGEST_CHUNK))
        data = self.receive(2 * size)
        return np.frombuffer(data, "<u2").reshape(-1, width)[:height]

    def acquire(
        self,
        shape: tuple[int, int] = (32, 64),
        *,
        room: int | None = None,
        rotation: float = 0.0,
        dwell_us: float = 2.0,
        flags: int = 0,
        continuous: int = 0,
        channels: tuple[int, ...] = (0, 1),
        divide: int = 0,
    ) -> tuple[float, ...]:
        rows, columns = shape
        room = rows * columns if room is None else room
        longs = (room, columns, rows, flags, continuous, divide, len(channels))
        array = struct.pack(f"<{len(channels)}i", *channels)
        return self.call(19, longs, (), (rotation, dwell_us), array, "4i")

    def channel(self, number: int, shape: tuple[int, int] = (32, 64)) -> tuple[float, ...]:
        rows, columns = shape
        return self.call(20, (rows * columns, columns, rows, number, 0), results="4i")

    def camera(
        self,
        exposure_s: float = 0.1,
        *,
        processing: int = 2,
        binning: int = 1,
        region: tuple[int, int, int, int] = (0, 0, 256, 2048),
        divide: int = 0,
    ) -> tuple[float, ...]:
        top, left, bottom, right = region
        width, height = (right - left) // binning, (bottom - top) // binning
        longs = (width * height, width, height, processing, binning, *region, 0, 0, divide, 0)
        return self.call(6, longs, (), (exposure_s, 0.0), results="4i")


def frames_taken(simulation: ExsolutionSimulation, stream: str, since_s: float = -math.inf) -> int:
    """How many frames were begun, complete or cut, with their middle after a time."""
    index = count = 0
    with contextlib.suppress(KeyError):
        while True:
            count += simulation.truth(stream, index)["t_s"] > since_s
            index += 1
    return count


def listening(simulation: ExsolutionSimulation, **options: object) -> SerialEmccd:
    clock = simulation.world.clock
    made = serve(FarEndContext("emccd", clock, simulation, source="s.toml"), **options)  # type: ignore[arg-type]
    assert isinstance(made, SerialEmccd)
    return made
