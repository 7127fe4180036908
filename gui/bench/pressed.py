"""Presses heater off in a window of its own process and tells how soon the instrument server answered.

``python -m gui.bench.pressed --address HOST:PORT --presses N``: every other press is F12 over a modal
dialog, the others are clicks on the button. One line of JSON: seconds from the press to each answer.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.client import HostClient
from acquire.remote import emergency_off
from gui.app import Folders, application_with_theme
from gui.emergency import ENGINE, SERVER, EmergencyReport
from gui.session import Session
from gui.window import OperatorWindow

GIVE_UP_S = 5.0
Type = QtCore.QEvent.Type


class Pressed(OperatorWindow):
    """Keeps the answers to heater off."""

    answers: list[EmergencyReport]

    def _show_emergency(self, report: EmergencyReport) -> None:
        super()._show_emergency(report)
        self.answers.append(report)


def press(
    window: Pressed, application: QtWidgets.QApplication, *, dialog: bool
) -> dict[str, float]:
    """One press; seconds from it until each way was acknowledged and shown, NaN where it was not."""
    window.answers = []
    box = QtWidgets.QMessageBox(window)
    if dialog:
        box.setText("Something asks, and stands in the way.")
        box.setModal(True)
        box.open()
        _pass(application, 0.3)
    began_s = time.perf_counter()
    if dialog:
        for kind in (Type.KeyPress, Type.KeyRelease):
            key = QtGui.QKeyEvent(
                kind, QtCore.Qt.Key.Key_F12, QtCore.Qt.KeyboardModifier.NoModifier
            )
            QtWidgets.QApplication.postEvent(box, key)
    else:
        window.topbar.heater_off.click()
    took = {SERVER: float("nan"), ENGINE: float("nan")}
    while time.perf_counter() - began_s < GIVE_UP_S and any(t != t for t in took.values()):
        application.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 5)
        for answer in window.answers:
            if answer.done and took[answer.path] != took[answer.path]:
                took[answer.path] = time.perf_counter() - began_s
    box.close()
    _pass(application, 0.1)
    return took


def _pass(application: QtWidgets.QApplication, seconds: float) -> None:
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        application.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 5)


def _tell_grave(kind: QtCore.QtMsgType, context: QtCore.QMessageLogContext, words: str) -> None:
    if kind in (QtCore.QtMsgType.QtCriticalMsg, QtCore.QtMsgType.QtFatalMsg):
        sys.stderr.write(f"{words}\n")


def main() -> int:
    """The process's entry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--presses", type=int, default=20)
    given = parser.parse_args()
    # that the heater was switched off is meant here, and no warning among the bench's figures
    logging.getLogger().addHandler(logging.NullHandler())
    QtCore.qInstallMessageHandler(_tell_grave)
    application = application_with_theme()
    session = Session(
        lambda: HostClient(given.address), lambda at, reason: emergency_off(at, reason=reason)
    )
    window = Pressed(session, Folders(None))
    window.answers = []
    window.show()
    give_up_s = time.perf_counter() + 20
    while not session.snapshot().status.server_address and time.perf_counter() < give_up_s:
        application.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 10)
    _pass(application, 2.0)
    took = [press(window, application, dialog=number % 2 == 1) for number in range(given.presses)]
    sys.stdout.write(json.dumps({"presses": took}) + "\n")
    window.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
