"""Server processes: started, found, abandoned by their owners, ended; none is ever left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from acquire.errors import ConfigError, LinkError
from acquire.instruments import HolderState, ScanExposure
from acquire.remote import attach, connect, emergency_off, serve
from acquire.remote.serve import Owner
from acquire.station import Station
from drivers import conformance

pytestmark = pytest.mark.process
Make = Callable[..., Station]
RIG = Path(__file__).with_name("rig.py")


def until(condition: Callable[[], bool], seconds: float) -> float:
    start = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - start < seconds, f"it did not happen within {seconds} s"
        pause.wait(0.005)
    return time.monotonic() - start


def is_there(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def start_owner(linger_s: float) -> tuple[subprocess.Popen[Any], str]:
    owner = subprocess.Popen(
        [sys.executable, str(RIG), "own", str(linger_s)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


def kill(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.communicate()


def test_a_station_that_launches_gets_a_server_process_which_ends_with_it(
    installed_rig: Make,
) -> None:
    opened = connect(installed_rig())
    with opened:
        opened.control.take("a test")
        opened.holder.ramp(500, 50)
        assert opened.holder.read().state is HolderState.RAMPING
        opened.scan.arm(ScanExposure(("haadf",), (64, 64), 100.0, 1e-6), 5)
        frames = list(opened.scan.frames(opened.clock.signal()))
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
        assert is_there(opened.address)
    assert not is_there(opened.address)
    opened.close()


def test_an_owner_that_is_killed_leaves_a_safe_server_that_ends_by_itself(
    installed_rig: Make,
) -> None:
    installed_rig()
    owner, address = start_owner(0.5)
    assert is_there(address)
    kill(owner)
    with attach(address) as heir:
        until(lambda: heir.holder.read().state is HolderState.OFF, 0.5)
        assert heir.scan.blanked()
        threading.Event().wait(0.9)  # longer than it lingers: it stays for whoever looks
        heir.control.take("an heir")
        heir.holder.ramp(100, 10)
    until(lambda: not is_there(address), 3.0)


def test_a_server_nobody_looks_at_ends_after_its_linger_time(installed_rig: Make) -> None:
    installed_rig()
    owner, address = start_owner(0.2)
    kill(owner)
    took_s = until(lambda: not is_there(address), 5.0)
    assert took_s < 2.0


def test_what_lies_in_the_working_folder_is_not_imported_by_a_server(
    installed_rig: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder, 'odd' µ"
    (folder / "acquire").mkdir(parents=True)
    (folder / "acquire" / "__init__.py").write_text("raise SystemExit('foreign')")
    (folder / "tomllib.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(folder)
    with connect(installed_rig()) as opened:
        assert opened.holder.read().state is HolderState.OFF


@pytest.mark.skipif(sys.platform == "win32", reason="process groups of Unix")
def test_an_interrupt_from_the_keyboard_does_not_reach_the_server(installed_rig: Make) -> None:
    installed_rig()
    owner = subprocess.Popen(
        [sys.executable, str(RIG), "own", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    address = owner.stdout.readline().strip()
    os.killpg(owner.pid, signal.SIGINT)
    owner.communicate(timeout=30)
    threading.Event().wait(0.5)
    with attach(address) as heir:
        until(lambda: heir.holder.read().state is HolderState.OFF, 0.5)


@pytest.mark.parametrize(
    ("replace", "by", "said"),
    [
        ('simulator = "rig"', 'simulator = "rug"', r"has no 'rug'; known are"),
        (
            'simulator = "rig"',
            'simulator = "rig"\noptions = {start_s = -1.0}',
            r"start_s = -1.0: must not be negative",
        ),
        ("[server]\n", '[server]\nlisten = "127.0.0.1:PORT"\n', r"cannot listen on .*in use"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    installed_rig: Make, replace: str, by: str, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        station = installed_rig(replace, by.replace("PORT", str(taken.getsockname()[1])))
        with pytest.raises(LinkError, match=said):
            connect(station)


def test_a_server_that_is_not_running_is_told_with_the_mend(rig: ModuleType) -> None:
    text = rig.STATION.replace("launch = false", 'launch = false\nlisten = "127.0.0.1:9"')
    start = time.monotonic()
    with pytest.raises(LinkError, match=r"at 127\.0\.0\.1:9 .*`hotstage serve STATION`"):
        connect(Station.parse(text))
    assert time.monotonic() - start < 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_station_ends_safe_and_in_order_on_a_signal(
    installed_rig: Make, tmp_path: Path, number: signal.Signals
) -> None:
    station = tmp_path / "rig.toml"
    station.write_text(installed_rig("launch = true", "launch = false").text)
    ready = tmp_path / "ready.json"
    program = (
        "import sys; from pathlib import Path; from acquire.remote import serve\n"
        "from acquire.station import Station\n"
        "serve(Station.load(sys.argv[1]), ready=Path(sys.argv[2]))\n"
        "print('ended in order')"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", program, str(station), str(ready)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        ExitStack() as after,
    ):
        after.callback(process.kill)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said == json.loads(ready.read_text())
        assert (said["station"], said["clock_rate"]) == ("rig", 1.0)
        found = Station.parse(with_address(station.read_text(), said["address"]))
        with connect(found) as opened:
            opened.control.take("a test")
            opened.holder.ramp(500, 10)
            process.send_signal(number)
            assert process.stdout.readline() == "ended in order\n"
            with pytest.raises(LinkError, match=r"no server answers|was lost"):
                opened.holder.read()
        assert process.wait(5) == 0


def test_another_station_at_the_same_address_is_refused(
    installed_rig: Make, tmp_path: Path
) -> None:
    station = installed_rig("launch = true", "launch = false")
    ready, stop = tmp_path / "ready.json", threading.Event()
    thread = threading.Thread(target=serve, args=(station,), kwargs={"stop": stop, "ready": ready})
    thread.start()
    try:
        until(ready.exists, 5.0)
        text = with_address(station.text, json.loads(ready.read_text())["address"])
        other = Station.parse(text.replace('name = "rig"', 'name = "other"'))
        with pytest.raises(ConfigError, match=r"serves station 'rig', not 'other'"):
            connect(other)
        with connect(Station.parse(text)) as opened:
            assert opened.station.name == "rig"
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def with_address(text: str, address: str) -> str:
    return text.replace("[server]", f'[server]\nlisten = "{address}"')


def test_an_owner_must_say_what_to_serve() -> None:
    for said in (b"", b"nonsense\n", b'{"text": "a"}\n'):
        reading, writing = os.pipe()
        os.write(writing, said)
        os.close(writing)
        with pytest.raises(ConfigError, match="no station came on standard input"):
            Owner(reading).station()
        os.close(reading)


def test_the_simulated_station_passes_conformance_through_its_server() -> None:
    station = Station.load("simulated")
    text = station.text.replace("clock_rate = 10", "clock_rate = 40")
    with connect(Station.parse(text, station.source)) as opened:
        opened.control.take("conformance")
        conformance.check_holder(opened.holder, opened.clock)
        conformance.check_scan(opened.scan, opened.clock)
        assert opened.spectrometer is not None
        conformance.check_spectrometer(opened.spectrometer, opened.clock)
        opened.holder.ramp(300, 50)
        start = time.monotonic()
        emergency_off(opened.address)
        assert time.monotonic() - start < 0.5
        assert opened.holder.read().state is HolderState.OFF
