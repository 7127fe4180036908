"""Any two quantities that are estimated, by default mean diameter and count, against time or temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineStatus, EstimateView, LiveSeries
from gui import text, theme
from gui.panels.curves import RunCurves
from gui.quantities import called
from gui.settings import Settings
from gui.widgets.band import Band
from gui.widgets.choice import Choice
from gui.widgets.cursor import TimeCursor
from gui.widgets.export import Exporter, Figure
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, keep_picture, make_plot
from gui.widgets.ranges import fit_x, fit_y
from gui.widgets.time_plot import ClockAxis, TimePlot
from gui.widgets.trace import Floats, Trace, zigzag
from gui.words import tr

DIAMETER = "mean_diameter"
COUNT = "count"
NOTHING = ""
_AGAINST = ("time", "temperature")
_SIDES = ("left", "right")
_TINTS = {"left": "diameter", "right": "count"}
_DEFAULTS = {"left": DIAMETER, "right": COUNT}
_FEW = np.array([0.0, 5.0])
"""An axis of counts begins at none, and does not make much of one particle."""
_EMPTY = Trace("value", "low", "high")


class SizesPanel(Panel):
    """One quantity on the left axis, with its σ as a band, another on the right one."""

    def __init__(
        self,
        curves: RunCurves | None = None,
        cursor: TimeCursor | None = None,
        settings: Settings | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        super().__init__(tr("Sizes"))
        self.curves = curves or RunCurves()
        self.time_cursor = cursor or TimeCursor()
        self._settings = settings
        self.axis = ClockAxis("bottom")
        self.plot = make_plot("", "", x_axis=self.axis, left=_TINTS["left"])
        self.plot.setAccessibleName(tr("Estimated quantities"))
        self.stage = Stage(self.plot, tr("Nothing measured yet"))
        self.choices = {
            "left": Choice(tr("Quantity on the left axis")),
            "right": Choice(tr("Quantity on the right axis")),
        }
        self.against = Choice(tr("Draw against time, or against the measured temperature"))
        self.against.addItem(tr("vs time"), "time")
        self.against.addItem(tr("vs T"), "temperature")
        self._compose_controls()
        self.body.addWidget(self.stage, 1)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self._right = self._second_view()
        self.band = Band(_TINTS["left"])
        self.plot.addItem(self.band)
        self.lines: dict[str, Any] = {
            side: draw_in(pg.PlotCurveItem(), _TINTS[side]) for side in _SIDES
        }
        self.plot.addItem(self.lines["left"])
        self._right.addItem(self.lines["right"])
        self.spot = pg.ScatterPlotItem(size=11, symbol="o")
        theme.follow(self.plot, lambda: self.spot.setPen(pg.mkPen(theme.now().sky, width=2)))
        self.spot.setBrush(None)
        self.plot.addItem(self.spot, ignoreBounds=True)
        self.time = TimePlot(self.plot, self.time_cursor)
        self._status = EngineStatus()
        self._drawn: object = None
        self._notes_drawn = -1
        self._fill_choices(())
        self._restore()
        self.time_cursor.moved.connect(self._read_out)

    # --------------------------------------------------------------------- what it is told

    def add(self, series: LiveSeries, fresh: bool) -> None:
        """Append estimates, where nobody else feeds the curves; ``fresh`` forgets those before."""
        self.curves.add(series, fresh)
        self.draw()

    def show_status(self, status: EngineStatus) -> None:
        """Write the newest numbers."""
        self._status = status
        self.draw()
        if self.time_cursor.t_s is None:
            self._read_out()

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curves too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)
        self._right.childGroup.setOpacity(0.4 if stale else 1.0)

    def chosen(self, side: str) -> str:
        """Name of the quantity on the ``left`` or ``right`` axis; empty for none."""
        return str(self.choices[side].currentData() or NOTHING)

    @property
    def by_time(self) -> bool:
        """Whether the abscissa is time."""
        return str(self.against.currentData()) == "time"

    # ------------------------------------------------------------------------------ drawing

    def draw(self) -> None:
        """Draw what is on the screen, if it is something else."""
        if not self.isVisible():
            return
        traces = {side: self.curves.estimates.get(self.chosen(side), _EMPTY) for side in _SIDES}
        self.stage.show_plot(any(len(trace) for trace in traces.values()))
        self._fill_choices(self.curves.quantities)
        if self.by_time:
            end_s = max((float(t.x[-1]) for t in traces.values() if len(t)), default=math.nan)
            present_s = max(end_s, self._status.t_s) if self._status.state.active else end_s
            self.time.fit_time(0.0, present_s, present_s)
        low, high = self.time.view.viewRange()[0]
        chosen = tuple(self.chosen(side) for side in _SIDES)
        state = (self.curves.version, low, high, self.time.width_px, chosen, self.by_time)
        if state == self._drawn:
            return
        self._drawn = state
        if self.by_time:
            self._draw_by_time(traces, low, high)
        else:
            self._draw_by_temperature(traces)
        self._read_out()

    def _draw_by_time(self, traces: Mapping[str, Trace], low: float, high: float) -> None:
        for side, trace in traces.items():
            x, least, most = trace.shown(low, high, self.time.width_px)
            drawn = [least[0], most[0]]
            self.lines[side].setData(*zigzag(x, least[0], most[0]), connect="finite")
            if side == "left":
                self.band.show_between(x, least[1], most[2])
                drawn += [least[1], most[2]]
            self._fit(side, drawn)
        if self._notes_drawn != self.curves.version:
            self._notes_drawn = self.curves.version
            self.time.events.show_notes(self.curves.notes)

    def _draw_by_temperature(self, traces: Mapping[str, Trace]) -> None:
        self.band.show_between(np.empty(0), np.empty(0), np.empty(0))
        across: list[Floats] = []
        for side, trace in traces.items():
            t_s, least, most = trace.shown(-math.inf, math.inf, self.time.width_px)
            celsius, y = zigzag(self.curves.temperature_at(t_s), least[0], most[0])
            self.lines[side].setData(celsius, y, connect="finite")
            across.append(celsius)
            self._fit(side, [y])
        if not self.time.held:
            fit_x(self.time.view, across)

    def _fit(self, side: str, drawn: list[Floats]) -> None:
        known = any(np.isfinite(part).any() for part in drawn)
        axis = self.plot.getPlotItem().getAxis(side)
        if axis.style["showValues"] != known:  # figures beside no curve would mislead
            axis.setStyle(showValues=known)
        if self.chosen(side) == COUNT:
            drawn = [*drawn, _FEW]
        if not self.time.held:
            fit_y(self.time.view if side == "left" else self._right, drawn)

    # ------------------------------------------------------------------------------ figures

    def figure(self) -> Figure:
        """What is drawn, for a file: every estimate that is on the screen."""
        low, high = self.time.view.viewRange()[0]
        tables: dict[str, dict[str, Floats]] = {}
        for side in _SIDES:
            name = self.chosen(side)
            trace = self.curves.estimates.get(name)
            if trace is None:
                continue
            part = slice(None)
            if self.by_time:
                part = slice(*(int(i) for i in np.searchsorted(trace.x, (low, high))))
            unit = self._unit(name)
            value, upper = trace.column("value")[part], trace.column("high")[part]
            tables[name] = {
                "time_s": trace.x[part],
                "temperature_celsius": self.curves.temperature_at(trace.x[part]),
                f"{name}{f' ({unit})' if unit else ''}": value,
                "sigma": upper - value,
            }
        words = " · ".join(self._label(name) for name in tables)
        across = tr("run time h:mm:ss") if self.by_time else tr("measured temperature in °C")
        words = tr("{words} against {across}").format(words=words, across=across)
        caption = [f"{self._status.run_name} · {words}", self._status.folder]
        return Figure("sizes", caption, tables)

    def _read_out(self) -> None:
        t_s = self.time_cursor.t_s
        parts: list[str] = []
        spots: list[tuple[float, float]] = []
        for side in _SIDES:
            name = self.chosen(side)
            if not name:
                continue
            if t_s is None:
                newest = self._status.estimates.get(name, EstimateView(math.nan, 0.0, "", 0.0))
                value, sigma = newest.value, newest.sigma
            else:
                found = self.curves.estimates.get(name, _EMPTY).at(t_s)
                value, sigma = found["value"], found["high"] - found["value"]
                if side == "left" and not self.by_time:
                    celsius = float(self.curves.temperature_at(np.array([t_s]))[0])
                    spots.append((celsius, value))
            if t_s is not None or math.isfinite(value):
                told = text.with_sigma(value, sigma, self._unit(name))
                parts.append(f"◂ {told}" if side == "left" else f"{told} ▸")
        self.spot.setData(pos=[spot for spot in spots if np.isfinite(spot).all()])
        set_text(self.info, "   ".join(parts))

    def _unit(self, name: str) -> str:
        unit = self._status.estimates[name].unit if name in self._status.estimates else ""
        return "" if unit == "1" else unit

    def _label(self, name: str) -> str:
        unit = self._unit(name)
        words = called(name)
        return f"{words} ({unit})" if unit else words

    # --------------------------------------------------------------------------- composition

    def _compose_controls(self) -> None:
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.choices["left"])
        row.addStretch(1)
        row.addWidget(self.against)
        row.addStretch(1)
        row.addWidget(self.choices["right"])
        self.body.addLayout(row)
        for side, choice in self.choices.items():
            choice.setMinimumContentsLength(13)
            policy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            choice.setSizeAdjustPolicy(policy)
            choice.view().setTextElideMode(QtCore.Qt.TextElideMode.ElideNone)
            theme.follow(choice, lambda c=choice, s=side: _tint(c, _TINTS[s]))  # type: ignore[misc]

    def _second_view(self) -> Any:
        item = self.plot.getPlotItem()
        view: Any = pg.ViewBox(enableMenu=False)
        view.disableAutoRange()
        view.setZValue(-10)  # the mouse is for the first
        item.showAxis("right")
        axis = item.getAxis("right")
        axis.enableAutoSIPrefix(False)
        axis.setWidth(44)
        keep_picture(axis)
        theme.follow(axis, lambda: axis.setTextPen(getattr(theme.now(), _TINTS["right"])))
        item.scene().addItem(view)
        axis.linkToView(view)
        view.setXLink(item)
        item.vb.sigResized.connect(lambda: view.setGeometry(item.vb.sceneBoundingRect()))
        return view

    def _restore(self) -> None:
        if self._settings is not None:
            for side in _SIDES:
                self._choose(side, self._settings.text(f"plots/{side}", _DEFAULTS[side]))
            kept = self._settings.choice("plots/against", _AGAINST)
            self.against.setCurrentIndex(_AGAINST.index(kept))
        self._turn()
        for choice in self.choices.values():
            choice.activated.connect(self._chosen_by_hand)
        self.against.currentIndexChanged.connect(self._turn)

    def _choose(self, side: str, name: str) -> None:
        choice = self.choices[side]
        if choice.findData(name) < 0:
            choice.addItem(self._label(name), name)
        choice.setCurrentIndex(choice.findData(name))

    def _chosen_by_hand(self) -> None:
        if self._settings is not None:
            for side in _SIDES:
                self._settings.put(f"plots/{side}", self.chosen(side))
        self.draw()

    def _turn(self, *_: object) -> None:
        self.axis.as_clock = self.by_time
        self.axis.setLabel("" if self.by_time else tr("measured temperature (°C)"))
        self.axis.showLabel(not self.by_time)
        self.time.set_on(self.by_time)
        if self._settings is not None:
            self._settings.put("plots/against", str(self.against.currentData()))
        self._drawn = None
        self.draw()

    def _fill_choices(self, known: Any) -> None:
        """Offer what has been estimated, beside what is chosen; a list that is open is let alone."""
        for side, choice in self.choices.items():
            kept = self.chosen(side) if choice.count() else _DEFAULTS[side]
            wanted = sorted({*known, *_DEFAULTS.values(), kept} - {NOTHING})
            wanted += [NOTHING] if side == "right" else []
            words = [self._label(name) if name else tr("nothing") for name in wanted]
            now = [choice.itemText(i) for i in range(choice.count())]
            if now == words or choice.view().isVisible():
                continue
            choice.blockSignals(True)
            choice.clear()
            for name, label in zip(wanted, words, strict=True):
                choice.addItem(label, name)
            choice.setCurrentIndex(choice.findData(kept))
            choice.blockSignals(False)


def _tint(choice: QtWidgets.QComboBox, colour: str) -> None:
    palette = QtGui.QColor(getattr(theme.now(), colour)).name()
    choice.setStyleSheet(f"QComboBox {{ color: {palette}; }}")
