"""The image of a live view: contrast by percentiles, a scale bar, and how sharp it is."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import LiveImage
from gui import theme
from gui.widgets.panel import ElidedLabel, set_text
from gui.widgets.plot_keys import PlotKeys
from gui.widgets.scale_bar import ScaleBar
from gui.words import tr

_SHOWN_PIXELS = 1024
_LEVELS = (0.5, 99.5)
BAR = 1000


class Viewfinder(QtWidgets.QWidget):
    """Shows images of one detector; a bar beside the best sharpness since it was cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = pg.GraphicsLayoutWidget()
        self.view = self.picture.addViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self.picture.setAccessibleName(tr("Live view"))
        PlotKeys(self.picture, self.view).whole = self._fit
        self.item = pg.ImageItem()
        self.view.addItem(self.item)
        self.scale = ScaleBar(self.view)
        self.scale.hide()  # nothing is there that it could be the scale of
        self.sharp = QtWidgets.QProgressBar()
        self.sharp.setRange(0, BAR)
        self.sharp.setFixedHeight(16)
        self.sharp.setToolTip(
            tr(
                "How sharp the newest image is, beside the sharpest of this view: focus for the longest bar"
            )
        )
        self.words = ElidedLabel(align_left=True)
        self.words.setProperty("muted", True)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.picture, 1)
        column.addWidget(self.sharp)
        column.addWidget(self.words)
        self._best = math.nan
        self._width_nm = math.nan
        self._size_nm = (1.0, 1.0)
        theme.follow(self, lambda: self.picture.setBackground(theme.now().sunken))

    def begin(self) -> None:
        """A new view: the best so far is that of another field."""
        self._best = math.nan

    def show_image(self, image: LiveImage, detector: str) -> None:
        """Draw an image."""
        counts = image.detectors.get(detector)
        if counts is None:
            counts = next(iter(image.detectors.values()))
        step = max(1, -(-max(counts.shape) // _SHOWN_PIXELS))
        shown = counts[::step, ::step]
        low, high = np.percentile(shown[:: max(1, len(shown) // 128)], _LEVELS)
        self.item.setImage(shown, levels=(float(low), float(max(high, low + 1))))
        self.scale.show()
        rows, columns = counts.shape
        width_nm, height_nm = columns * image.pixel_size_nm, rows * image.pixel_size_nm
        self.item.setRect(QtCore.QRectF(0, 0, width_nm, height_nm))
        self._size_nm = width_nm, height_nm
        self.scale.within = QtCore.QRectF(0, 0, width_nm, height_nm)
        if width_nm != self._width_nm:
            self._width_nm = width_nm
            self._fit()

    def show_sharpness(self, value: float, frames: int, on: bool) -> None:
        """Draw how sharp the newest image is; ``on``: others will follow."""
        ended = tr("ended: this was its last image; ") if frames and not on else ""
        if not math.isfinite(value):
            self.sharp.setValue(0)
            self.sharp.setFormat("")
            words = tr("{count} images, stored nowhere")
            set_text(self.words, ended + words.format(count=frames))
            return
        if not self._best >= value:  # also while that is NaN
            self._best = value
        share = min(1.0, max(0.0, value / self._best)) if self._best > 0 else 0.0
        self.sharp.setValue(round(BAR * share))
        self.sharp.setFormat(tr("sharpness {share:.0f} % of the best").format(share=100 * share))
        set_text(
            self.words,
            ended
            + tr("sharpness {value:.3g}, best {best:.3g}; {count} images, stored nowhere").format(
                value=value, best=self._best, count=frames
            ),
        )

    def _fit(self) -> None:
        """Show the whole image."""
        self.view.setRange(QtCore.QRectF(0, 0, *self._size_nm), padding=0.01)
