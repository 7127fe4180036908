"""Several stored runs in one plot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.pages.runs.banner import Banner
from gui.pages.runs.words import BADGES, quantity
from gui.replay.comparing import TEMPERATURE, Against, Compared, quantities, read_runs
from gui.replay.desk import Desk, Done
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.export import Exporter, Figure
from gui.widgets.keys import ALONE, INSIDE, install
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, make_plot
from gui.widgets.time_plot import ClockAxis
from gui.words import tr

Qt = QtCore.Qt
_JOB = "compare"
_READ_AGAIN_MS = 5000
_STYLES = (
    Qt.PenStyle.SolidLine,
    Qt.PenStyle.DashLine,
    Qt.PenStyle.DotLine,
    Qt.PenStyle.DashDotLine,
)
_COLOURS = ("sky", "orange", "green", "pink", "yellow", "text")
LOOKS = tuple(itertools.product(_STYLES, _COLOURS))
"""Colours that the colour-blind tell apart, then the same with other strokes."""
_AGAINST = {
    Against.TIME: (tr("against time"), tr("time (s)")),
    Against.SINCE: (
        tr("since T was reached"),
        tr("time since the highest set temperature was reached (s)"),
    ),
    Against.TEMPERATURE: (tr("against temperature"), tr("temperature (°C)")),
}


class CompareView(QtWidgets.QWidget):
    """Draws one quantity of many runs; a run that is being written is read again every 5 s."""

    left = QtCore.Signal()
    opened = QtCore.Signal(Path)
    refused = QtCore.Signal(str)

    def __init__(self, desk: Desk, settings: Settings, exporter: Exporter) -> None:
        super().__init__()
        self._desk, self._settings = desk, settings
        self._serial = -1
        self._paths: list[Path] = []
        self.runs: list[Compared] = []
        self._curves: list[Any] = []
        self.exporter = exporter
        self.banner = Banner()
        self.panel = Panel(tr("Compare"))
        self.quantity = Choice(tr("Which quantity is drawn"))
        self.against = Choice(tr("What it is drawn against"))
        for against, (words, _) in _AGAINST.items():
            self.against.addItem(words, against.value)
        kept = settings.choice("compare/against", tuple(a.value for a in Against))
        self.against.setCurrentIndex(self.against.findData(kept))
        self.axis = ClockAxis("bottom")
        self.plot = make_plot("", "", x_axis=self.axis)
        item = self.plot.getPlotItem()
        item.setDownsampling(auto=True, mode="peak")  # whole runs are drawn here
        item.setClipToView(True)
        self.plot.setAccessibleName(tr("Curves of the compared runs"))
        self.stage = Stage(self.plot, tr("Nothing to draw"))
        self.list = QtWidgets.QListWidget()
        self.list.setToolTip(
            tr("Untick a run to hide it (X); double click, or Return, to look at it")
        )
        self.list.setAccessibleName(tr("Runs that are compared"))
        self.list.setIconSize(QtCore.QSize(34, 14))
        self.list.setMinimumWidth(220)
        self._compose()
        self.banner.back.connect(self.left)
        self.quantity.activated.connect(self._chosen)
        self.against.activated.connect(self._chosen)
        self.list.itemChanged.connect(lambda _: self._draw())
        self.list.itemDoubleClicked.connect(lambda _: self._open())
        install(
            self.list,
            ("Return", tr("look at the run that is chosen"), self._open),
            ("Enter", tr("look at the run that is chosen"), self._open),
            ("X", tr("hide its curve, or show it again"), self._tick),
            context=ALONE,
        )
        install(self, ("Backspace", tr("back to all runs"), self.left.emit), context=INSIDE)
        self._again = QtCore.QTimer(self)
        self._again.setInterval(_READ_AGAIN_MS)
        self._again.timeout.connect(self._read_again)
        theme.follow(self, self._paint)

    def show_runs(self, paths: Sequence[Path]) -> None:
        """Read and draw these."""
        if len(paths) > len(LOOKS):
            self.refused.emit(
                tr(
                    "Only the first {most} of {count} runs are drawn: more could not be told apart."
                ).format(most=len(LOOKS), count=len(paths))
            )
        self._paths, self.runs = list(paths[: len(LOOKS)]), []
        self.list.clear()
        self._draw()
        self.banner.show_words(tr("reading {count} runs …").format(count=len(self._paths)))
        self._read()

    def take(self, kind: str, serial: int, piece: object) -> None:
        """Take a run that the desk has read."""
        if kind != _JOB or serial != self._serial:
            return
        if isinstance(piece, Compared):
            self._put(piece)
        elif isinstance(piece, Done):
            self._offer()
            self._draw()
            self.banner.show_words(
                tr("{count} stored runs compared; nothing here is live").format(
                    count=len(self.runs)
                )
            )
            if any(run.growing for run in self.runs):
                self._again.start()

    def keep(self) -> None:
        """The window closes."""
        self._again.stop()

    # ------------------------------------------------------------------ inside

    def _read(self) -> None:
        self._again.stop()
        self._serial = self._desk.ask(_JOB, partial(read_runs, tuple(self._paths)))

    def _read_again(self) -> None:
        if self.isVisible():
            self._read()

    def _put(self, run: Compared) -> None:
        known = next((i for i, other in enumerate(self.runs) if other.path == run.path), None)
        if known is not None:
            self.runs[known] = run
            return
        self.runs.append(run)
        item = QtWidgets.QListWidgetItem(_label(run))
        item.setData(Qt.ItemDataRole.UserRole, str(run.path))
        item.setToolTip(run.error or f"{run.path}\n{run.story.name if run.story else ''}")
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(Qt.CheckState.Unchecked if run.error else Qt.CheckState.Checked)
        self.list.blockSignals(True)
        self.list.addItem(item)
        self.list.blockSignals(False)
        self._paint()

    def _offer(self) -> None:
        kept = self.quantity.currentData() or self._settings.text("compare/quantity")
        self.quantity.clear()
        for name, unit in quantities(self.runs).items():
            self.quantity.addItem(quantity(name, unit), name)
        self.quantity.setCurrentIndex(max(0, self.quantity.findData(kept)))

    def _chosen(self) -> None:
        self._settings.put("compare/quantity", str(self.quantity.currentData()))
        self._settings.put("compare/against", str(self.against.currentData()))
        self._draw()

    def _open(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self.opened.emit(Path(item.data(Qt.ItemDataRole.UserRole)))

    def _tick(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            ticked = item.checkState() is Qt.CheckState.Checked
            item.setCheckState(Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked)

    def _shown(self) -> list[tuple[int, Compared]]:
        ticked = Qt.CheckState.Checked
        return [
            (i, run)
            for i, run in enumerate(self.runs)
            if self.list.item(i) is not None and self.list.item(i).checkState() is ticked
        ]

    def _draw(self) -> None:
        name = str(self.quantity.currentData() or TEMPERATURE)
        against = Against(self.against.currentData())
        for curve in self._curves:
            self.plot.removeItem(curve)
        self._curves = []
        untold = []
        for look, run in self._shown():
            x, y, _ = run.curve(name, against)
            if not np.isfinite(y).any():
                untold.append(run.path.name)
                continue
            curve = self.plot.plot(x, y, connect="finite")
            curve.look = look
            self._curves.append(curve)
        self.plot.getAxis("left").setLabel(self.quantity.currentText())
        self.axis.as_clock = against is not Against.TEMPERATURE
        self.axis.setLabel(_AGAINST[against][1].replace("(s)", "(h:mm:ss)"))
        self.stage.show_plot(bool(self._curves))
        words = tr("not told by {names}").format(names=", ".join(untold)) if untold else ""
        set_text(self.panel.info, words)
        self._paint()

    def _paint(self) -> None:
        for curve in self._curves:
            curve.setPen(_pen(curve.look))
        self.list.blockSignals(True)
        for row in range(self.list.count()):
            self.list.item(row).setIcon(_swatch(row))
        self.list.blockSignals(False)

    def figure(self) -> Figure:
        """What the export saves: the plot, and its numbers side by side in one table."""
        name = str(self.quantity.currentData() or TEMPERATURE)
        against = Against(self.against.currentData())
        drawn = [(run, run.curve(name, against)) for _, run in self._shown()]
        longest = max((len(x) for _, (x, _, _) in drawn), default=0)
        columns: dict[str, Any] = {}
        for run, (x, y, sigma) in drawn:
            room = longest - len(x)
            for words, values in (
                (_AGAINST[against][1], x),
                (self.quantity.currentText(), y),
                (tr("σ of it"), sigma),
            ):
                title = f"{run.path.name}: {words}"
                while title in columns:
                    title += "'"
                columns[title] = np.pad(values, (0, room), constant_values=np.nan)
        caption = [
            f"{self.quantity.currentText()} {self.against.currentText()}",
            *(f"{run.path.name}: {run.story.name if run.story else ''}" for run, _ in drawn),
        ]
        return Figure("compare", caption, {caption[0]: columns})

    def _compose(self) -> None:
        self.save_button = self.exporter.button(self.plot, self.figure)
        for widget in (self.quantity, self.against, self.save_button):
            self.panel.head.addWidget(widget)
        across = QtWidgets.QSplitter(Qt.Orientation.Horizontal)
        across.setHandleWidth(6)
        across.setChildrenCollapsible(False)
        across.addWidget(self.list)
        across.addWidget(self.stage)
        across.setSizes([280, 900])
        self.panel.body.addWidget(across, 1)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addWidget(self.banner)
        column.addWidget(self.panel, 1)


def _label(run: Compared) -> str:
    if run.story is None:
        return tr("{name}: cannot be read").format(name=run.path.name)
    return f"{run.path.name}\n{BADGES[run.story.ending].text}"


def _pen(look: int) -> QtGui.QPen:
    style, colour = LOOKS[look]
    pen: QtGui.QPen = pg.mkPen(getattr(theme.now(), colour), width=1, style=style)
    return pen


def _swatch(look: int) -> QtGui.QIcon:
    picture = QtGui.QPixmap(34, 14)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(picture)
    pen = QtGui.QPen(_pen(look))
    pen.setWidth(3)
    painter.setPen(pen)
    painter.drawLine(1, 7, 33, 7)
    painter.end()
    return QtGui.QIcon(picture)
