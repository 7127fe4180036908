"""A source-meter with a heater on it, written by hand from the manual's facts: bytes in, bytes out."""

from __future__ import annotations

import math
import os
import random
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.station import DriverContext
from drivers.holders.regulated import RegulatedHolder
from drivers.holders.source_meter import open_heater

OPTIONS: dict[str, Any] = {
    "r0": "120 Ω",
    "alpha": "1.9e-3 1/K",
    "maximum_temperature": "1000 °C",
    "maximum_current": "10 mA",
    "baud_rate": 57600,
}


class HotWire:
    """C dT/dt = I² R(T) - conduction - radiation, in steps of at most 0.5 ms."""

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.amps = 0.0
        self.broken = False
        self.r0, self.alpha, self.ambient = 120.0, 1.9e-3, 25.0
        self.conductance, self.radiating = 8e-3, 5.670374e-8 * 5e4 * 1e-12 * 1e3
        self.heat_capacity = 4e-3 * self.conductance
        self._celsius, self._t = self.ambient, clock.now_s()
        self.highest = self.ambient

    def resistance(self, celsius: float) -> float:
        return self.r0 * (1 + self.alpha * (celsius - 25.0))

    def celsius(self) -> float:
        now = self.clock.now_s()
        span, self._t = min(now - self._t, 0.2), now
        steps = max(1, math.ceil(span / 5e-4))
        for _ in range(steps):
            kelvin, cold = self._celsius + 273.15, self.ambient + 273.15
            gained = self.amps**2 * self.resistance(self._celsius) * 1e3
            lost = self.conductance * (kelvin - cold) + self.radiating * (kelvin**4 - cold**4)
            self._celsius += span / steps * (gained - lost) / self.heat_capacity
        self.highest = max(self.highest, self._celsius)
        return self._celsius


class SourceMeterDouble:
    """Answers lines as a 2400 does, over TCP or at the far end of a pty."""

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.wire = HotWire(clock)
        self.idn = (
            "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C30   Mar 17 2006 09:29:29/A02  /K/J"
        )
        self.language = "SCPI2400"
        self.output = False
        self.deaf_to_off = False
        self.current = 0.0
        self.settings: dict[str, str] = {}
        self.errors: list[str] = []
        self.received: list[str] = []
        self.extra_status = 0
        self.four_wire = True
        self.frozen_time: float | None = None
        self.mangle: Callable[[bytes], bytes] = lambda reply: reply
        self.accepting = True
        self.connections = 0
        self._random = random.Random(1)
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._client: socket.socket | None = None

    def follow(self, clock: WallClock) -> None:
        self.clock = clock
        self.wire = HotWire(clock)

    # ------------------------------------------------------------------------ the device

    def answer(self, line: str) -> str | None:
        with self._lock:
            self.received.append(line)
            replies = []
            for part in line.split(";"):
                before = len(self.errors)
                reply = self._one(part.strip())
                if reply is not None:
                    replies.append(reply)
                if len(self.errors) > before:
                    break  # what follows an error in a line is discarded
            return ";".join(replies) if replies else None

    def _one(self, command: str) -> str | None:
        header, _, value = command.partition(" ")
        if header.endswith("?"):
            return self._ask(header)
        if header == ":OUTP":
            if value == "1" or not self.deaf_to_off:
                self._switch(value == "1")
        elif header == ":SOUR:CURR":
            self.current = float(value)
            self._switch(self.output)
        elif header == "*RST":
            self._switch(False)
            self.settings.clear()
        elif header.startswith((":", "*ESE")):
            self.settings[header] = value
        elif header:
            self.errors.append('-113,"Undefined header"')
        return None

    def _switch(self, output: bool) -> None:
        self.wire.celsius()
        self.output = output
        self.wire.amps = self.current if output and not self.wire.broken else 0.0

    def _ask(self, header: str) -> str:
        if header == "*IDN?":
            return self.idn
        if header == "*ESE?":
            return self.settings["*ESE"]
        if header == "*LANG?":
            return self.language
        if header == ":SYST:ERR?":
            return self.errors.pop(0) if self.errors else '0,"No error"'
        if header == ":OUTP?":
            return str(int(self.output))
        if header == ":SYST:RSEN?":
            return self.settings.get(":SYST:RSEN", "0")
        if header == ":OUTP:ENAB?":
            return self.settings.get(":OUTP:ENAB", "0")
        if header == ":SENS:VOLT:PROT?":
            return self.settings.get(":SENS:VOLT:PROT", "2.100000E+01")
        if header == ":READ?":
            return self._read()
        self.errors.append('-113,"Undefined header"')
        return ""

    def _read(self) -> str | None:  # type: ignore[return]
        if not self.output:
            self.errors.append('803,"Not permitted with OUTPUT off"')
            return None
        self.clock.sleep(2 * float(self.settings[":SENS:VOLT:NPLC"]) / 50)
        celsius = self.wire.celsius() + self._random.gauss(0, 0.1)
        amps = self.wire.amps
        status = self.extra_status | ((1 << 22) if self.four_wire else 0)
        volts = amps * self.wire.resistance(celsius)
        limit = float(self.settings[":SENS:VOLT:PROT"])
        if self.wire.broken or volts >= limit:
            volts, status = limit, status | 1 << 3
        now = self.clock.now_s() if self.frozen_time is None else self.frozen_time
        return f"{volts:+.6E},{amps:+.6E},{now:+.6E},{status:+.6E}"

    def break_wire(self) -> None:
        with self._lock:
            self.wire.broken = True
            self._switch(self.output)

    # -------------------------------------------------------------------------- the wires

    def listen(self) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.01)
        self._stack.callback(listener.close)
        self._start(lambda: self._accept(listener))
        host, port = listener.getsockname()
        return f"{host}:{port}"

    def line(self) -> str:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        self._stack.callback(os.close, ours)
        self._stack.callback(os.close, theirs)

        def receive() -> bytes:
            return os.read(ours, 4096) if select.select([ours], [], [], 0.05)[0] else b""

        self._start(lambda: self._serve(receive, lambda reply: os.write(ours, reply)))
        return os.ttyname(theirs)

    def unplug(self) -> None:
        """Drop the connection and refuse new ones."""
        self.accepting = False
        self._hang_up()

    def plug_in(self) -> None:
        self.accepting = True

    def close(self) -> None:
        self._ended.set()
        self._hang_up()
        self._stack.close()

    def _hang_up(self) -> None:
        client = self._client
        if client is not None:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="source-meter-double", daemon=True)
        thread.start()
        self._stack.callback(thread.join, 2.0)

    def _accept(self, listener: socket.socket) -> None:
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
                        self._serve(lambda c=client: _received(c), client.sendall)  # type: ignore[misc]

    def _serve(self, receive: Callable[[], bytes], send: Callable[[bytes], Any]) -> None:
        held = b""
        while not self._ended.is_set():
            held += receive()
            while b"\n" in held:
                line, _, held = held.partition(b"\n")
                reply = self.answer(line.decode("ascii").replace("\x03", "").strip())
                if reply is not None:
                    send(self.mangle(reply.encode() + b"\n"))


def _received(client: socket.socket) -> bytes:
    try:
        data = client.recv(4096)
    except TimeoutError:
        return b""
    if not data:
        raise ConnectionError
    return data


def wait_until(true: Callable[[], bool], within_s: float = 3.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def clock() -> WallClock:
    return WallClock(10.0)


@pytest.fixture
def double(clock: WallClock) -> Iterator[SourceMeterDouble]:
    made = SourceMeterDouble(clock)
    yield made
    made.close()


@pytest.fixture
def open_it(double: SourceMeterDouble) -> Iterator[Callable[..., RegulatedHolder]]:
    opened: list[RegulatedHolder] = []

    def open_one(port: str | None = None, **options: Any) -> RegulatedHolder:
        context = DriverContext("holder", double.clock, "station.toml")
        chosen = {**OPTIONS, "port": double.listen() if port is None else port, **options}
        opened.append(open_heater(context, **chosen))
        return opened[-1]

    yield open_one
    for holder in opened:
        with suppress(Exception):
            holder.close()
