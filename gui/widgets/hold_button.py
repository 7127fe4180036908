"""A button that acts only when it is held down for a while, and shows how far it is."""

from __future__ import annotations

import time

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme

HOLD_S = 0.6
_TICK_MS = 20
_RETURN = (QtCore.Qt.Key.Key_Return, QtCore.Qt.Key.Key_Enter)
_MOST_PER_TICK_S = 0.06
"""A window that stalled has not seen that the button was let go: its pause does not count as holding."""


class HoldButton(QtWidgets.QPushButton):
    """Emits ``confirmed`` after ``HOLD_S`` of being held, ``released_early`` if let go before.

    A key may hold it as well, by :meth:`begin` and :meth:`cancel`; Return does while it has the focus,
    where it is given one.
    """

    confirmed = QtCore.Signal()
    released_early = QtCore.Signal()

    def __init__(self, caption: str) -> None:
        super().__init__(caption)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.setAutoRepeat(False)
        self._last_s: float | None = None
        self._held_s = 0.0
        self._fraction = 0.0
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._tick)
        self.pressed.connect(self.begin)
        self.released.connect(self.cancel)

    @property
    def fraction(self) -> float:
        """How far the holding is, 0 to 1."""
        return self._fraction

    @property
    def counting(self) -> bool:
        """Whether it is being held."""
        return self._last_s is not None

    def begin(self) -> None:
        """Start to count."""
        if self.isEnabled() and self._last_s is None:
            self._last_s = time.monotonic()
            self._timer.start()

    def cancel(self) -> None:
        """Let go."""
        early = self._last_s is not None
        self._reset()
        if early:
            self.released_early.emit()

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Return holds it; Space never does, since it pauses the run."""
        if event.key() in _RETURN and not event.isAutoRepeat():
            self.begin()
        elif event.key() not in _RETURN:
            event.ignore()

    def keyReleaseEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Return lets go."""
        if event.key() in _RETURN and not event.isAutoRepeat():
            self.cancel()
        elif event.key() not in _RETURN:
            event.ignore()

    def focusOutEvent(self, event: QtGui.QFocusEvent) -> None:  # noqa: N802 - Qt's name
        """The release of the key goes elsewhere: let go."""
        if not self.isDown():
            self.cancel()
        super().focusOutEvent(event)

    def hideEvent(self, event: QtGui.QHideEvent) -> None:  # noqa: N802 - Qt's name
        """One that is not seen any more lets go: its release may go elsewhere."""
        super().hideEvent(event)
        self._reset()

    def changeEvent(self, event: QtCore.QEvent) -> None:  # noqa: N802 - Qt's name
        """A button that is disabled while held lets go."""
        super().changeEvent(event)
        if event.type() == QtCore.QEvent.Type.EnabledChange and not self.isEnabled():
            self._reset()

    def _tick(self) -> None:
        if self._last_s is None:
            return
        now_s = time.monotonic()
        self._held_s += min(now_s - self._last_s, _MOST_PER_TICK_S)
        self._last_s = now_s
        self._fraction = min(1.0, self._held_s / HOLD_S)
        self.update()
        if self._fraction >= 1.0:
            self._reset()
            self.confirmed.emit()

    def _reset(self) -> None:
        self._timer.stop()
        self._last_s = None
        self._held_s = self._fraction = 0.0
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """The button, with a bar along its foot that fills while it is held."""
        super().paintEvent(event)
        if self._fraction > 0:
            painter = QtGui.QPainter(self)
            width = round((self.width() - 4) * self._fraction)
            painter.fillRect(2, self.height() - 8, width, 6, QtGui.QColor(theme.now().orange))
            painter.end()
