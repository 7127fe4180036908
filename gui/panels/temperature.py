"""Temperature against time: planned, set, measured."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineStatus, LiveSeries, PlanView
from gui import text, theme
from gui.widgets.curve import Curve
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import dim, make_plot, pen


class TemperaturePanel(Panel):
    """Draws when something new has come, never otherwise."""

    def __init__(self) -> None:
        super().__init__("Temperature")
        self.plot = make_plot("time (s)", "T (°C)")
        self.body.addWidget(self.plot, 1)
        words = (
            ("╌╌ planned", theme.PLANNED),
            ("─ set", theme.SETPOINT),
            ("─ measured", theme.MEASURED),
        )
        legend = QtWidgets.QLabel(
            "&nbsp; ".join(f'<span style="color:{colour}">{word}</span>' for word, colour in words)
        )
        self.head.insertWidget(1, legend)
        self.planned = self.plot.plot(pen=pen(theme.PLANNED, dashed=True))
        self.set = self.plot.plot(pen=pen(theme.SETPOINT))
        self.measured = self.plot.plot(pen=pen(theme.MEASURED))
        self.now = pg.InfiniteLine(
            angle=90, pen=pg.mkPen(theme.TEXT, width=1, style=QtCore.Qt.PenStyle.DotLine)
        )
        self.now.hide()
        self.plot.addItem(self.now, ignoreBounds=True)
        self._curve = Curve("measured", "set")
        self._plan = PlanView()

    def add(self, series: LiveSeries, fresh: bool) -> None:
        """Append readings; ``fresh`` forgets those before."""
        if fresh:
            self._curve.clear()
        if not fresh and not len(series.t_s):
            return
        columns = {"measured": series.measured_celsius, "set": series.setpoint_celsius}
        self._curve.append(series.t_s, **columns)
        for item, name in ((self.measured, "measured"), (self.set, "set")):
            item.setData(self._curve.x, self._curve.column(name), connect="finite")

    def show_status(self, status: EngineStatus, plan: PlanView) -> None:
        """Draw the plan and the present."""
        if plan != self._plan:
            self._plan = plan
            self.planned.setData(np.array(plan.profile_t_s), np.array(plan.profile_celsius))
        self.now.setVisible(status.state.active)
        if status.state.active:
            self.now.setValue(status.t_s)
        parts = []
        if math.isfinite(status.planned_celsius):
            parts.append(f"plan {text.celsius(status.planned_celsius)}")
        if math.isfinite(status.measured_celsius) and math.isfinite(status.setpoint_celsius):
            off = round(status.measured_celsius - status.setpoint_celsius, 1) + 0.0  # no "-0.0"
            parts.append(f"Δ {off:+.1f} °C")
        set_text(self.info, "   ".join(parts))

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curves too."""
        super().set_stale(stale, age_s)
        dim(self.plot, stale)
