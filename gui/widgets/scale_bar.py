"""A scale bar of a round length in the corner of an image view."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from gui import text

_MARGIN = 14
_HEIGHT = 44.0
_NARROW = 60.0
_SHARE = 0.28


def nm_per_pixel(view: Any) -> float:
    """Of a ``ViewBox`` with equal scales; 0 while it has no size.

    Not pyqtgraph's ``viewPixelSize``, which may be of the range before the present one.
    """
    width = float(view.rect().width())
    return float(view.viewRect().width()) / width if width > 0 else 0.0


class ScaleBar(QtWidgets.QGraphicsObject):
    """Sits on a pyqtgraph ``ViewBox`` whose coordinates are nm, y downwards, and keeps its length round."""

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._view = view
        self.length_nm = 0.0
        self.within = QtCore.QRectF()
        """Where the image lies, in nm: the bar stands at its corner, below it if there is room; empty:
        at the corner of the view."""
        self.setZValue(100)
        view.sigTransformChanged.connect(self._changed)
        view.sigResized.connect(self._changed)

    def _changed(self, *_: object) -> None:
        self.prepareGeometryChange()
        self.update()

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """All of the view: where the bar stands depends on the image."""
        return QtCore.QRectF(self._view.rect())

    def _corner(self) -> tuple[QtCore.QPointF, float]:
        """Lower right end of the bar, and how much width there is for it, in pixels."""
        rect = QtCore.QRectF(self._view.rect())
        seen = rect
        if not self.within.isEmpty():
            # by the range, as nm_per_pixel: pyqtgraph's own mapping may be of the one before
            area, pixels = self._view.viewRect(), 1 / nm_per_pixel(self._view)
            image = QtCore.QRectF(
                rect.left() + (self.within.left() - area.left()) * pixels,
                rect.top() + (self.within.top() - area.top()) * pixels,
                self.within.width() * pixels,
                self.within.height() * pixels,
            )
            if rect.bottom() - image.bottom() >= _HEIGHT and image.bottom() > rect.top():
                image.setBottom(image.bottom() + _HEIGHT)
            seen = rect.intersected(image)
            if seen.width() < _NARROW or seen.height() < _HEIGHT:
                seen = rect
        return QtCore.QPointF(seen.right() - _MARGIN, seen.bottom() - _MARGIN), seen.width()

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """Draw bar and label, white on a dark veil so that it shows on any image."""
        nm_per_px = nm_per_pixel(self._view)
        rect = self._view.rect()
        if not (nm_per_px > 0 and rect.width() > 60):
            return
        corner, room = self._corner()
        self.length_nm = text.nice_length(room * _SHARE * nm_per_px)
        width = self.length_nm / nm_per_px
        right, bottom = corner.x(), corner.y()
        veil = QtCore.QRectF(right - width - 7, bottom - 27, width + 14, 33)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(8, 10, 12, 165))
        painter.drawRoundedRect(veil, 4, 4)
        painter.setBrush(QtGui.QColor("white"))
        painter.drawRect(QtCore.QRectF(right - width, bottom - 4, width, 4))
        painter.setPen(QtGui.QColor("white"))
        label = QtCore.QRectF(veil.left(), veil.top() + 1, veil.width(), 20)
        painter.drawText(label, QtCore.Qt.AlignmentFlag.AlignCenter, text.length(self.length_nm))
