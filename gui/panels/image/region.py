"""A rectangle on the image and what lies in it, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from acquire.instruments import AnyArray
from gui.panels.image.canvas import Canvas
from gui.panels.image.particles import Particles
from gui.widgets.panel import set_text
from gui.words import tr

MOST_PIXELS = 1 << 18
"""Above that the spread is taken from every n-th pixel, to cost no more than a millisecond or two."""
_HANDLE = 7.0
"""Pixels; they must be easy to take hold of."""
_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class RegionNumbers:
    """Of the pixels whose centres lie in the rectangle, as far as it lies on the image."""

    width_nm: float
    height_nm: float
    area_nm2: float
    pixels: int
    mean: float
    sigma: float
    """Standard deviation of the pixels."""
    lowest: float
    highest: float
    total: float
    stride: int
    """The spread is that of every n-th row and column; all else is exact."""
    particles: int | None
    """Centres in the rectangle; None if they are not known on this frame."""

    @property
    def words(self) -> str:
        """All of it in a line or two."""
        spread = f"{self.sigma:.4g}"
        if self.stride > 1:
            spread += tr(" (every {n}th pixel)").format(n=self.stride)
        said = tr(
            "Region {width:.4g} × {height:.4g} nm = {area:.4g} nm² · mean {mean:.5g} · σ {spread} · "
            "min {low:g} · max {high:g} · sum {total:.5g}"
        ).format(
            width=self.width_nm,
            height=self.height_nm,
            area=self.area_nm2,
            mean=self.mean,
            spread=spread,
            low=self.lowest,
            high=self.highest,
            total=self.total,
        )
        if self.particles is None:
            return said
        count = tr("1 particle") if self.particles == 1 else tr("{n} particles")
        return f"{said} · {count.format(n=self.particles)}"


def region_numbers(
    array: AnyArray,
    pixel_nm: float,
    rect_nm: tuple[float, float, float, float],
    particles: Particles | None,
) -> RegionNumbers | None:
    """What lies in a rectangle (left, top, width, height) of a (y, x) image; None if it lies beside it."""
    left, top, width, height = rect_nm
    columns = _within(left, width, pixel_nm, array.shape[1])
    rows = _within(top, height, pixel_nm, array.shape[0])
    part = array[rows, columns]
    if not part.size:
        return None
    stride = max(1, math.ceil(math.sqrt(part.size / MOST_PIXELS)))
    total = float(part.sum(dtype=np.float64 if part.dtype.kind == "f" else np.int64))
    inside = None
    if particles is not None:
        across = (particles.x_nm >= left) & (particles.x_nm < left + width)
        inside = int((across & (particles.y_nm >= top) & (particles.y_nm < top + height)).sum())
    return RegionNumbers(
        part.shape[1] * pixel_nm,
        part.shape[0] * pixel_nm,
        part.size * pixel_nm**2,
        part.size,
        total / part.size,
        float(part[::stride, ::stride].std(dtype=np.float64)),
        float(part.min()),
        float(part.max()),
        total,
        stride,
        inside,
    )


def _within(start_nm: float, length_nm: float, pixel_nm: float, size: int) -> slice:
    """The pixels whose centres lie within a length."""
    first = math.ceil(start_nm / pixel_nm - 0.5)
    end = math.ceil((start_nm + length_nm) / pixel_nm - 0.5)
    return slice(min(size, max(0, first)), min(size, max(0, end)))


class Region(QtCore.QObject):
    """The rectangle and its words; lies on the specimen, so that it stays on it where the view is held still."""

    changed = QtCore.Signal()

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._roi: Any = None
        self.numbers: RegionNumbers | None = None
        """Of the newest frame."""
        self.words = QtWidgets.QLabel()
        self.words.setWordWrap(True)
        self.words.setMinimumHeight(2 * self.words.fontMetrics().lineSpacing())
        self.words.hide()

    @property
    def on(self) -> bool:
        """Whether it is there."""
        return self._roi is not None

    def show(self, on: bool) -> None:
        """Lay it on the middle of what is seen, or take it away."""
        if on == self.on:
            return
        self.words.setVisible(on)
        if not on:
            self.numbers = None
            self._canvas.view.removeItem(self._roi)
            self._roi = None
            return
        seen = self._canvas.view.viewRect()
        width, height = _SHARE * seen.width(), _SHARE * seen.height()
        middle = seen.center()
        self._roi = pg.RectROI(
            (middle.x() - width / 2, middle.y() - height / 2),
            (width, height),
            sideScalers=True,
            pen=pg.mkPen("#FFFFFF", width=1),
            hoverPen=pg.mkPen("#F0E442", width=1),
            handlePen=pg.mkPen("#F0E442", width=1),
        )
        for handle in self._roi.getHandles():
            handle.radius = _HANDLE
            handle.buildPath()
        self._roi.setZValue(30)
        self._canvas.view.addItem(self._roi, ignoreBounds=True)
        self._roi.sigRegionChanged.connect(lambda: self.changed.emit())

    def measure(self, array: AnyArray, pixel_nm: float, particles: Particles | None) -> None:
        """Take and show the numbers of a frame."""
        self.numbers = region_numbers(array, pixel_nm, self.rect_nm(), particles)
        beside = tr("The region lies beside the image.")
        set_text(self.words, self.numbers.words if self.numbers else beside)

    def rect_nm(self) -> tuple[float, float, float, float]:
        """Left, top, width and height in the image."""
        x, y = self._roi.pos()
        width, height = self._roi.size()
        origin = self._canvas.origin_nm
        return x - origin[0], y - origin[1], width, height

    def put(self, left_nm: float, top_nm: float, width_nm: float, height_nm: float) -> None:
        """Lay it there, in the image."""
        origin = self._canvas.origin_nm
        self._roi.setPos((left_nm + origin[0], top_nm + origin[1]), update=False)
        self._roi.setSize((width_nm, height_nm))

    def nudge(self, dx_nm: float, dy_nm: float, resize: bool) -> None:
        """Move it, or its lower right corner."""
        left, top, width, height = self.rect_nm()
        if resize:
            least = self._canvas.pixel_nm
            self.put(left, top, max(least, width + dx_nm), max(least, height + dy_nm))
        else:
            self.put(left + dx_nm, top + dy_nm, width, height)
