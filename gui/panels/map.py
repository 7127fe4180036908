"""A map while it grows: one quantity of every point that has been measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineStatus
from gui import text, theme
from gui.settings import Settings
from gui.widgets.beside import Beside
from gui.widgets.choice import Choice
from gui.widgets.export import Exporter, Figure
from gui.widgets.map_choice import TAKEN, MapChoice
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, make_plot
from gui.widgets.point_keys import PointKeys, step_from
from gui.widgets.ranges import Following
from gui.widgets.scale_bar import ScaleBar
from gui.widgets.trace import Floats
from gui.words import tr

if TYPE_CHECKING:
    from acquire.engine.live_maps import LiveMap

NEWEST = ""
_COLOURS = "viridis"
_AXES_FROM_PX = 240
"""A map that is shorter than that has no axes: they would take a third of it."""
_AXES_PX = (62, 46)
"""What they take across and in height."""
_STRIP = 4
"""How many times longer than high a line is drawn."""
_STRIP_PX = 11


class MapPanel(Panel):
    """Points without a value stay empty; the scale of colours spans what is there, and is written out.

    Emits ``stream_chosen`` with the name of the map to be watched, empty for the newest.
    """

    stream_chosen = QtCore.Signal(str)

    def __init__(self, settings: Settings | None = None, exporter: Exporter | None = None) -> None:
        super().__init__(tr("Map"))
        self.plot = make_plot(tr("x (nm)"), tr("y (nm)"))
        self.plot.setAccessibleName(tr("Map"))
        item = self.plot.getPlotItem()
        item.showGrid(x=False, y=False)
        item.setAspectLocked(True)
        item.invertY(True)
        self.image: Any = pg.ImageItem(axisOrder="row-major")
        self.image.setColorMap(pg.colormap.get(_COLOURS))
        self.plot.addItem(self.image)
        self.extent = QtWidgets.QGraphicsRectItem()
        theme.follow(self.plot, lambda: self.extent.setPen(pg.mkPen(theme.now().line, width=1)))
        self.plot.addItem(self.extent, ignoreBounds=True)
        self.scale = ScaleBar(item.getViewBox())
        self.bar = _Scale()
        self.choice = MapChoice("map", settings)
        self.stream = Choice(tr("Which map is shown"))
        self.stream.addItem(tr("newest map"), NEWEST)
        self.stream.hide()
        self.numbers = _words_below()
        self.at = _words_below()
        self.beside = Beside(self.plot, self._words_column())
        self.stage = Stage(self.beside, tr("No map yet"))
        self.body.addWidget(self.stage, 1)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self.following = Following(self.plot)
        self.following.returned.connect(self._again)
        self._map: LiveMap | None = None
        self._status = EngineStatus()
        self._drawn: object = None
        self._at: tuple[int, int] | None = None
        self._area = QtCore.QRectF(0, 0, 1, 1)
        self._axes = True
        self.choice.chosen.connect(self.draw)
        item.getViewBox().sigResized.connect(self._frame)
        self.beside.arranged.connect(self._show_axes)
        self.stream.currentIndexChanged.connect(
            lambda: self.stream_chosen.emit(str(self.stream.currentData()))
        )
        self.plot.scene().sigMouseMoved.connect(self._look)
        self.plot.viewport().installEventFilter(self)
        PointKeys(self.plot).stepped.connect(self._step)

    def _words_column(self) -> QtWidgets.QWidget:
        words = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(words)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.choice)
        column.addWidget(self.stream)
        column.addWidget(self.bar)
        column.addWidget(self.numbers)
        column.addWidget(self.at)
        column.addStretch(1)
        for choice in (self.choice, self.stream):
            policy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            choice.setSizeAdjustPolicy(policy)
            choice.setMinimumContentsLength(6)
        return words

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run, and so do the names of maps."""
        self.show_nothing()
        self.stream.hide()
        self.stream.setCurrentIndex(0)
        while self.stream.count() > 1:
            self.stream.removeItem(1)

    def show_nothing(self) -> None:
        """There is no map at this time."""
        self._map = self._drawn = self._at = None
        self.stage.show_plot(False)
        set_text(self.info, "")

    def show_map(self, found: LiveMap) -> None:
        """Take a map so far."""
        if self._map is None or self._map.taken.shape != found.taken.shape:
            self._at = None
        self._map = found
        self.choice.offer(found)
        offered = [self.stream.itemData(i) for i in range(self.stream.count())]
        for name in found.streams:
            if name not in offered:
                self.stream.addItem(name, name)
        self.stream.setVisible(len(found.streams) > 1)
        self.draw()

    def show_status(self, status: EngineStatus) -> None:
        """Draw what came while the panel was hidden."""
        self._status = status
        self.choice.know_units(status)
        self.draw()

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the map too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)

    def draw(self) -> None:
        """Draw, if it is something else."""
        found, name = self._map, self.choice.quantity
        if found is None or not self.isVisible():
            return
        state = (found.serial, found.stream, name)
        if state == self._drawn:
            return
        self._drawn = state
        self.stage.show_plot(True)
        values = self.choice.values(found)
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        high = high if high > low else low + (abs(low) * 1e-3 or 1.0)
        self.image.setImage(values, autoLevels=False, levels=(low, high))
        self._area = _area_of(found)
        self.image.setRect(self._area)
        self.extent.setRect(self._area)  # also of what is still to come
        self.scale.within = self._area
        self._arrange()
        unit = self.choice.unit(name)
        self.bar.show_range(low, high, unit if len(known) else tr("nothing known yet"))
        set_text(self.numbers, self._number_words(found, known, unit))
        self._tell()

    def _number_words(self, found: LiveMap, known: Floats, unit: str) -> str:
        (x, y), (dx, dy) = found.first_nm, found.spacing_nm
        rows, columns = found.taken.shape
        lines = []
        if len(known):
            lines.append(
                tr("mean {mean} {unit}, spread {spread}").format(
                    mean=text.short(float(known.mean())),
                    spread=text.short(float(known.std())),
                    unit=unit,
                )
            )
        across = f"x {x:.4g} … {x + (columns - 1) * dx:.4g}"
        lines.append(
            f"{across}, y {y:.4g} … {y + (rows - 1) * dy:.4g} nm"
            if rows > 1
            else tr("a line of {length:.4g} nm").format(length=(columns - 1) * dx)
        )
        return "\n".join(" ".join(line.split()).replace(" ,", ",") for line in lines)

    def _arrange(self) -> None:
        """Give the map the room that its proportions can use."""
        area = self._area
        around = QtCore.QSize(*_AXES_PX) if self._axes else QtCore.QSize()
        self.beside.set_proportions(area.width() / area.height(), around)
        self._frame()

    def _frame(self, *_: object) -> None:
        """Show all of the map, unless the hand has chosen what is seen."""
        if self.following.on and self._map is not None:
            padding = 0.02 if self._axes else 0.0
            self.plot.getPlotItem().getViewBox().setRange(self._area, padding=padding)

    def _show_axes(self, size: QtCore.QSize) -> None:
        """Where there is room for them; else the words and the scale bar tell the same."""
        found = self._map
        line = found is not None and found.taken.shape[0] == 1
        shown = min(size.width(), size.height()) >= _AXES_FROM_PX and not line
        if shown != self._axes:
            self._axes = shown
            for side in ("left", "bottom"):
                self.plot.getPlotItem().showAxis(side, shown)
        self.scale.setVisible(not shown)
        self._arrange()

    def figure(self) -> Figure:
        """What is drawn, for a file: one line for each point."""
        found, name = self._map, self.choice.quantity
        caption = [
            f"{self._status.run_name} · {self.choice.label(name)} · {self._words()}",
            tr("x and y in nm, colours from {low:.4g} to {high:.4g}").format(
                low=self.bar.low, high=self.bar.high
            ),
            self._status.folder,
        ]
        if found is None:
            return Figure("map", caption)
        rows, columns = np.indices(found.taken.shape)
        table = {
            "x_nm": (found.first_nm[0] + columns * found.spacing_nm[0]).ravel(),
            "y_nm": (found.first_nm[1] + rows * found.spacing_nm[1]).ravel(),
            "spectra": found.taken.ravel().astype(np.float64),
            **{key: np.asarray(values).ravel() for key, values in found.values.items()},
        }
        return Figure("map", caption, {"map": table})

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """The mouse leaves."""
        if event.type() == QtCore.QEvent.Type.Leave:
            self._at = None
            self._tell()
        return False

    def _again(self) -> None:
        self._drawn = None
        self.draw()

    def _step(self, down: int, across: int) -> None:
        if self._map is not None:
            rows, columns = self._map.taken.shape
            self._at = step_from(self._at, down, across, (rows, columns))
            self._tell()

    def _look(self, place: QtCore.QPointF) -> None:
        found = self._map
        if found is None:
            return
        at = self.image.mapFromScene(place)
        row, column = math.floor(at.y()), math.floor(at.x())
        rows, columns = found.taken.shape
        self._at = (row, column) if 0 <= row < rows and 0 <= column < columns else None
        self._tell()

    def _words(self) -> str:
        found = self._map
        if found is None:
            return ""
        done = int(np.minimum(found.taken, found.passes).sum())
        all_of_it = found.taken.size * found.passes
        words = tr("{done} of {all} spectra").format(done=done, all=all_of_it)
        return f"{found.stream} · {words}"

    def _tell(self) -> None:
        found = self._map
        set_text(self.info, self._words())
        if found is None or self._at is None:
            set_text(self.at, "")
            return
        name = self.choice.quantity
        value = float(self.choice.values(found)[self._at])
        sigmas = found.values.get(f"{name}_sigma")
        sigma = float(sigmas[self._at]) if sigmas is not None else 0.0
        x = found.first_nm[0] + self._at[1] * found.spacing_nm[0]
        y = found.first_nm[1] + self._at[0] * found.spacing_nm[1]
        told = text.with_sigma(value, sigma, "" if name == TAKEN else self.choice.unit(name))
        set_text(self.at, f"◆ ({x:.4g}, {y:.4g}) nm: {told}")


def _area_of(found: LiveMap) -> QtCore.QRectF:
    """What a map covers, in nm; a line, which has no height, is drawn as a strip."""
    (x, y), (dx, dy) = found.first_nm, found.spacing_nm
    rows, columns = found.taken.shape
    dy = dy or columns * dx / _STRIP
    return QtCore.QRectF(x - dx / 2, y - dy / 2, columns * dx, rows * dy)


def _words_below() -> QtWidgets.QLabel:
    label = QtWidgets.QLabel()
    label.setProperty("muted", True)
    label.setWordWrap(True)
    label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    return label


class _Scale(QtWidgets.QWidget):
    """The colours, and below them the values at both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.low = self.high = math.nan
        self._words = ""
        self.setMinimumWidth(90)
        self.setFixedHeight(_STRIP_PX + 18)
        theme.follow(self, self.update)

    def show_range(self, low: float, high: float, words: str) -> None:
        """What the ends stand for."""
        if (low, high, words) != (self.low, self.high, self._words):
            self.low, self.high, self._words = low, high, words
            self.setToolTip(f"{low:.5g} – {high:.5g} {words}")
            self.update()

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """A strip of colours between its ends."""
        if not math.isfinite(self.low):
            return
        painter = QtGui.QPainter(self)
        strip = self.rect().adjusted(0, 0, 0, _STRIP_PX - self.height())
        gradient = pg.colormap.get(_COLOURS).getGradient(
            QtCore.QPointF(strip.topLeft()), QtCore.QPointF(strip.topRight())
        )
        painter.fillRect(strip, QtGui.QBrush(gradient))
        painter.setPen(QtGui.QColor(theme.now().muted))
        words = self.rect().adjusted(0, _STRIP_PX, 0, 0)
        middle = QtCore.Qt.AlignmentFlag.AlignVCenter
        painter.drawText(words, middle, text.short(self.low))
        side = middle | QtCore.Qt.AlignmentFlag.AlignRight
        painter.drawText(words, side, f"{text.short(self.high)} {self._words}".strip())
        painter.end()
