"""Heater off reaches the server and the engine, over dialogs and past an engine that hangs."""

from __future__ import annotations

import time

import pytest
from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState
from gui import answers
from gui.emergency import ENGINE, SERVER, EmergencyReport
from tests.gui.hands import EVENTUALLY_MS, LEFT, Key, run_to

NO_KEYS = QtCore.Qt.KeyboardModifier.NoModifier


class Dragging(QtCore.QObject):
    """What Qt does with keys during a drag on a desktop."""

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        return isinstance(event, QtGui.QKeyEvent)


def test_f12_over_a_modal_dialog_reaches_server_and_engine(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    box = QtWidgets.QDialog(window)
    box.setModal(True)
    box.open()
    qtbot.waitUntil(box.isVisible, timeout=EVENTUALLY_MS)
    begun = time.monotonic()
    qtbot.keyClick(box, Key.Key_F12)
    qtbot.waitUntil(lambda: bool(server.offs and host.commands), timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun < 0.5
    reason = "heater off pressed by the operator"
    assert server.offs == [("127.0.0.1:49000", reason)]
    assert host.commands == [("heater_off", reason)]
    qtbot.waitUntil(lambda: "ack." in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "engine ack" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "server ack" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    box.close()
    # over an open menu; and while something is dragged, when Qt eats all keys by a filter of its own
    window.help.menu.popup(QtCore.QPoint(0, 0))
    qtbot.keyClick(window.help.menu, Key.Key_F12)
    qtbot.waitUntil(lambda: len(server.offs) == 2, timeout=EVENTUALLY_MS)
    window.help.menu.close()
    application = QtWidgets.QApplication.instance()
    assert application is not None
    drag = Dragging()
    application.installEventFilter(drag)
    mime = QtCore.QMimeData()
    enter = QtGui.QDragEnterEvent(
        QtCore.QPoint(9, 9), QtCore.Qt.DropAction.MoveAction, mime, LEFT, NO_KEYS
    )
    QtWidgets.QApplication.sendEvent(window, enter)
    qtbot.keyClick(window, Key.Key_F12)
    application.removeEventFilter(drag)
    qtbot.waitUntil(lambda: len(server.offs) == 3, timeout=EVENTUALLY_MS)


def test_an_answer_to_heater_off_is_not_covered_and_a_missing_one_not_forgotten(
    qtbot: QtBot, host, open_window, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    button, line = window.topbar.heater_off, window.notices.message
    window.telling.emergency(EmergencyReport(1, ENGINE, True, "", 0.01, True))
    window.complain("the scan refused")
    window.telling.tell("Mark: taken")
    assert "HEATER OFF: engine acknowledged" in line.text()
    monkeypatch.setattr(answers, "SHOWN_S", 0.0)
    qtbot.waitUntil(lambda: "the scan refused" in line.text(), timeout=EVENTUALLY_MS)
    assert button.text().endswith("F12")
    for path in (ENGINE, SERVER):
        window.telling.emergency(EmergencyReport(2, path, False, "no route", 5.0, True))
    assert "Switch the heater off at its control unit" in line.text()
    window.telling.tick()
    assert "NOT SENT" in button.text()


def test_heater_off_reaches_the_server_when_the_engine_hangs(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    host.delay_s = 3.0
    qtbot.mousePress(window.topbar.heater_off, LEFT)
    qtbot.waitUntil(lambda: bool(server.offs), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "ack." in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(window.topbar.heater_off, LEFT)
    assert host.commands == []
    host.delay_s = 0.0
    qtbot.waitUntil(lambda: len(host.commands) == 1, timeout=EVENTUALLY_MS)


def test_heater_off_that_cannot_arrive_is_tried_again_and_says_so(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    server.dead, host.dead = True, True
    qtbot.mousePress(window.topbar.heater_off, LEFT)
    qtbot.waitUntil(lambda: "trying" in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(window.topbar.heater_off, LEFT)
    server.dead = False
    qtbot.waitUntil(lambda: len(server.offs) == 1, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "NOT SENT" not in window.topbar.heater_off.text(), timeout=100)
    host.dead = False
    qtbot.waitUntil(lambda: bool(host.commands), timeout=EVENTUALLY_MS)
