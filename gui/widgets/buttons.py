"""Buttons that bear only a sign: their tip says what they do, also to whoever hears it."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets


def sign_button(sign: str, tip: str, width: int = 30) -> QtWidgets.QPushButton:
    """A small button that Tab reaches and a click does not take the keys to."""
    button = QtWidgets.QPushButton(sign)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setFixedWidth(width)
    button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
    return button
