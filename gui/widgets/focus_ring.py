"""A ring around what has the keys, wherever they were brought by the keyboard."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme

Qt = QtCore.Qt
_OUTSIDE, _INSIDE = 2, 1
"""Pixels of the ring beyond the widget's edge, and of the dark line within it."""
_DARK_BARS = ("faultBar", "promptBar", "replayBanner")
_MOVES = (
    QtCore.QEvent.Type.Move,
    QtCore.QEvent.Type.Resize,
    QtCore.QEvent.Type.Show,
    QtCore.QEvent.Type.Hide,
)


class FocusRing(QtCore.QObject):
    """Keeps the ring of a window, and of the dialogs over it, around what has the focus.

    The ring has two pixels of a colour that stands out from the ground, and a line of the ground's own
    within, so that it is seen around bright images too (WCAG 2.2, 2.4.7 and 2.4.13). A click of the mouse
    brings no ring: the hand is where the eye is.
    """

    def __init__(self, window: QtWidgets.QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._around: QtWidgets.QWidget | None = None
        self._watched: list[QtWidgets.QWidget] = []
        application = QtWidgets.QApplication.instance()
        if isinstance(application, QtWidgets.QApplication):
            application.focusChanged.connect(self._moved)

    @property
    def around(self) -> QtWidgets.QWidget | None:
        """What the ring is drawn around."""
        return self._around

    def _moved(self, old: QtWidgets.QWidget | None, now: QtWidgets.QWidget | None) -> None:
        self._forget()
        clicked = QtWidgets.QApplication.mouseButtons() != Qt.MouseButton.NoButton
        if now is None or clicked or not self._ours(now):
            return
        self._around = now
        part: QtWidgets.QWidget | None = now
        while part is not None:
            self._watched.append(part)
            part.installEventFilter(self)
            part = None if part.isWindow() else part.parentWidget()
        self._place()

    def _ours(self, widget: QtWidgets.QWidget) -> bool:
        within = (
            widget is self._window
            or self._window.isAncestorOf(widget)
            or _dialog_of(widget, self._window)
        )
        return within and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)

    def _forget(self) -> None:
        for part in self._watched:
            part.removeEventFilter(self)
        if self._around is not None:
            _ring_of(self._around.window()).hide()
        self._watched, self._around = [], None

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Stay around it when it is moved, scrolled or sized."""
        if event.type() in _MOVES:
            self._place()
        return False

    def _place(self) -> None:
        widget = self._around
        if widget is None:
            return
        ring = _ring_of(widget.window())
        room = _seen(widget)
        if not widget.isVisible() or room.isEmpty():
            ring.hide()
            return
        ring.lie_around(room, _on_dark(widget))


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


def _dialog_of(widget: QtWidgets.QWidget, window: QtWidgets.QWidget) -> bool:
    """Whether a widget is in a dialog over the window."""
    top: QtWidgets.QWidget | None = widget.window()
    while top is not None and top is not window:
        above = top.parentWidget()
        top = above.window() if above is not None else None
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
