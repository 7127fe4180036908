"""A line scan while it grows: a quantity against the position along the line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from PySide6 import QtWidgets

from acquire.engine.status import EngineStatus
from gui import text, theme
from gui.settings import Settings
from gui.widgets.band import Band
from gui.widgets.export import Exporter, Figure
from gui.widgets.map_choice import MapChoice, of_rows
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, make_plot
from gui.widgets.ranges import Following
from gui.widgets.trace import Floats
from gui.words import tr

if TYPE_CHECKING:
    from acquire.engine.live_maps import LiveMap


class ProfilePanel(Panel):
    """Of a map of several rows: the mean of what is known of each column."""

    def __init__(self, settings: Settings | None = None, exporter: Exporter | None = None) -> None:
        super().__init__(tr("Profile"))
        self.plot = make_plot(tr("position along the line (nm)"), "")
        self.plot.setAccessibleName(tr("Line profile"))
        self.stage = Stage(self.plot, tr("No line scan or map yet"))
        self.choice = MapChoice("profile", settings)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.choice)
        row.addStretch(1)
        self.body.addLayout(row)
        self.body.addWidget(self.stage, 1)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self.band = Band("diameter")
        self.plot.addItem(self.band)
        self.curve = draw_in(pg.PlotDataItem(symbol="o", symbolSize=4, symbolPen=None), "diameter")
        theme.follow(self.plot, lambda: self.curve.setSymbolBrush(theme.now().diameter))
        self.plot.addItem(self.curve)
        self.following = Following(self.plot)
        self.following.returned.connect(self.draw)
        self._map: LiveMap | None = None
        self._status = EngineStatus()
        self._drawn: object = None
        self._columns: dict[str, Floats] = {}
        self.choice.chosen.connect(self.draw)

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._map = self._drawn = None
        self._columns = {}
        self.stage.show_plot(False)
        set_text(self.info, "")

    def show_map(self, found: LiveMap) -> None:
        """Take a map so far."""
        self._map = found
        self.choice.offer(found)
        self.draw()

    def show_status(self, status: EngineStatus) -> None:
        """Draw what came while the panel was hidden."""
        self._status = status
        self.choice.know_units(status)
        self.draw()

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curve too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)

    def draw(self) -> None:
        """Draw, if it is something else."""
        found, name = self._map, self.choice.quantity
        if found is None or not self.isVisible():
            return
        state = (found.serial, found.stream, name, self.following.on)
        if state == self._drawn:
            return
        self._drawn = state
        self.stage.show_plot(True)
        position = found.spacing_nm[0] * np.arange(found.taken.shape[1], dtype=np.float64)
        value, sigma = of_rows(found, name)
        known = np.isfinite(value)
        self.curve.setData(position, value, connect="finite")
        low, high = value - sigma, value + sigma
        self.band.show_between(position, low, high)
        self.following.fit([position], [value, low, high])
        self._columns = {"position_nm": position, name: value, f"{name}_sigma": sigma}
        rows = found.taken.shape[0]
        done = int((found.taken > 0).sum())
        parts = [found.stream, tr("{done} of {all} points").format(done=done, all=found.taken.size)]
        if rows > 1:
            parts.append(tr("mean of {rows} rows").format(rows=rows))
        if known.any():
            last = int(np.flatnonzero(known)[-1])
            s = float(sigma[last]) if math.isfinite(sigma[last]) else 0.0
            parts.append(text.with_sigma(float(value[last]), s, self.choice.unit(name)))
        set_text(self.info, " · ".join(parts))

    def figure(self) -> Figure:
        """What is drawn, for a file."""
        words = self.choice.label(self.choice.quantity)
        caption = [
            f"{self._status.run_name} · {words} · {self.info.text()}",
            self._status.folder,
        ]
        return Figure("profile", caption, {"profile": self._columns} if self._columns else {})
