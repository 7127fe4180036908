"""Saves what a plot shows: a picture or a drawing with a caption, and its numbers beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtSvg, QtWidgets

from gui import theme
from gui.aside import Aside, Failed
from gui.settings import Settings
from gui.widgets.trace import Floats
from gui.words import tr

SCALE = 3
"""Pixels of a saved picture for one of the screen."""
_FILTERS = {
    ".png": tr("Picture, and its numbers as CSV (*.png)"),
    ".svg": tr("Drawing, and its numbers as CSV (*.svg)"),
    ".csv": tr("Numbers only (*.csv)"),
}
_LAST = "export/folder"
_MARGIN = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """What is saved of a plot."""

    name: str
    """For the file's name: lower case, no blanks."""
    caption: Sequence[str]
    """Lines below the plot, and above the numbers."""
    tables: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    """Columns of equal length by their names with units; each further table has a file of its own."""


class Exporter(QtCore.QObject):
    """Asks where to, draws, and has the numbers written beside the window's process."""

    told = QtCore.Signal(str)
    complained = QtCore.Signal(str)

    def __init__(self, aside: Aside, settings: Settings) -> None:
        super().__init__()
        self._aside = aside
        self._settings = settings
        self._writing: dict[str, str] = {}
        self.dialog: QtWidgets.QFileDialog | None = None

    def button(self, plot: Any, figure: Callable[[], Figure]) -> QtWidgets.QPushButton:
        """A small button that saves this plot."""
        found = QtWidgets.QPushButton("⤓")
        found.setObjectName("small")
        found.setFixedWidth(26)
        found.setToolTip(tr("Save this plot as PNG or SVG, and its numbers as CSV"))
        found.setAccessibleName(tr("Save this plot"))
        found.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        found.clicked.connect(lambda: self.ask(plot, figure()))
        return found

    def ask(self, plot: Any, figure: Figure) -> None:
        """Let the operator choose a file; nothing waits for the answer."""
        folder = Path(self._settings.text(_LAST) or str(Path.cwd()))
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        dialog = QtWidgets.QFileDialog(plot.window(), tr("Save plot"))
        # the native dialog would run an event loop of its own, dead to F12
        dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
        dialog.setAcceptMode(QtWidgets.QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilters(list(_FILTERS.values()))
        dialog.setDirectory(str(folder if folder.is_dir() else Path.cwd()))
        dialog.selectFile(f"{stamp}-{figure.name}.png")
        dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)

        def chosen(path: str) -> None:
            suffix = next(
                s for s, words in _FILTERS.items() if words == dialog.selectedNameFilter()
            )
            target = Path(path)
            if target.suffix.lower() not in _FILTERS:
                target = target.with_name(target.name + suffix)
            # what the dialog asked about is the name as it was written, no other
            self.save(plot, figure, target, replace=str(target) == path)

        dialog.fileSelected.connect(chosen)
        dialog.finished.connect(self._closed)
        self.dialog = dialog
        dialog.open()

    def save(self, plot: Any, figure: Figure, target: Path, *, replace: bool = False) -> None:
        """Write the figure; its numbers go beside it as ``NAME.csv``, ``NAME-2.csv`` and so on."""
        tables = {
            target.with_name(f"{target.stem}{'' if number == 0 else f'-{number + 1}'}.csv"): table
            for number, table in enumerate(figure.tables.values())
        }
        drawing = target.suffix.lower() != ".csv"
        others = [path for path in (*tables, target) if path.exists()]
        kept = [path for path in others if not (replace and path == target)]
        if kept:
            self.complained.emit(
                tr("Nothing was saved: {name} exists already. Choose another name.").format(
                    name=kept[0].name
                )
            )
            return
        self._settings.put(_LAST, str(target.parent))
        if drawing:
            error = _draw(plot, figure.caption, target)
            if error:
                self.complained.emit(error)
                return
        head = [line for line in figure.caption if line]
        for (path, columns), title in zip(tables.items(), figure.tables, strict=True):
            key = f"csv {path}"
            copies = {name: column.copy() for name, column in columns.items()}
            self._aside.ask(key, "write_csv", str(path), [*head, title], copies, replace)
            self._writing[key] = str(path)
        if not tables:
            self.told.emit(tr("Saved: {path}").format(path=target))

    def tick(self) -> None:
        """Tell of files that are complete."""
        for key, path in list(self._writing.items()):
            answer = self._aside.take(key)
            if answer is None:
                continue
            del self._writing[key]
            if isinstance(answer, Failed):
                self.complained.emit(
                    tr("{path} was not written: {why}").format(path=path, why=answer.why)
                )
            else:
                self.told.emit(tr("Saved: {path}").format(path=path))

    def _closed(self, *_: object) -> None:
        self.dialog = None


@contextmanager
def _thicker(plot: Any, width_px: float) -> Iterator[None]:
    """Curves are a pixel wide whatever the scale; on a picture that would be a hair."""
    curves = [item for item in plot.scene().items() if isinstance(item, pg.PlotCurveItem)]
    pens = [QtGui.QPen(curve.opts["pen"]) for curve in curves]
    for curve, pen in zip(curves, pens, strict=True):
        thick = QtGui.QPen(pen)
        thick.setWidthF(width_px)
        curve.setPen(thick)
    yield
    for curve, pen in zip(curves, pens, strict=True):
        curve.setPen(pen)


def _draw(plot: Any, caption: Sequence[str], target: Path) -> str:
    """Draw a plot with its caption below; returns what went wrong."""
    words = "\n".join(line for line in caption if line)
    width, height = plot.width(), plot.height()
    wrap = QtCore.Qt.TextFlag.TextWordWrap | QtCore.Qt.TextFlag.TextWrapAnywhere
    room = QtCore.QRect(_MARGIN, height + _MARGIN, width - 2 * _MARGIN, 10_000)
    foot = QtGui.QFontMetrics(plot.font()).boundingRect(room, wrap, words).height()
    size = QtCore.QSize(width, height + foot + 2 * _MARGIN)
    device: Any
    if target.suffix.lower() == ".svg":
        device = QtSvg.QSvgGenerator()
        device.setFileName(str(target))
        device.setSize(size)
        device.setViewBox(QtCore.QRect(QtCore.QPoint(0, 0), size))
        device.setTitle(words.partition("\n")[0] or target.stem)
    else:
        device = QtGui.QImage(size * SCALE, QtGui.QImage.Format.Format_RGB32)
    painter = QtGui.QPainter()
    if not painter.begin(device):
        return tr("{path} cannot be written; choose another folder.").format(path=target)
    if isinstance(device, QtGui.QImage):
        painter.scale(SCALE, SCALE)
    painter.fillRect(QtCore.QRect(QtCore.QPoint(0, 0), size), QtGui.QColor(theme.now().panel))
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    with _thicker(plot, 1.2 * SCALE if isinstance(device, QtGui.QImage) else 1.2):
        plot.render(painter, QtCore.QRectF(0, 0, width, height), QtCore.QRect(0, 0, width, height))
    painter.setFont(plot.font())
    painter.setPen(QtGui.QColor(theme.now().text))
    painter.drawText(room, wrap, words)
    painter.end()
    if isinstance(device, QtGui.QImage) and not device.save(str(target)):
        return tr("{path} cannot be written; choose another folder.").format(path=target)
    return ""
