"""A ring around what has the keys, wherever they were brought by the keyboard."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from shiboken6 import isValid

from gui import theme

Qt = QtCore.Qt
_OUTSIDE, _INSIDE = 2, 1
"""Pixels of the ring beyond the widget's edge, and of the dark line within it."""
_DARK_BARS = ("faultBar", "promptBar", "replayBanner")
_FOLLOW_MS = 40
"""A page that is scrolled or sized carries its ring along."""


class FocusRing(QtCore.QObject):
    """Keeps the ring of a window, and of the dialogs over it, around what has the focus.

    The ring has two pixels of a colour that stands out from the ground, and a line of the ground's own
    within, so that it is seen around bright images too (WCAG 2.2, 2.4.7 and 2.4.13). While the hand is on
    the mouse there is none: the hand is where the eye is.
    """

    def __init__(self, window: QtWidgets.QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._ring: _Ring | None = None
        self._on_keys = False
        # What has the focus is asked for each time and never kept: dialogs and fields are deleted
        # while they have it, and of Qt's own children Python does not learn that.
        self._follow = QtCore.QTimer(self)
        self._follow.setInterval(_FOLLOW_MS)
        self._follow.timeout.connect(self._place)
        application = QtWidgets.QApplication.instance()
        if isinstance(application, QtWidgets.QApplication):
            application.focusChanged.connect(self._moved)

    @property
    def around(self) -> QtWidgets.QWidget | None:
        """What the ring is drawn around."""
        return QtWidgets.QApplication.focusWidget() if self._follow.isActive() else None

    def turn(self, to_keys: bool) -> None:
        """The hand has gone to the keyboard, or to the mouse."""
        self._on_keys = to_keys
        self._moved(None, QtWidgets.QApplication.focusWidget())

    def _moved(self, old: QtWidgets.QWidget | None, now: QtWidgets.QWidget | None) -> None:
        self._follow.stop()
        self._hide()
        if now is not None and self._on_keys and self._ours(now):
            self._ring = _ring_of(now.window())
            self._follow.start()
            self._place()

    def _ours(self, widget: QtWidgets.QWidget) -> bool:
        takes = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        return bool(takes) and _lies_over(widget.window(), self._window)

    def _hide(self) -> None:
        if self._ring is not None and isValid(self._ring):
            self._ring.hide()

    def _place(self) -> None:
        """Stay around it when it is moved, scrolled or sized."""
        widget = QtWidgets.QApplication.focusWidget()
        if widget is None or self._ring is None or not isValid(self._ring):
            self._follow.stop()
            return
        room = _seen(widget)
        if widget.window() is not self._ring.parentWidget() or room.isEmpty():
            self._ring.hide()
        else:
            self._ring.lie_around(room, _on_dark(widget))


class _Ring(QtWidgets.QWidget):
    """The line itself; neither the mouse nor a layout takes notice of it."""

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("focusRing")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self._on_dark = False
        theme.follow(self, self.update)

    def lie_around(self, room: QtCore.QRect, on_dark: bool) -> None:
        """Lie around a part of the window, and cover nothing of it but its edge."""
        self._on_dark = on_dark
        outer = room.adjusted(-_OUTSIDE, -_OUTSIDE, _OUTSIDE, _OUTSIDE)
        if outer == self.geometry() and self.isVisible():
            return
        if outer != self.geometry():
            self.setGeometry(outer)
            thick = _OUTSIDE + _INSIDE
            inner = self.rect().adjusted(thick, thick, -thick, -thick)
            self.setMask(QtGui.QRegion(self.rect()) - QtGui.QRegion(inner))
        self.show()
        self.raise_()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Two colours, one within the other."""
        painter = QtGui.QPainter(self)
        now = theme.NIGHT if self._on_dark else theme.now()
        painter.fillRect(self.rect(), QtGui.QColor(now.sky))
        painter.fillRect(
            self.rect().adjusted(_OUTSIDE, _OUTSIDE, -_OUTSIDE, -_OUTSIDE),
            QtGui.QColor(now.background),
        )
        painter.end()


def _ring_of(window: QtWidgets.QWidget) -> _Ring:
    direct = Qt.FindChildOption.FindDirectChildrenOnly
    found = window.findChild(_Ring, "focusRing", direct)
    return found if found is not None else _Ring(window)


def _lies_over(top: QtWidgets.QWidget, window: QtWidgets.QWidget) -> bool:
    """Whether it is the window, or a dialog over it."""
    above = top.parentWidget()
    while top is not window and above is not None:
        top = above.window()
        above = top.parentWidget()
    return top is window


def _on_dark(widget: QtWidgets.QWidget) -> bool:
    """Whether it lies on a bar that is dark by day as well."""
    around: QtWidgets.QWidget | None = widget
    while around is not None and around.objectName() not in _DARK_BARS:
        around = around.parentWidget()
    return around is not None


def _seen(widget: QtWidgets.QWidget) -> QtCore.QRect:
    """Where a widget lies in its window, as far as no scroll area cuts it."""
    top = widget.window()
    room = QtCore.QRect(widget.mapTo(top, QtCore.QPoint(0, 0)), widget.size())
    part = widget.parentWidget()
    while part is not None and part is not top:
        area = part.parentWidget()
        if isinstance(area, QtWidgets.QAbstractScrollArea) and part is area.viewport():
            room &= QtCore.QRect(part.mapTo(top, QtCore.QPoint(0, 0)), part.size())
        part = area
    return room
