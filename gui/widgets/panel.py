"""A titled frame that can show that what it holds is stale."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from gui import text
from gui.words import tr


def set_text(label: QtWidgets.QLabel, value: str) -> None:
    """Change a label only if it changes: a new text costs a layout."""
    if label.text() != value:
        label.setText(value)


def set_tip(widget: QtWidgets.QWidget, value: str) -> None:
    """Change a tip only if it changes: one that is shown would flicker."""
    if widget.toolTip() != value:
        widget.setToolTip(value)


def set_flag(widget: QtWidgets.QWidget, name: str, value: bool) -> None:
    """Set a property that the style sheet looks at, and restyle if it changed."""
    if bool(widget.property(name)) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class Panel(QtWidgets.QFrame):
    """Title on the left, live figures on the right, the content below."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.title = QtWidgets.QLabel(title)
        self.title.setObjectName("panelTitle")
        self.info = ElidedLabel()
        self.info.setProperty("muted", True)
        # laid over the content, not beside it: nothing may move because the contact is lost
        self._chip = QtWidgets.QLabel(self)
        self._chip.setObjectName("staleChip")
        self._chip.hide()
        self.head = QtWidgets.QHBoxLayout()
        self.head.setSpacing(6)
        self.head.addWidget(self.title)
        self.head.addWidget(self.info, 1)
        self.body = QtWidgets.QVBoxLayout(self)
        self.body.setContentsMargins(8, 5, 8, 6)
        self.body.setSpacing(4)
        self.body.addLayout(self.head)

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Mark what is shown as old, or as present."""
        set_flag(self, "stale", stale)
        set_flag(self.info, "stale", stale)
        self._chip.setVisible(stale)
        if stale:
            set_text(self._chip, tr("STALE {age}").format(age=text.age(age_s)))
            self._chip.adjustSize()
            self._chip.move(10, self.head.geometry().bottom() + 4)
            self._chip.raise_()


_TELLS_NOTHING = 3
"""Letters and dots to which a text was shortened that are better left out; the tip has it."""


class ElidedLabel(QtWidgets.QLabel):
    """A right-aligned label that shortens its text to fit instead of demanding room; the tip has all of it."""

    def __init__(self, align_left: bool = False, padding: int = 0) -> None:
        super().__init__()
        self._padding = padding
        self.whole = False
        """Whether it says nothing where not all of it fits: half a figure misleads."""
        self._full = ""
        self._align_left = align_left
        self.setMinimumWidth(20)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred
        )

    def text(self) -> str:
        """The whole text."""
        return self._full

    def setText(self, value: str) -> None:  # noqa: N802 - Qt's name
        """Show a new text, shortened at the next paint."""
        self._full = value
        self.setToolTip(value)
        self.update()  # the room it takes is the same for any text

    def sizeHint(self) -> QtCore.QSize:  # noqa: N802 - Qt's name
        """One line high, as wide as there is room."""
        return QtCore.QSize(20, self.fontMetrics().height() + 2)

    minimumSizeHint = sizeHint  # noqa: N815 - Qt's name

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint as much of the text as fits."""
        painter = QtGui.QPainter(self)
        rect = self.rect().adjusted(self._padding, 0, -self._padding, 0)
        elide = QtCore.Qt.TextElideMode.ElideRight
        shown = self.fontMetrics().elidedText(self._full, elide, rect.width())
        if shown != self._full and (self.whole or len(shown) <= _TELLS_NOTHING):
            shown = ""
        side = (
            QtCore.Qt.AlignmentFlag.AlignLeft
            if self._align_left
            else QtCore.Qt.AlignmentFlag.AlignRight
        )
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(rect, side | QtCore.Qt.AlignmentFlag.AlignVCenter, shown)
        painter.end()
