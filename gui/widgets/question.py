"""A question with one field, which refuses an answer with the reason and never mends it by itself."""

from __future__ import annotations

from collections.abc import Callable

from PySide6 import QtWidgets

from gui.words import tr


class Question(QtWidgets.QDialog):
    """Closes when ``take`` has taken the answer; a ValueError of it is shown and the field stays.

    Does not wait: open it with ``open()``.
    """

    def __init__(
        self,
        parent: QtWidgets.QWidget,
        title: str,
        words: str,
        answer: str,
        take: Callable[[str], None],
    ) -> None:
        super().__init__(parent)
        self._take = take
        self.setWindowTitle(title)
        label = QtWidgets.QLabel(words)
        label.setWordWrap(True)
        self.field = QtWidgets.QLineEdit(answer)
        self.field.selectAll()
        label.setBuddy(self.field)
        self.refusal = QtWidgets.QLabel()
        self.refusal.setObjectName("refusal")
        self.refusal.setWordWrap(True)
        buttons = QtWidgets.QDialogButtonBox(
            QtWidgets.QDialogButtonBox.StandardButton.Ok
            | QtWidgets.QDialogButtonBox.StandardButton.Cancel
        )
        buttons.button(QtWidgets.QDialogButtonBox.StandardButton.Ok).setText(tr("Apply"))
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QtWidgets.QVBoxLayout(self)
        for widget in (label, self.field, self.refusal, buttons):
            column.addWidget(widget)
        self.setMinimumWidth(380)

    def accept(self) -> None:
        """Take the answer, or say why not."""
        try:
            self._take(self.field.text())
        except ValueError as error:
            self.refusal.setText(f"✕  {error}")
            self.field.setFocus()
            self.field.selectAll()
            return
        super().accept()
