"""The window on real engine hosts of the simulated station: a run, and the deaths of all who take part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.client import HostClient
from acquire.engine.status import EngineState
from acquire.instruments import HolderState
from acquire.remote import attach, emergency_off
from acquire.store import open_run
from gui.app import Folders, application_with_theme
from gui.bench.processes import engine_host
from gui.emergency import EmergencyReport
from gui.session import Session
from gui.window import OperatorWindow

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.name == "nt", reason="SIGSTOP is POSIX"),
]
EVENTUALLY_MS = 60_000
"""Long enough for a machine that has other things to do; nothing is promised about it."""
SEEN_S = 1.0
"""A loss is shown within this time."""
BUSY_S = 1.5
"""What a machine that has other things to do may add."""
SAFE = (HolderState.MAKING_SAFE, HolderState.OFF)
RECIPE = """hotstage: 1
name: to be survived
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}}
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 80 nm, dwell_time: 2 µs}, every: 1 s}
steps:
  - ramp: {to: 500 °C, rate: 5 °C/s}
  - hold: {for: 2 h}
"""


class Hosts:
    """Engine hosts, one after the other; windows are led to the newest."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.open()

    def open(self) -> None:
        """Start another."""
        self.process, self.address = self._stack.enter_context(engine_host("simulated"))

    def server(self) -> psutil.Process:
        """The process of its instrument server."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        (found,) = [process for process in below if "serve" in process.cmdline()]
        return found


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(stack)


class Watched(OperatorWindow):
    """Remembers what became of heater off."""

    reports: list[EmergencyReport]

    def _show_emergency(self, report: EmergencyReport) -> None:
        self.reports.append(report)
        super()._show_emergency(report)


def test_a_window_dies_is_opened_again_and_shows_every_other_death_within_a_second(
    qtbot: QtBot, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")

    def until(true: Callable[[], object]) -> float:
        begun_s = time.monotonic()
        qtbot.waitUntil(lambda: bool(true()), timeout=EVENTUALLY_MS)
        return time.monotonic() - begun_s

    # a window starts a run and is killed: the run goes on
    words = ["gui", str(recipe), "--host", hosts.address, "--start", "-o", str(tmp_path / "run")]
    first = subprocess.Popen(
        [sys.executable, "-m", "hotstage", *words],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = HostClient(hosts.address)
    until(lambda: client.status().frames.get("overview", 0) > 2)
    client.mark("seen by the first window")
    first.kill()
    first.wait()
    at_death = client.status()
    assert at_death.state is EngineState.RUNNING

    # another finds it as if it had been there all the time
    application_with_theme()
    session = Session(
        lambda: HostClient(hosts.address), lambda at, reason: emergency_off(at, reason=reason)
    )
    Watched.reports = []
    window = Watched(session, Folders(None))
    qtbot.addWidget(window)
    window.show()
    state, live = window.topbar.state, window.live
    status = lambda: session.snapshot().status  # noqa: E731
    until(lambda: "RUNNING" in state.text() and window.image.shown >= 3)
    until(lambda: "seen by the first window" in window.log.lines.toPlainText())
    until(lambda: len(window.recipe.model.rows) == 2 and window.recipe.model.current == 0)
    assert live.curves.temperature.x[0] < 5
    assert client.status().frames["overview"] > at_death.frames["overview"]
    client.close()
    assert "SIMULATED" in window.notices.simulated.text()
    until(lambda: status().holder_state == "ramping")

    # the engine stands still: told, and heater off arrives all the same
    server = status().server_address
    hosts.process.send_signal(signal.SIGSTOP)
    try:
        assert until(lambda: "NO CONTACT" in state.text()) < SEEN_S + BUSY_S
        assert all(panel.property("stale") for panel in live.panels)
        qtbot.keyClick(window, QtCore.Qt.Key.Key_F12)
        until(lambda: any(r.done and r.path == "instrument server" for r in Watched.reports))
        with attach(server) as observer:
            assert observer.holder.read().state is HolderState.OFF
    finally:
        hosts.process.send_signal(signal.SIGCONT)
    until(lambda: any(r.done and r.path == "engine" for r in Watched.reports))
    assert max(r.took_s for r in Watched.reports if r.path == "instrument server") < 1.0
    until(lambda: "ABORTED" in state.text())
    until(lambda: "ack." in window.topbar.heater_off.text())
    assert "seen by the first window" in [e.text for e in open_run(tmp_path / "run").journal()]

    # the engine dies: told, and its server makes safe; a new engine is found by itself
    window.open_recipe(recipe, start=True)
    until(lambda: "RUNNING" in state.text() and status().holder_state == "ramping")
    with attach(status().server_address) as observer:
        hosts.process.kill()
        assert until(lambda: "NO CONTACT" in state.text()) < SEEN_S + BUSY_S
        until(lambda: observer.holder.read().state in SAFE)
    hosts.process.wait()
    assert not window.topbar.run.isEnabled()
    hosts.open()
    until(lambda: "IDLE" in state.text())
    assert not any(panel.property("stale") for panel in live.panels)

    # the server dies in a run: told, and the run ends
    window.open_recipe(recipe, start=True)
    until(lambda: "RUNNING" in state.text() and status().holder_state == "ramping")
    hosts.server().kill()
    assert until(window.notices.fault.isVisible) < SEEN_S + BUSY_S
    assert "instrument server is lost" in window.notices.fault_text.text()
    assert window.topbar.holder.property("stale")
    until(lambda: "FAILED" in state.text())
    window.close()
    assert session.close() == []
