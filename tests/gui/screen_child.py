"""An operator's window in a process of its own, on whatever screen there is, that tells what it shows.

It reads words on standard input and answers each with a line of JSON; real events come from outside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

from acquire.engine.client import HostClient
from acquire.remote import emergency_off
from gui import theme
from gui.app import Folders, application_with_theme
from gui.session import Session
from gui.window import OperatorWindow


class Teller(QtCore.QObject):
    """Answers questions about a window."""

    def __init__(self, window: OperatorWindow) -> None:
        super().__init__(window)
        self._window = window
        self._dialog: QtWidgets.QMessageBox | None = None
        self._notifier = QtCore.QSocketNotifier(
            sys.stdin.fileno(), QtCore.QSocketNotifier.Type.Read, self
        )
        self._notifier.activated.connect(self._answer)

    def _answer(self) -> None:
        words = sys.stdin.readline().strip()
        if not words:
            self._notifier.setEnabled(False)
            self._window.close()
            return
        if words == "dialog":
            self._dialog = QtWidgets.QMessageBox(self._window)
            self._dialog.setText("Something asks, and stands in the way.")
            self._dialog.setModal(True)
            self._dialog.open()
        sys.stdout.write(json.dumps(self.seen()) + "\n")
        sys.stdout.flush()

    def seen(self) -> dict[str, Any]:
        """What a person would see, and where."""
        window = self._window
        return {
            "active": window.isActiveWindow(),
            "dialog": bool(self._dialog is not None and self._dialog.isActiveWindow()),
            "state": window.topbar.state.text(),
            "run": window.topbar.run.text(),
            "run_enabled": window.topbar.run.isEnabled(),
            "pause": window.topbar.pause.text(),
            "heater_off": window.topbar.heater_off.text(),
            "holder": window.topbar.holder.text(),
            "message": window.notices.message.text(),
            "page": window.tabs.currentIndex(),
            "theme": theme.now().name,
            "field": window.log.field.text(),
            "field_focus": window.log.field.hasFocus(),
            "focus": _focused(window),
            "log": window.log.lines.toPlainText(),
            "shown": window.image.shown,
            "places": {
                name: _centre(widget)
                for name, widget in {
                    "heater_off": window.topbar.heater_off,
                    "abort": window.topbar.abort,
                    "image": window.image,
                    "temperature": window.live.temperature,
                    "field": window.log.field,
                }.items()
            },
        }


def _focused(window: OperatorWindow) -> str:
    """The name of what has the keys, if one sees that it has them."""
    around = window.ring.around
    return around.accessibleName() if around is not None else ""


def _centre(widget: QtWidgets.QWidget) -> tuple[int, int]:
    place = widget.mapToGlobal(widget.rect().center())
    ratio = widget.devicePixelRatioF()
    return round(place.x() * ratio), round(place.y() * ratio)


def main() -> None:
    """Open the window on the host at the first word, with the recipe at the second, runs below the third."""
    address, recipe, folder = sys.argv[1:4]
    application = application_with_theme()
    session = Session(
        lambda: HostClient(address), lambda at, reason: emergency_off(at, reason=reason)
    )
    window = OperatorWindow(session, Folders(Path(folder) / "run"))
    window.resize(1280, 720)
    window.show()
    window.open_recipe(Path(recipe))
    teller = Teller(window)
    application.exec()
    teller.deleteLater()


if __name__ == "__main__":
    main()
