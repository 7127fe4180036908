"""A beam that rests on one point, by hand."""

from __future__ import annotations

import math

from PySide6 import QtCore

from acquire.engine.station_view import StationView
from acquire.errors import UnitError
from gui.hand import HandLine
from gui.pages.instruments import consequences
from gui.pages.instruments.controls import Consequence, hold_button, press_button, row
from gui.settings import Settings
from gui.widgets.panel import Panel, set_text
from gui.widgets.quantity import QuantityField, units_are_read
from gui.words import tr


class BeamPanel(Panel):
    """``refused`` says in words what a field will not have."""

    refused = QtCore.Signal(str)

    def __init__(self, hand: HandLine, settings: Settings) -> None:
        super().__init__(tr("Resting beam by hand"))
        self._hand = hand
        self._settings = settings
        self._current_pa = math.nan
        self._clock_rate = 1.0
        self.at_x = QuantityField("nm", "0 nm", tr("To the right of the scan's centre"))
        self.at_y = QuantityField("nm", "0 nm", tr("Below the scan's centre"))
        self.limit = QuantityField(
            "s",
            settings.text("hand/rest", "10 s"),
            tr("It is blanked by itself after so long, at most 10 min"),
        )
        for field in (self.at_x, self.at_y, self.limit):
            field.setFixedWidth(68)
        self.consequence = Consequence()
        self.on = hold_button(
            tr("☀ Beam on  (hold)"), tr("Hold with the mouse or Return: the beam is on then")
        )
        self.blank = press_button(tr("◐ Blank"), tr("Blank the beam, at once"))
        self.body.addLayout(row("x", self.at_x, "y", self.at_y, tr("for"), self.limit, 0))
        self.body.addWidget(self.consequence)
        self.body.addLayout(row(self.on, self.blank))
        self.on.confirmed.connect(self._on)
        self.on.released_early.connect(
            lambda: self.refused.emit(
                tr("The beam stays blanked: hold the button until its bar is full.")
            )
        )
        self.blank.clicked.connect(hand.blank)
        for field in (self.at_x, self.at_y, self.limit):
            field.textChanged.connect(self._tell)

    def show_station(
        self, station: StationView, clock_rate: float, why_not: str, held: str = ""
    ) -> None:
        """Draw what is possible; ``why_not`` says why nothing is, ``held`` why only what is safe."""
        scan = next((view for view in station.instruments if view.role == "scan"), None)
        current = None if scan is None else scan.facts.get("probe_current_pa")
        self._current_pa = float(current) if isinstance(current, int | float) else math.nan
        self._clock_rate = clock_rate
        left_s = station.manual.beam_left_s
        on = tr("on, blanks in {left:.0f} s").format(left=left_s) if math.isfinite(left_s) else ""
        set_text(self.info, why_not or held or on)
        self.on.setEnabled(not why_not and not held)
        self.blank.setEnabled(not why_not)
        self._tell()

    def keep(self) -> None:
        """Remember the time."""
        self._settings.put("hand/rest", self.limit.text())

    def _tell(self) -> None:
        if not units_are_read():
            return
        try:
            self.at_x.read()
            self.at_y.read()
            words = consequences.resting(self._current_pa, self.limit.read(), self._clock_rate)
        except UnitError as error:
            words = f"✕  {error}"
        self.consequence.say(words)

    def _on(self) -> None:
        try:
            self._hand.beam(self.limit.read(), self.at_x.read(), self.at_y.read())
        except UnitError as error:
            self.refused.emit(tr("The beam stays blanked: {reason}").format(reason=error))
