"""What hands do in several tests, and where they bring a run."""

from __future__ import annotations

from collections.abc import Callable

from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState
from gui.twice import NOT_BEFORE_S
from gui.widgets.hold_button import HoldButton
from gui.window import OperatorWindow

Key = QtCore.Qt.Key
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000
"""Long enough for a machine that has other things to do; nothing is promised about it."""


def state_shown(window: OperatorWindow) -> str:
    return window.topbar.state.text()


def run_to(qtbot: QtBot, window: OperatorWindow, host, state: EngineState) -> None:
    host.state = state
    word = state.value.upper()
    qtbot.waitUntil(lambda: word in state_shown(window), timeout=EVENTUALLY_MS)


def press_run(qtbot: QtBot, window: OperatorWindow) -> str:
    """F5 once to be told what would follow, which is returned, and again when that is no double click."""
    qtbot.keyClick(window, QtCore.Qt.Key.Key_F5)
    said = window.notices.message.text()
    assert window.notices.kind == "question"
    qtbot.wait(round(1000 * NOT_BEFORE_S) + 20)
    qtbot.keyClick(window, QtCore.Qt.Key.Key_F5)
    return said


def hold_down(qtbot: QtBot, button: HoldButton, until: Callable[[], bool]) -> None:
    """Hold a button until something is so; a hold that a stall of the machine has ended begins again."""
    left = QtCore.Qt.MouseButton.LeftButton

    def held() -> bool:
        if until():
            return True
        if button.isEnabled() and not button.fraction and not button.isDown():
            qtbot.mousePress(button, left)
        elif button.isDown() and not button.fraction and not button.counting:
            qtbot.mouseRelease(button, left)  # what disabled it meanwhile has ended its count
        return False

    qtbot.waitUntil(held, timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(button, left)
