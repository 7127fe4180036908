"""The far end of the source-meter over simulated instruments, and a client of its own on a raw socket."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from acquire.clock import WallClock
from acquire.farends import FarEnd, FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.source_meter import SourceMeterEnd, serve

RATE = 10.0
PATIENCE_S = 3.0
SILENT_S = 0.15
COMPLIANCE, RANGE_COMPLIANCE, FOUR_WIRE = 1 << 3, 1 << 16, 1 << 22


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[SourceMeterEnd]:
    made = serve(FarEndContext("smu", simulation.world.clock, simulation))
    yield made
    simulation.chip.mend()
    made.close()


class Client:
    """A line of text there, a line of text back."""

    def __init__(self, end: FarEnd) -> None:
        host, _, port = end.addresses["scpi"].removeprefix("socket://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._held = b""

    def write(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\n" for line in lines).encode())

    def read(self) -> str:
        while b"\n" not in self._held:
            came = self.socket.recv(65536)
            if not came:
                raise ConnectionError("the far end closed")
            self._held += came
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        self.write(line)
        return self.read()

    def reading(self, query: str = ":READ?") -> list[float]:
        return [float(part) for part in self.ask(query).split(",")]

    def says_nothing(self) -> bool:
        ready, _, _ = select.select([self.socket], [], [], SILENT_S)
        return not ready and not self._held

    def errors(self) -> list[int]:
        found = []
        while code := int(self.ask(":SYST:ERR?").split(",")[0]):
            found.append(code)
        return found


@pytest.fixture
def client(end: SourceMeterEnd) -> Iterator[Client]:
    made = Client(end)
    yield made
    made.socket.close()


@pytest.fixture
def heating(client: Client) -> Client:
    """A client that has set up a current source with four wires, the output off."""
    client.write("*RST", "*CLS", ":SYST:RSEN 1;:SYST:AZER OFF", ":SOUR:FUNC CURR")
    client.write(":SENS:FUNC:OFF:ALL", ":SENS:FUNC 'VOLT','CURR'", ":SENS:VOLT:PROT 10")
    client.write(":SENS:VOLT:NPLC 1")
    assert client.errors() == []
    return client


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)
