"""A walk through a window by Tab, and what must be so at every stop of it."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtTest import QTest

from gui.widgets.hold_button import HoldButton
from gui.widgets.keys import lines_of
from gui.widgets.panel import Panel
from gui.window import OperatorWindow

Qt = QtCore.Qt
CONTROLS = (
    QtWidgets.QAbstractButton,
    QtWidgets.QAbstractItemView,
    QtWidgets.QAbstractSlider,
    QtWidgets.QAbstractSpinBox,
    QtWidgets.QComboBox,
    QtWidgets.QGraphicsView,
    QtWidgets.QLineEdit,
    QtWidgets.QPlainTextEdit,
    QtWidgets.QTabBar,
    QtWidgets.QTextEdit,
)
"""What a hand can change something with, beside scroll bars and the edges of panels."""
BAND = 2
"""Pixels around a control in which one must see that it has the keys."""
MOST_STOPS = 120


def walk(window: OperatorWindow, *, back: bool = False) -> list[QtWidgets.QWidget]:
    """Go round by Tab, where one must see at each stop that one is there, or by Shift+Tab; return the stops."""
    centre = window.centralWidget()
    assert centre is not None
    centre.setFocus()
    found: list[QtWidgets.QWidget] = []
    for _ in range(MOST_STOPS):
        _tab(window, back)
        stop = QtWidgets.QApplication.focusWidget()
        assert stop is not None
        if found and stop is found[0]:
            break
        assert stop not in found, f"{_about(stop)} is a trap"
        found.append(stop)
        if not back:
            _assert_seen(window, stop)
    else:
        raise AssertionError("the walk does not come round")
    return found


def assert_all_reached(window: OperatorWindow, stops: list[QtWidgets.QWidget]) -> None:
    """Every control that is seen and can be used is a stop, or has a key that the sheet of keys lists."""
    keys = {key for line in lines_of(window) for key in line.keys}
    for widget in window.findChildren(QtWidgets.QWidget):
        seen = widget.isVisible() and widget.isEnabled() and not widget.visibleRegion().isEmpty()
        bars = isinstance(widget, QtWidgets.QScrollBar | QtWidgets.QHeaderView)
        if not (seen and isinstance(widget, CONTROLS)) or bars:
            continue
        if isinstance(widget, QtWidgets.QAbstractButton) and keys & set(widget.text().split()):
            continue
        assert widget in stops, f"{_about(widget)} cannot be reached"


def assert_in_reading_order(window: OperatorWindow, stops: list[QtWidgets.QWidget]) -> None:
    """Panel by panel, none of them twice, and within each from left to right and from top to bottom."""
    parts = [part for part, _ in groupby(stops, key=_panel) if isinstance(part, Panel)]
    assert len(set(parts)) == len(parts), [_about(part) for part in parts]
    for part, within in groupby(stops, key=_panel):
        for one, next_one in pairwise(within):
            if _scrolled(one) or _scrolled(next_one):
                continue  # it has been scrolled since
            assert _before(window, one, next_one), (_about(part), _about(one), _about(next_one))
    for one, next_one in pairwise(parts):
        a, b = _box(window, one), _box(window, next_one)
        assert b.left() > a.left() or b.top() > a.top(), (_about(one), _about(next_one))


def assert_named(stops: list[QtWidgets.QWidget]) -> None:
    """Each has a name for who hears it, and a caption or tip or titled panel for who sees it."""
    labels = {
        label.buddy() for stop in stops for label in stop.window().findChildren(QtWidgets.QLabel)
    }
    for stop in stops:
        text = stop.text() if isinstance(stop, QtWidgets.QAbstractButton) else ""
        name = stop.accessibleName() or text
        assert any(letter.isalpha() for letter in name), f"{_about(stop)} has no name"
        titled = isinstance(_panel(stop), Panel)
        told = stop.toolTip() or text or stop in labels or titled
        plain = QtWidgets.QTabBar | QtWidgets.QAbstractItemView | QtWidgets.QScrollArea
        assert told or isinstance(stop, plain), name


def assert_pressed_by_return(
    window: OperatorWindow, stops: list[QtWidgets.QWidget], monkeypatch
) -> None:
    """Return presses every button that is no more than pressed; none of them does what it is for."""
    pressed: list[QtWidgets.QWidget] = []
    for stop in stops:
        if not isinstance(stop, QtWidgets.QPushButton) or isinstance(stop, HoldButton):
            continue
        if stop.autoDefault():
            continue  # Qt presses it
        stop.setFocus()
        with monkeypatch.context() as instead:
            for act in ("click", "showMenu"):
                instead.setattr(stop, act, lambda stop=stop: pressed.append(stop))
            QTest.keyClick(stop, Qt.Key.Key_Return)
        assert pressed[-1:] == [stop], _about(stop)


def _tab(window: OperatorWindow, back: bool) -> None:
    here = QtWidgets.QApplication.focusWidget() or window
    if back:
        QTest.keyClick(here, Qt.Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier)
    else:
        QTest.keyClick(here, Qt.Key.Key_Tab)


def _assert_seen(window: OperatorWindow, stop: QtWidgets.QWidget) -> None:
    """Most of the band around it has changed by a contrast of 3 to 1 (WCAG 2.2, 2.4.13)."""
    box, area = _box(window, stop), _scrolled(stop)
    if area is not None:
        box &= _box(window, area.viewport())
    assert not box.isEmpty(), f"{_about(stop)} is out of sight"
    around = box.adjusted(-BAND, -BAND, BAND, BAND) & window.rect()
    now = _band(window, around)
    stop.clearFocus()
    before = _band(window, around)
    stop.setFocus(Qt.FocusReason.TabFocusReason)
    ratio = (np.maximum(before, now) + 0.05) / (np.minimum(before, now) + 0.05)
    assert np.mean(ratio >= 3) > 0.6, f"{_about(stop)}: one does not see that it has the keys"


def _band(window: OperatorWindow, around: QtCore.QRect) -> np.ndarray:
    """Relative luminance, as WCAG 2.2 has it, of the outermost pixels of a part of the window."""
    image = window.grab(around).toImage().convertToFormat(QtGui.QImage.Format.Format_RGB32)
    pixels = np.frombuffer(image.constBits(), np.uint8)
    pixels = pixels.reshape(image.height(), image.bytesPerLine() // 4, 4)
    pixels = pixels[:, : image.width(), 2::-1]
    sides = (pixels[:BAND], pixels[-BAND:], pixels[:, :BAND], pixels[:, -BAND:])
    c = np.concatenate([side.reshape(-1, 3) for side in sides]) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def _panel(widget: QtWidgets.QWidget) -> QtWidgets.QWidget | None:
    around = widget.parentWidget()
    while around is not None and not isinstance(around, Panel):
        around = around.parentWidget()
    return around or widget.parentWidget()


def _scrolled(widget: QtWidgets.QWidget) -> QtWidgets.QScrollArea | None:
    around = widget.parentWidget()
    while around is not None and not isinstance(around, QtWidgets.QScrollArea):
        around = around.parentWidget()
    return around


def _box(window: QtWidgets.QWidget, widget: QtWidgets.QWidget) -> QtCore.QRect:
    return QtCore.QRect(widget.mapTo(window, QtCore.QPoint(0, 0)), widget.size())


def _before(window: QtWidgets.QWidget, one: QtWidgets.QWidget, other: QtWidgets.QWidget) -> bool:
    a, b = _box(window, one), _box(window, other)
    if a.top() < b.center().y() < a.bottom() or b.top() < a.center().y() < b.bottom():
        return a.left() < b.left()
    return a.top() < b.top()


def _about(widget: QtWidgets.QWidget | None) -> str:
    if widget is None:
        return "nothing"
    name = widget.accessibleName() or widget.objectName() or widget.toolTip()
    return f"{type(widget).__name__} {name!r}"
