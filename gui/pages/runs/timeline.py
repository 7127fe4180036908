"""The time of a stored run as a line to drag along: steps, marks, faults, and the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import PlannedStep
from gui import text, theme
from gui.pages.runs.words import REPLAY_LINE
from gui.words import tr

Qt = QtCore.Qt
HEIGHT = 52
_MARGIN = 10
_STEPS = QtCore.QRectF(0, 3, 0, 20)
_TRACK_Y = 34
_MARK_NEAR_PX = 6
_TICKS = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on the line that one can go to."""

    t_s: float
    kind: str
    """``step``, ``mark``, ``fault`` or ``condition``."""
    text: str


class TimeLine(QtWidgets.QWidget):
    """Emits ``moved`` with the run time that a person points at; the wheel does nothing."""

    moved = QtCore.Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(200)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(tr("Time of the run"))
        # for whoever hears it; what is seen of a tip is what lies under the mouse
        self.setToolTip(
            tr("Drag, or go by frames with Left and Right, by steps with Page up and down")
        )
        self.t_s = 0.0
        self.end_s = 0.0
        self._steps: tuple[PlannedStep, ...] = ()
        self.marks: tuple[Mark, ...] = ()
        self._growing = False
        theme.follow(self, self.update)

    def show_run(
        self, end_s: float, steps: Sequence[PlannedStep], marks: Sequence[Mark], growing: bool
    ) -> None:
        """Draw another run, or what has come of the same."""
        self.end_s, self._steps, self._growing = end_s, tuple(steps), growing
        self.marks = tuple(sorted(marks, key=lambda mark: mark.t_s))
        self.update()

    def show_time(self, t_s: float) -> None:
        """Put the cursor at a time."""
        self.t_s = t_s
        self.update()

    def next_mark(self, forward: bool) -> Mark | None:
        """The mark after the cursor, or before it."""
        if forward:
            return next((mark for mark in self.marks if mark.t_s > self.t_s + 1e-6), None)
        return next((mark for mark in reversed(self.marks) if mark.t_s < self.t_s - 1e-6), None)

    # ------------------------------------------------------------------ Qt's hooks

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Go there; onto a mark, if one is near."""
        if event.button() == Qt.MouseButton.LeftButton and self.end_s > 0:
            near = self._mark_at(event.position())
            self.moved.emit(near.t_s if near is not None else self._time_at(event.position().x()))

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Follow the hand."""
        if event.buttons() & Qt.MouseButton.LeftButton and self.end_s > 0:
            self.moved.emit(self._time_at(event.position().x()))

    def event(self, event: QtCore.QEvent) -> bool:
        """The tip says what lies under the mouse."""
        if isinstance(event, QtGui.QHelpEvent) and event.type() == QtCore.QEvent.Type.ToolTip:
            QtWidgets.QToolTip.showText(event.globalPos(), self._tip(event.pos()), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw everything; a few hundred shapes at most."""
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        self._paint_steps(painter)
        self._paint_track(painter)
        self._paint_marks(painter)
        self._paint_cursor(painter)
        painter.end()

    # ------------------------------------------------------------------ inside

    def _x(self, t_s: float) -> float:
        width = self.width() - 2 * _MARGIN
        share = t_s / self.end_s if self.end_s > 0 else 0.0
        return _MARGIN + width * min(1.0, max(0.0, share))

    def _time_at(self, x: float) -> float:
        width = max(1, self.width() - 2 * _MARGIN)
        return self.end_s * min(1.0, max(0.0, (x - _MARGIN) / width))

    def _mark_at(self, point: QtCore.QPointF) -> Mark | None:
        near = [m for m in self.marks if abs(self._x(m.t_s) - point.x()) <= _MARK_NEAR_PX]
        if point.y() < _TRACK_Y - 8:  # the steps: only their beginnings
            return None
        return min(near, key=lambda m: abs(self._x(m.t_s) - point.x()), default=None)

    def _tip(self, point: QtCore.QPoint) -> str:
        t_s = self._time_at(point.x())
        lines = [text.clock(t_s)]
        step = next(
            (s for s in reversed(self._steps) if s.t_start_s <= t_s <= s.t_start_s + s.duration_s),
            None,
        )
        if step is not None:
            lines.append(f"{step.index + 1}  {step.text}")
        mark = self._mark_at(QtCore.QPointF(point))
        if mark is not None and mark.kind != "step":
            lines.append(f"{text.clock(mark.t_s)}  {mark.kind}: {mark.text}")
        return "\n".join(lines)

    def _paint_steps(self, painter: QtGui.QPainter) -> None:
        now = theme.now()
        metrics = self.fontMetrics()
        for step in self._steps:
            left, right = self._x(step.t_start_s), self._x(step.t_start_s + step.duration_s)
            box = QtCore.QRectF(left, _STEPS.y(), max(1.5, right - left - 1.5), _STEPS.height())
            present = step.t_start_s <= self.t_s < step.t_start_s + step.duration_s
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QtGui.QColor(now.selection if present else now.raised))
            painter.drawRoundedRect(box, 3, 3)
            if box.width() > 14:
                painter.setPen(QtGui.QColor(now.text if present else now.muted))
                words = metrics.elidedText(
                    f"{step.index + 1}  {step.text}",
                    Qt.TextElideMode.ElideRight,
                    int(box.width()) - 8,
                )
                if box.width() < 44:
                    words = f"{step.index + 1}"
                painter.drawText(
                    box.adjusted(5, 0, -2, 0),
                    Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
                    words,
                )

    def _paint_track(self, painter: QtGui.QPainter) -> None:
        now = theme.now()
        left, right = _MARGIN, self.width() - _MARGIN
        painter.setPen(QtGui.QPen(QtGui.QColor(now.line), 4, c=Qt.PenCapStyle.RoundCap))
        painter.drawLine(QtCore.QPointF(left, _TRACK_Y), QtCore.QPointF(right, _TRACK_Y))
        painter.setPen(QtGui.QPen(QtGui.QColor(REPLAY_LINE), 4, c=Qt.PenCapStyle.RoundCap))
        painter.drawLine(
            QtCore.QPointF(left, _TRACK_Y), QtCore.QPointF(self._x(self.t_s), _TRACK_Y)
        )
        if self.end_s <= 0:
            return
        font = painter.font()
        font.setPointSizeF(8.0)
        painter.setFont(font)
        painter.setPen(QtGui.QColor(now.muted))
        spacing = _spacing(self.end_s / max(2, min(_TICKS, self.width() // 110)))
        t_s = 0.0
        while t_s <= self.end_s:
            x = self._x(t_s)
            box = QtCore.QRectF(min(max(x - 40, 0), self.width() - 80), HEIGHT - 13, 80, 13)
            side = Qt.AlignmentFlag.AlignHCenter
            if x < 40:
                side = Qt.AlignmentFlag.AlignLeft
            elif x > self.width() - 40:
                side = Qt.AlignmentFlag.AlignRight
            painter.drawText(box, side, text.clock(t_s))
            t_s += spacing
        if self._growing:
            painter.setPen(QtGui.QColor(now.green))
            painter.drawText(
                QtCore.QRectF(right - 70, HEIGHT - 13, 74, 13),
                Qt.AlignmentFlag.AlignRight,
                tr("growing ▸"),
            )

    def _paint_marks(self, painter: QtGui.QPainter) -> None:
        now = theme.now()
        for mark in self.marks:
            if mark.kind == "step":
                continue
            x = self._x(mark.t_s)
            colour = {"mark": now.sky, "fault": now.orange}.get(mark.kind, now.green)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QtGui.QColor(colour))
            if mark.kind == "fault":  # another shape as well: colour is not enough
                painter.drawRect(QtCore.QRectF(x - 3.5, _TRACK_Y - 3.5, 7, 7))
            elif mark.kind == "mark":
                top = _TRACK_Y - 8
                painter.drawPolygon(
                    QtGui.QPolygonF(
                        [QtCore.QPointF(x + dx, top + dy) for dx, dy in ((-5, 0), (5, 0), (0, 8))]
                    )
                )
            else:
                painter.drawEllipse(QtCore.QPointF(x, _TRACK_Y), 3.5, 3.5)

    def _paint_cursor(self, painter: QtGui.QPainter) -> None:
        now = theme.now()
        x = self._x(self.t_s)
        width = 2.5 if self.hasFocus() else 1.5
        painter.setPen(QtGui.QPen(QtGui.QColor(now.text), width))
        painter.drawLine(QtCore.QPointF(x, 1), QtCore.QPointF(x, _TRACK_Y + 5))
        painter.setBrush(QtGui.QColor(now.text))
        painter.drawEllipse(QtCore.QPointF(x, _TRACK_Y), 5, 5)


def _spacing(at_least_s: float) -> float:
    """A round number of seconds, minutes or hours."""
    for nice in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800):
        if nice >= at_least_s:
            return float(nice)
    return 86400.0 * max(1, round(at_least_s / 86400))
