"""The page of the run that is on: plan, log, image, temperature, sizes, spectrum."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import PlanView
from gui.pages.page import Page
from gui.panels.image import ImagePanel
from gui.panels.log import LogPanel
from gui.panels.recipe import RecipePanel
from gui.panels.sizes import SizesPanel
from gui.panels.spectrum import SpectrumPanel
from gui.panels.temperature import TemperaturePanel
from gui.session import Session, StatusSnapshot
from gui.settings import Settings
from gui.words import tr

Qt = QtCore.Qt


class LivePage(Page):
    """Pulls what the session holds when the window ticks."""

    title = tr("Run")
    key = "Ctrl+1"

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__(session, settings)
        self.recipe = RecipePanel()
        self.log = LogPanel()
        self.image = ImagePanel()
        self.temperature = TemperaturePanel()
        self.sizes = SizesPanel()
        self.spectrum = SpectrumPanel()
        self.panels = (
            self.recipe,
            self.log,
            self.image,
            self.temperature,
            self.sizes,
            self.spectrum,
        )
        left = _splitter(Qt.Orientation.Vertical, (self.recipe, self.log), (420, 240))
        right = _splitter(
            Qt.Orientation.Vertical,
            (self.temperature, self.sizes, self.spectrum),
            (240, 230, 230),
        )
        across = _splitter(Qt.Orientation.Horizontal, (left, self.image, right), (330, 680, 550))
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
        self.image.stream_chosen.connect(session.watch_stream)

    def take_image(self) -> None:
        """Draw the newest image, if there is one that was not drawn."""
        image = self.session.take_image()
        if image is not None:
            self.image.show_image(image)

    def take_rest(self) -> None:
        """Draw what else is new: curves, notes, the spectrum."""
        update = self.session.take_series()
        if update is not None:
            if update.fresh:
                self.image.clear()
                self.spectrum.clear()
            self.temperature.add(update.series, update.fresh)
            self.sizes.add(update.series, update.fresh)
            for note in update.series.notes:
                self.log.add(note)
        spectrum = self.session.take_spectrum()
        if spectrum is not None:
            self.spectrum.show_spectrum(spectrum)

    def show_status(self, snapshot: StatusSnapshot, plan: PlanView) -> None:
        """Draw a status in every panel."""
        status, stale = snapshot.status, snapshot.stale
        self.recipe.show_status(status, plan)
        self.temperature.show_status(status, plan)
        self.sizes.show_status(status)
        self.log.show_status(status, not stale)
        self.image.tick()
        for panel in self.panels:
            panel.set_stale(stale, snapshot.age_s)

    def keep(self) -> None:
        """Remember the splitters."""
        for name, splitter in self.splitters.items():
            self.settings.put(f"live/{name}", splitter.saveState())


def _splitter(
    orientation: Qt.Orientation,
    widgets: tuple[QtWidgets.QWidget, ...],
    sizes: tuple[int, ...],
) -> QtWidgets.QSplitter:
    splitter = QtWidgets.QSplitter(orientation)
    splitter.setHandleWidth(6)
    splitter.setChildrenCollapsible(False)
    for widget in widgets:
        splitter.addWidget(widget)
    splitter.setSizes(list(sizes))
    return splitter
