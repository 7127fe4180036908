"""A supervisor leaves no heater on and no process behind, in whatever order things end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from acquire.errors import FaultError, HotstageError, LeaseError
from acquire.remote import Role, attach, emergency_off, keys
from acquire.remote.child import Child, facts
from acquire.remote.supervisor import Supervisor
from acquire.remote.tls import ALLOWED, Identity
from acquire.station import OpenStation, Station

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix"),
    pytest.mark.timeout(90),
]
STATION = """
hotstage = 1
name = "plant"
[server]
listen = "LISTEN"
[holder]
driver = "plant_holder"
options = {address = "DEVICE"}
limits = {temperature = "1000 °C", ramp_rate = "200 °C/s"}
[scan]
driver = "plant_scan"
"""


@pytest.fixture
def plant(
    installed_rig: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A device, with its drivers installed for processes, too."""
    own = tmp_path / "plant_drivers.py"
    own.write_text(Path(__file__).with_name("plant.py").read_text(encoding="utf-8"))
    about = tmp_path / "plant_drivers-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plant-drivers\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[hotstage.drivers]\nplant_holder = plant_drivers:holder\nplant_scan = plant_drivers:scan\n"
    )
    import plant_drivers  # type: ignore[import-not-found]

    module: ModuleType = plant_drivers
    device = module.Device()
    yield device
    device.close()
    monkeypatch.delitem(sys.modules, "plant_drivers")
    monkeypatch.delitem(sys.modules, "remote_rig", raising=False)


def station(device: Any, listen: str = "127.0.0.1:0") -> Station:
    return Station.parse(
        STATION.replace("DEVICE", device.address).replace("LISTEN", listen), "plant.toml"
    )


class Supervised:
    """A supervisor that this program started, as :func:`acquire.remote.connect` does."""

    def __init__(self, served: Station, linger_s: float = 0.5) -> None:
        self.child = Child(["supervise", "--linger", str(linger_s)], "the supervisor")
        self.child.tell(facts(served))
        said = self.child.ready(30.0)
        self.address, self.server = str(said["address"]), int(said["server_pid"])

    def heat(self, device: Any) -> OpenStation:
        opened = attach(self.address)
        opened.control.take("a test")
        opened.holder.ramp(500.0, 50.0)
        assert device.heating.is_set()
        return opened


@pytest.fixture
def supervised() -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(served: Station, linger_s: float = 0.5) -> Supervised:
        started.append(Supervised(served, linger_s))
        return started[-1]

    yield start
    for each in started:
        each.child.close()


def until(condition: Callable[[], bool], within_s: float) -> float:
    began = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - began < within_s, f"it did not happen within {within_s} s"
        pause.wait(0.01)
    return time.monotonic() - began


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def restarted(where: str) -> bool:
    try:
        with attach(where):
            return True
    except FaultError:
        raise
    except HotstageError:
        return False


def test_a_server_that_hangs_while_all_ends_in_order_leaves_the_heater_off(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    os.kill(running.server, signal.SIGSTOP)
    running.child.tell("quit")
    until(lambda: not plant.heating.is_set(), 15.0)
    until(lambda: running.child.status is not None, 15.0)
    opened.close()


def test_a_server_that_lost_its_device_before_the_end_leaves_the_heater_off(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    plant.cut()
    running.child.tell("quit")
    until(lambda: running.child.status is not None, 15.0)
    assert not plant.heating.is_set()
    opened.close()


def test_a_supervisor_that_is_told_to_end_by_a_signal_ends_in_order(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    os.kill(running.server, signal.SIGSTOP)
    os.kill(running.child.pid, signal.SIGTERM)
    until(lambda: not plant.heating.is_set(), 6.0)
    until(lambda: not is_there(running.server) and not is_there(running.child.pid), 10.0)
    opened.close()


def test_a_heater_that_nobody_can_reach_is_told_of_when_all_ends(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    plant.greeting = lambda: "refuse"
    os.kill(running.server, signal.SIGKILL)
    running.child.tell("quit")
    until(lambda: running.child.status is not None, 20.0)
    assert running.child.status == 1
    assert "switch off by hand" in running.child.log()
    opened.close()


def test_a_helper_of_a_dead_server_that_keeps_its_output_open_delays_nothing(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    plant.greeting = lambda: "helper"
    running = supervised(station(plant))
    opened = running.heat(plant)
    plant.greeting = lambda: "welcome"
    os.kill(running.server, signal.SIGKILL)
    assert until(lambda: not plant.heating.is_set(), 15.0) < 3.0
    opened.close()
    until(lambda: restarted(running.address), 15.0)


def test_a_restart_that_fails_again_and_again_ends_as_a_latched_fault(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    tries: list[str] = []

    def greet() -> str:  # those who make safe are let in, a server is not
        tries.append("welcome" if len(tries) % 2 == 0 else "refuse")
        return tries[-1]

    plant.greeting = greet
    os.kill(running.server, signal.SIGKILL)
    until(lambda: not plant.heating.is_set(), 5.0)
    opened.close()
    with pytest.raises(FaultError, match="stays down"):
        until(lambda: restarted(running.address), 30.0)
    plant.greeting = lambda: "welcome"
    plant.heating.set()  # as if by hand, at the device
    emergency_off(running.address, timeout_s=5.0)
    assert not plant.heating.is_set()


def test_a_latched_fault_is_told_through_tls_too(plant: Any, tmp_path: Path) -> None:
    laboratory = tmp_path / "keys"
    keys.new_authority(laboratory)
    keys.issue(laboratory, "microscope", Role.SERVER, hosts=["127.0.0.1"])
    alice = Identity(keys.issue(laboratory, "alice", Role.OPERATOR))
    bob = Identity(keys.issue(laboratory, "bob", Role.OBSERVER))
    server = laboratory / "issued" / "microscope"
    lines = f"identity = {str(server)!r}\nallowed = {str(laboratory / ALLOWED)!r}\n[holder]"
    told = station(plant, "tls://127.0.0.1:0").text.replace("[holder]", lines, 1)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"tls://127.0.0.1:{free.getsockname()[1]}"
    supervisor = Supervisor(Station.parse(told, "plant.toml"), listen=listen, stop=stop)
    down = threading.Thread(target=supervisor._stay_down, args=("burned.",))
    down.start()
    try:
        until(lambda: _latched(listen, alice), 5.0)
        plant.heating.set()
        with pytest.raises(LeaseError, match="bob may look"):
            emergency_off(listen, identity=bob)
        emergency_off(listen, identity=alice)
        assert not plant.heating.is_set()
    finally:
        stop.set()
        down.join(5.0)


def _latched(address: str, identity: Identity) -> bool:
    try:
        attach(address, identity=identity).close()
    except FaultError as error:
        return "The last time it burned." in str(error)
    except HotstageError:
        return False
    return False


def test_nobody_tries_for_ever_to_make_a_simulation_safe_that_has_ended(plant: Any) -> None:
    supervisor = Supervisor(station(plant))
    plant.greeting = lambda: "refuse"
    with pytest.raises(HotstageError, match="the device refuses"):
        supervisor.make_safe_once("a test")
    gone = Child(["simulate"], "the simulator")
    gone.kill()
    assert gone.wait(5.0)
    supervisor._far_ends = gone
    supervisor.make_safe("a test")
    gone.close()


def test_a_server_that_dies_when_nobody_owns_it_any_more_leaves_nothing_running(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant), linger_s=30.0)
    pipe = running.child._process.stdin
    assert pipe is not None
    pipe.close()  # as when this program ends
    with attach(running.address) as heir:
        heir.control.take("an heir")
        heir.holder.ramp(500.0, 50.0)
        os.kill(running.server, signal.SIGKILL)
        until(lambda: not plant.heating.is_set(), 3.0)
    until(lambda: not is_there(running.child.pid), 10.0)


def test_a_supervisor_that_was_held_up_itself_does_not_end_a_server_that_lives(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    opened = running.heat(plant)
    for _ in range(2):
        os.kill(running.child.pid, signal.SIGSTOP)
        threading.Event().wait(2.0)
        os.kill(running.child.pid, signal.SIGCONT)
        threading.Event().wait(0.5)
        assert is_there(running.server)
        assert plant.heating.is_set()
    opened.control.release()
    opened.close()


def test_a_simulated_instrument_beside_a_real_heater_keeps_nobody_from_making_safe(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    mixed = station(plant).text.replace('"plant_scan"', '"simulated"')
    running = supervised(Station.parse(mixed + '[simulation]\nsimulator = "rig"\n', "plant.toml"))
    opened = running.heat(plant)
    os.kill(running.server, signal.SIGKILL)
    until(lambda: not plant.heating.is_set(), 3.0)
    opened.close()
    until(lambda: restarted(running.address), 15.0)


def test_what_a_driver_prints_is_no_part_of_what_is_said(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    plant.greeting = lambda: "print"
    running = supervised(station(plant))
    with attach(running.address) as opened:
        opened.holder.read()


def test_a_port_that_is_taken_while_the_server_restarts_is_waited_for(
    plant: Any, supervised: Callable[..., Supervised]
) -> None:
    running = supervised(station(plant))
    port = int(running.address.rpartition(":")[2])
    os.kill(running.server, signal.SIGKILL)
    squatter = socket.socket()
    squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    until(lambda: _bound(squatter, port), 5.0)
    squatter.listen()
    threading.Event().wait(1.5)
    squatter.close()
    until(lambda: restarted(running.address), 20.0)


def _bound(squatter: socket.socket, port: int) -> bool:
    try:
        squatter.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
