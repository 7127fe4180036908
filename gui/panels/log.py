"""What happened, line by line, and the operator's own marks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineStatus, LiveNote
from gui import text, theme
from gui.widgets.buttons import sign_button
from gui.widgets.note_sheet import NoteSheet
from gui.widgets.panel import Panel
from gui.words import tr

_KEPT_LINES = 2000
_NEXT_LINE = "\u2028" + 4 * "\u00a0"
"""Within an entry: a line feed would begin another."""

_Line = tuple[str, str, str]
"""When, kind, words."""


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
        self.lines.setTabChangesFocus(True)
        self.lines.setAccessibleName(tr("Log"))
        self.field = QtWidgets.QLineEdit()
        self.field.setAccessibleName(tr("A note for the run's journal"))
        self.field.setPlaceholderText(tr("A note for the run's journal  (M)"))
        self.field.setMaxLength(500)
        self.button = QtWidgets.QPushButton(tr("⚑ Mark"))
        self.button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        words = tr("A longer note, of many lines, for the run's journal (Ctrl+M)")
        self.note_button = sign_button("✎", words)
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
        self._kept: deque[_Line] = deque(maxlen=_KEPT_LINES)
        theme.follow(self, self._write_again)
        self.button.clicked.connect(self._mark)
        self.field.returnPressed.connect(self._mark)
        self.field.textChanged.connect(self._enable)
        self._enable()

    def add(self, *notes: LiveNote) -> None:
        """Append notes of the run."""
        self._add([(f"+{text.clock(note.t_s)}", note.kind, note.text) for note in notes])

    def say(self, kind: str, words: str) -> None:
        """Append a line of the window's own, with the time on the wall."""
        self._add([(QtCore.QTime.currentTime().toString("HH:mm:ss"), kind, words)])

    def show_status(self, status: EngineStatus, fresh: bool) -> None:
        """Allow marks while a run is on."""
        self._active, self._fresh = status.state.active, fresh
        self._enable()

    def write_note(self) -> None:
        """Open the sheet for a longer note; nothing waits for it."""
        if self.note_button.isEnabled():
            self.sheet.write()

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

    def _add(self, lines: Sequence[_Line]) -> None:
        if lines:
            self._kept += lines
            self._append(lines)

    def _append(self, lines: Sequence[_Line]) -> None:
        """Write lines below the others: as one edit, laid out once, and without HTML to be read.

        A window that is opened late is given all notes of a day at once, which took 0.2 s otherwise.
        """
        now = theme.now()
        colours = {
            "warning": now.orange,
            "error": now.error_text,
            "fault": now.error_text,
            "mark": now.sky,
            "note": now.sky,
            "by hand": now.yellow,
        }
        inks = {name: _ink(colour) for name, colour in colours.items()}
        muted, plain = _ink(now.muted), _ink(now.text)
        document = self.lines.document()
        cursor = QtGui.QTextCursor(document)
        cursor.movePosition(QtGui.QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        for when, kind, words in lines:
            if cursor.position():
                cursor.insertBlock()
            cursor.insertText(f"{when}\u00a0 ", muted)
            said = text.homely(words).replace("\n", _NEXT_LINE)
            cursor.insertText(f"{kind}\u00a0 {said}", inks.get(kind, plain))
        cursor.endEditBlock()
        if self._at_end:
            self._to_end()

    def _write_again(self) -> None:
        self.lines.clear()
        self._append(self._kept)


def _ink(colour: str) -> QtGui.QTextCharFormat:
    ink = QtGui.QTextCharFormat()
    ink.setForeground(QtGui.QColor(colour))
    return ink
