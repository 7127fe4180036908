"""A sheet for a note of many lines, beside the window: it waits for nobody, and nobody for it."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import NOTE_LENGTH
from gui.widgets.keys import install
from gui.words import tr


class NoteSheet(QtWidgets.QDialog):
    """Emits ``kept`` with the words; they stay on the sheet when it is only closed."""

    kept = QtCore.Signal(str)

    def __init__(
        self,
        parent: QtWidgets.QWidget,
        title: str = tr("A note for the run's journal"),
        tip: str = tr("Write it into the journal, with the time of now"),
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(False)
        self.resize(480, 260)
        self.text = QtWidgets.QPlainTextEdit()
        self.text.setTabChangesFocus(True)
        self.text.setPlaceholderText(tr("What you see, what you did, why …"))
        self.count = QtWidgets.QLabel()
        self.count.setProperty("muted", True)
        self.button = QtWidgets.QPushButton(tr("Keep  (Ctrl+Return)"))
        self.button.setToolTip(tip)
        self.button.clicked.connect(self._keep)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.count, 1)
        row.addWidget(self.button)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.text, 1)
        column.addLayout(row)
        self._allowed = False
        self.text.textChanged.connect(self._enable)
        words = tr("keep the longer note")
        install(self, *((key, words, self._keep) for key in ("Ctrl+Return", "Ctrl+Enter")))
        self._enable()

    def write(self, words: str = "") -> None:
        """Bring it to the front, with words that are to be written again, if there are any."""
        if words:
            self.text.setPlainText(words)
        self.show()
        self.raise_()
        self.activateWindow()
        self.text.setFocus()

    def allow(self, possible: bool) -> None:
        """Whether a run is on that a note can be kept in."""
        if possible != self._allowed:
            self._allowed = possible
            self._enable()

    def _enable(self) -> None:
        length = len(self.text.toPlainText())
        words = tr("{length} of {most} characters").format(length=length, most=NOTE_LENGTH)
        self.count.setText(words if self._allowed else tr("no run is on that it could be kept in"))
        filled = bool(self.text.toPlainText().strip())
        self.button.setEnabled(self._allowed and filled and length <= NOTE_LENGTH)

    def _keep(self) -> None:
        if self.button.isEnabled():
            words = self.text.toPlainText().strip()
            self.text.clear()
            self.hide()
            self.kept.emit(words)
