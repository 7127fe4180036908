"""A line on the image and the signal along it, averaged across a width, with a plot of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6 import QtCore, QtWidgets

from acquire.instruments import AnyArray
from gui.panels.image.canvas import Canvas
from gui.panels.image.particles import Floats
from gui.widgets.panel import ElidedLabel, set_text
from gui.widgets.plot import dim, draw_in, make_plot
from gui.words import tr

WIDTHS_PX = (1, 3, 7, 15, 31)
_HANDLE = 7.0
"""Pixels; they must be easy to take hold of."""
_SHARE, _DOWN = 0.6, 0.8
_FEWEST_ACROSS = 0.5


def line_profile(
    array: AnyArray,
    pixel_nm: float,
    ends_nm: tuple[tuple[float, float], tuple[float, float]],
    width_px: int,
) -> tuple[Floats, Floats]:
    """Signal along a line between two places (x, y): distances in nm and means, both (n,).

    One point per pixel of length, interpolated between four pixels each, averaged over lines one
    pixel apart. Points of which less than half of the width lies on the image are NaN.
    """
    (x0, y0), (x1, y1) = ends_nm
    length_nm = float(np.hypot(x1 - x0, y1 - y0))
    count = max(2, round(length_nm / pixel_nm) + 1)
    along = np.linspace(0.0, 1.0, count)
    unit = np.array([x1 - x0, y1 - y0]) / max(length_nm, 1e-12)
    across = (np.arange(width_px) - (width_px - 1) / 2)[:, None]
    x = (x0 + along * (x1 - x0)) / pixel_nm - 0.5 - across * unit[1]
    y = (y0 + along * (y1 - y0)) / pixel_nm - 0.5 + across * unit[0]
    values = _between_pixels(array, x, y)
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    counted = known.sum(axis=0)
    enough = counted >= max(1.0, _FEWEST_ACROSS * width_px)
    return along * length_nm, np.where(enough, total / np.maximum(counted, 1), np.nan)


def _between_pixels(array: AnyArray, x: Floats, y: Floats) -> Floats:
    """Values at fractions of pixels, whose centres are whole numbers; NaN beside the image."""
    height, width = array.shape
    on = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left: NDArray[np.intp] = np.minimum(x.astype(np.intp), max(0, width - 2))
    top: NDArray[np.intp] = np.minimum(y.astype(np.intp), max(0, height - 2))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = x - left, y - top
    upper = array[top, left] * (1 - fx) + array[top, right] * fx
    lower = array[bottom, left] * (1 - fx) + array[bottom, right] * fx
    return np.where(on, upper * (1 - fy) + lower * fy, np.nan)


class Profile(QtWidgets.QWidget):
    """The plot; lays its line on the canvas."""

    moved = QtCore.Signal()

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self._canvas = canvas
        self._line: Any = None
        self.width_px = WIDTHS_PX[0]
        self.words = ElidedLabel(align_left=True)
        self.words.setProperty("muted", True)
        self.plot = make_plot(tr("along the line (nm)"), tr("signal"))
        self.plot.setAccessibleName(tr("Signal along the line"))
        self.curve = draw_in(self.plot.plot(), "spectrum")
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.words)
        column.addWidget(self.plot, 1)
        self.hide()

    @property
    def on(self) -> bool:
        """Whether there is a line."""
        return self._line is not None

    def show_line(self, on: bool) -> None:
        """Lay the line across what is seen, or take it away."""
        if on == self.on:
            return
        self.setVisible(on)
        if not on:
            self._canvas.view.removeItem(self._line)
            self._line = None
            return
        seen = self._canvas.view.viewRect()
        across, half = seen.center().x(), 0.5 * _SHARE * seen.width()
        y = seen.top() + _DOWN * seen.height()
        self._line = pg.LineSegmentROI(
            [(across - half, y), (across + half, y)],
            pen=pg.mkPen("#FFFFFF", width=1),
            hoverPen=pg.mkPen("#F0E442", width=1),
            handlePen=pg.mkPen("#F0E442", width=1),
        )
        for handle in self._line.getHandles():
            handle.radius = _HANDLE
            handle.buildPath()
        self._line.setZValue(31)
        self._canvas.view.addItem(self._line, ignoreBounds=True)
        self._line.sigRegionChanged.connect(lambda: self.moved.emit())

    def ends_nm(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Both ends (x, y) in the image."""
        x0, y0 = self._canvas.origin_nm
        places = [self._line.mapToParent(handle.pos()) for handle in self._line.getHandles()]
        first, last = ((place.x() - x0, place.y() - y0) for place in places)
        return first, last

    def put(self, first_nm: tuple[float, float], last_nm: tuple[float, float]) -> None:
        """Lay the line between two places in the image."""
        x0, y0 = self._canvas.origin_nm
        for handle, (x, y) in zip(self._line.getHandles(), (first_nm, last_nm), strict=True):
            self._line.movePoint(handle, pg.Point(x + x0, y + y0))

    def nudge(self, dx_nm: float, dy_nm: float, only_end: bool) -> None:
        """Move the line, or only its second end."""
        (x0, y0), (x1, y1) = self.ends_nm()
        first = (x0, y0) if only_end else (x0 + dx_nm, y0 + dy_nm)
        self.put(first, (x1 + dx_nm, y1 + dy_nm))

    def update_profile(self, array: AnyArray, pixel_nm: float) -> None:
        """Measure along the line and draw."""
        ends = self.ends_nm()
        distance, signal = line_profile(array, pixel_nm, ends, self.width_px)
        if np.isfinite(signal).any():
            self.curve.setData(distance, signal, connect="finite")
        else:
            self.curve.setData([], [])
        angle = float(np.degrees(np.arctan2(ends[1][1] - ends[0][1], ends[1][0] - ends[0][0])))
        set_text(
            self.words,
            tr("Line profile · {length:.4g} nm long at {angle:.0f}° · {width} px ({nm:.3g} nm) wide")
            .format(length=distance[-1], angle=angle, width=self.width_px, nm=self.width_px * pixel_nm),
        )  # fmt: skip

    def set_stale(self, stale: bool) -> None:
        """Fade."""
        dim(self.plot.getPlotItem(), stale)
