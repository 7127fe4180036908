"""Panels side by side, whose shares a person changes and none of which can be lost by it."""

from __future__ import annotations

from functools import partial

from PySide6 import QtCore, QtWidgets

from gui.widgets.keys import Act
from gui.words import tr

Qt = QtCore.Qt
STEP_PX = 24


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


def keys_for(window: QtWidgets.QWidget) -> tuple[tuple[str, str, Act], ...]:
    """Keys that make the panel with the focus wider, narrower, higher or lower, wherever a splitter can."""
    words = tr("Size of the panel that has the focus")
    ways = (
        ("Left", Qt.Orientation.Horizontal, -STEP_PX),
        ("Right", Qt.Orientation.Horizontal, STEP_PX),
        ("Up", Qt.Orientation.Vertical, -STEP_PX),
        ("Down", Qt.Orientation.Vertical, STEP_PX),
    )
    return tuple(
        (f"Alt+Shift+{arrow}", words, partial(_resize, window, orientation, by_px))
        for arrow, orientation, by_px in ways
    )


def _resize(window: QtWidgets.QWidget, orientation: Qt.Orientation, by_px: int) -> None:
    """Take from the next panel, or give to it; the splitter keeps the least size of both."""
    inside: QtWidgets.QWidget | None = window.focusWidget()
    around = inside.parentWidget() if inside is not None else None
    while not (isinstance(around, QtWidgets.QSplitter) and around.orientation() == orientation):
        if around is None:
            return
        inside, around = around, around.parentWidget()
    assert inside is not None
    index, sizes = around.indexOf(inside), around.sizes()
    neighbour = index + 1 if index + 1 < len(sizes) else index - 1
    if neighbour < 0:
        return
    sizes[index] += by_px
    sizes[neighbour] -= by_px
    around.setSizes(sizes)
