"""The form for one place of the recipe: text fields with units as one writes them, choices, what is wrong beside each."""

from __future__ import annotations

from functools import partial
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.checked import Place
from gui import theme
from gui.recipes.reading import Problem, Reading
from gui.recipes.rows import Row, meaning, rows_of
from gui.widgets.choice import Choice
from gui.widgets.panel import set_text
from gui.words import tr

COMMIT_AFTER_MS = 300
_INDENT = 14
Qt = QtCore.Qt


class Words(QtWidgets.QLineEdit):
    """A text field that tells when somebody has stopped typing; undo is the page's."""

    settled = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COMMIT_AFTER_MS)
        self._timer.timeout.connect(self.settled)
        self.textEdited.connect(lambda _: self._timer.start())
        self.editingFinished.connect(self.flush)

    @property
    def pending(self) -> bool:
        """Whether something was typed that was not told yet."""
        return self._timer.isActive()

    def flush(self) -> None:
        """Tell now."""
        if self.pending:
            self._timer.stop()
            self.settled.emit()

    def event(self, event: QtCore.QEvent) -> bool:
        """Leave undo and redo to the page, which undoes what was written."""
        if event.type() == QtCore.QEvent.Type.ShortcutOverride and isinstance(
            event, QtGui.QKeyEvent
        ):
            keys = QtGui.QKeySequence.StandardKey
            if event.matches(keys.Undo) or event.matches(keys.Redo):
                self.flush()
                event.ignore()
                return False
        return super().event(event)


class Form(QtWidgets.QScrollArea):
    """Rows for one place; emits what a hand changed, and shows what the text says then."""

    put = QtCore.Signal(tuple, object)
    """A place and the value to write there."""
    taken_out = QtCore.Signal(tuple)
    renamed = QtCore.Signal(tuple, str)
    option_added = QtCore.Signal(tuple, str)

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.rows: tuple[Row, ...] = ()
        self.place: Place = ()
        self._fields: list[Words | Choice | None] = []
        self._words: list[QtWidgets.QLabel | None] = []
        self._head = QtWidgets.QLabel()
        theme.follow(self, self._paint)

    def show_reading(self, reading: Reading, place: Place, words: str = "") -> None:
        """Show a place; ``words`` are objections to all of it."""
        rows = rows_of(reading, place)
        if place != self.place or [r.form for r in rows] != [r.form for r in self.rows]:
            self.place = place
            self._build(rows)
        for row, field in zip(rows, self._fields, strict=True):
            if field is not None:
                self._show_value(field, row)
        self.rows = rows
        self._show_problems(reading, words)

    def field(self, *path: int | str) -> Words | Choice:
        """The widget that writes a place; raises KeyError."""
        for row, field in zip(self.rows, self._fields, strict=True):
            if field is not None and row.path == path:
                return field
        raise KeyError(path)

    def words_beside(self, *path: int | str) -> str:
        """What is said to be wrong beside the field of a place."""
        for row, label in zip(self.rows, self._words, strict=True):
            if row.path == path and label is not None and not label.isHidden():
                return label.text()
        return ""

    def flush(self) -> None:
        """Write what was typed and not yet written."""
        for field in self._fields:
            if isinstance(field, Words):
                field.flush()

    # ------------------------------------------------------------------ building

    def _build(self, rows: tuple[Row, ...]) -> None:
        focused = self._focused_path()
        inside = QtWidgets.QWidget()
        grid = QtWidgets.QGridLayout(inside)
        grid.setContentsMargins(2, 2, 8, 2)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(1, 1)
        self._fields, self._words = [], []
        self._head = QtWidgets.QLabel()
        self._head.setWordWrap(True)
        self._head.hide()
        grid.addWidget(self._head, 0, 0, 1, 3)
        line = 1
        for row in rows:
            field, beside = self._add(grid, line, row)
            words = None
            if row.kind not in ("add", "hint"):
                words = QtWidgets.QLabel()
                words.setWordWrap(True)
                words.setTextFormat(Qt.TextFormat.PlainText)
                words.hide()
                grid.addWidget(words, line + 1, 0 if row.kind == "title" else 1, 1, 3)
            self._fields.append(field)
            self._words.append(words)
            if beside is not None:
                grid.addWidget(beside, line, 2)
            line += 2
        grid.setRowStretch(line, 1)
        self.rows = rows
        self.setWidget(inside)
        self._paint()
        if focused is not None:
            for row, field in zip(rows, self._fields, strict=True):
                if row.path == focused and field is not None:
                    field.setFocus()

    def _focused_path(self) -> Place | None:
        for row, field in zip(self.rows, self._fields, strict=False):
            if field is not None and field.hasFocus():
                return row.path
        return None

    def _add(
        self, grid: QtWidgets.QGridLayout, line: int, row: Row
    ) -> tuple[Words | Choice | None, QtWidgets.QWidget | None]:
        label = QtWidgets.QLabel(row.label)
        label.setIndent(_INDENT * row.depth)
        label.setToolTip(_tip(row))
        if row.kind in ("title", "hint"):
            label.setObjectName("panelTitle" if row.kind == "title" else "")
            label.setWordWrap(row.kind == "hint")
            label.setProperty("muted", row.kind == "hint")
            grid.addWidget(label, line, 0, 1, 2 if row.removable else 3)
            return None, self._remover(row) if row.removable else None
        if row.kind == "add":
            button = QtWidgets.QPushButton(f"＋ {row.label}")
            button.setToolTip(_tip(row))
            button.clicked.connect(partial(self._put, row.path, row.adds))
            grid.addWidget(button, line, 1, Qt.AlignmentFlag.AlignLeft)
            return None, None
        if row.required:
            label.setText(f"{row.label} *")
        else:
            label.setProperty("muted", True)
        field = self._choice(row) if row.kind == "choice" else self._line(row)
        label.setBuddy(field)
        grid.addWidget(label, line, 0)
        grid.addWidget(field, line, 1)
        return field, None

    def _line(self, row: Row) -> Words:
        field = Words()
        field.setToolTip(_tip(row))
        field.setAccessibleName(row.label)
        hint = row.default or (tr("for example {0}").format(row.example) if row.example else "")
        field.setPlaceholderText(hint)
        field.setMinimumWidth(90)
        if row.kind in ("name", "option"):  # half a name is none
            field.editingFinished.connect(partial(self._named, field, row))
        else:
            field.settled.connect(partial(self._typed, field, row))
        return field

    def _choice(self, row: Row) -> Choice:
        field = Choice(_tip(row))
        field.setAccessibleName(row.label)
        if not row.required:
            default = tr("as usual: {0}").format(row.default) if row.default else tr("not said")
            field.addItem(default, "")
        for word in row.choices:
            field.addItem(word, word)
        field.activated.connect(lambda _: self._chosen(field, row))
        return field

    def _remover(self, row: Row) -> QtWidgets.QPushButton:
        button = QtWidgets.QPushButton("✕")
        button.setFixedWidth(28)
        button.setToolTip(tr("Take {0} out").format(row.label))
        button.clicked.connect(lambda: self.taken_out.emit(row.path))
        return button

    # ------------------------------------------------------------------ what hands do

    def _put(self, path: Place, value: Any) -> None:
        self.put.emit(path, value)

    def _typed(self, field: Words, row: Row) -> None:
        now = next((r for r in self.rows if r.path == row.path), row)
        if field.text() == now.value:
            return
        if field.text().strip():
            self.put.emit(row.path, meaning(row, field.text()))
        elif now.value:
            self.taken_out.emit(row.path)

    def _named(self, field: Words, row: Row) -> None:
        words = field.text().strip()
        if row.kind == "option":
            if words:
                self.option_added.emit(row.path, words)
                field.clear()
        elif words and words != row.path[-1]:
            self.renamed.emit(row.path, words)

    def _chosen(self, field: Choice, row: Row) -> None:
        word = field.currentData()
        now = next((r for r in self.rows if r.path == row.path), row)
        if word == now.value:
            return
        if not word:
            self.taken_out.emit(row.path)
        elif isinstance(row.adds, dict) and word in row.adds:
            self.put.emit(row.path, {word: row.adds[word]})
        else:
            self.put.emit(row.path, meaning(row, word))

    # ------------------------------------------------------------------ what is shown

    def _show_value(self, field: Words | Choice, row: Row) -> None:
        if isinstance(field, Choice):
            index = field.findData(row.value)
            if index < 0:
                field.addItem(row.value, row.value)
                index = field.count() - 1
            if index != field.currentIndex():
                field.setCurrentIndex(index)
        elif not field.pending and field.text() != row.value and row.kind != "option":
            # what is being typed is not corrected under the hand: "5 " stays until the hand is gone
            same = field.hasFocus() and _same(row, field.text())
            if not same:
                field.setText(row.value)
                if not field.hasFocus():
                    field.setCursorPosition(0)  # what is too long is seen from its beginning

    def forget_objections(self) -> None:
        """They were to a text that is not there any more."""
        for label in (self._head, *self._words):
            if label is not None:
                label.hide()

    def _show_problems(self, reading: Reading, words: str) -> None:
        told: set[Problem] = set()
        for row, label in zip(self.rows, self._words, strict=True):
            if label is None:
                continue
            here = [p for p in reading.problems if p.path == row.path and p not in told]
            told.update(here)
            set_text(label, "\n".join(f"✕ {p.words}" for p in here))
            label.setVisible(bool(here))
        rest = [p.words for p in reading.below(self.place) if p not in told]
        whole = "\n".join([*(f"✕ {w}" for w in rest), *([words] if words else [])])
        set_text(self._head, whole)
        self._head.setVisible(bool(whole))

    def _paint(self) -> None:
        now = theme.now()
        for label in (self._head, *self._words):
            if label is not None:
                label.setStyleSheet(
                    f"color: {now.error_text}; background: {now.error_ground}; "
                    "border-radius: 3px; padding: 2px 6px;"
                )


def _same(row: Row, text: str) -> bool:
    written = meaning(row, row.value) if row.value else None
    return bool(text.strip()) and meaning(row, text) == written


def _tip(row: Row) -> str:
    parts = [row.about]
    if row.kind in ("text", "choice"):
        parts.append(tr("Required.") if row.required else tr("Optional."))
    if row.default:
        parts.append(tr("If left out: {0}.").format(row.default))
    if row.example:
        parts.append(tr("For example: {0}").format(row.example))
    return "\n".join(part for part in parts if part)
