"""Slow hosts, lost hosts, old values and errors in the window, and how it closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState
from gui import orders
from gui.app import show
from gui.window import OperatorWindow
from tests.gui.hands import EVENTUALLY_MS, run_to, state_shown


class Heartbeat:
    """How late a 10 ms timer of the UI thread comes, and a plain thread of this process beside it."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.machine_late_s = [0.0]
        self._ended = threading.Event()
        self._beside = threading.Thread(target=self._wait, name="heartbeat", daemon=True)
        self._beside.start()
        self._last_s = time.monotonic()
        self.timer = QtCore.QTimer()
        self.timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._beat)
        self.timer.start(10)

    def _beat(self) -> None:
        now_s = time.monotonic()
        self.late_s.append(now_s - self._last_s - 0.01)
        self._last_s = now_s

    def _wait(self) -> None:
        began_s = time.monotonic()
        while not self._ended.wait(0.01):
            now_s = time.monotonic()
            self.machine_late_s.append(now_s - began_s - 0.01)
            began_s = now_s

    def stop(self) -> None:
        self.timer.stop()
        self._ended.set()
        self._beside.join()

    def assert_usually_on_time(self) -> None:
        """The window holds itself up by no more than 0.1 s; what the machine does comes on top."""
        late_s, machine_s = (np.percentile(x, 90) for x in (self.late_s, self.machine_late_s))
        assert late_s < 0.1 + machine_s


def test_a_host_whose_calls_take_half_a_second_never_holds_up_the_window(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    host.delay_s = 0.5
    heart = Heartbeat()
    for _ in range(2):
        window.commanding.hold()
        window.session.mark("slow")
        qtbot.wait(700)
    heart.stop()
    assert len(heart.late_s) > 5, "it beat at all"
    # a call that blocked would show as half a second
    assert max(heart.late_s) < 0.45 + max(heart.machine_late_s)
    heart.assert_usually_on_time()
    assert "LIVE" in window.facts.link.text()  # slow is not lost


def test_three_hundred_fast_frames_leave_the_window_responsive(
    qtbot: QtBot, host, open_window
) -> None:
    host.frame_period_s, host.size = 0.01, 128
    host.__post_init__()
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    heart = Heartbeat()
    qtbot.waitUntil(
        lambda: window.image.shown > 10 and window.image.shown + window.image.not_shown >= 300,
        timeout=20_000,
    )
    heart.stop()
    heart.assert_usually_on_time()
    assert window.image.not_shown > 0  # newest wins, and the others are counted


def test_a_host_that_dies_makes_everything_stale_and_comes_back_by_itself(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: window.image.shown > 0, timeout=EVENTUALLY_MS)
    host.dead = True
    begun = time.monotonic()
    qtbot.waitUntil(lambda: "NO CONTACT" in state_shown(window), timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun < 2.0
    assert all(panel.property("stale") for panel in window.live.panels)
    assert "STALE" in window.facts.link.text()
    assert "does not answer" in window.notices.message.text()
    assert not window.topbar.pause.isEnabled()
    assert window.topbar.heater_off.isEnabled()
    points = len(window.live.curves.temperature.x)
    host.dead = False
    qtbot.waitUntil(lambda: "RUNNING" in state_shown(window), timeout=EVENTUALLY_MS)
    assert not any(panel.property("stale") for panel in window.live.panels)
    qtbot.waitUntil(lambda: len(window.live.curves.temperature.x) > points, timeout=EVENTUALLY_MS)
    shown = window.image.shown
    qtbot.waitUntil(lambda: window.image.shown != shown, timeout=EVENTUALLY_MS)


def test_a_window_without_a_host_says_so(qtbot: QtBot, host, open_window) -> None:
    host.dead = True
    window = open_window(wait=False)
    qtbot.waitUntil(
        lambda: "does not answer" in window.notices.message.text(), timeout=EVENTUALLY_MS
    )
    assert "NO CONTACT" in state_shown(window)
    assert not window.topbar.run.isEnabled()


@pytest.mark.parametrize("state", [EngineState.RUNNING, EngineState.ABORTED])
def test_a_temperature_that_is_not_read_any_more_is_marked_old(
    qtbot: QtBot, host, open_window, state: EngineState
) -> None:
    window = open_window()
    run_to(qtbot, window, host, state)
    host.changes["reading_t_s"] = host.now_s() - 50 * host.rate
    qtbot.waitUntil(lambda: "ago" in window.topbar.setpoint.text(), timeout=EVENTUALLY_MS)
    assert window.topbar.holder.property("stale")


def test_closing_ends_every_thread_within_half_a_second_and_tells_the_host_nothing(
    qtbot: QtBot, host, open_window
) -> None:
    window: OperatorWindow = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    begun = time.monotonic()
    window.close()
    assert time.monotonic() - begun < 0.6
    assert [t.name for t in threading.enumerate() if t.name.startswith("window-")] == []
    assert host.commands == []
    assert host.state is EngineState.RUNNING


def test_an_error_in_the_window_is_shown_and_ends_nothing(
    qtbot: QtBot, host, server, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path
) -> None:
    import gui.app as app

    seen: list[str] = []
    complain: Callable[[OperatorWindow, str], None] = OperatorWindow.complain

    def remember(window: OperatorWindow, words: str) -> None:
        seen.append(words)
        complain(window, words)

    monkeypatch.setattr(OperatorWindow, "complain", remember)

    class Clumsy(OperatorWindow):
        def _take_image(self) -> None:
            if not seen:
                raise ValueError("a fault of the window")

    monkeypatch.setattr(app, "OperatorWindow", Clumsy)
    with qtbot.captureExceptions():  # pytest-qt's own hook is put back afterwards
        status = show(
            host.connect, server.emergency, screenshot=tmp_path / "a.png", screenshot_after_s=0.6
        )
    assert status == 0
    assert "a fault of the window" in seen[0]


def test_orders_that_waited_too_long_are_not_sent(
    qtbot: QtBot, host, open_window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "COMMAND_TOO_OLD_S", 0.5)
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    host.delay_s = 0.4  # connecting and calling: 0.8 s
    window.session.mark("first")
    window.session.mark("second")
    qtbot.waitUntil(lambda: host.commands == [("mark", "first")], timeout=EVENTUALLY_MS)
    host.delay_s = 0.0
    qtbot.waitUntil(lambda: "not sent" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    assert host.commands == [("mark", "first")]
