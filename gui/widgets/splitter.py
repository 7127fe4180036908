"""Panels side by side, whose shares a person changes and none of which can be lost by it."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

Qt = QtCore.Qt


def split(
    orientation: Qt.Orientation,
    widgets: tuple[QtWidgets.QWidget, ...],
    sizes: tuple[int, ...],
) -> QtWidgets.QSplitter:
    """A splitter over the widgets, with their first sizes in pixels."""
    made = QtWidgets.QSplitter(orientation)
    made.setHandleWidth(6)
    made.setChildrenCollapsible(False)
    for widget in widgets:
        made.addWidget(widget)
    made.setSizes(list(sizes))
    return made
