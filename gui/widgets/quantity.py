"""A field for a quantity with its unit: what cannot be read is refused in words, and never mended."""

from __future__ import annotations

import threading

from PySide6 import QtCore, QtWidgets

from acquire import units
from acquire.errors import UnitError
from gui.widgets.panel import set_flag


class QuantityField(QtWidgets.QLineEdit):
    """Text such as ``700 °C``; no wheel, no arrows, nothing that changes it but typing."""

    def __init__(self, unit: str, words: str, tip: str) -> None:
        super().__init__(words)
        self.unit = unit
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        self.setMaxLength(40)
        self.setFixedWidth(74)
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)

    def read(self) -> float:
        """The value in the field's unit; raises UnitError with what to write instead."""
        try:
            value = units.parse(self.text(), self.unit)
        except UnitError:
            set_flag(self, "refused", True)
            raise
        set_flag(self, "refused", False)
        return value


def read_units_beforehand() -> None:
    """Have the units read by a thread: the first quantity of a program takes a fifth of a second."""
    threading.Thread(target=units.registry, name="units", daemon=True).start()


def units_are_read() -> bool:
    """Whether a quantity can be read without delay."""
    return units.registry.cache_info().currsize > 0
