"""A shaded band between two curves, with nothing where one of them is not known."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.widgets.trace import Floats

_ALPHA = 60


class Band(QtWidgets.QGraphicsPathItem):
    """In data coordinates, in a colour of the theme."""

    def __init__(self, colour: str) -> None:
        super().__init__()
        self._colour = colour
        self.pieces = 0
        """How many there are: gaps part it."""
        self.setPen(QtGui.QPen(QtCore.Qt.PenStyle.NoPen))
        self.setZValue(-5)

    def show_between(self, x: Floats, low: Floats, high: Floats) -> None:
        """Fill between (n,) and (n,) over (n,) rising; NaN parts it."""
        shade = QtGui.QColor(getattr(theme.now(), self._colour))
        shade.setAlpha(_ALPHA)
        self.setBrush(shade)
        known = np.isfinite(low) & np.isfinite(high)
        ends = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        ends = ends[ends[:, 1] - ends[:, 0] > 1]
        self.pieces = len(ends)
        xs, ys, gap = [], [], np.array([np.nan])
        for begin, end in ends:
            part = slice(begin, end)
            xs += [x[part], x[part][::-1], gap]
            ys += [high[part], low[part][::-1], gap]
        if not xs:
            self.setPath(QtGui.QPainterPath())
            return
        path = pg.arrayToQPath(np.concatenate(xs), np.concatenate(ys), connect="finite")
        self.setPath(path)
