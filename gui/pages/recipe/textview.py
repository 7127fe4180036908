"""The recipe's text: line numbers, errors at their lines, and edits that go to the document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.pages.recipe.document import Document, difference
from gui.recipes.reading import Problem
from gui.words import tr

_MARGIN = 10
_KEY = re.compile(r"[A-Za-z_]\w*(?=:(\s|$))")
_COMMENT = re.compile(r"(^|\s)#.*$")
Qt = QtCore.Qt


class TextView(QtWidgets.QPlainTextEdit):
    """Shows a document and types into it; its own undo is off, the document has one for all."""

    line_entered = QtCore.Signal(int)
    """The cursor came to a character of the text, by a hand."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self._document = document
        self._lines: Mapping[int, tuple[str, str]] = {}
        self._following = False
        self.setUndoRedoEnabled(False)
        self.setAccessibleName(tr("Text of the recipe"))
        self.setFont(theme.mono())
        self.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.setTabChangesFocus(True)  # YAML knows no tabs, and the keyboard must get out of here
        self._gutter = _Gutter(self)
        self._colours = _Colours(self.document())
        self.document().contentsChange.connect(self._typed)
        self.cursorPositionChanged.connect(self._moved)
        self.updateRequest.connect(self._scroll_gutter)
        document.changed.connect(self._follow)
        theme.follow(self, self._paint)

    def show_problems(
        self, problems: Sequence[Problem], findings: Mapping[int, tuple[str, str]]
    ) -> None:
        """Underline lines: ``findings`` are glyph and words by line."""
        lines = dict(findings)
        for problem in problems:
            if problem.line:
                before = lines.get(problem.line, ("", ""))[1]
                words = f"{before}\n{problem.words}".strip()
                lines[problem.line] = ("✕", words)
        if lines != self._lines:
            self._lines = lines
            self._underline()
            self._gutter.update()

    def shown(self) -> str:
        """All of the text; unlike ``toPlainText`` with every kind of blank space as it is."""
        return self.document().toRawText().replace("\u2029", "\n")

    def words_at(self, line: int) -> str:
        """What is said of a line."""
        return self._lines.get(line, ("", ""))[1]

    def underlined(self) -> list[int]:
        """The lines that are underlined."""
        return sorted(s.cursor.blockNumber() + 1 for s in self.extraSelections())

    def show_line(self, line: int) -> None:
        """Bring a line into view and the cursor there, without telling that a hand did."""
        block = self.document().findBlockByNumber(max(0, line - 1))
        if not block.isValid() or self.textCursor().blockNumber() == block.blockNumber():
            return
        self._following = True
        self.setTextCursor(QtGui.QTextCursor(block))
        self._following = False
        self.ensureCursorVisible()

    # ------------------------------------------------------------------ Qt's hooks

    def event(self, event: QtCore.QEvent) -> bool:
        """Leave undo to the page; say what is wrong where the mouse rests."""
        if event.type() == QtCore.QEvent.Type.ShortcutOverride and isinstance(
            event, QtGui.QKeyEvent
        ):
            keys = QtGui.QKeySequence.StandardKey
            if event.matches(keys.Undo) or event.matches(keys.Redo):
                event.ignore()
                return False
        if event.type() == QtCore.QEvent.Type.ToolTip and isinstance(event, QtGui.QHelpEvent):
            at = self.viewport().mapFrom(self, event.pos())
            words = self.words_at(self.cursorForPosition(at).blockNumber() + 1)
            QtWidgets.QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """A new line begins below where this one does."""
        plain = event.modifiers() == Qt.KeyboardModifier.NoModifier
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and plain:
            line = self.textCursor().block().text()
            self.textCursor().insertText("\n" + line[: len(line) - len(line.lstrip())])
            self.ensureCursorVisible()
            return
        super().keyPressEvent(event)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Keep the line numbers at the left."""
        super().resizeEvent(event)
        self._place_gutter()

    # ------------------------------------------------------------------ text

    def _typed(self, *_: int) -> None:
        if self._following:
            return
        begin, old, new = difference(self._document.text, self.shown())
        if old or new:
            self._document.type_in(begin, len(old), new)

    def _follow(self, position: int, removed: int, words: str) -> None:
        if position < 0:
            return  # typed here
        old = self.shown()
        self._following = True
        cursor = QtGui.QTextCursor(self.document())
        cursor.setPosition(_units(old[:position]))
        cursor.setPosition(_units(old[: position + removed]), QtGui.QTextCursor.MoveMode.KeepAnchor)
        cursor.insertText(words)
        self._following = False

    def _moved(self) -> None:
        if not self._following and self.hasFocus():
            block = self.textCursor().block()
            text = self.shown()
            lines = text.split("\n")[: block.blockNumber()]
            self.line_entered.emit(
                sum(len(line) + 1 for line in lines) + self.textCursor().positionInBlock()
            )

    # ------------------------------------------------------------------ looks

    def _paint(self) -> None:
        self._colours.rehighlight()
        self._underline()
        self._place_gutter()
        self._gutter.update()

    def _underline(self) -> None:
        found = []
        for line, (glyph, _) in self._lines.items():
            block = self.document().findBlockByNumber(line - 1)
            if not block.isValid():
                continue
            selection = QtWidgets.QTextEdit.ExtraSelection()
            cursor = QtGui.QTextCursor(block)
            cursor.movePosition(
                QtGui.QTextCursor.MoveOperation.EndOfBlock, QtGui.QTextCursor.MoveMode.KeepAnchor
            )
            form = QtGui.QTextCharFormat()
            form.setUnderlineStyle(QtGui.QTextCharFormat.UnderlineStyle.WaveUnderline)
            now = theme.now()
            colour = now.error_text if glyph == "✕" else now.orange
            form.setUnderlineColor(QtGui.QColor(colour))
            selection.cursor, selection.format = cursor, form
            found.append(selection)
        self.setExtraSelections(found)

    def _place_gutter(self) -> None:
        width = self.fontMetrics().horizontalAdvance("✕ 999") + _MARGIN
        self.setViewportMargins(width, 0, 0, 0)
        box = self.contentsRect()
        self._gutter.setGeometry(QtCore.QRect(box.left(), box.top(), width, box.height()))

    def _scroll_gutter(self, rect: QtCore.QRect, dy: int) -> None:
        if dy:
            self._gutter.scroll(0, dy)
        else:
            self._gutter.update(0, rect.y(), self._gutter.width(), rect.height())

    def paint_gutter(self, event: QtGui.QPaintEvent) -> None:
        """Numbers of the lines, and a glyph where something is wrong."""
        painter = QtGui.QPainter(self._gutter)
        now = theme.now()
        painter.fillRect(event.rect(), QtGui.QColor(now.panel))
        painter.setFont(self.font())
        block = self.firstVisibleBlock()
        offset = self.contentOffset()
        height = self.fontMetrics().height()
        width = self._gutter.width() - _MARGIN // 2
        while block.isValid():
            box = self.blockBoundingGeometry(block).translated(offset)
            if box.top() > event.rect().bottom():
                break
            line = block.blockNumber() + 1
            glyph = self._lines.get(line, ("", ""))[0]
            row = QtCore.QRect(2, int(box.top()), width - 2, height)
            painter.setPen(QtGui.QColor(now.muted))
            painter.drawText(row, Qt.AlignmentFlag.AlignRight, str(line))
            if glyph:
                painter.setPen(QtGui.QColor(now.error_text if glyph == "✕" else now.orange))
                painter.drawText(row, Qt.AlignmentFlag.AlignLeft, glyph)
            block = block.next()
        painter.end()


class _Gutter(QtWidgets.QWidget):
    def __init__(self, view: TextView) -> None:
        super().__init__(view)
        self._view = view

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        self._view.paint_gutter(event)


class _Colours(QtGui.QSyntaxHighlighter):
    def highlightBlock(self, text: str) -> None:  # noqa: N802 - Qt's name
        now = theme.now()
        for pattern, colour in ((_KEY, now.sky), (_COMMENT, now.muted)):
            for found in pattern.finditer(text):
                begin = _units(text[: found.start()])
                self.setFormat(begin, _units(found[0]), QtGui.QColor(colour))


def _units(text: str) -> int:
    """Its length as Qt counts: in units of UTF-16."""
    return len(text.encode("utf-16-le")) // 2
