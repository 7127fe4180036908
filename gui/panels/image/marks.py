"""What is drawn over the image: outlines, the followed particle, trails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from gui.panels.image import stamping
from gui.panels.image.particles import Bools, Floats, Ints

_VEIL = QtGui.QColor(8, 10, 12, 190)
_DOTTED = [2.0, 3.0]
_MOST_DOUBLE = 250
"""So many circles are drawn twice, a pixel apart, which shows better; more would take too long."""
_MANY = 800
"""From more circles on a picture of them is made: one by one they take 4 µs each at every paint."""


class Outlines(pg.GraphicsObject):  # type: ignore[misc]
    """Circles in several colours; those that the border cuts are dotted.

    Few are drawn one by one, of one pixel: a path for each colour takes twice the time, and any wider
    pen ten times. Many are written into a picture (:mod:`gui.panels.image.stamping`), which is kept
    until they, or what is seen of them, change: the mouse over the image has it painted all the time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._x = self._y = self._radius = np.zeros(0)
        self._cut = np.zeros(0, np.bool_)
        self._tint = np.zeros(0, np.int64)
        self._colours: tuple[str, ...] = ()
        self._bounds = QtCore.QRectF()
        self._picture = QtGui.QImage()
        self._pictured: object = None

    @property
    def count(self) -> int:
        """How many circles there are."""
        return len(self._x)

    def set_circles(
        self, x: Floats, y: Floats, diameter: Floats, cut: Bools, tint: Ints, colours: Sequence[str]
    ) -> None:
        """Draw these, all arrays (n,); ``tint`` points into ``colours``."""
        self.prepareGeometryChange()
        self._x, self._y, self._radius, self._cut = x, y, diameter / 2, cut
        self._tint, self._colours = tint, tuple(colours)
        self._pictured = None
        self._bounds = QtCore.QRectF()
        if len(x):
            radius = self._radius
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
        """Colour, whether dotted, and (x, y, radius) in nm of all of them."""
        return self._groups(np.ones(self.count, np.bool_))

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """All circles."""
        return self._bounds

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """Draw those that are seen."""
        device = painter.device()
        ratio = device.devicePixelRatioF()
        to_pixels = painter.worldTransform() * QtGui.QTransform.fromScale(ratio, ratio)
        scale = to_pixels.m11()
        if not scale > 0:
            return
        # in whole pixels of the device
        width, height = round(device.width() * ratio), round(device.height() * ratio)
        seen = to_pixels.inverted()[0].mapRect(QtCore.QRectF(0, 0, width, height))
        rows = _within(self._x, self._y, self._radius, seen)
        if np.count_nonzero(rows) <= _MANY:
            self._draw(painter, rows, 1 / scale)
            return
        large = rows & (self._radius * scale > stamping.LARGEST_PX)
        self._draw(painter, large, 1 / scale)
        state = (scale, to_pixels.dx(), to_pixels.dy(), width, height)
        if state != self._pictured:
            self._pictured = state
            small = rows & ~large
            table = np.array([stamping.argb(colour) for colour in self._colours], np.uint32)
            self._picture = stamping.stamp(
                width,
                height,
                self._x[small] * scale + to_pixels.dx(),
                self._y[small] * to_pixels.m22() + to_pixels.dy(),
                self._radius[small] * scale,
                self._cut[small],
                table[self._tint[small]],
            )
        stamping.draw_over(painter, self._picture)

    def _draw(self, painter: QtGui.QPainter, rows: Bools, pixel_nm: float) -> None:
        """Draw some, one by one; twice, a pixel apart, where that does not take too long."""
        point = QtCore.QPointF
        double = np.count_nonzero(rows) <= _MOST_DOUBLE
        for colour, dotted, circles in self._groups(rows):
            pen = pg.mkPen(colour, width=1)
            if dotted:
                pen.setDashPattern(_DOTTED)
            painter.setPen(pen)
            for x, y, radius in circles:
                painter.drawEllipse(point(x, y), radius, radius)
                if double:
                    painter.drawEllipse(point(x, y), radius + pixel_nm, radius + pixel_nm)

    def _groups(self, rows: Bools) -> list[tuple[str, bool, list[tuple[float, float, float]]]]:
        found = []
        for dotted in (False, True):
            for number, colour in enumerate(self._colours):
                some = rows & (self._tint == number) & (self._cut == dotted)
                if some.any():
                    name = QtGui.QColor(colour).name()
                    parts = (self._x[some], self._y[some], self._radius[some])
                    found.append(
                        (name, dotted, list(zip(*map(np.ndarray.tolist, parts), strict=True)))
                    )
        return found


def _within(x: Floats, y: Floats, radius: Floats, seen: QtCore.QRectF) -> Bools:
    found: Bools = (
        (x + radius > seen.left())
        & (x - radius < seen.right())
        & (y + radius > seen.top())
        & (y - radius < seen.bottom())
    )
    return found


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
