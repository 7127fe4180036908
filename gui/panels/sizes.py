"""Mean particle diameter with its σ, and the count, against time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtGui

from acquire.engine.status import EngineStatus, LiveSeries
from acquire.measure.series import break_at_gaps
from gui import text, theme
from gui.widgets.curve import Curve, Floats, thin
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, make_plot

DIAMETER = "mean_diameter"
COUNT = "count"
_BAND_POINTS = 1500


class SizesPanel(Panel):
    """The diameter on the left axis, the count on the right one."""

    def __init__(self) -> None:
        super().__init__("Mean diameter")
        self.plot = make_plot("time (s)", "d (nm)", left="diameter")
        self.stage = Stage(self.plot, "Nothing measured yet")
        self.body.addWidget(self.stage, 1)
        item = self.plot.getPlotItem()
        self._right: Any = pg.ViewBox(enableMenu=False)
        item.showAxis("right")
        item.getAxis("right").enableAutoSIPrefix(False)
        item.getAxis("right").setLabel("count")
        theme.follow(item, lambda: item.getAxis("right").setTextPen(theme.now().count))
        item.scene().addItem(self._right)
        item.getAxis("right").linkToView(self._right)
        self._right.setXLink(item)
        item.vb.sigResized.connect(lambda: self._right.setGeometry(item.vb.sceneBoundingRect()))
        low, high = pg.PlotCurveItem(), pg.PlotCurveItem()
        self._edges = (low, high)
        band = pg.FillBetweenItem(low, high)
        theme.follow(self, lambda: band.setBrush(_shade()))
        self.plot.addItem(band)
        self.diameter = draw_in(self.plot.plot(), "diameter")
        self.count: Any = draw_in(pg.PlotDataItem(), "count")
        self._right.addItem(self.count)
        self._curve = Curve("d", "sigma", "n")

    def add(self, series: LiveSeries, fresh: bool) -> None:
        """Append estimates; ``fresh`` forgets those before."""
        if fresh:
            self._curve.clear()
        if not fresh and not len(series.estimate_t_s):
            return
        sources = {"d": DIAMETER, "sigma": f"{DIAMETER}_sigma", "n": COUNT}
        columns = {
            name: series.estimates[key] for name, key in sources.items() if key in series.estimates
        }
        self._curve.append(series.estimate_t_s, **columns)
        self._draw(self._curve.x, *(self._curve.column(name) for name in ("d", "sigma", "n")))

    def show_status(self, status: EngineStatus) -> None:
        """Write the newest numbers."""
        parts = []
        diameter, count = status.estimates.get(DIAMETER), status.estimates.get(COUNT)
        if count is not None:
            parts.append(f"n {count.value:.0f}")
        if diameter is not None:
            words = text.with_sigma(diameter.value, diameter.sigma, diameter.unit)
            parts.append(words)
        set_text(self.info, "   ".join(parts))

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curves too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)
        self._right.childGroup.setOpacity(0.4 if stale else 1.0)

    def _draw(self, t_s: Floats, d: Floats, sigma: Floats, n: Floats) -> None:
        known = np.isfinite(d)
        self.diameter.setData(*break_at_gaps(t_s[known], d[known]), connect="finite")
        banded = known & np.isfinite(sigma)
        few = thin(int(banded.sum()), _BAND_POINTS)
        t_band, d_band, s_band = t_s[banded][few], d[banded][few], sigma[banded][few]
        self._edges[0].setData(t_band, d_band - s_band)
        self._edges[1].setData(t_band, d_band + s_band)
        counted = np.isfinite(n)
        self.stage.show_plot(bool(known.any() or counted.any()))
        few = thin(int(counted.sum()), _BAND_POINTS)
        self.count.setData(*break_at_gaps(t_s[counted][few], n[counted][few]), connect="finite")


def _shade() -> QtGui.QColor:
    shade = QtGui.QColor(theme.now().diameter)
    shade.setAlpha(60)
    return shade
