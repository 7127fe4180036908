"""Leads through the cards; the window goes on under it as if it were not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6 import QtCore, QtWidgets

from gui.tour.card import CardFrame, Ring, place_beside
from gui.tour.cards import Card, cards_of, opened
from gui.words import tr

if TYPE_CHECKING:
    from gui.window import OperatorWindow

_LOOK_MS = 100


class Tour(QtCore.QObject):
    """One walk through the cards. Sends nothing to anybody; ``open_example`` only opens a recipe.

    The cards lie on the pages only: the bar with the state and heater off, faults and questions of
    the run are never covered.
    """

    ended = QtCore.Signal()

    def __init__(self, window: OperatorWindow, open_example: Callable[[], bool]) -> None:
        super().__init__(window)
        self._window, self._open_example = window, open_example
        status = window.session.snapshot().status
        self.cards: tuple[Card, ...] = cards_of(window, status)
        self.index = 0
        self.ring, self.frame = Ring(window), CardFrame(window)
        self.frame.setAccessibleName(tr("Tour"))
        self.frame.went.connect(self.go)
        self.frame.skipped.connect(self.end)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._place)

    def begin(self) -> None:
        """Show the first card."""
        self._timer.start()
        self._show()

    def go(self, by: int) -> None:
        """Go on or back by a card; behind the last the tour ends, or the example is opened."""
        card = self.cards[self.index]
        if by > 0 and card.example:
            if not self._open_example():
                return
            self.cards = (*self.cards[: self.index + 1], opened(self._window))
        if self.index + by >= len(self.cards):
            self.end()
            return
        self.index = max(0, self.index + by)
        self._show()

    def end(self) -> None:
        """Take the card away."""
        self._timer.stop()
        had_focus = self.frame.hasFocus()
        for widget in (self.frame, self.ring):
            widget.hide()
            widget.deleteLater()
        centre = self._window.centralWidget()
        if had_focus and centre is not None:
            centre.setFocus()
        self.ended.emit()
        self.deleteLater()

    def _show(self) -> None:
        card = self.cards[self.index]
        on_live = any(self._window.live.isAncestorOf(part) for part in card.parts)
        if on_live:
            self._window.show_page(self._window.live)
        self.frame.show_card(card, self.index, len(self.cards))
        self._place()
        for widget in (self.ring, self.frame):
            widget.show()
            widget.raise_()
        self.frame.setFocus()

    def _place(self) -> None:
        """Follow what the card speaks of: the window may be resized, a fault may be told."""
        parts = self.cards[self.index].parts
        area = self._rect(self._window.stack)
        around = QtCore.QRect()
        for part in parts:
            if part.isVisible():
                around = around.united(self._rect(part))
        self.ring.setVisible(not around.isEmpty())
        if around.isEmpty():
            around = QtCore.QRect(area.center(), QtCore.QSize(1, 1))
        ring = around.adjusted(-4, -4, 4, 4)
        if self.ring.geometry() != ring:
            self.ring.setGeometry(ring)
        place = place_beside(ring, self.frame.size(), area.adjusted(8, 8, -8, -8))
        if self.frame.pos() != place:
            self.frame.move(place)

    def _rect(self, widget: QtWidgets.QWidget) -> QtCore.QRect:
        return QtCore.QRect(widget.mapTo(self._window, QtCore.QPoint(0, 0)), widget.size())
