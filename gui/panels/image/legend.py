"""What the colours of outlines mean, when they mean a size."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from gui.panels.image import tints
from gui.words import tr

_SWATCH, _MARGIN, _ROW = 16, 8, 14


class SizeLegend(QtWidgets.QWidget):
    """Swatches from small to large, laid over the lower left of the image."""

    def __init__(self, canvas: QtWidgets.QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_NoSystemBackground)
        self._limits = (0.0, 1.0)
        canvas.installEventFilter(self)
        self.setFixedSize(2 * _MARGIN + _SWATCH * len(tints.SIZES), 2 * _MARGIN + 2 * _ROW)
        self.hide()

    def show_limits(self, limits: tuple[float, float]) -> None:
        """Show what the first and the last colour mean, in nm."""
        if limits != self._limits or not self.isVisible():
            self._limits = limits
            self._place()
            self.show()
            self.raise_()
            self.update()

    @property
    def words(self) -> str:
        """The same in words."""
        low, high = self._limits
        return tr("from {low:g} nm (blue) to {high:g} nm (orange)").format(low=low, high=high)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Stay in the corner."""
        if event.type() == QtCore.QEvent.Type.Resize:
            self._place()
        return False

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is not None:
            self.move(12, parent.height() - self.height() - 12)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Swatches on a veil, with both limits beneath."""
        painter = QtGui.QPainter(self)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(8, 10, 12, 165))
        painter.drawRoundedRect(self.rect(), 4, 4)
        for number, colour in enumerate(tints.SIZES):
            left = _MARGIN + number * _SWATCH
            painter.fillRect(left, _MARGIN, _SWATCH, _ROW - 2, QtGui.QColor(colour))
        painter.setPen(QtGui.QColor("white"))
        font = painter.font()
        font.setPixelSize(12)
        painter.setFont(font)
        row = QtCore.QRect(_MARGIN, _MARGIN + _ROW, self.width() - 2 * _MARGIN, _ROW)
        low, high = self._limits
        flag = QtCore.Qt.AlignmentFlag
        painter.drawText(row, flag.AlignLeft | flag.AlignVCenter, f"{low:g}")
        painter.drawText(row, flag.AlignRight | flag.AlignVCenter, f"{high:g} nm")
        painter.end()
