"""A Eurotherm controller with a small furnace, written by hand from the facts: frames in, frames out."""

from __future__ import annotations

import math
import os
import select
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.station import DriverContext
from drivers.holders.eurotherm import open_eurotherm
from drivers.holders.regulated import RegulatedHolder


def crc(frame: bytes) -> bytes:
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


class EurothermDouble:
    """Registers of a controller whose process value follows the working setpoint within 0.2 s."""

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.unit = 1
        self.registers = {122: 0x2480, 107: 0x0461, 199: 0, 276: 0, 75: 0, 35: 0, 274: 0, 516: 0}
        self.floats = {2: 20.0, 26: 25.0}
        self.written: list[tuple[int, tuple[int, ...]]] = []
        self.mangle: Callable[[bytes], bytes] = lambda reply: reply
        self.accepting = True
        self.connections = 0
        self.follows = True
        self.refuses: set[int] = set()
        self._celsius, self._t = 25.0, clock.now_s()
        self._stack = ExitStack()
        self._ended = threading.Event()
        self._client: socket.socket | None = None

    # -------------------------------------------------------------------------- registers

    @property
    def working(self) -> float:
        return self.floats[26] if self.registers[276] else self.floats[2]

    @property
    def heating(self) -> bool:
        return self.registers.get(199) != 1 and self.working > 30

    def celsius(self) -> float:
        now = self.clock.now_s()
        goal = self.working if self.registers.get(199) != 1 and self.follows else 25.0
        self._celsius = goal + (self._celsius - goal) * math.exp(-(now - self._t) / 0.2)
        self._t = now
        return self._celsius

    def value(self, address: int) -> int | None:
        if address < 0x8000:
            return self.registers.get(address)
        register, low = divmod(address - 0x8000, 2)
        known = {1: self.celsius, 2: lambda: self.floats[2], 3: lambda: 0.0, 4: lambda: 12.5}
        known |= {5: lambda: self.working, 26: lambda: self.floats[26]}
        if register not in known:
            return None
        words: tuple[int, int] = struct.unpack(">HH", struct.pack(">f", known[register]()))
        return words[low]

    def answer(self, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        if function == 3:
            values = [self.value(address + k) for k in range(count)]
            if None in values:
                return bytes([0x83, 2])
            return bytes([3, 2 * count]) + struct.pack(f">{count}H", *values)
        if function == 16:
            values = struct.unpack(f">{count}H", pdu[6:])
            if (address if address < 0x8000 else (address - 0x8000) // 2) in self.refuses:
                return bytes([0x90, 2])
            self.celsius()
            self.written.append((address, values))
            if address >= 0x8000:
                self.floats[(address - 0x8000) // 2] = struct.unpack(">f", pdu[6:])[0]
            elif address in self.registers:
                self.registers[address] = values[0]
            else:
                return bytes([0x90, 2])
            return pdu[:5]
        return bytes([function | 0x80, 1])

    # ----------------------------------------------------------------------------- wires

    def listen(self, *, tcp: bool = False) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.01)
        self._stack.callback(listener.close)
        self._start(lambda: self._accept(listener, self._tcp if tcp else self._rtu))
        host, port = listener.getsockname()
        return f"{'tcp' if tcp else 'socket'}://{host}:{port}"

    def line(self) -> str:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        self._stack.callback(os.close, ours)
        self._stack.callback(os.close, theirs)

        def receive() -> bytes:
            return os.read(ours, 4096) if select.select([ours], [], [], 0.05)[0] else b""

        self._start(lambda: self._serve(receive, lambda reply: os.write(ours, reply), self._rtu))
        return os.ttyname(theirs)

    def unplug(self) -> None:
        self.accepting = False
        if self._client is not None:
            with suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def plug_in(self) -> None:
        self.accepting = True

    def close(self) -> None:
        self._ended.set()
        self._stack.close()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="eurotherm-double", daemon=True)
        thread.start()
        self._stack.callback(thread.join, 2.0)

    def _accept(self, listener: socket.socket, framing: Callable[[bytes], Any]) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                with client:
                    if not self.accepting:
                        continue
                    self._client = client
                    self.connections += 1
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.settimeout(0.01)
                    with suppress(OSError):
                        self._serve(lambda c=client: _received(c), client.sendall, framing)  # type: ignore[misc]

    def _serve(
        self,
        receive: Callable[[], bytes],
        send: Callable[[bytes], Any],
        framing: Callable[[bytes], tuple[int, bytes] | None],
    ) -> None:
        held = b""
        while not self._ended.is_set():
            held += receive()
            while (found := framing(held)) is not None:
                used, reply = found
                held = held[used:]
                if reply:
                    send(self.mangle(reply))

    def _rtu(self, held: bytes) -> tuple[int, bytes] | None:
        size = 8 if len(held) > 1 and held[1] == 3 else (9 + held[6] if len(held) > 6 else 1 << 16)
        if len(held) < size:
            return None
        assert crc(held[: size - 2]) == held[size - 2 : size], "the driver's check sum"
        if held[0] != self.unit:
            return size, b""
        reply = bytes([self.unit]) + self.answer(held[1 : size - 2])
        return size, reply + crc(reply)

    def _tcp(self, held: bytes) -> tuple[int, bytes] | None:
        if len(held) < 6 or len(held) < 6 + struct.unpack(">H", held[4:6])[0]:
            return None
        size = 6 + struct.unpack(">H", held[4:6])[0]
        reply = held[6:7] + self.answer(held[7:size])
        return size, held[:4] + struct.pack(">H", len(reply)) + reply


def _received(client: socket.socket) -> bytes:
    try:
        data = client.recv(4096)
    except TimeoutError:
        return b""
    if not data:
        raise ConnectionError
    return data


@pytest.fixture
def until() -> Callable[..., None]:
    def wait_until(true: Callable[[], bool], within_s: float = 3.0) -> None:
        end = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < end, "it did not come about in time"
            time.sleep(0.005)

    return wait_until


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[EurothermDouble]:
    monkeypatch.setattr("drivers.modbus.REPLY_S", 0.3)  # a double is never slow
    made = EurothermDouble(WallClock(20.0))
    yield made
    made.close()


@pytest.fixture
def open_it(double: EurothermDouble) -> Iterator[Callable[..., RegulatedHolder]]:
    opened: list[RegulatedHolder] = []

    def open_one(port: str | None = None, **options: Any) -> RegulatedHolder:
        context = DriverContext("holder", double.clock, "station.toml")
        chosen = {"maximum_temperature": "1000 °C", **options}
        chosen["port"] = double.listen() if port is None else port
        opened.append(open_eurotherm(context, **chosen))
        return opened[-1]

    yield open_one
    for holder in opened:
        with suppress(Exception):
            holder.close()
