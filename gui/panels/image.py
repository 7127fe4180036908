"""The live image with the outlines of what was measured on it, a scale bar, and what was not shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import LiveImage
from acquire.instruments import AnyArray
from gui import text, theme
from gui.widgets.choice import Choice
from gui.widgets.curve import Floats, outlines
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.widgets.plot import dim
from gui.widgets.scale_bar import ScaleBar

NEWEST = ""
_PERCENTILES = (0.5, 99.7)
_SAMPLES_PER_SIDE = 128
_SHOWN_PIXELS_PER_SIDE = 1024
_LEVELS_FOLLOW = 0.25
_OLD_AFTER_S = 2.0
_MAPS = {"viridis": "viridis", "grey": "CET-L1"}


class ImagePanel(Panel):
    """Emits ``stream_chosen`` with a stream's name, or with ``""`` for whichever is newest."""

    stream_chosen = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__("Image")
        self.stream = Choice("Which image stream is shown")
        self.stream.addItem("newest", NEWEST)
        self.detector = Choice("Which detector is shown")
        self.colours = Choice("Colour map")
        self.colours.addItems(list(_MAPS))
        self.outline_button = QtWidgets.QPushButton("outlines")
        self.outline_button.setCheckable(True)
        self.outline_button.setChecked(True)
        self.outline_button.setToolTip("Show the outlines of measured particles")
        self.fit_button = QtWidgets.QPushButton("fit")
        self.fit_button.setToolTip("Show the whole image again; drag to move, wheel to zoom")
        for widget in (
            self.stream,
            self.detector,
            self.colours,
            self.outline_button,
            self.fit_button,
        ):
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            self.head.addWidget(widget)
        self.graphics: Any = pg.GraphicsView()
        self.view: Any = pg.ViewBox(
            lockAspect=True, invertY=True, enableMenu=False, defaultPadding=0.0
        )
        self.graphics.setCentralItem(self.view)
        theme.follow(self, lambda: self.graphics.setBackground(theme.now().panel))
        self.item: Any = pg.ImageItem(axisOrder="row-major")
        self.whole: Any = pg.PlotCurveItem(pen=pg.mkPen(theme.OUTLINE, width=1), connect="finite")
        self.cut: Any = pg.PlotCurveItem(
            pen=pg.mkPen(theme.NIGHT.muted, width=1, style=QtCore.Qt.PenStyle.DotLine),
            connect="finite",
        )
        for item in (self.item, self.whole, self.cut):
            self.view.addItem(item)
        self.scale = ScaleBar(self.view)
        self.scale.hide()
        self.empty = QtWidgets.QLabel("No image yet", self.graphics)
        self.empty.setProperty("muted", True)
        self.empty.move(14, 12)
        self.empty.adjustSize()
        self.measured = ElidedLabel(align_left=True)
        self.measured.setProperty("muted", True)
        self.body.addWidget(self.graphics, 1)
        # below, where there is room for them: the head is full of choices in a small window
        self.frame = ElidedLabel(align_left=True)
        self.body.addWidget(self.frame)
        self.body.addWidget(self.measured)
        self.shown = 0
        self.not_shown = 0
        self._image: LiveImage | None = None
        self._came_at_s = 0.0
        self._levels: tuple[float, float] | None = None
        self._levels_of = ""
        self._extent_nm = (0.0, 0.0)
        self._detectors: list[str] = []
        self.stream.currentIndexChanged.connect(self._choose_stream)
        self.detector.currentIndexChanged.connect(self._redraw)
        self.colours.currentTextChanged.connect(self._set_map)
        self.outline_button.toggled.connect(self._redraw)
        self.fit_button.clicked.connect(self.fit)
        self._set_map(self.colours.currentText())

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._image, self._levels = None, None
        self.shown = self.not_shown = 0
        self.item.clear()
        self._draw_outlines(None)
        self.scale.hide()
        self.empty.show()
        set_text(self.frame, "")
        set_text(self.measured, "")

    def show_image(self, image: LiveImage) -> None:
        """Draw a frame; counts those of its stream that came between it and the last as not shown."""
        last = self._image
        if last is None or last.stream != image.stream or image.index < last.index:
            self.shown, self.not_shown = 0, 0
            self._levels = None
        else:
            self.not_shown += max(0, image.index - last.index - 1)
        self.shown += 1
        self._image, self._came_at_s = image, time.monotonic()
        self._offer(image)
        self._redraw()

    def fit(self) -> None:
        """Show the whole image."""
        height, width = self._extent_nm
        if height > 0 and width > 0:
            self.view.setRange(QtCore.QRectF(0, 0, width, height), padding=0.01)

    def tick(self) -> None:
        """Say how old the image is, once it is not of this moment any more."""
        image = self._image
        if image is None:
            return
        array = self._array(image)
        parts = [f"{image.stream} frame {image.index}", text.clock(image.t_s)]
        if array is not None:
            parts.append(f"{array.shape[1]}×{array.shape[0]}")
        age_s = time.monotonic() - self._came_at_s
        if age_s > _OLD_AFTER_S:
            parts.append(f"{text.age(age_s)} ago")
        set_text(self.frame, " · ".join(parts))

    @property
    def stream_shown(self) -> str:
        """The stream of the frame that is shown."""
        return self._image.stream if self._image else ""

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the image too."""
        super().set_stale(stale, age_s)
        dim(self, stale)

    def getViewBox(self) -> Any:  # noqa: N802 - as pyqtgraph's plots call it
        """The view that holds image and outlines."""
        return self.view

    def _offer(self, image: LiveImage) -> None:
        """Keep the choices in step with what comes."""
        for name in (image.stream, *image.streams):
            if self.stream.findData(name) < 0:
                self.stream.addItem(name, name)
        detectors = list(image.detectors)
        if detectors != self._detectors:
            kept = self.detector.currentText()
            self._detectors = detectors
            self.detector.blockSignals(True)
            self.detector.clear()
            self.detector.addItems(detectors)
            self.detector.setCurrentIndex(max(0, self.detector.findText(kept)))
            self.detector.blockSignals(False)

    def _choose_stream(self) -> None:
        self.stream_chosen.emit(str(self.stream.currentData()))

    def _set_map(self, name: str) -> None:
        self.item.setColorMap(pg.colormap.get(_MAPS[name]))

    def _array(self, image: LiveImage) -> AnyArray | None:
        return image.detectors.get(self.detector.currentText())

    def _redraw(self) -> None:
        image = self._image
        if image is None:
            return
        array = self._array(image)
        if array is None or array.size == 0:
            return
        height, width = (n * image.pixel_size_nm for n in array.shape)
        step = max(1, max(array.shape) // _SHOWN_PIXELS_PER_SIDE)
        self.item.setImage(array[::step, ::step], levels=self._levels_for(image, array))
        self.item.setRect(QtCore.QRectF(0, 0, width, height))
        if (height, width) != self._extent_nm:
            self._extent_nm = (height, width)
            self.fit()
        self._draw_outlines(image)
        self.scale.show()
        self.empty.hide()
        self.tick()

    def _levels_for(self, image: LiveImage, array: AnyArray) -> tuple[float, float]:
        """Percentiles of a coarse grid, following slowly so that noise does not make it flicker."""
        step = max(1, min(array.shape) // _SAMPLES_PER_SIDE)
        low, high = (float(v) for v in np.percentile(array[::step, ::step], _PERCENTILES))
        key = f"{image.stream}/{self.detector.currentText()}"
        if self._levels is not None and key == self._levels_of:
            low = self._levels[0] + _LEVELS_FOLLOW * (low - self._levels[0])
            high = self._levels[1] + _LEVELS_FOLLOW * (high - self._levels[1])
        self._levels, self._levels_of = (low, high), key
        return low, max(high, low + 1e-9)

    def _draw_outlines(self, image: LiveImage | None) -> None:
        table = image.particles if image is not None and self.outline_button.isChecked() else {}
        particles = _circles(table)
        if image is None or particles is None or not len(particles[0]):
            self.whole.setData([], [])
            self.cut.setData([], [])
            set_text(self.measured, "no particles measured" if image is not None else "")
            return
        x, y, diameter, cut = particles
        behind = image.index - image.estimate_index
        if behind:  # the view may have drifted since: an outline beside its particle misleads
            self.whole.setData([], [])
            self.cut.setData([], [])
            frames = f"{behind} frame{'s' if behind > 1 else ''}"
            set_text(self.measured, f"{len(x)} particles {frames} ago; none outlined on this one")
            return
        self.whole.setData(*outlines(x[~cut], y[~cut], diameter[~cut]), connect="finite")
        self.cut.setData(*outlines(x[cut], y[cut], diameter[cut]), connect="finite")
        words = f"{len(x)} particles outlined"
        if cut.any():
            words += f", {int(cut.sum())} cut by the border (dotted)"
        set_text(self.measured, words)


def _circles(
    table: Mapping[str, AnyArray],
) -> tuple[Floats, Floats, Floats, np.ndarray[Any, np.dtype[np.bool_]]] | None:
    """Centres and visible diameters in nm, and whether the border cuts; None without a table."""
    columns = [_column(table, name) for name in ("x", "y", "diameter")]
    x, y, diameter = columns
    if x is None or y is None or diameter is None:
        return None
    mask = _column(table, "mask_diameter")
    if mask is not None:  # what the eye sees as the edge; the spherical equivalent may be smaller
        diameter = np.where(np.isfinite(mask), mask, diameter)
    cut = np.asarray(table.get("border", np.zeros(len(x)))) != 0
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(diameter)
    return x[good], y[good], diameter[good], cut[good]


def _column(table: Mapping[str, AnyArray], name: str) -> Floats | None:
    found = table.get(f"{name}_nm", table.get(name))
    return None if found is None else np.asarray(found, dtype=np.float64)
