"""The page of the run that is on: plan, log, image, temperature, sizes, spectrum."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import PlanView
from gui.aside import Aside
from gui.lateness import Lateness
from gui.pages.page import Page
from gui.panels.curves import RunCurves
from gui.panels.histogram import HistogramPanel
from gui.panels.image import ImagePanel
from gui.panels.log import LogPanel
from gui.panels.map import MapPanel
from gui.panels.profile import ProfilePanel
from gui.panels.recipe import RecipePanel
from gui.panels.sizes import SizesPanel
from gui.panels.spectrum import SpectrumPanel
from gui.panels.temperature import TemperaturePanel
from gui.session import Session, StatusSnapshot
from gui.settings import Settings
from gui.widgets.cursor import TimeCursor
from gui.widgets.deck import Deck
from gui.widgets.export import Exporter
from gui.widgets.splitter import split
from gui.words import tr

Qt = QtCore.Qt


class LivePage(Page):
    """Pulls what the session holds when the window ticks."""

    title = tr("Run")
    key = "Ctrl+1"
    looked = QtCore.Signal(Path)
    """A run that has ended, to be looked at."""

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__(session, settings)
        self.recipe = RecipePanel()
        self.log = LogPanel()
        self.image = ImagePanel(settings)
        self.aside = Aside()
        self.exporter = Exporter(self.aside, settings)
        self.curves, self.time_cursor = RunCurves(), TimeCursor()
        self.lateness = Lateness()
        shared = self.curves, self.time_cursor, settings, self.exporter
        self.temperature = TemperaturePanel(*shared)
        self.sizes = SizesPanel(*shared)
        self.histogram = HistogramPanel(self.aside, settings, self.exporter)
        self.spectrum = SpectrumPanel(self.aside, settings, self.exporter)
        self.profile = ProfilePanel(settings, self.exporter)
        self.map = MapPanel(settings, self.exporter)
        self.panels = (
            self.recipe,
            self.log,
            self.image,
            self.temperature,
            self.sizes,
            self.histogram,
            self.spectrum,
            self.profile,
            self.map,
        )
        self.decks = {
            "sizes": Deck((self.sizes, self.histogram), tr("Over time, or of the newest frame")),
            "spectra": Deck(
                (self.spectrum, self.profile, self.map), tr("One spectrum, a line, or a map")
            ),
        }
        for name, deck in self.decks.items():
            deck.turn(int(settings.number(f"live/tab/{name}", 0, 0, len(deck.panels) - 1)))
        left = split(Qt.Orientation.Vertical, (self.recipe, self.log), (420, 240))
        right = split(
            Qt.Orientation.Vertical,
            (self.temperature, *self.decks.values()),
            (220, 240, 240),
        )
        across = split(Qt.Orientation.Horizontal, (left, self.image, right), (330, 680, 550))
        self.recipe.setMinimumWidth(290)
        self.image.setMinimumWidth(420)
        self.temperature.setMinimumWidth(330)
        self.splitters = {"left": left, "right": right, "across": across}
        for name, splitter in self.splitters.items():
            splitter.restoreState(settings.bytes(f"live/{name}"))
        row = QtWidgets.QVBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(across)
        self.log.marked.connect(session.mark)
        self.recipe.looked.connect(self.looked)
        self.image.stream_chosen.connect(session.watch_stream)
        self.map.stream_chosen.connect(session.watch_map)
        self.exporter.complained.connect(self.complained)
        self.exporter.told.connect(self.told)
        self.image.complained.connect(self.complained)
        self.image.told.connect(self.told)

    def take_image(self) -> None:
        """Draw the newest image, if there is one that was not drawn."""
        image = self.session.take_image()
        if image is not None:
            self.image.show_image(image)
            self.histogram.show_image(image)

    def take_rest(self) -> None:
        """Draw what else is new: curves, notes, the spectrum."""
        update = self.session.take_series()
        if update is not None:
            if update.fresh:
                for panel in (self.image, self.histogram, self.spectrum, self.profile, self.map):
                    panel.clear()
                self.session.look_again()
            self.curves.add(update.series, update.fresh)
            self.log.add(*update.series.notes)
        spectrum = self.session.take_spectrum()
        if spectrum is not None:
            self.spectrum.show_spectrum(spectrum)
        found = self.session.take_map()
        if found is not None:
            self.profile.show_map(found)
            self.map.show_map(found)
        self.exporter.tick()

    def show_status(self, snapshot: StatusSnapshot, plan: PlanView) -> None:
        """Draw a status in every panel."""
        status, stale = snapshot.status, snapshot.stale
        plan = self.lateness.plan(plan, self.curves.notes, self.curves.version, status)
        self.recipe.show_status(status, plan)
        self.temperature.show_status(status, plan)
        for panel in (self.sizes, self.histogram, self.spectrum, self.profile, self.map):
            panel.show_status(status)
        self.log.show_status(status, not stale)
        self.image.show_status(status)
        self.image.tick()
        for each in self.panels:
            each.set_stale(stale, snapshot.age_s)

    def keep(self) -> None:
        """Remember the splitters and the tabs."""
        self.aside.close()
        for name, deck in self.decks.items():
            self.settings.put(f"live/tab/{name}", float(deck.currentIndex()))
        for name, splitter in self.splitters.items():
            self.settings.put(f"live/{name}", splitter.saveState())
