"""A live view by hand: which detector, how large, how long; and where the field lies."""

from __future__ import annotations

import math

from PySide6 import QtCore, QtWidgets

from acquire.engine.station_view import LIVE_VIEW, StationView
from acquire.engine.status import LiveImage
from acquire.errors import UnitError
from acquire.instruments import ScanExposure
from gui import text
from gui.hand import HandLine
from gui.pages.instruments import consequences
from gui.pages.instruments.controls import Consequence, hold_button, press_button, row
from gui.pages.instruments.viewfinder import Viewfinder
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.panel import Panel, set_text
from gui.widgets.quantity import QuantityField, units_are_read
from gui.words import tr

SIZES = ("512", "256", "1024")
_KEYS = {"field": "120 nm", "dwell": "1 µs", "limit": "2 min", "step": "20 nm"}


class ViewPanel(Panel):
    """``refused`` says in words what a field will not have."""

    refused = QtCore.Signal(str)

    def __init__(self, hand: HandLine, settings: Settings) -> None:
        super().__init__(tr("Live view by hand"))
        self._hand = hand
        self._settings = settings
        self._current_pa = math.nan
        self._clock_rate = 1.0
        kept = {key: settings.text(f"hand/{key}", words) for key, words in _KEYS.items()}
        self.detector = Choice(tr("Detector of the live view"))
        self.pixels = Choice(tr("Pixels of a row, and rows"))
        self.pixels.addItems([f"{size}²" for size in SIZES])
        self.pixels.setCurrentIndex(SIZES.index(settings.choice("hand/size", SIZES)))
        self.field = QuantityField(
            "nm", kept["field"], tr("Width of the field, for example 120 nm")
        )
        self.dwell = QuantityField("s", kept["dwell"], tr("Time on a pixel, for example 1 µs"))
        self.limit = QuantityField(
            "s", kept["limit"], tr("A live view ends by itself after so long, at most 10 min")
        )
        self.step = QuantityField("nm", kept["step"], tr("How far an arrow moves the field"))
        self.consequence = Consequence()
        self.single = hold_button(
            tr("◉ Single image  (hold)"),
            tr("Hold with the mouse or Return: the beam is on for one image"),
        )
        self.live = hold_button(
            tr("▶ Live  (hold)"), tr("Hold with the mouse or Return: the beam is on until it ends")
        )
        self.stop = press_button(tr("■ Stop, blank"), tr("End the live view and blank the beam"))
        self.arrows = {
            words: press_button(words, tr("Move the field by a scan shift"))
            for words in ("←", "↑", "↓", "→")
        }
        self.finder = Viewfinder()
        self._compose()
        self.single.confirmed.connect(lambda: self._look(1))
        self.live.confirmed.connect(lambda: self._look(0))
        for button in (self.single, self.live):
            button.released_early.connect(
                lambda: self.refused.emit(
                    tr("The beam stays blanked: hold the button until its bar is full.")
                )
            )
        self.stop.clicked.connect(hand.blank)
        ways = {"←": (-1, 0), "→": (1, 0), "↑": (0, -1), "↓": (0, 1)}
        for words, (dx, dy) in ways.items():
            self.arrows[words].clicked.connect(lambda _=False, dx=dx, dy=dy: self._shift(dx, dy))
        for field in (self.field, self.dwell, self.limit, self.step):
            field.textChanged.connect(self._tell)
        self.pixels.currentIndexChanged.connect(self._tell)

    def show_station(
        self, station: StationView, clock_rate: float, why_not: str, held: str = ""
    ) -> None:
        """Draw what is possible; ``why_not`` says why nothing is, ``held`` why only what is safe."""
        scan = next((view for view in station.instruments if view.role == "scan"), None)
        names = [] if scan is None else list(scan.detectors)
        if names and names != [self.detector.itemText(i) for i in range(self.detector.count())]:
            self.detector.clear()
            self.detector.addItems(names)
            chosen = self._settings.choice("hand/detector", names)
            self.detector.setCurrentIndex(names.index(chosen))
        current = None if scan is None else scan.facts.get("probe_current_pa")
        self._current_pa = float(current) if isinstance(current, int | float) else math.nan
        self._clock_rate = clock_rate
        manual = station.manual
        left = ""
        if math.isfinite(manual.view_left_s):
            left = tr("on, ends in {left:.0f} s").format(left=manual.view_left_s)
        dose = tr("by hand so far {dose} e/nm²").format(dose=text.dose(manual.dose_e_per_nm2))
        set_text(self.info, why_not or held or "   ".join(part for part in (left, dose) if part))
        self.finder.show_sharpness(
            manual.sharpness, manual.view_frames, math.isfinite(manual.view_left_s)
        )
        possible = not why_not and bool(names)
        self.stop.setEnabled(possible)
        for button in (self.single, self.live, *self.arrows.values()):
            button.setEnabled(possible and not held)
        self._tell()

    def show_image(self, image: LiveImage) -> None:
        """Draw an image of the live view; others belong to the page of the run."""
        if image.stream == LIVE_VIEW:
            self.finder.show_image(image, self.detector.currentText())

    def keep(self) -> None:
        """Remember the fields."""
        fields = (self.field, self.dwell, self.limit, self.step)
        for key, field in zip(_KEYS, fields, strict=True):
            self._settings.put(f"hand/{key}", field.text())
        self._settings.put("hand/detector", self.detector.currentText())
        self._settings.put("hand/size", SIZES[self.pixels.currentIndex()])

    def exposure(self) -> ScanExposure:
        """What the fields say; raises UnitError."""
        pixels = int(SIZES[self.pixels.currentIndex()])
        return ScanExposure(
            (self.detector.currentText(),), (pixels, pixels), self.field.read(), self.dwell.read()
        )

    def _tell(self) -> None:
        if not units_are_read():
            return
        try:
            words = consequences.viewing(
                self._current_pa, self.exposure(), self.limit.read(), self._clock_rate
            )
            self.step.read()
        except UnitError as error:
            words = f"✕  {error}"
        except ZeroDivisionError:
            words = tr("✕  a field of 0 nm shows nothing")
        self.consequence.say(words)

    def _look(self, frames: int) -> None:
        try:
            exposure, limit_s = self.exposure(), self.limit.read()
        except UnitError as error:
            self.refused.emit(tr("The beam stays blanked: {reason}").format(reason=error))
            return
        self.finder.begin()
        self._hand.look(exposure, frames, limit_s)

    def _shift(self, dx: int, dy: int) -> None:
        try:
            step_nm = self.step.read()
        except UnitError as error:
            self.refused.emit(tr("Not moved: {reason}").format(reason=error))
            return
        self._hand.shift(dx * step_nm, dy * step_nm)

    def _compose(self) -> None:
        self.body.addLayout(
            row(self.detector, self.pixels, 6, tr("field"), self.field, tr("dwell"), self.dwell, 0)
        )
        arrows = [self.arrows[words] for words in ("←", "↑", "↓", "→")]
        for arrow in arrows:
            arrow.setFixedWidth(30)
        self.body.addLayout(
            row(tr("ends after"), self.limit, 10, tr("move by"), self.step, *arrows, 0)
        )
        self.body.addWidget(self.consequence)
        self.body.addLayout(row(self.single, self.live, self.stop))
        self.body.addWidget(self.finder, 1)
        for button in (self.single, self.live, self.stop):
            button.setSizePolicy(
                QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed
            )
