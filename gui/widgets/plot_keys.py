"""What the keys do in a plot: nearer and farther, along and up, and back to all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui

from gui.widgets.keys import Described
from gui.words import tr

Key = QtCore.Qt.Key
Modifier = QtCore.Qt.KeyboardModifier
_ZOOM, _PAN = 1.25, 0.1
_NEARER = {Key.Key_Plus: 1 / _ZOOM, Key.Key_Equal: 1 / _ZOOM, Key.Key_Minus: _ZOOM}
_ALONG = {
    Key.Key_Left: (-1, 0),
    Key.Key_Right: (1, 0),
    Key.Key_Up: (0, 1),
    Key.Key_Down: (0, -1),
}
_WHOLE = (Key.Key_Home, Key.Key_Escape)


class PlotKeys(QtCore.QObject):
    """Goes with a widget that shows a ``ViewBox``, and does by keys what wheel and drag do.

    ``whole`` says how to come back to all of it; by default the view follows what is drawn again.
    """

    def __init__(self, widget: Any, view: Any) -> None:
        super().__init__(widget)
        self._view = view
        self._by_hand = False
        self.whole: Callable[[], None] = lambda: view.enableAutoRange()
        view.sigRangeChangedManually.connect(self._taken)
        widget.scene().sigMouseClicked.connect(self._clicked)
        widget.installEventFilter(self)
        Described(
            widget,
            ("+   -", tr("In a plot: zoom; with Ctrl only across")),
            (tr("Ctrl+arrows"), tr("In a plot: move what is shown")),
            (tr("Esc, Home"), tr("In a plot: all of it; the present")),
        )

    def all_of_it(self) -> None:
        """Show what is drawn as if no hand had been there."""
        self._by_hand = False
        self.whole()

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Take our keys before they are shortcuts of the window."""
        if not isinstance(event, QtGui.QKeyEvent) or not self._ours(event):
            return False
        if event.type() == QtCore.QEvent.Type.ShortcutOverride:
            event.accept()
        elif event.type() == QtCore.QEvent.Type.KeyPress:
            self._act(event)
        return True

    def _ours(self, event: QtGui.QKeyEvent) -> bool:
        key = event.key()
        if key in _WHOLE:
            return self._by_hand
        if key in _ALONG:
            return event.modifiers() & ~Modifier.KeypadModifier == Modifier.ControlModifier
        return key in _NEARER

    def _act(self, event: QtGui.QKeyEvent) -> None:
        key, view = Key(event.key()), self._view
        if key in _WHOLE:
            return self.all_of_it()
        if key in _NEARER:
            factor = _NEARER[key]
            across = bool(event.modifiers() & Modifier.ControlModifier)
            view.scaleBy((factor, 1.0 if across else factor))
        else:
            (left, right), (low, high) = view.viewRange()
            x, y = _ALONG[key]
            y = -y if view.yInverted() else y
            view.translateBy(x=x * _PAN * (right - left), y=y * _PAN * (high - low))
        return view.sigRangeChangedManually.emit(view.state["mouseEnabled"])  # type: ignore[no-any-return]

    def _taken(self, *_: object) -> None:
        self._by_hand = True

    def _clicked(self, event: Any) -> None:
        if event.double():
            self.all_of_it()
