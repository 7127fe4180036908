"""Temperature against time: planned, set, measured, and what happened when."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg
from PySide6 import QtWidgets

from acquire.engine.status import EngineStatus, LiveSeries, PlanView
from gui import text, theme
from gui.panels.curves import RunCurves
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.cursor import WINDOWS_S, TimeCursor
from gui.widgets.export import Exporter, Figure
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, make_plot
from gui.widgets.time_plot import ClockAxis, TimePlot, legend, place_now
from gui.widgets.trace import zigzag
from gui.words import tr

_WINDOW_WORDS = (tr("all"), tr("1 h"), tr("10 min"), tr("1 min"))
_WINDOW_KEYS = ("all", "1 h", "10 min", "1 min")
_WINDOW = "plots/window"
_CURVES = ("planned", "setpoint", "measured")


class TemperaturePanel(Panel):
    """Draws when something new has come, never otherwise."""

    def __init__(
        self,
        curves: RunCurves | None = None,
        cursor: TimeCursor | None = None,
        settings: Settings | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        super().__init__(tr("Temperature"))
        self.curves = curves or RunCurves()
        self.time_cursor = cursor or TimeCursor()
        self._settings = settings
        self.plot = make_plot("", "", x_axis=ClockAxis("bottom"))
        self.plot.setAccessibleName(tr("Temperature against time"))
        self.stage = Stage(
            self.plot, tr("No run yet: temperature and plan of a run are drawn here")
        )
        self.body.addWidget(self.stage, 1)
        self._legend = QtWidgets.QLabel()
        self._legend.setToolTip(
            tr("Click or ← →: look at a time in all plots; double click or Esc: back to now")
        )
        self.head.insertWidget(1, self._legend)
        self.window_choice = Choice(
            tr("All time plots show all of the run, or the last hour, ten minutes, minute")
        )
        for words, window_s in zip(_WINDOW_WORDS, WINDOWS_S, strict=True):
            self.window_choice.addItem(words, window_s)
        self.head.addWidget(self.window_choice)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self.planned = draw_in(pg.PlotCurveItem(), "planned", dashed=True)
        self.set = draw_in(pg.PlotCurveItem(), "setpoint")
        self.measured = draw_in(pg.PlotCurveItem(), "measured")
        for item in (self.planned, self.set, self.measured):
            self.plot.addItem(item)
        self.now = draw_in(pg.InfiniteLine(angle=90), "text", dotted=True)
        self.now.hide()
        self.plot.addItem(self.now, ignoreBounds=True)
        self.time = TimePlot(self.plot, self.time_cursor)
        self._plan = PlanView()
        self._status = EngineStatus()
        self._drawn: object = None
        self._notes_drawn = -1
        if settings is not None:
            kept = settings.choice(_WINDOW, _WINDOW_KEYS)
            self.window_choice.setCurrentIndex(_WINDOW_KEYS.index(kept))
        self.window_choice.currentIndexChanged.connect(self._choose_window)
        self._choose_window(self.window_choice.currentIndex())
        self.time_cursor.moved.connect(self._read_out)
        theme.follow(self, self._read_out)

    def add(self, series: LiveSeries, fresh: bool) -> None:
        """Append readings, where nobody else feeds the curves; ``fresh`` forgets those before."""
        self.curves.add(series, fresh)
        self.draw()

    def draw(self) -> None:
        """Draw the part of the curves that is on the screen, if it is another one."""
        if not self.isVisible():
            return
        trace, plan_t = self.curves.temperature, self._plan.profile_t_s
        present_s = self._status.t_s if self._status.state.active else self.curves.end_s
        end_s = max(plan_t[-1] if plan_t else 0.0, present_s)
        self.time.fit_time(0.0, present_s, end_s)
        low, high = self.time.view.viewRange()[0]
        state = (self.curves.version, low, high, self.time.width_px, id(self._plan))
        if state == self._drawn:
            return
        self._drawn = state
        self.stage.show_plot(bool(len(trace) or plan_t))
        x, least, most = trace.shown(low, high, self.time.width_px)
        for row, item in enumerate((self.measured, self.set)):
            item.setData(*zigzag(x, least[row], most[row]), connect="finite")
        if self._notes_drawn != self.curves.version:
            self._notes_drawn = self.curves.version
            self.time.events.show_notes(self.curves.notes)
        plan = np.asarray(self._plan.profile_celsius, np.float64)
        self.time.fit_y([least.ravel(), most.ravel(), plan])
        self._read_out()

    def show_status(self, status: EngineStatus, plan: PlanView) -> None:
        """Draw the plan and the present."""
        self._status = status
        if plan != self._plan:
            self._plan = plan
            self.planned.setData(np.array(plan.profile_t_s), np.array(plan.profile_celsius))
        place_now(self.now, status.t_s, status.state.active)
        self.draw()
        parts = []
        if self.time_cursor.t_s is None:
            if math.isfinite(status.measured_celsius) and math.isfinite(status.setpoint_celsius):
                off = round(status.measured_celsius - status.setpoint_celsius, 1) + 0.0
                parts.append(f"Δ {off:+.1f}")  # no "-0.0"; the legend has the unit
            lost = status.server or not status.state.active
            self.info.whole = True
            set_text(self.info, "" if lost else "   ".join(parts))

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curves too."""
        super().set_stale(stale, age_s)
        dim(self.plot, stale)

    def figure(self) -> Figure:
        """What is drawn, for a file: every reading that is on the screen."""
        low, high = self.time.view.viewRange()[0]
        trace = self.curves.temperature
        part = slice(*np.searchsorted(trace.x, (low, high)))
        columns = {
            "time_s": trace.x[part],
            "measured_celsius": trace.column("measured")[part],
            "set_celsius": trace.column("set")[part],
        }
        if self._plan.profile_t_s:
            plan = (self._plan.profile_t_s, self._plan.profile_celsius)
            columns["planned_celsius"] = np.interp(
                columns["time_s"], *plan, left=math.nan, right=math.nan
            )
        return Figure("temperature", self._caption(), {"temperature": columns})

    def _caption(self) -> list[str]:
        name = self._status.run_name or self._plan.name
        return [
            tr(
                "{run} · temperature in °C: planned (dashed), set, measured, against run time h:mm:ss"
            ).format(run=name),
            self._status.folder,
        ]

    def _choose_window(self, index: int) -> None:
        if self._settings is not None:
            self._settings.put(_WINDOW, _WINDOW_KEYS[index])
        self.time_cursor.now()
        self.time.follow()
        self.time_cursor.show_window(WINDOWS_S[index])

    def _read_out(self) -> None:
        """The legend; at the cursor with the values there."""
        t_s = self.time_cursor.t_s
        if t_s is None:
            words = [tr("╌ plan"), tr("─ set"), tr("─ measured °C")]
        else:
            found = self.curves.temperature.at(t_s)
            plan = math.nan
            if self._plan.profile_t_s:
                t, y = self._plan.profile_t_s, self._plan.profile_celsius
                plan = float(np.interp(t_s, t, y, left=math.nan, right=math.nan))
            values = (plan, found["set"], found["measured"])
            names = (tr("plan"), tr("set"), tr("meas."))
            words = [
                f"{name} {value:.1f}" if math.isfinite(value) else f"{name} {text.UNKNOWN}"
                for name, value in zip(names, values, strict=True)
            ]
            words[-1] += " °C"
            near = self.time.events.near(t_s)
            self.info.whole = False
            set_text(self.info, "   ".join(near))
        first = 0 if self._plan.profile_t_s else 1  # a stored run has no planned curve
        set_text(self._legend, legend(zip(words[first:], _CURVES[first:], strict=True)))
