"""A plot with hotstage's look, and the settings that keep pyqtgraph fast and still."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from gui import theme


def make_plot(x_label: str, y_label: str, **tints: str) -> Any:
    """A ``PlotWidget`` without SI prefixes, with peak-preserving downsampling.

    ``tints`` names the theme's colour of an axis: ``left="diameter"``.
    """
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
    plot.getAxis("left").setWidth(58)

    def paint() -> None:
        now = theme.now()
        widget.setBackground(now.panel)
        for side in ("bottom", "left"):
            axis = plot.getAxis(side)
            axis.setPen(now.faint)
            axis.setTextPen(getattr(now, tints.get(side, "muted")))

    theme.follow(widget, paint)
    return widget


def draw_in(item: Any, colour: str, *, dashed: bool = False, dotted: bool = False) -> Any:
    """Draw a curve or line in a colour of the theme, by its name in :class:`gui.theme.Colours`.

    Lines stay one pixel wide: wider ones are slow with many points. Returns the item.
    """
    styles = QtCore.Qt.PenStyle
    style = styles.DashLine if dashed else styles.DotLine if dotted else styles.SolidLine
    theme.follow(
        item, lambda: item.setPen(pg.mkPen(getattr(theme.now(), colour), width=1, style=style))
    )
    return item


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


def dim(plot: Any, stale: bool) -> None:
    """Let what a plot shows fade while it is stale."""
    plot.getViewBox().childGroup.setOpacity(0.4 if stale else 1.0)
