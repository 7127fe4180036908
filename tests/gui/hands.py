"""What hands do in several tests."""

from __future__ import annotations

from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from gui.twice import NOT_BEFORE_S
from gui.window import OperatorWindow


def press_run(qtbot: QtBot, window: OperatorWindow) -> str:
    """F5 once to be told what would follow, which is returned, and again when that is no double click."""
    qtbot.keyClick(window, QtCore.Qt.Key.Key_F5)
    said = window.notices.message.text()
    assert window.notices.kind == "question"
    qtbot.wait(round(1000 * NOT_BEFORE_S) + 20)
    qtbot.keyClick(window, QtCore.Qt.Key.Key_F5)
    return said
