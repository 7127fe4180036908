"""Temperature against time: planned, set, measured."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pyqtgraph as pg
from PySide6 import QtWidgets

from acquire.engine.status import EngineStatus, LiveSeries, PlanView
from gui import text, theme
from gui.widgets.curve import Curve
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import dim, draw_in, make_plot


class TemperaturePanel(Panel):
    """Draws when something new has come, never otherwise."""

    def __init__(self) -> None:
        super().__init__("Temperature")
        self.plot = make_plot("time (s)", "T (°C)")
        self.body.addWidget(self.plot, 1)
        words = (
            ("╌╌ planned", "planned"),
            ("─ set", "setpoint"),
            ("─ measured", "measured"),
        )
        legend = QtWidgets.QLabel()
        theme.follow(legend, lambda: legend.setText(_legend(words)))
        self.head.insertWidget(1, legend)
        self.planned = draw_in(self.plot.plot(), "planned", dashed=True)
        self.set = draw_in(self.plot.plot(), "setpoint")
        self.measured = draw_in(self.plot.plot(), "measured")
        self.now = draw_in(pg.InfiniteLine(angle=90), "text", dotted=True)
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


def _legend(words: Iterable[tuple[str, str]]) -> str:
    return "&nbsp; ".join(
        f'<span style="color:{getattr(theme.now(), colour)}">{word}</span>'
        for word, colour in words
    )
