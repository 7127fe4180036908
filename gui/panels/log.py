"""What happened, line by line, and the operator's own marks."""

from __future__ import annotations

import html
from collections import deque

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineStatus, LiveNote
from gui import text, theme
from gui.widgets.note_sheet import NoteSheet
from gui.widgets.panel import Panel
from gui.words import tr

_KEPT_LINES = 2000


class LogPanel(Panel):
    """Emits ``marked`` with the operator's words; only the button or Return in the field does so."""

    marked = QtCore.Signal(str)
    noted = QtCore.Signal(str)
    """A longer note, of many lines."""

    def __init__(self) -> None:
        super().__init__(tr("Log"))
        self.lines = QtWidgets.QPlainTextEdit()
        self.lines.setReadOnly(True)
        self.lines.setMaximumBlockCount(_KEPT_LINES)
        self.lines.setFont(theme.mono(8.5))
        self.lines.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.field = QtWidgets.QLineEdit()
        self.field.setPlaceholderText(tr("A note for the run's journal  (M)"))
        self.field.setMaxLength(500)
        self.button = QtWidgets.QPushButton(tr("⚑ Mark"))
        self.button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.note_button = QtWidgets.QPushButton(tr("✎"))
        self.note_button.setToolTip(
            tr("A longer note, of many lines, for the run's journal (Ctrl+M)")
        )
        self.note_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.note_button.setFixedWidth(30)
        self.note_button.clicked.connect(self.write_note)
        self.sheet = NoteSheet(self)
        self.sheet.kept.connect(self.noted)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.field, 1)
        row.addWidget(self.button)
        row.addWidget(self.note_button)
        self.body.addWidget(self.lines, 1)
        self.body.addLayout(row)
        self._active = False
        self._fresh = False
        self._at_end = True
        bar = self.lines.verticalScrollBar()
        # only by hand: a new width or font moves the bar as well
        bar.actionTriggered.connect(
            lambda _: self._scrolled(bar.sliderPosition() >= bar.maximum() - 1)
        )
        bar.rangeChanged.connect(lambda _, most: bar.setValue(most) if self._at_end else None)
        self._kept: deque[tuple[str, str, str]] = deque(maxlen=_KEPT_LINES)
        theme.follow(self, self._write_again)
        self.button.clicked.connect(self._mark)
        self.field.returnPressed.connect(self._mark)
        self.field.textChanged.connect(self._enable)
        self._enable()

    def add(self, note: LiveNote) -> None:
        """Append a note of the run."""
        self._line(f"+{text.clock(note.t_s)}", note.kind, note.text)

    def say(self, kind: str, words: str) -> None:
        """Append a line of the window's own, with the time on the wall."""
        self._line(QtCore.QTime.currentTime().toString("HH:mm:ss"), kind, words)

    def show_status(self, status: EngineStatus, fresh: bool) -> None:
        """Allow marks while a run is on."""
        self._active, self._fresh = status.state.active, fresh
        self._enable()

    def write_note(self) -> None:
        """Open the sheet for a longer note; nothing waits for it."""
        if self.note_button.isEnabled():
            self.sheet.show()
            self.sheet.raise_()
            self.sheet.activateWindow()
            self.sheet.text.setFocus()

    def _enable(self) -> None:
        possible = self._active and self._fresh
        self.note_button.setEnabled(self._active)
        self.sheet.allow(possible)
        # not for a moment without contact: the focus would jump, and the next letters be commands
        self.field.setEnabled(self._active)
        self.button.setEnabled(possible and bool(self.field.text().strip()))

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Keep the newest line in sight, where it was; the lines keep the oldest otherwise."""
        super().resizeEvent(event)
        if self._at_end:
            QtCore.QTimer.singleShot(0, self._to_end)

    def _to_end(self) -> None:
        bar = self.lines.verticalScrollBar()
        bar.setValue(bar.maximum())

    def _scrolled(self, to_end: bool) -> None:
        self._at_end = to_end

    def _mark(self) -> None:
        words = self.field.text().strip()
        if words and self.button.isEnabled():
            self.field.clear()
            self.marked.emit(words)

    def _line(self, when: str, kind: str, words: str) -> None:
        self._kept.append((when, kind, words))
        self._append(when, kind, words)

    def _append(self, when: str, kind: str, words: str) -> None:
        now = theme.now()
        colour = {
            "warning": now.orange,
            "error": now.error_text,
            "fault": now.error_text,
            "mark": now.sky,
            "note": now.sky,
            "by hand": now.yellow,
        }.get(kind, now.text)
        self.lines.appendHtml(
            f'<span style="color:{now.muted}">{when}</span>&nbsp; '
            f'<span style="color:{colour}">{html.escape(kind)}&nbsp; {_lines(words)}</span>'
        )

    def _write_again(self) -> None:
        at_end = self._at_end
        self.lines.clear()
        for line in self._kept:
            self._append(*line)
        if at_end:
            self._to_end()


def _lines(words: str) -> str:
    return html.escape(words).replace("\n", "<br>&nbsp;&nbsp;&nbsp;&nbsp;")
