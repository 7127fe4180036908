"""Arrow keys that lead from point to point of what is measured on a grid."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from gui.widgets.keys import Described
from gui.words import tr

Key = QtCore.Qt.Key
_WAYS = {
    int(Key.Key_Left): (0, -1),
    int(Key.Key_Right): (0, 1),
    int(Key.Key_Up): (-1, 0),
    int(Key.Key_Down): (1, 0),
}


class PointKeys(QtCore.QObject):
    """Emits ``stepped`` with rows down and columns to the right, while its widget has the focus."""

    stepped = QtCore.Signal(int, int)

    def __init__(self, widget: QtWidgets.QWidget) -> None:
        super().__init__(widget)
        widget.installEventFilter(self)
        Described(widget, (tr("Arrows"), tr("In a map: the point that is read")))

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Take the arrows before they are shortcuts of the window; with Ctrl they are the plot's."""
        if not isinstance(event, QtGui.QKeyEvent):
            return False
        way = _WAYS.get(event.key())
        if way is None or event.modifiers() & QtCore.Qt.KeyboardModifier.ControlModifier:
            return False
        if event.type() == QtCore.QEvent.Type.KeyPress:
            self.stepped.emit(*way)
        event.accept()
        return True


def step_from(
    at: tuple[int, int] | None, down: int, across: int, shape: tuple[int, int]
) -> tuple[int, int]:
    """The row and column so far from a point, within (rows, columns); from nowhere, the first point."""
    row, column = at or (-down, -across)
    return min(max(row + down, 0), shape[0] - 1), min(max(column + across, 0), shape[1] - 1)
