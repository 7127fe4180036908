"""What is drawn over the image: outlines, the followed particle, trails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from gui.panels.image.particles import Bools, Floats, Ints

_VEIL = QtGui.QColor(8, 10, 12, 190)
_DOTTED = [2.0, 3.0]
_MOST_DOUBLE = 250
"""So many circles are drawn twice, a pixel apart, which shows better; more would take too long."""


class Outlines(pg.GraphicsObject):  # type: ignore[misc]
    """Circles in several colours; those that the border cuts are dotted.

    Ellipses of one pixel, one by one: a path for each colour takes twice the time, and any wider pen
    ten times.
    """

    def __init__(self) -> None:
        super().__init__()
        self._circles: list[tuple[QtGui.QPen, list[tuple[float, float, float]]]] = []
        self._bounds = QtCore.QRectF()
        self.count = 0

    def set_circles(
        self, x: Floats, y: Floats, diameter: Floats, cut: Bools, tint: Ints, colours: Sequence[str]
    ) -> None:
        """Draw these, all arrays (n,); ``tint`` points into ``colours``."""
        self.prepareGeometryChange()
        radius = diameter / 2
        self._circles = []
        for dotted in (False, True):
            for number, colour in enumerate(colours):
                rows = (tint == number) & (cut == dotted)
                if rows.any():
                    pen = pg.mkPen(colour, width=1)
                    if dotted:
                        pen.setDashPattern(_DOTTED)
                    circles = np.stack([x[rows], y[rows], radius[rows]], axis=1)
                    self._circles.append((pen, [tuple(c) for c in circles.tolist()]))
        self.count = len(x)
        self._bounds = QtCore.QRectF()
        if len(x):
            left, top = float((x - radius).min()), float((y - radius).min())
            right, bottom = float((x + radius).max()), float((y + radius).max())
            self._bounds = QtCore.QRectF(left, top, right - left, bottom - top)
        self.update()

    def clear_circles(self) -> None:
        """Draw none."""
        if self.count:
            none = np.zeros(0)
            self.set_circles(none, none, none, none > 0, none.astype(np.int64), ())

    def circles(self) -> list[tuple[str, bool, list[tuple[float, float, float]]]]:
        """Colour, whether dotted, and (x, y, radius) in nm of what is drawn."""
        solid = QtCore.Qt.PenStyle.SolidLine
        return [(pen.color().name(), pen.style() != solid, list(c)) for pen, c in self._circles]

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """All circles."""
        return self._bounds

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """Draw them."""
        point = QtCore.QPointF
        scale = painter.worldTransform().m11() * painter.device().devicePixelRatioF()
        pixel = 1 / scale if self.count <= _MOST_DOUBLE and scale > 0 else 0.0
        for pen, circles in self._circles:
            painter.setPen(pen)
            for x, y, radius in circles:
                painter.drawEllipse(point(x, y), radius, radius)
                if pixel:
                    painter.drawEllipse(point(x, y), radius + pixel, radius + pixel)


class Emphasis(pg.GraphicsObject):  # type: ignore[misc]
    """A thick ring on a veil around one particle; dashed where it was last seen."""

    def __init__(self) -> None:
        super().__init__()
        self._at: tuple[float, float, float] | None = None
        self._lost = False
        self.setZValue(20)

    def put(self, x: float, y: float, diameter: float, lost: bool) -> None:
        """Emphasise a place."""
        self.prepareGeometryChange()
        self._at, self._lost = (x, y, diameter / 2 * 1.15), lost
        self.update()

    def remove(self) -> None:
        """Emphasise nothing."""
        if self._at is not None:
            self.prepareGeometryChange()
            self._at = None
            self.update()

    @property
    def shown(self) -> tuple[float, float, float, bool] | None:
        """(x, y, radius, lost) of what is emphasised."""
        return None if self._at is None else (*self._at, self._lost)

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """The ring with room for its pen."""
        if self._at is None:
            return QtCore.QRectF()
        x, y, r = self._at
        return QtCore.QRectF(x - 1.5 * r, y - 1.5 * r, 3 * r, 3 * r)

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """Draw it, dark beneath and white above, so that it shows on any image."""
        if self._at is None:
            return
        x, y, radius = self._at
        style = QtCore.Qt.PenStyle.DashLine if self._lost else QtCore.Qt.PenStyle.SolidLine
        for colour, width in ((_VEIL, 5), (QtGui.QColor("white"), 2)):
            painter.setPen(pg.mkPen(colour, width=width, style=style))
            painter.drawEllipse(QtCore.QPointF(x, y), radius, radius)


class Trails:
    """Lines along which particles have moved, one item for each colour."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._lines: list[Any] = []

    def draw(self, track: Ints, x: Floats, y: Floats, tint: Ints, colours: Sequence[str]) -> None:
        """Draw points that come track by track; ``tint`` is that of each point."""
        while len(self._lines) < len(colours):
            line = pg.PlotCurveItem(connect="finite")
            line.setZValue(5)
            self._view.addItem(line, ignoreBounds=True)
            self._lines.append(line)
        for number, line in enumerate(self._lines):
            rows = tint == number
            if number >= len(colours) or not rows.any():
                line.setData([], [])
                continue
            line.setPen(pg.mkPen(colours[number], width=1))
            ends = np.flatnonzero(np.diff(track[rows])) + 1
            line.setData(
                np.insert(x[rows], ends, np.nan), np.insert(y[rows], ends, np.nan), connect="finite"
            )

    def clear(self) -> None:
        """Draw none."""
        for line in self._lines:
            line.setData([], [])

    @property
    def points(self) -> int:
        """How many points are drawn, breaks included."""
        return sum(0 if x is None else len(x) for x, _ in (line.getData() for line in self._lines))
