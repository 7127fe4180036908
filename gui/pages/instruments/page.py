"""The page of the station: how its instruments stand, and what may be done with them by hand."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from acquire.engine.station_view import LIVE_VIEW, StationView
from acquire.engine.status import EngineStatus, PlanView
from gui import text, theme
from gui.control import why_not as why_not_control
from gui.pages.instruments.cards import Cards
from gui.pages.instruments.controls import press_button
from gui.pages.instruments.heating import HeatPanel
from gui.pages.instruments.resting import BeamPanel
from gui.pages.instruments.viewing import ViewPanel
from gui.pages.page import Page
from gui.session import Session, StatusSnapshot
from gui.settings import Settings
from gui.widgets.panel import ElidedLabel, set_text
from gui.widgets.quantity import read_units_beforehand
from gui.words import tr

Qt = QtCore.Qt


class InstrumentsPage(Page):
    """Instruments on the left, the live view in the middle, heater and resting beam on the right."""

    title = tr("Instruments")
    key = "Ctrl+3"

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__(session, settings)
        hand = session.hand
        self.station = ElidedLabel(align_left=True)
        self.station.setProperty("muted", True)
        self.other = press_button(
            tr("Other station…"), tr("Choose another station; a new window opens on it")
        )
        self.in_hand = ElidedLabel()
        self.end = press_button(
            tr("■ End by hand"), tr("Heater off, beam blanked, control given back")
        )
        self.end.clicked.connect(hand.end)
        self.cards = Cards()
        self.view = ViewPanel(hand, settings)
        self.heat = HeatPanel(hand, settings)
        self.beam = BeamPanel(hand, settings)
        self.panels = (self.view, self.heat, self.beam)
        for panel in self.panels:
            panel.refused.connect(self.complained)
        self._stream_before = ""
        self._front = False
        self._compose()

    def entered(self) -> None:
        """Take the live view's images from now on."""
        self._front = True
        read_units_beforehand()
        self._stream_before = self.session.watched_stream
        self.session.watch_stream(LIVE_VIEW)

    def left(self) -> None:
        """Give the images back to the page of the run."""
        self._front = False
        self.session.watch_stream(self._stream_before)

    def keep(self) -> None:
        """Remember fields and layout."""
        for panel in self.panels:
            panel.keep()
        self.settings.put("instruments/across", self.across.saveState())

    def take_image(self) -> None:
        """Draw the newest image, if there is one that was not drawn."""
        image = self.session.take_image()
        if image is not None:
            self.view.show_image(image)

    def show_status(self, snapshot: StatusSnapshot, plan: PlanView) -> None:
        """Draw a status and the station."""
        status, stale = snapshot.status, snapshot.stale
        now_s = time.monotonic()
        if not stale and not status.server:
            old_s = (status.t_s - status.reading_t_s) / max(status.clock_rate, 1e-9)
            read_s = now_s - snapshot.age_s - old_s
            if old_s == old_s:  # not before anything was read
                self.heat.add_reading(read_s, status.measured_celsius, status.setpoint_celsius)
        if not self._front:
            return
        station = self.session.hand.view()
        why_not = self._why_not(snapshot)
        held = why_not_control(status, self.session.who)
        self._show_strip(snapshot, station)
        self.cards.show_station(station, stale or bool(self.session.hand.trouble()))
        self.view.show_station(station, status.clock_rate, why_not, held)
        self.heat.show_station(station, status, why_not, held)
        self.beam.show_station(station, status.clock_rate, why_not, held)
        self.heat.draw(now_s)
        for panel in self.panels:
            panel.set_stale(stale, snapshot.age_s)

    def _why_not(self, snapshot: StatusSnapshot) -> str:
        """Why nothing can be done by hand; empty if it can."""
        status = snapshot.status
        if snapshot.stale:
            return tr("no contact with the engine")
        if status.state.active:
            return tr("a run is going on: abort it, or let it end")
        if status.server:
            return tr("the instrument server does not answer")
        if trouble := self.session.hand.trouble():
            return tr("what the instruments do is not known: {why}").format(why=trouble)
        return ""

    def _show_strip(self, snapshot: StatusSnapshot, station: StationView) -> None:
        status, manual = snapshot.status, station.manual
        if snapshot.stale:
            words = tr(
                "No contact with the engine for {age}: {why} It is tried again by itself."
            ).format(age=text.age(snapshot.age_s), why=snapshot.link_error)
        else:
            words = tr(
                "Station {name}: {about}   ({file}).   An instrument whose link is lost is asked again "
                "all the time, by itself."
            ).format(name=station.name, about=station.description, file=_place(station.source))
        set_text(self.station, words)
        set_text(self.in_hand, _in_hand(status, manual.of, manual.trouble))
        style = f"color: {theme.now().error_text}; font-weight: 600;" if manual.trouble else ""
        if self.in_hand.styleSheet() != style:
            self.in_hand.setStyleSheet(style)
        self.end.setEnabled(not snapshot.stale and bool(manual.of))

    def _compose(self) -> None:
        strip = QtWidgets.QHBoxLayout()
        strip.setSpacing(10)
        strip.addWidget(self.other)
        strip.addWidget(self.station, 3)
        strip.addWidget(self.in_hand, 2)
        strip.addWidget(self.end)
        right = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(right)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.heat, 1)
        column.addWidget(self.beam)
        self.across = QtWidgets.QSplitter(Qt.Orientation.Horizontal)
        self.across.setHandleWidth(6)
        self.across.setChildrenCollapsible(False)
        for widget, least in ((self.cards, 300), (self.view, 470), (right, 340)):
            widget.setMinimumWidth(least)
            self.across.addWidget(widget)
        self.across.setSizes([380, 560, 360])
        self.across.setStretchFactor(1, 1)
        self.across.restoreState(self.settings.bytes("instruments/across"))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addLayout(strip)
        layout.addWidget(self.across, 1)


def _in_hand(status: EngineStatus, of: str, trouble: str) -> str:
    said = [f"✕ {trouble}"] if trouble else []
    if of:
        words = tr("{what}: in the hand of {who}")
        said.append(words.format(what=status.by_hand or tr("nothing on"), who=of))
    return "   ".join(said) or tr("nothing is on by hand")


def _place(source: str) -> str:
    """Where a station file lies; of one that hotstage brings along only its name is of interest."""
    path = Path(source)
    brought = path.parent.parts[-2:] == ("simulators", "stations")
    return path.name if brought else text.homely(source)
