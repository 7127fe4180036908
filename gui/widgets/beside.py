"""A picture of fixed proportions with what is said of it beside or below, so that the picture is as large as can be."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

_GAP = 8
_SIDE = 196
"""Pixels that the words need across."""
_MOST_SIDE = 300


class Beside(QtWidgets.QWidget):
    """Lays two widgets out by the proportions of the first, ``picture``; ``around`` is what frames it.

    ``arranged`` tells the picture's size when it has changed.
    """

    arranged = QtCore.Signal(QtCore.QSize)

    def __init__(self, picture: QtWidgets.QWidget, words: QtWidgets.QWidget) -> None:
        super().__init__()
        self.picture, self.words = picture, words
        for widget in (picture, words):
            widget.setParent(self)
        self._aspect = 1.0
        self._around = QtCore.QSize()
        self.setMinimumHeight(84)
        words.installEventFilter(self)

    def set_proportions(self, aspect: float, around: QtCore.QSize) -> None:
        """Width by height of what is drawn, and what axes take of the picture's size."""
        if (aspect, around) != (self._aspect, self._around):
            self._aspect, self._around = aspect, around
            self._arrange()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Arrange anew."""
        super().resizeEvent(event)
        self._arrange()

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """The words have become longer or shorter."""
        if event.type() == QtCore.QEvent.Type.LayoutRequest:
            self._arrange()
        return False

    def _arrange(self) -> None:
        width, height = self.width(), self.height()
        extra_x, extra_y = self._around.width(), self._around.height()
        beside = min(width - _SIDE - _GAP, round((height - extra_y) * self._aspect) + extra_x)
        needed = max(self.words.sizeHint().height(), self.words.heightForWidth(width))
        below = min(height - needed - _GAP, round((width - extra_x) / self._aspect) + extra_y)
        area = QtCore.QRect
        # whichever way the picture is the larger
        if (
            min(beside - extra_x, (height - extra_y) * self._aspect)
            >= (below - extra_y) * self._aspect
        ):
            side = min(_MOST_SIDE, width - beside - _GAP)
            left = max(0, (width - beside - _GAP - side) // 2)
            self.picture.setGeometry(area(left, 0, beside, height))
            self.words.setGeometry(area(left + beside + _GAP, 0, side, height))
        else:
            self.picture.setGeometry(area(0, 0, width, max(1, below)))
            self.words.setGeometry(area(0, below + _GAP, width, height - below - _GAP))
        self.arranged.emit(self.picture.size())
