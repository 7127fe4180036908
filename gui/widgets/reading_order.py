"""The order in which a page is read, which is the order in which Tab goes through it."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6 import QtCore, QtWidgets

Qt = QtCore.Qt
_PANEL = "panel"
_WHOLE = (
    QtWidgets.QAbstractButton,
    QtWidgets.QAbstractItemView,
    QtWidgets.QComboBox,
    QtWidgets.QGraphicsView,
    QtWidgets.QLineEdit,
    QtWidgets.QPlainTextEdit,
)
"""What Tab does not go into."""


def stops(
    root: QtWidgets.QWidget, also: QtWidgets.QWidget | None = None
) -> list[QtWidgets.QWidget]:
    """What Tab stops at below a widget: what is seen, can be used and takes the keys, as it is read.

    What stands side by side is read from left to right, what stands below it after it; a part is read
    to its end before the next one. Found anew whenever it is asked for, since fields and bars come and go.
    ``also`` counts although it may be seen or used no more.
    """
    found = []
    for child in _in_rows(_children(root, also)):
        if child is also or _stops_at(child):
            found.append(child)
        if not isinstance(child, _WHOLE):
            found += stops(child, also)
    return found


def part_of(stop: QtWidgets.QWidget) -> QtWidgets.QWidget | None:
    """The panel that a stop lies in, or else what holds it."""
    around = stop.parentWidget()
    while around is not None and not around.isWindow():
        if around.objectName() == _PANEL:
            return around
        around = around.parentWidget()
    return stop.parentWidget()


def _stops_at(widget: QtWidgets.QWidget) -> bool:
    takes = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
    return bool(takes) and widget.focusProxy() is None and widget.isEnabled()


def _children(widget: QtWidgets.QWidget, also: QtWidgets.QWidget | None) -> list[QtWidgets.QWidget]:
    children = (c for c in widget.children() if isinstance(c, QtWidgets.QWidget))
    return [c for c in children if not c.isWindow() and (c.isVisible() or c is also)]


def _in_rows(widgets: Iterable[QtWidgets.QWidget]) -> list[QtWidgets.QWidget]:
    """From left to right within rows, the upper row first."""
    rows: list[tuple[QtCore.QRect, list[QtWidgets.QWidget]]] = []
    for widget in sorted(widgets, key=lambda each: each.y()):
        box = widget.geometry()
        if rows and _beside(rows[-1][0], box):
            rows[-1][1].append(widget)
        else:
            rows.append((box, [widget]))
    return [widget for _, row in rows for widget in sorted(row, key=lambda each: each.x())]


def _beside(one: QtCore.QRect, other: QtCore.QRect) -> bool:
    """Whether two stand side by side: the lower one's greater part is not below the other."""
    common = min(one.bottom(), other.bottom()) - max(one.top(), other.top()) + 1
    return 2 * common > min(one.height(), other.height())
