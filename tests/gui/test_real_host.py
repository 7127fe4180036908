"""The window on a real engine host with the simulated station, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.client import HostClient
from acquire.remote import emergency_off
from gui.app import Folders, application_with_theme
from gui.emergency import EmergencyReport
from gui.session import Session
from gui.window import OperatorWindow

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]
EVENTUALLY_MS = 60_000
"""Long enough for a machine that has other things to do; nothing is promised about it."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """An engine host in a process of its own, which brings its own instrument server."""
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "acquire.cli", "host", "simulated", "--ready", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < deadline
                threading.Event().wait(0.05)
            yield json.loads(ready.read_text(encoding="utf-8"))["address"]
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_run_is_started_seen_and_switched_off_by_f12(
    qtbot: QtBot, address: str, tmp_path: Path, recipe_file: Path
) -> None:
    application_with_theme()
    head, steps = recipe_file.read_text(encoding="utf-8").split("estimate:")
    steps = steps[steps.index("steps:") :]
    # whether particles are measured is of no interest here, and takes seconds
    recipe_file.write_text(head.replace("size: 512", "size: 128") + steps, encoding="utf-8")
    reports: list[EmergencyReport] = []

    class Watched(OperatorWindow):
        def _show_emergency(self, report: EmergencyReport) -> None:
            reports.append(report)
            super()._show_emergency(report)

    def emergency(server_address: str, reason: str) -> None:
        emergency_off(server_address, reason=reason)

    session = Session(lambda: HostClient(address), emergency)
    window = Watched(session, Folders(tmp_path / "run"))
    qtbot.addWidget(window)
    window.show()
    window.open_recipe(recipe_file, start=True)
    qtbot.waitUntil(lambda: "RUNNING" in window.topbar.state.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: window.image.shown >= 3, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(
        lambda: session.snapshot().status.holder_state == "ramping", timeout=EVENTUALLY_MS
    )
    qtbot.waitUntil(lambda: len(window.live.curves.temperature.x) > 10, timeout=EVENTUALLY_MS)
    assert window.recipe.model.current == 0
    assert "SIMULATED" in window.notices.simulated.text()

    qtbot.keyClick(window, QtCore.Qt.Key.Key_F12)
    qtbot.waitUntil(
        lambda: {r.path for r in reports if r.done} == {"engine", "instrument server"},
        timeout=EVENTUALLY_MS,
    )
    assert max(report.took_s for report in reports) < 1.0
    qtbot.waitUntil(lambda: not session.snapshot().status.state.active, timeout=EVENTUALLY_MS)
    assert not session.snapshot().stale
    assert "ack." in window.topbar.heater_off.text()
    assert window.notices.message.text().startswith("✓  HEATER OFF")
    window.close()
    assert session.close() == []
