"""The panels of the run page, showing a stored run at one moment of its time."""

from __future__ import annotations

from dataclasses import replace

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.live_maps import LiveMap
from acquire.engine.status import EngineState, EngineStatus
from gui.aside import Aside
from gui.pages.runs.happened import HappenedPanel
from gui.panels.curves import RunCurves
from gui.panels.histogram import HistogramPanel
from gui.panels.image import ImagePanel
from gui.panels.map import MapPanel
from gui.panels.profile import ProfilePanel
from gui.panels.sizes import SizesPanel
from gui.panels.spectrum import SpectrumPanel
from gui.panels.temperature import TemperaturePanel
from gui.replay.moments import NOTHING, Scene, Story
from gui.settings import Settings
from gui.widgets.cursor import TimeCursor
from gui.widgets.deck import Deck
from gui.widgets.export import Exporter
from gui.widgets.splitter import split
from gui.words import tr

Qt = QtCore.Qt
_TICK_MS = 100


class ReplayPanels(QtWidgets.QWidget):
    """Journal, image, curves and spectrum, with one cursor through all of them.

    Emits ``went`` with the run time that was clicked in one of them.
    """

    went = QtCore.Signal(float)
    complained = QtCore.Signal(str)
    told = QtCore.Signal(str)

    def __init__(self, settings: Settings, aside: Aside, exporter: Exporter) -> None:
        super().__init__()
        self._settings = settings
        self._story: Story | None = None
        self._status = EngineStatus()
        self._t_s = 0.0
        self._fitting = False
        self._image_key: tuple[object, ...] = ()
        self._spectrum_key: tuple[object, ...] = ()
        self._map_shown: LiveMap | None = None
        self.curves = RunCurves()
        self.time = TimeCursor()
        self.happened = HappenedPanel()
        self.image = ImagePanel(settings)
        self.image.live = False
        # not the operator's choice of a window: a stored run is shown from its beginning to its end
        self.temperature = TemperaturePanel(self.curves, self.time, None, exporter)
        self.sizes = SizesPanel(self.curves, self.time, settings, exporter)
        self.histogram = HistogramPanel(aside, settings, exporter)
        self.spectrum = SpectrumPanel(aside, settings, exporter)
        self.profile = ProfilePanel(settings, exporter)
        self.map = MapPanel(settings, exporter)
        self.decks = {
            "sizes": Deck(
                (self.sizes, self.histogram), tr("Over time, or of the frame at the cursor")
            ),
            "spectra": Deck(
                (self.spectrum, self.profile, self.map), tr("One spectrum, a line, or a map")
            ),
        }
        for name, deck in self.decks.items():
            deck.turn(int(settings.number(f"replay/tab/{name}", 0, 0, len(deck.panels) - 1)))
        self._compose()
        self.happened.went.connect(self.went)
        self.image.complained.connect(self.complained)
        self.image.told.connect(self.told)
        self.time.moved.connect(self._cursor_moved)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._tick)

    # ------------------------------------------------------------------ what it is told

    def clear(self) -> None:
        """Forget the run."""
        self._story, self._t_s = None, 0.0
        self._image_key = self._spectrum_key = ()
        self._map_shown = None
        self.curves.add(NOTHING, True)
        self.happened.show_notes(())
        for panel in (self.image, self.histogram, self.spectrum, self.profile, self.map):
            panel.clear()

    def show_story(self, story: Story) -> None:
        """Draw a run, or the same when it has grown."""
        fresh = self._story is None
        self._story = story
        self.happened.show_notes(story.series.notes)
        self.curves.add(story.series, True)
        if fresh:
            self.temperature.time.follow()
            self.sizes.time.follow()
        self.fit()

    def show_time(self, t_s: float, status: EngineStatus) -> None:
        """Put the cursor at a time, at which this was the status."""
        self._t_s, self._status = t_s, status
        self.happened.show_time(t_s)
        self.image.show_status(status)
        self._draw_curves()
        self.time.pin(t_s)

    def show_scene(self, scene: Scene) -> None:
        """Draw image and spectrum, where they are others."""
        image, spectrum = scene.image, scene.spectrum
        frame = (image.stream, image.serial, image.index) if image is not None else ()
        if frame != self._image_key:
            self._image_key = frame
            if image is None:
                self.image.clear()
                self.histogram.clear()
            else:
                self.image.show_image(image)
                self.image.tick()  # which frame it is must not lag behind the frame
                self.histogram.show_image(image)
        taken = (spectrum.stream, spectrum.serial) if spectrum is not None else ()
        if taken != self._spectrum_key:
            self._spectrum_key = taken
            if spectrum is None:
                self.spectrum.clear()
            else:
                self.spectrum.show_spectrum(spectrum)

        if scene.map is None and self._map_shown is not None:
            self.profile.clear()
            self.map.show_nothing()
        elif scene.map is not None and scene.map is not self._map_shown:
            self.profile.show_map(scene.map)
            self.map.show_map(scene.map)
        self._map_shown = scene.map

    def fit(self) -> None:
        """Draw the curves, whole unless a hand has zoomed them."""
        self._fitting = True
        self.time.now()  # ranges stay as they are while a time is looked at
        self._draw_curves()
        self._fitting = False
        if self._story is not None:
            self.time.pin(self._t_s)

    def keep(self) -> None:
        """Remember the layout."""
        for name, deck in self.decks.items():
            self._settings.put(f"replay/tab/{name}", float(deck.currentIndex()))
        for name, splitter in self.splitters.items():
            self._settings.put(f"replay/{name}", splitter.saveState())

    # ------------------------------------------------------------------ inside

    def showEvent(self, event: QtGui.QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Draw what came while nobody looked."""
        super().showEvent(event)
        self._timer.start()
        QtCore.QTimer.singleShot(0, self.fit)  # when the plots have their sizes

    def hideEvent(self, event: QtGui.QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Nobody looks."""
        super().hideEvent(event)
        self._timer.stop()

    def _draw_curves(self) -> None:
        if self._story is not None:
            # as after a run: plots show all of it, and the cursor where we are
            whole = replace(self._status, state=EngineState.COMPLETED)
            self.temperature.show_status(whole, self._story.plan)
            for panel in (self.sizes, self.histogram, self.spectrum, self.profile, self.map):
                panel.show_status(whole)

    def _tick(self) -> None:
        """What the live page does at every status: late answers of fits, labels, saved files."""
        self.image.tick()
        for panel in (self.histogram, self.spectrum):
            panel.show_status(self._status)

    def _cursor_moved(self) -> None:
        """A plot was clicked, or let go."""
        t_s = self.time.t_s
        if self._fitting or self._story is None:
            return
        if t_s is None:
            self.time.pin(self._t_s)
        elif t_s != self._t_s:
            self.went.emit(t_s)

    def _compose(self) -> None:
        # other than on the run page: the line of time below leaves less height here
        left = split(Qt.Orientation.Vertical, (self.happened, self.decks["spectra"]), (200, 220))
        right = split(Qt.Orientation.Vertical, (self.temperature, self.decks["sizes"]), (190, 230))
        across = split(Qt.Orientation.Horizontal, (left, self.image, right), (380, 460, 420))
        left.setMinimumWidth(330)
        self.image.setMinimumWidth(380)
        right.setMinimumWidth(330)
        self.splitters = {"left": left, "right": right, "across": across}
        for name, splitter in self.splitters.items():
            splitter.restoreState(self._settings.bytes(f"replay/{name}"))
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(across)
