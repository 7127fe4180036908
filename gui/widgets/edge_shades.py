"""Where the edges of a spectrum lie: their windows shaded, their names above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme

_ALPHA = {"window": 46, "fit": 20}


class EdgeShades(QtWidgets.QGraphicsObject):
    """Lies on a pyqtgraph ``ViewBox`` whose abscissa is energy loss in eV."""

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._view = view
        self.edges: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...] = ()
        self.setZValue(-20)
        view.sigTransformChanged.connect(self._changed)
        view.sigResized.connect(self._changed)

    def show_edges(
        self, edges: Sequence[tuple[str, tuple[float, float], tuple[float, float]]]
    ) -> None:
        """Name, window of the background's fit, window of the integral, in eV of the axis."""
        if tuple(edges) != self.edges:
            self.edges = tuple(edges)
            self._changed()

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """All of the view."""
        return QtCore.QRectF(self._view.rect())

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """The fit window faint, the edge's stronger, names where they do not cover one another."""
        rect, (low, high) = self._view.rect(), self._view.viewRange()[0]
        per_ev = rect.width() / (high - low)
        free_from = -1e9
        line = QtGui.QFontMetrics(painter.font()).height()
        for label, fit, window in sorted(self.edges, key=lambda edge: edge[2][0]):
            for (start, end), colour, kind in (
                (fit, theme.now().sky, "fit"),
                (window, theme.now().orange, "window"),
            ):
                shade = QtGui.QColor(colour)
                shade.setAlpha(_ALPHA[kind])
                left, right = (start - low) * per_ev, (end - low) * per_ev
                painter.fillRect(QtCore.QRectF(left, 0, right - left, rect.height()), shade)
            left = (window[0] - low) * per_ev
            row = 1 if left < free_from else 0
            painter.setPen(QtGui.QColor(theme.now().text))
            painter.drawText(QtCore.QPointF(left + 3, line * (row + 1) - 2), label)
            free_from = left + 6 + QtGui.QFontMetrics(painter.font()).horizontalAdvance(label)

    def _changed(self, *_: object) -> None:
        self.prepareGeometryChange()
        self.update()
