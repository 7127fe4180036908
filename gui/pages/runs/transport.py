"""The controls under a replay: play, steps by frame and by mark, speed, and the time in figures."""

from __future__ import annotations

import time

from PySide6 import QtCore, QtGui, QtWidgets

from gui import text
from gui.pages.runs.words import seconds_of
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.panel import ElidedLabel, set_text
from gui.words import tr

Qt = QtCore.Qt
SPEEDS = ("10", "1", "2", "5", "30", "60", "120", "300", "1000")
"""Run seconds per second; the first is taken where nothing is remembered."""
TICK_MS = 40
_MOST_PER_TICK_S = 0.5
_SPEED = "runs/speed"


class TimeField(QtWidgets.QLineEdit):
    """Emits ``left`` when Escape is pressed in it; nothing else sees that key then."""

    left = QtCore.Signal()

    def event(self, event: QtCore.QEvent) -> bool:
        """Escape leaves."""
        if isinstance(event, QtGui.QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            if event.type() == QtCore.QEvent.Type.ShortcutOverride:
                event.accept()
                return True
            if event.type() == QtCore.QEvent.Type.KeyPress:
                self.left.emit()
                return True
        return super().event(event)


class Transport(QtWidgets.QWidget):
    """Emits what is asked for; ``played`` with the run seconds that have gone by while it plays."""

    played = QtCore.Signal(float)
    stepped = QtCore.Signal(int)
    """By so many frames."""
    jumped = QtCore.Signal(bool)
    """To the next mark (True) or the one before."""
    went = QtCore.Signal(float)
    refused = QtCore.Signal(str)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self.end_s = 0.0
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(5)
        self.play = _button("▶", tr("Play, and stop again (L)"), 84)
        self.play.setCheckable(True)
        self.earlier_mark = _button("⇤", tr("To the step or mark before (Page up)"))
        self.earlier = _button("◂", tr("One frame back (Left, or comma)"))
        self.later = _button("▸", tr("One frame on (Right, or full stop)"))
        self.later_mark = _button("⇥", tr("To the next step or mark (Page down)"))
        self.speed = Choice(tr("How fast it plays: seconds of the run in one second"))
        for speed in sorted(SPEEDS, key=float):
            self.speed.addItem(f"×{speed}", float(speed))
        self.speed.setCurrentIndex(self.speed.findData(float(settings.choice(_SPEED, SPEEDS))))
        self.field = TimeField()
        self.field.setAccessibleName(tr("Time to go to"))
        self.field.setFixedWidth(84)
        self.field.setToolTip(tr("Go to a time: h:mm:ss, mm:ss or seconds, then Return (G)"))
        self.total = QtWidgets.QLabel()
        self.facts = ElidedLabel(align_left=True, padding=6)
        for widget in (
            self.earlier_mark,
            self.earlier,
            self.play,
            self.later,
            self.later_mark,
            self.speed,
            self.field,
            self.total,
        ):
            row.addWidget(widget)
        row.addWidget(self.facts, 1)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._last_s = 0.0
        self.play.toggled.connect(self._toggle)
        self.earlier.clicked.connect(lambda: self.stepped.emit(-1))
        self.later.clicked.connect(lambda: self.stepped.emit(1))
        self.earlier_mark.clicked.connect(lambda: self.jumped.emit(False))
        self.later_mark.clicked.connect(lambda: self.jumped.emit(True))
        self.speed.activated.connect(self._remember)
        self.field.returnPressed.connect(self._go)
        self._toggle(False)

    @property
    def playing(self) -> bool:
        """Whether time goes on by itself."""
        return self.play.isChecked()

    @property
    def run_s_per_s(self) -> float:
        """How fast."""
        return float(self.speed.currentData())

    def stop(self) -> None:
        """Play no more."""
        self.play.setChecked(False)

    def show_time(self, t_s: float, end_s: float, facts: str) -> None:
        """Write the time, unless somebody is writing there."""
        self.end_s = end_s
        if not self.field.hasFocus():
            self.field.setText(text.clock(t_s))
        set_text(self.total, tr("of {end}").format(end=text.clock(end_s)))
        set_text(self.facts, facts)

    def _toggle(self, playing: bool) -> None:
        self.play.setText(tr("❚❚ Stop  L") if playing else tr("▶ Play  L"))
        self._last_s = time.monotonic()
        if playing:
            self._timer.start()
        else:
            self._timer.stop()

    def _tick(self) -> None:
        now_s = time.monotonic()
        gone_s = min(now_s - self._last_s, _MOST_PER_TICK_S)
        self._last_s = now_s
        self.played.emit(gone_s * self.run_s_per_s)

    def _go(self) -> None:
        written = self.field.text()
        try:
            t_s = seconds_of(written)
        except ValueError:
            self.refused.emit(
                tr("{written!r} is no time: write h:mm:ss, mm:ss or seconds.").format(
                    written=written
                )
            )
            return
        if t_s > self.end_s + 1:
            self.refused.emit(
                tr("{written} lies behind the end of the run, {end}.").format(
                    written=written, end=text.clock(self.end_s)
                )
            )
            return
        self.field.clearFocus()
        self.went.emit(min(t_s, self.end_s))

    def _remember(self) -> None:
        self._settings.put(_SPEED, f"{self.run_s_per_s:g}")


def _button(caption: str, tip: str, width: int = 34) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(caption)
    button.setToolTip(tip)
    button.setFixedWidth(width)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button
