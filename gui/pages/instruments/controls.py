"""Buttons and lines that the panels of control by hand are made of."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from gui.widgets.hold_button import HoldButton
from gui.widgets.panel import set_text

Qt = QtCore.Qt
BUTTON_HEIGHT = 32


def hold_button(caption: str, tip: str) -> HoldButton:
    """For what is dangerous: the mouse or Return must hold it."""
    button = HoldButton(caption)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setMinimumHeight(BUTTON_HEIGHT)
    return button


def press_button(caption: str, tip: str) -> QtWidgets.QPushButton:
    """For what is safe: one press, or Return."""
    button = QtWidgets.QPushButton(caption)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setAutoDefault(True)  # Return presses it, as Space must not
    button.setMinimumHeight(BUTTON_HEIGHT)
    return button


def row(*parts: QtWidgets.QWidget | str | int) -> QtWidgets.QHBoxLayout:
    """Widgets side by side; texts become labels, a number a gap, 0 what is left."""
    line = QtWidgets.QHBoxLayout()
    line.setSpacing(6)
    for part in parts:
        if isinstance(part, str):
            label = QtWidgets.QLabel(part)
            line.addWidget(label)
        elif isinstance(part, int):
            line.addSpacing(part) if part else line.addStretch(1)
        else:
            line.addWidget(part)
    return line


class Consequence(QtWidgets.QLabel):
    """What the button beside it would do, or why it would be refused; its place is reserved."""

    def __init__(self, lines: int = 2) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 4)

    def say(self, words: str) -> None:
        """Show words; the tip has all of them."""
        set_text(self, words)
        if self.toolTip() != words:
            self.setToolTip(words)
