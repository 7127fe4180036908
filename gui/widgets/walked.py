"""A window whose every part can be reached, seen to be reached, and pressed, without a mouse."""

from __future__ import annotations

from functools import partial

from PySide6 import QtCore, QtGui, QtWidgets

from gui.widgets import keys, splitter
from gui.widgets.focus_ring import FocusRing
from gui.widgets.reading_order import part_of, stops
from gui.words import tr

Qt = QtCore.Qt
_RETURN = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class WalkedWindow(QtWidgets.QMainWindow):
    """Tab goes through it as it is read, F6 from panel to panel; Return presses what has the focus.

    Return and not Space, which pauses the run wherever the focus is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ring = FocusRing(self)
        self._left_at = 0
        """Where a stop was that went while it had the focus: one goes on from there."""

    def focusNextPrevChild(self, forward: bool) -> bool:  # noqa: N802 - Qt's name
        """Bring the focus to the next stop, or the one before; round again at the end.

        Qt asks for that too when what has the focus goes or rests. Then it is nowhere until the next Tab:
        a key that was meant for one button must not press another.
        """
        here, centre = self.focusWidget(), self.centralWidget()
        gone = here is not None and not (here.isVisible() and here.isEnabled())
        found = stops(self, here if gone else None)
        if gone and centre is not None:
            self._left_at = found.index(here) if here in found else 0
            centre.setFocus()
            return True
        if not found:
            return False
        if here in found:
            index = found.index(here) + (1 if forward else -1)
        else:
            index = self._left_at - (0 if forward else 1)
        self._left_at = 0
        _enter(found[index % len(found)], forward)
        return True

    def next_part(self, forward: bool = True) -> None:
        """Bring the focus to the first stop of the next panel, or of the one before."""
        found = stops(self)
        parts = list(dict.fromkeys(part_of(stop) for stop in found))
        if not parts:
            return
        here = self.focusWidget()
        at = parts.index(part_of(here)) if here in found and here is not None else -1
        after = parts[(at + 1 if forward else max(at, 0) - 1) % len(parts)]
        _enter(next(stop for stop in found if part_of(stop) is after), forward)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Return that nobody wanted presses the button, or opens the choice, that has the focus."""
        here = self.focusWidget()
        if event.key() in _RETURN and not event.isAutoRepeat():
            if isinstance(here, QtWidgets.QPushButton) and here.menu() is not None:
                return here.showMenu()
            if isinstance(here, QtWidgets.QAbstractButton):
                return here.click()
            if isinstance(here, QtWidgets.QComboBox):
                return here.showPopup()
        return super().keyPressEvent(event)

    def showEvent(self, event: QtGui.QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Have a button that bears only a sign read out by its tip."""
        super().showEvent(event)
        for button in self.findChildren(QtWidgets.QAbstractButton):
            if not any(letter.isalpha() for letter in button.accessibleName() or button.text()):
                button.setAccessibleName(button.toolTip())

    def install_walking(self) -> None:
        """Install the keys, and have the sheet of keys tell of those that are Qt's own."""
        keys.Described(
            self,
            (tr("Tab"), tr("Next control; with Shift back")),
            (tr("Return"), tr("Press the button with the focus")),
        )
        keys.install(
            self,
            ("F6", tr("Next panel; with Shift back"), self.next_part),
            ("Shift+F6", tr("Next panel; with Shift back"), partial(self.next_part, False)),
            *splitter.keys_for(self),
            auto_repeat=True,
        )


def _enter(stop: QtWidgets.QWidget, forward: bool) -> None:
    around = stop.parentWidget()
    while around is not None:
        if isinstance(around, QtWidgets.QScrollArea):
            around.ensureWidgetVisible(stop)
        around = around.parentWidget()
    reasons = Qt.FocusReason
    stop.setFocus(reasons.TabFocusReason if forward else reasons.BacktabFocusReason)
