"""The heater by hand: go to a temperature, hold it, cool; and what it did in the last minutes."""

from __future__ import annotations

import math

import numpy as np
from PySide6 import QtCore, QtWidgets

from acquire.engine.station_view import StationView
from acquire.engine.status import EngineStatus
from acquire.errors import UnitError
from gui.hand import HandLine
from gui.pages.instruments import consequences
from gui.pages.instruments.controls import Consequence, hold_button, press_button, row
from gui.settings import Settings
from gui.widgets.curve import Curve
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import draw_in, make_plot
from gui.widgets.quantity import QuantityField, units_are_read
from gui.widgets.ranges import fit_y
from gui.words import tr

KEPT_S = 600.0
"""Wall seconds of the plot."""
MOST_POINTS = 6000
_SPANS_MIN = (1, 2, 5, 10)
_LEAST_CELSIUS = np.array([-2.0, 2.0])


class HeatPanel(Panel):
    """``refused`` says in words what a field will not have."""

    refused = QtCore.Signal(str)

    def __init__(self, hand: HandLine, settings: Settings) -> None:
        super().__init__(tr("Heater by hand"))
        self._hand = hand
        self._settings = settings
        self._present_celsius = math.nan
        self.target = QuantityField(
            "°C", settings.text("hand/target", "100 °C"), tr("Where to go, for example 700 °C")
        )
        self.rate = QuantityField(
            "°C/s", settings.text("hand/rate", "5 °C/s"), tr("How fast, for example 5 °C/s")
        )
        self.limits = QtWidgets.QLabel()
        self.limits.setProperty("muted", True)
        self.limits.setWordWrap(True)
        self.consequence = Consequence()
        self.go = hold_button(
            tr("♨ Go to temperature  (hold)"),
            tr("Hold with the mouse or Return: the heater is on then"),
        )
        self.hold = press_button(tr("═ Hold T"), tr("Freeze the temperature where it is now"))
        self.cool = press_button(
            tr("▼ Cool, then off"), tr("Ramp down to 25 °C at the rate above, then heater off")
        )
        self.body.addLayout(row(tr("to"), self.target, 6, tr("at"), self.rate, 0))
        self.body.addWidget(self.limits)
        self.body.addWidget(self.consequence)
        self.body.addLayout(row(self.go))
        self.body.addLayout(row(self.hold, self.cool))
        self.plot = make_plot(tr("wall time in min"), "°C")
        self.plot.setMinimumHeight(96)
        self.plot.getPlotItem().getViewBox().disableAutoRange()
        self.plot.setAccessibleName(tr("Temperature in the last minutes"))
        self._measured = draw_in(self.plot.plot(), "measured")
        self._set = draw_in(self.plot.plot(), "setpoint", dashed=True)
        self._measured.setZValue(1)
        self.body.addWidget(self.plot, 1)
        self._curve = Curve("measured", "set")
        self.go.confirmed.connect(self._go)
        self.go.released_early.connect(
            lambda: self.refused.emit(tr("Not heated: hold the button until its bar is full."))
        )
        self.hold.clicked.connect(hand.hold)
        self.cool.clicked.connect(self._cool)
        for field in (self.target, self.rate):
            field.textChanged.connect(self._tell)

    def show_station(
        self, station: StationView, status: EngineStatus, why_not: str, held: str = ""
    ) -> None:
        """Draw what is possible; ``why_not`` says why nothing is, ``held`` why only what is safe."""
        holder = next((view for view in station.instruments if view.role == "holder"), None)
        self._present_celsius = status.setpoint_celsius
        set_text(self.limits, consequences.bounds(holder, "temperature", "ramp_rate"))
        set_text(self.info, why_not or held or station.manual.heat)
        heating = status.holder_state in ("ramping", "holding")
        self.go.setEnabled(not why_not and not held)
        self.hold.setEnabled(not why_not and heating)
        self.cool.setEnabled(not why_not and not held and heating)
        self._tell()

    def add_reading(self, t_s: float, measured: float, setpoint: float) -> None:
        """Add to the plot; ``t_s`` is wall time."""
        curve = self._curve
        if curve.count and t_s <= curve.x[-1]:
            return
        curve.append(np.array([t_s]), measured=np.array([measured]), set=np.array([setpoint]))
        if curve.count > MOST_POINTS:
            curve.halve()

    def draw(self, now_s: float) -> None:
        """Draw the last minutes."""
        curve = self._curve
        first = int(np.searchsorted(curve.x, now_s - KEPT_S))
        minutes = (curve.x[first:] - now_s) / 60
        self._measured.setData(minutes, curve.column("measured")[first:])
        self._set.setData(minutes, curve.column("set")[first:])
        # a curve that has just begun is no stroke at the edge
        oldest = float(minutes[0]) if len(minutes) else -1.0
        span = next(span for span in _SPANS_MIN if span >= min(-oldest, KEPT_S / 60))
        self.plot.setXRange(-span, 0, padding=0)
        shown = [curve.column(name)[first:] for name in ("measured", "set")]
        if len(minutes):
            middle = float(np.nanmean(shown[0]))
            # what is only noise must not look like a change
            fit_y(self.plot.getPlotItem().getViewBox(), [*shown, middle + _LEAST_CELSIUS])

    def keep(self) -> None:
        """Remember the fields."""
        self._settings.put("hand/target", self.target.text())
        self._settings.put("hand/rate", self.rate.text())

    def _tell(self) -> None:
        if not units_are_read():
            return
        try:
            words = consequences.heating(
                self._present_celsius, self.target.read(), self.rate.read()
            )
        except UnitError as error:
            words = f"✕  {error}"
        self.consequence.say(words)

    def _go(self) -> None:
        try:
            self._hand.heat(self.target.read(), self.rate.read())
        except UnitError as error:
            self.refused.emit(tr("Not heated: {reason}").format(reason=error))

    def _cool(self) -> None:
        try:
            self._hand.cool(self.rate.read())
        except UnitError as error:
            self.refused.emit(tr("Not cooled: {reason}").format(reason=error))
