"""Lists and tabs to choose from that a mouse wheel cannot change by accident."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets


class Choice(QtWidgets.QComboBox):
    """A combo box that lets the wheel pass to what lies behind it."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToContents)

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Ignore it."""
        event.ignore()


class Tabs(QtWidgets.QTabBar):
    """Tabs that the wheel does not turn."""

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Ignore it."""
        event.ignore()
