"""Whatever happens to the server of a station on wires, its hardware is safe, as seen at the far end."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from acquire.errors import FaultError, HotstageError
from acquire.instruments import HolderState
from acquire.remote import attach
from acquire.station import OpenStation, Station

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]
logger = logging.getLogger(__name__)

SAFE_S = 3.0
HOT_CELSIUS, COLD_CELSIUS = 500.0, 30.0
RECIPE = """
hotstage: 1
name: to be killed
limits: {temperature: 900 °C}
safe_state: {heater: {cool: {to: 25 °C, rate: 200 °C/s}}}
record:
  chip: {holder: {every: 200 ms}}
steps:
  - ramp: {to: 700 °C, rate: 100 °C/s}
  - hold: {for: 30 min}
"""


class Thermometer:
    """A client of its own at the far end: the temperature that the device itself tells."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"tcp://{address}")
        self._socket.setsockopt(zmq.SUBSCRIBE, b"heat")

    def celsius(self) -> float:
        """The next temperature that is measured."""
        assert self._socket.poll(10_000), "the far end tells no temperature"
        _, body = self._socket.recv_multipart()
        return float(json.loads(body)["temperatureMeasured"])

    def wait(self, reached: Callable[[float], bool], within_s: float) -> float:
        """Wall seconds until a temperature is reached; what was told before does not count."""
        while self._socket.poll(0):
            self._socket.recv_multipart()
        began = time.monotonic()
        while not reached(celsius := self.celsius()):
            assert time.monotonic() - began < within_s, f"still {celsius} °C after {within_s} s"
        return time.monotonic() - began

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def _free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture
def station(tmp_path: Path) -> tuple[Path, str]:
    """The station ``founding`` with ports that are known, and the address of its data."""
    control, data = _free_ports(2)
    text = Station.load("founding").text.replace(
        'wire = "impulse"',
        f'wire = "impulse"\nlisten = {{control = "127.0.0.1:{control}", data = "127.0.0.1:{data}"}}',
    )
    path = tmp_path / "founding.toml"
    path.write_text(text, encoding="utf-8")
    return path, f"127.0.0.1:{data}"


@pytest.fixture
def thermometer(station: tuple[Path, str]) -> Iterator[Thermometer]:
    made = Thermometer(station[1])
    yield made
    made.close()


def _child(of: int, role: str) -> psutil.Process:
    """The process of a role below a process."""
    found = [p for p in psutil.Process(of).children(recursive=True) if role in p.cmdline()]
    assert len(found) == 1, f"{len(found)} processes {role!r} below process {of}"
    return found[0]


def _attached(address: str, within_s: float = 30.0) -> OpenStation:
    give_up = time.monotonic() + within_s
    while True:
        try:
            return attach(address)
        except FaultError:
            raise
        except HotstageError as error:
            if time.monotonic() > give_up:
                pytest.fail(f"no server at {address}: {error}")
            time.sleep(0.1)


def _heat(address: str, thermometer: Thermometer) -> OpenStation:
    opened = _attached(address)
    assert opened.holder.read().state is HolderState.OFF, "a new server repeats nothing"
    opened.control.take("the test")
    opened.holder.ramp(700.0, 200.0)
    thermometer.wait(lambda celsius: celsius > HOT_CELSIUS, 30.0)
    return opened


def _let_go(opened: OpenStation) -> None:
    """Close a handle whose server may be gone."""
    try:
        opened.control.release()
    except HotstageError as error:
        logger.info("as expected: %s", error)
    opened.close()


def test_a_killed_server_leaves_the_hardware_safe_comes_back_and_stays_down_when_it_dies_again_and_again(
    program: Callable[..., Any], station: tuple[Path, str], thermometer: Thermometer
) -> None:
    served = program("serve", station[0])
    address = served.until(r'"address": "([^"]+)"').group(1)
    for _ in range(3):
        opened = _heat(address, thermometer)
        _child(served.process.pid, "serve").kill()
        took_s = thermometer.wait(lambda celsius: celsius < COLD_CELSIUS, 10.0)
        logger.info("kill -9 of the server: safe after %.2f s", took_s)
        assert took_s < SAFE_S
        _let_go(opened)
    with pytest.raises(FaultError, match="stays down"):
        _attached(address)
    assert thermometer.celsius() < COLD_CELSIUS


@pytest.mark.skipif(os.name == "nt", reason="SIGSTOP is POSIX")
def test_a_frozen_server_leaves_the_hardware_safe_and_comes_back(
    program: Callable[..., Any], station: tuple[Path, str], thermometer: Thermometer
) -> None:
    served = program("serve", station[0])
    address = served.until(r'"address": "([^"]+)"').group(1)
    for _ in range(2):
        opened = _heat(address, thermometer)
        _child(served.process.pid, "serve").send_signal(signal.SIGSTOP)
        took_s = thermometer.wait(lambda celsius: celsius < COLD_CELSIUS, 10.0)
        logger.info("SIGSTOP of the server: safe after %.2f s", took_s)
        assert took_s < SAFE_S
        _let_go(opened)
    with _attached(address) as observer:
        assert observer.holder.read().state is HolderState.OFF
        assert observer.scan.blanked()


def test_a_killed_supervisor_leaves_the_hardware_safe_and_nothing_running(
    program: Callable[..., Any], station: tuple[Path, str], thermometer: Thermometer
) -> None:
    served = program("serve", station[0])
    address = served.until(r'"address": "([^"]+)"').group(1)
    opened = _heat(address, thermometer)
    orphans = psutil.Process(served.process.pid).children(recursive=True)
    served.kill()
    took_s = thermometer.wait(lambda celsius: celsius < COLD_CELSIUS, 10.0)
    logger.info("kill -9 of the supervisor: safe after %.2f s", took_s)
    assert took_s < SAFE_S
    _let_go(opened)
    _, alive = psutil.wait_procs(orphans, timeout=40.0)
    assert not alive, f"still running: {[process.cmdline() for process in alive]}"


def test_a_killed_program_leaves_the_hardware_safe_and_nothing_running(
    program: Callable[..., Any],
    station: tuple[Path, str],
    thermometer: Thermometer,
    tmp_path: Path,
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    run = program("run", recipe, "--station", station[0], "-o", tmp_path / "run")
    run.until(r"Instrument server at (\S+);")
    thermometer.wait(lambda celsius: celsius > HOT_CELSIUS, 60.0)
    orphans = psutil.Process(run.process.pid).children(recursive=True)
    assert len(orphans) >= 3, "a supervisor, its server and the far ends"
    run.kill()
    took_s = thermometer.wait(lambda celsius: celsius < COLD_CELSIUS, 10.0)
    logger.info("kill -9 of the program: safe after %.2f s", took_s)
    assert took_s < SAFE_S + (HOT_CELSIUS + 200) / 200 / 10  # it cools as the recipe says
    _, alive = psutil.wait_procs(orphans, timeout=60.0)
    assert not alive, f"still running: {[process.cmdline() for process in alive]}"
