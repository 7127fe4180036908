"""A plot with hotstage's look, and the settings that keep pyqtgraph fast and still."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from gui import theme
from gui.widgets.plot_keys import PlotKeys


def make_plot(x_label: str, y_label: str, *, x_axis: Any = None, **tints: str) -> Any:
    """A ``PlotWidget`` without SI prefixes, with peak-preserving downsampling; ``by_keys`` are its keys.

    ``x_axis`` is an ``AxisItem`` for the bottom other than the usual one; plots with one draw curves
    that are thinned already. ``tints`` names the theme's colour of an axis: ``left="diameter"``.
    """
    axes = {"bottom": x_axis} if x_axis is not None else None
    widget = pg.PlotWidget(axisItems=axes, enableMenu=False)
    widget.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
    plot = widget.getPlotItem()
    if x_axis is None:
        # on the PlotItem: settings of the single curve are overwritten when it is added
        plot.setDownsampling(auto=True, mode="peak")
        plot.setClipToView(True)
    plot.hideButtons()
    plot.showGrid(x=True, y=True, alpha=0.12)
    for side, label in (("bottom", x_label), ("left", y_label)):
        axis = plot.getAxis(side)
        axis.enableAutoSIPrefix(False)
        axis.setLabel(label)
        axis.setStyle(tickTextOffset=3)
        keep_picture(axis)
    plot.getAxis("left").setWidth(58 if y_label else 44)

    def paint() -> None:
        now = theme.now()
        widget.setBackground(now.panel)
        for side in ("bottom", "left"):
            axis = plot.getAxis(side)
            axis.setPen(now.faint)
            axis.setTextPen(getattr(now, tints.get(side, "muted")))

    theme.follow(widget, paint)
    paint_alone(widget)
    widget.by_keys = PlotKeys(widget, plot.getViewBox())
    return widget


def keep_picture(axis: Any) -> None:
    """Paint an axis from a picture of it until it changes: with its grid it costs more than curves do."""
    axis.setCacheMode(QtWidgets.QGraphicsItem.CacheMode.DeviceCoordinateCache)


def paint_alone(view: QtWidgets.QGraphicsView) -> None:
    """Spare what lies behind a view its painting: the view's ground covers it.

    Else Qt paints the grounds of all that the view lies in, six deep in this window, with every image
    (1.2 ms, more than the image itself).
    """
    view.viewport().setAttribute(QtCore.Qt.WidgetAttribute.WA_OpaquePaintEvent)


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


def label_x(plot: Any, words: str) -> None:
    """Put other words below a plot."""
    axis = plot.getPlotItem().getAxis("bottom")
    if axis.labelText != words:
        axis.setLabel(words)
        axis.resizeEvent()  # else they stay where the words before them were centred


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
