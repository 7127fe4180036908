"""A plot with hotstage's look, and the settings that keep pyqtgraph fast and still."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from gui import theme

pg.setConfigOptions(background=theme.PANEL, foreground=theme.MUTED, imageAxisOrder="row-major")


def make_plot(x_label: str, y_label: str) -> Any:
    """A ``PlotWidget`` without SI prefixes, with peak-preserving downsampling."""
    widget = pg.PlotWidget()
    plot = widget.getPlotItem()
    # on the PlotItem: settings of the single curve are overwritten when it is added
    plot.setDownsampling(auto=True, mode="peak")
    plot.setClipToView(True)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.showGrid(x=True, y=True, alpha=0.12)
    for side, label in (("bottom", x_label), ("left", y_label)):
        axis = plot.getAxis(side)
        axis.enableAutoSIPrefix(False)
        axis.setLabel(label)
        axis.setTextPen(theme.MUTED)
    plot.getAxis("left").setWidth(58)
    return widget


class Stage(QtWidgets.QStackedWidget):
    """Words in place of a plot for as long as there is nothing to plot: empty axes would mislead."""

    def __init__(self, plot: QtWidgets.QWidget, words: str) -> None:
        super().__init__()
        label = QtWidgets.QLabel(words)
        label.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        label.setProperty("muted", True)
        self.addWidget(label)
        self.addWidget(plot)

    def show_plot(self, filled: bool) -> None:
        """Show the plot, or the words again."""
        self.setCurrentIndex(1 if filled else 0)


def pen(colour: str, width: int = 1, dashed: bool = False) -> Any:
    """A pen; wider than 1 is slow with many points, so lines stay thin."""
    style = QtCore.Qt.PenStyle.DashLine if dashed else QtCore.Qt.PenStyle.SolidLine
    return pg.mkPen(colour, width=width, style=style)


def dim(plot: Any, stale: bool) -> None:
    """Let what a plot shows fade while it is stale."""
    plot.getViewBox().childGroup.setOpacity(0.4 if stale else 1.0)
