"""What makes a plot a time plot: the shared cursor, events, and a range that does not move under the hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from gui import text, theme
from gui.widgets.cursor import TimeCursor
from gui.widgets.event_lines import EventLines
from gui.widgets.keys import Described
from gui.widgets.plot import draw_in
from gui.widgets.ranges import ROOM, SMALLER, fit_y
from gui.widgets.trace import Floats
from gui.words import tr

Key = QtCore.Qt.Key
_BACK = (Key.Key_Escape, Key.Key_Home)
_STEPS = {Key.Key_Left: -1.0, Key.Key_Right: 1.0}


class TimePlot(QtCore.QObject):
    """Goes with a ``PlotWidget`` whose abscissa is run seconds.

    The mouse over it, or the arrow keys, show a time in all plots that share ``cursor``; a click pins
    it, a double click or Escape goes back to the present. As long as a time is shown, and after the
    hand has zoomed or dragged, ranges stay as they are.
    """

    def __init__(self, widget: Any, cursor: TimeCursor) -> None:
        super().__init__()  # not a child: whoever makes it holds it
        self._widget = widget
        self.cursor = cursor
        self.follows = True
        """Whether the range is ours to set: the hand has not."""
        self.on = True
        """Whether the abscissa is time at present."""
        self._present_s = math.nan
        self.view = widget.getPlotItem().getViewBox()
        self.view.disableAutoRange()
        self.events = EventLines(self.view)
        self.line = draw_in(pg.InfiniteLine(angle=90), "sky")
        self.line.hide()
        widget.addItem(self.line, ignoreBounds=True)
        self.view.sigRangeChangedManually.connect(self._taken_by_hand)
        widget.scene().sigMouseMoved.connect(self._moved)
        widget.scene().sigMouseClicked.connect(self._clicked)
        widget.installEventFilter(self)
        widget.viewport().installEventFilter(self)
        cursor.moved.connect(self._show)
        widget.by_keys.whole = self._to_present
        Described(
            widget,
            (tr("Left, Right"), tr("In a plot: move the time cursor; with Shift faster")),
        )

    @property
    def held(self) -> bool:
        """Whether ranges must stay as they are."""
        return self.cursor.t_s is not None or not self.follows

    @property
    def width_px(self) -> int:
        """What the plot can show across."""
        return max(50, int(self.view.width()))

    def set_on(self, on: bool) -> None:
        """Whether the abscissa is time."""
        self.on = on
        self.follows = True
        self.events.setVisible(on)
        self._show()

    def follow(self) -> None:
        """The range is ours again."""
        self.follows = True

    def fit_time(self, first_s: float, present_s: float, end_s: float) -> None:
        """Show the run from ``first_s`` to ``end_s``, or the last of it, if nobody's hand is on it."""
        self._present_s = present_s
        if self.held or not math.isfinite(present_s):
            return
        window_s = self.cursor.window_s
        low = max(first_s, present_s - window_s) if math.isfinite(window_s) else first_s
        high = end_s if math.isinf(window_s) else min(max(end_s, present_s), low + window_s * 1.1)
        high = max(high, present_s, low + 1e-3)
        now_low, now_high = self.view.viewRange()[0]
        span = high - low
        fits = now_low <= low and high <= now_high and span > SMALLER * (now_high - now_low)
        late = math.isfinite(window_s) and present_s > now_high - 0.01 * span
        if not fits or late or now_low < low - max(0.1 * span, 1e-3):
            self.view.setXRange(low, high + ROOM * span, padding=0)

    def fit_y(self, curves: Iterable[Floats], view: Any = None) -> None:
        """Hold what is drawn, without moving for less than it must."""
        if not self.held:
            fit_y(view or self.view, curves)

    # ------------------------------------------------------------------------- hand and keys

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """The mouse leaves, or a key moves the cursor."""
        if event.type() == QtCore.QEvent.Type.Leave:
            QtWidgets.QToolTip.hideText()
            self.cursor.leave()
        elif isinstance(event, QtGui.QKeyEvent) and watched is self._widget and self._ours(event):
            if event.type() == QtCore.QEvent.Type.ShortcutOverride:
                event.accept()  # it is no shortcut of the window's then
            elif event.type() == QtCore.QEvent.Type.KeyPress:
                self._key(event)
            return True
        return False

    def _ours(self, event: QtGui.QKeyEvent) -> bool:
        if event.key() in _BACK:
            return self.held
        farther = event.modifiers() & QtCore.Qt.KeyboardModifier.ControlModifier
        return self.on and event.key() in _STEPS and not farther

    def _key(self, event: QtGui.QKeyEvent) -> None:
        key = Key(event.key())
        if key in _BACK:
            self._widget.by_keys.all_of_it()
            return
        low, high = self.view.viewRange()[0]
        far = bool(event.modifiers() & QtCore.Qt.KeyboardModifier.ShiftModifier)
        step = _STEPS[key] * (high - low) / self.width_px * (20 if far else 1)
        start = self.cursor.t_s
        if start is None:
            start = min(high, self._present_s) if math.isfinite(self._present_s) else high
        self.cursor.pin(min(max(start + step, low), high))

    def _moved(self, place: QtCore.QPointF) -> None:
        if not self.on:
            return
        if not self.view.sceneBoundingRect().contains(place):
            self.cursor.leave()
            return
        t_s = float(self.view.mapSceneToView(place).x())
        self.cursor.look(t_s)
        words = "\n".join(self.events.near(t_s))
        if words:
            QtWidgets.QToolTip.showText(QtGui.QCursor.pos(), words, self._widget)
        else:
            QtWidgets.QToolTip.hideText()

    def _clicked(self, event: Any) -> None:
        if event.button() != QtCore.Qt.MouseButton.LeftButton:
            return
        if (
            not event.double()
            and self.on
            and self.view.sceneBoundingRect().contains(event.scenePos())
        ):
            self.cursor.pin(float(self.view.mapSceneToView(event.scenePos()).x()))

    def _to_present(self) -> None:
        self.follows = True
        self.cursor.now()

    def _taken_by_hand(self, *_: object) -> None:
        self.follows = False

    def _show(self) -> None:
        t_s = self.cursor.t_s
        shown = self.on and t_s is not None
        self.line.setVisible(shown)
        if shown:
            self.line.setValue(t_s)
        self.events.show_cursor(t_s if shown else None, self.cursor.pinned)


class ClockAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis of run seconds, written as clocks are."""

    as_clock = True
    """False: an axis as any other."""
    _NICE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)

    def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:  # noqa: N802
        """Whole seconds, minutes and hours."""
        wanted = (high - low) / max(2.0, size / 90)
        if wanted < 1 or not self.as_clock:
            found: list[tuple[float, float]] = super().tickSpacing(low, high, size)
            return found if not self.as_clock else found[:1]
        return [(float(next((s for s in self._NICE_S if s >= wanted), self._NICE_S[-1])), 0.0)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """``h:mm:ss``, with decimals where seconds are too coarse."""
        if not self.as_clock:
            plain: list[str] = super().tickStrings(values, scale, spacing)
            return plain
        if spacing >= 1:
            return [text.clock(round(v)) if v >= 0 else f"-{text.clock(round(-v))}" for v in values]
        return [f"{value:.{max(1, -math.floor(math.log10(spacing)))}f} s" for value in values]


def place_now(line: Any, t_s: float, shown: bool) -> None:
    """Put the line of the present, without a repaint if it does not move."""
    if line.isVisible() != shown:
        line.setVisible(shown)
    if shown and line.value() != t_s:
        line.setValue(t_s)


def legend(words: Iterable[tuple[str, str]]) -> str:
    """Words in the colours of their curves, as rich text."""
    return "&nbsp; ".join(
        f'<span style="color:{getattr(theme.now(), colour)}">{word}</span>'
        for word, colour in words
    )
