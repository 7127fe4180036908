"""A served rig of small instruments, and processes that command it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from acquire.remote import InstrumentServer, attach
from acquire.station import OpenStation, Station

_RIG = Path(__file__).with_name("rig.py")


@pytest.fixture(scope="session")
def rig() -> ModuleType:
    """The module rig.py, which is also run as a script."""
    spec = importlib.util.spec_from_file_location("remote_rig", _RIG)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["remote_rig"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inside(rig: ModuleType) -> OpenStation:
    """The instruments as they are in the server."""
    opened: OpenStation = rig.open_rig()
    return opened


@pytest.fixture
def server(inside: OpenStation) -> Iterator[InstrumentServer]:
    """A server of those instruments, in this process but reached through real sockets."""
    server = InstrumentServer(inside)
    server.start()
    yield server
    server.close()


@pytest.fixture
def outside(server: InstrumentServer) -> Iterator[OpenStation]:
    """The same station through the wire."""
    with attach(server.address) as opened:
        yield opened


@pytest.fixture
def commander() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Starts processes that take control and heat; ``commander(address, "heat")``."""
    started: list[subprocess.Popen[Any]] = []

    def start(address: str, what: str) -> subprocess.Popen[Any]:
        process = subprocess.Popen(
            [sys.executable, str(_RIG), address, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "commanding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def installed_rig(
    rig: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Station]:
    """Makes the rig an installed simulator, for processes too; call it with lines to replace."""
    (tmp_path / "remote_rig.py").write_text(_RIG.read_text(encoding="utf-8"), encoding="utf-8")
    facts = tmp_path / "remote_rig-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: remote-rig\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[hotstage.simulators]\nrig = remote_rig:build\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def station(replace: str = "", by: str = "") -> Station:
        return Station.parse(rig.OWN_STATION.replace(replace, by), "rig.toml")

    return station
