"""A window without a host, in a process of its own, that tells as JSON what a person reads in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PySide6 import QtGui, QtWidgets

from acquire.errors import LinkError
from gui.app import Folders, application_with_theme
from gui.orders import HostConnection
from gui.session import Session
from gui.tour import Tour
from gui.window import OperatorWindow


def no_host() -> HostConnection:
    """Nobody answers."""
    raise LinkError("0")


def read(root: QtWidgets.QWidget) -> set[str]:
    """Captions, tips and hints of a widget and all that is in it."""
    found: set[str] = set()
    for widget in (root, *root.findChildren(QtWidgets.QWidget)):
        found |= {widget.toolTip(), widget.windowTitle()}
        if widget.objectName() == "key":
            continue  # Qt names them
        if isinstance(widget, QtWidgets.QLabel | QtWidgets.QAbstractButton):
            found.add(widget.text())
        if isinstance(widget, QtWidgets.QLineEdit | QtWidgets.QPlainTextEdit):
            found.add(widget.placeholderText())
        if isinstance(widget, QtWidgets.QTabBar):
            found |= {widget.tabText(i) for i in range(widget.count())}
            found |= {widget.tabToolTip(i) for i in range(widget.count())}
        if isinstance(widget, QtWidgets.QComboBox):
            found |= {widget.itemText(i) for i in range(widget.count())}
    for action in root.findChildren(QtGui.QAction):
        found |= {action.text(), action.toolTip()}
    return found


def main() -> None:
    """Read the bar, every page, the sheet of keys and the tour."""
    application = application_with_theme()
    window = OperatorWindow(Session(no_host, lambda *_: None), Folders(Path.cwd() / "run"), None)
    window.show()
    tour = Tour(window, lambda: True)
    tour.begin()
    window.help.show_keys()
    parts: dict[str, QtWidgets.QWidget] = {type(page).__name__: page for page in window.pages}
    parts |= {"topbar": window.topbar, "notices": window.notices, "facts": window.facts}
    parts |= {"tour": tour.frame, "keys": window.findChildren(QtWidgets.QDialog)[-1]}
    for page in window.pages:
        window.show_page(page)
        application.processEvents()
    json.dump({name: sorted(read(part)) for name, part in parts.items()}, sys.stdout)
    tour.end()
    window.close()


if __name__ == "__main__":
    main()
