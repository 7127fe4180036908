"""A window that was closed finds the engine host that goes on with its run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acquire.engine.client import HostClient
from acquire.engine.host import EngineHost
from acquire.engine.hosts import find_busy, listed
from acquire.remote import connect
from acquire.station import Station

RECIPE = "hotstage: 1\nname: found again\nsteps:\n  - hold: {for: 2 h}\n"


def test_a_host_is_found_while_a_run_is_on_and_by_its_station_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    name = "simulated"
    station = Station.load(name)
    host = EngineHost(connect(station))
    client = HostClient(host.address)
    try:
        with listed(name, host.address):
            assert find_busy(name) is None
            client.start(RECIPE, str(tmp_path / "run"))
            until(lambda: client.status().state.value == "running")
            found = find_busy(name)
            assert found is not None
            assert (found.address, found.run_name) == (host.address, "found again")
            assert find_busy("another") is None
        assert find_busy(name) is None
    finally:
        client.close()
        host.close("the test ends")


def test_what_a_killed_host_leaves_behind_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code = (
        "import os, signal\n"
        "from acquire.engine.hosts import listed\n"
        "with listed('simulated', '127.0.0.1:9'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert killed.returncode < 0
    folder = tmp_path / "hotstage" / "hosts"
    assert len(list(folder.glob("*.json"))) == 1
    assert find_busy("simulated") is None
    assert not list(folder.glob("*.json"))
