"""Upright lines in a time plot where something happened, with a glyph at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import LiveNote
from gui import text, theme
from gui.words import tr

GLYPH_APART_PX = 13
NEAR_PX = 6.0
"""The mouse is at an event when it is so near."""
MOST_WORDS = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of event looks."""

    word: str
    glyph: str
    colour: str
    """Its name in the theme."""


STEP = Kind(tr("step"), "▸", "faint")
STATE = Kind(tr("state"), "○", "faint")
MARK = Kind(tr("mark"), "⚑", "sky")
WARNING = Kind(tr("warning"), "⚠", "orange")
KINDS = {
    "action": STEP,
    "state": STATE,
    "mark": MARK,
    "prompt": MARK,
    "warning": WARNING,
    "fault": WARNING,
    "link": WARNING,
}
"""By the kind of a note; notes of other kinds are not drawn."""


def drawn(note: LiveNote) -> bool:
    """Whether a note is an event of the plot; of a step only its begin is."""
    return note.kind in KINDS and not (note.kind == "action" and note.text.startswith("end "))


class EventLines(QtWidgets.QGraphicsObject):
    """Lies on a pyqtgraph ``ViewBox`` whose abscissa is run seconds."""

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._view = view
        self._notes: list[LiveNote] = []
        self._t_s = np.empty(0)
        self._cursor: tuple[float | None, bool] = (None, False)
        self.setZValue(50)
        view.sigTransformChanged.connect(self._changed)
        view.sigResized.connect(self._changed)

    def show_notes(self, notes: Sequence[LiveNote]) -> None:
        """Draw these; others than events are passed over."""
        self._notes = sorted((note for note in notes if drawn(note)), key=lambda note: note.t_s)
        self._t_s = np.array([note.t_s for note in self._notes], np.float64)
        self._changed()

    def show_cursor(self, t_s: float | None, pinned: bool) -> None:
        """Write the time beside the cursor's line; None takes it away."""
        if (t_s, pinned) != self._cursor:
            self._cursor = t_s, pinned
            self._changed()

    def near(self, t_s: float) -> list[str]:
        """What happened so near to a time that the eye cannot tell it apart, in words."""
        if not len(self._t_s) or not self.isVisible():
            return []
        low, high = self._view.viewRange()[0]
        apart = (high - low) / max(1.0, self._view.rect().width()) * NEAR_PX
        first, last = np.searchsorted(self._t_s, (t_s - apart, t_s + apart))
        words = []
        for note in self._notes[first:last][:MOST_WORDS]:
            kind = KINDS[note.kind]
            words.append(f"{kind.glyph} {text.clock(note.t_s)} {kind.word}: {note.text}")
        if last - first > MOST_WORDS:
            words.append(tr("and {n} more").format(n=int(last - first) - MOST_WORDS))
        return words

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802 - Qt's name
        """All of the view."""
        return QtCore.QRectF(self._view.rect())

    def paint(
        self,
        painter: QtGui.QPainter,
        option: QtWidgets.QStyleOptionGraphicsItem,
        widget: QtWidgets.QWidget | None = None,
    ) -> None:
        """A line a pixel column at most, and a glyph where there is room for one."""
        low, high = self._view.viewRange()[0]
        rect = self._view.rect()
        self._paint_events(painter, low, high, rect)
        t_s, pinned = self._cursor
        if t_s is not None and low <= t_s <= high:
            self._paint_time(painter, (t_s - low) / (high - low), rect, pinned)

    def _paint_events(
        self, painter: QtGui.QPainter, low: float, high: float, rect: QtCore.QRectF
    ) -> None:
        first, last = np.searchsorted(self._t_s, (low, high))
        places = (self._t_s[first:last] - low) / (high - low) * rect.width()
        taken: set[int] = set()
        free_from = -1.0
        for note, place in zip(self._notes[first:last], places, strict=True):
            kind, column = KINDS[note.kind], int(place)
            colour = QtGui.QColor(getattr(theme.now(), kind.colour))
            if column not in taken:
                taken.add(column)
                pen = QtGui.QPen(colour, 1, QtCore.Qt.PenStyle.DotLine)
                painter.setPen(pen)
                painter.drawLine(QtCore.QLineF(column, 14, column, rect.height()))
            near = 8 if kind in (MARK, WARNING) else 0
            if place >= free_from - near:
                painter.setPen(
                    QtGui.QColor(theme.now().muted) if kind.colour == "faint" else colour
                )
                glyph = QtCore.QRectF(column - 8, 0, 16, 14)
                painter.drawText(glyph, QtCore.Qt.AlignmentFlag.AlignCenter, kind.glyph)
                free_from = place + GLYPH_APART_PX

    def _paint_time(
        self, painter: QtGui.QPainter, share: float, rect: QtCore.QRectF, pinned: bool
    ) -> None:
        words = text.clock(self._cursor[0] or 0.0)
        words = f"◆ {words}" if pinned else words
        size = painter.fontMetrics().size(0, words)
        width, height = size.width() + 8, size.height() + 2
        left = share * rect.width() + 3
        if left + width > rect.width():
            left -= width + 6
        place = QtCore.QRectF(left, rect.height() - height - 2, width, height)
        veil = QtGui.QColor(theme.now().raised)
        veil.setAlpha(220)
        painter.fillRect(place, veil)
        painter.setPen(QtGui.QColor(theme.now().text))
        painter.drawText(place, QtCore.Qt.AlignmentFlag.AlignCenter, words)

    def _changed(self, *_: object) -> None:
        self.prepareGeometryChange()
        self.update()
