"""The text that is edited, from the form and by hand, with one undo for both."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6 import QtCore, QtGui

from gui.recipes.files import Stored
from gui.words import tr

_SAME_TYPING_S = 1.0
"""What is typed within this time of the last key is undone with it."""


class Document(QtCore.QObject):
    """The present text; ``changed`` tells where it was changed: position, characters removed, new words."""

    changed = QtCore.Signal(int, int, str)
    saved_changed = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.path: Path | None = None
        self.known: str | None = None
        """Mark of the file's content when it was last read or written."""
        self.newline = "\n"
        self.undo = QtGui.QUndoStack(self)
        self.undo.setUndoLimit(1000)
        self.undo.cleanChanged.connect(self._clean_changed)

    @property
    def unsaved(self) -> bool:
        """Whether closing would lose something."""
        return not self.undo.isClean()

    @property
    def title(self) -> str:
        """What it is called."""
        return self.path.name if self.path is not None else tr("unsaved recipe")

    def open(
        self, text: str, path: Path | None, stored: Stored | None = None, *, unsaved: bool = False
    ) -> None:
        """Replace all, with nothing to undo; ``stored`` is the file as it was read."""
        self.undo.clear()
        self.path = path
        self.known = stored.mark if stored is not None else None
        self.newline = stored.newline if stored is not None else "\n"
        self._exchange(0, len(self.text), text)
        if unsaved:
            self.undo.resetClean()
        else:
            self.undo.setClean()
        self.saved_changed.emit()

    def saved(self, stored: Stored) -> None:
        """It was written as it was then; what was typed since is still to be saved."""
        self.path, self.known = stored.path, stored.mark
        if stored.text == self.text:
            self.undo.setClean()
        else:  # nor is what undo leads back to what the file holds now
            self.undo.resetClean()
        self.saved_changed.emit()

    def type_in(self, position: int, removed: int, words: str) -> None:
        """The text view was changed by hand; it shows the new text already."""
        self.undo.push(_Change(self, position, removed, words, "typing", shown=True))

    def replace(self, text: str, what: str) -> None:
        """Change to another text; ``what`` names what was touched: the same again is undone together."""
        begin, old, new = difference(self.text, text)
        if old or new:
            self.undo.push(_Change(self, begin, len(old), new, what, shown=False))

    def _clean_changed(self, _: bool) -> None:
        self.saved_changed.emit()

    def _exchange(self, position: int, removed: int, words: str, *, tell: bool = True) -> None:
        self.text = self.text[:position] + words + self.text[position + removed :]
        if tell:
            self.changed.emit(position, removed, words)


class _Change(QtGui.QUndoCommand):
    def __init__(
        self, document: Document, position: int, removed: int, words: str, what: str, *, shown: bool
    ) -> None:
        super().__init__(what)
        self._document, self._what = document, what
        self._position, self._new = position, words
        self._old = document.text[position : position + removed]
        self._shown = shown
        self._at_s = time.monotonic()

    def redo(self) -> None:
        if self._shown:  # by the view in which it was typed
            self._shown = False
            self._document._exchange(self._position, len(self._old), self._new, tell=False)
            self._document.changed.emit(-1, 0, "")
            return
        self._document._exchange(self._position, len(self._old), self._new)

    def undo(self) -> None:
        self._document._exchange(self._position, len(self._new), self._old)

    def id(self) -> int:
        return hash(self._what) & 0x7FFFFFFF if self._what else -1

    def mergeWith(self, other: QtGui.QUndoCommand) -> bool:  # noqa: N802 - Qt's name
        """Join what belongs together: letters typed one after the other, one field changed again."""
        if not isinstance(other, _Change) or other._what != self._what:
            return False
        if self._what == "typing":
            begun, end = self._position, self._position + len(self._new)
            soon = other._at_s - self._at_s < _SAME_TYPING_S and "\n" not in other._new
            if not soon or other._old or other._position != end or len(other._new) != 1:
                return False
            self._new, self._at_s = self._new + other._new, other._at_s
            return self._position == begun
        if not self._what.startswith("field "):
            return False
        # both changed the same stretch: from the text before the first to the text after the second
        after = self._document.text
        middle = after[: other._position] + other._old + after[other._position + len(other._new) :]
        before = middle[: self._position] + self._old + middle[self._position + len(self._new) :]
        self._position, self._old, self._new = difference(before, after)
        return True


def difference(old: str, new: str) -> tuple[int, str, str]:
    """Where two texts begin to differ, and what stands there in each."""
    begin = 0
    shortest = min(len(old), len(new))
    while begin < shortest and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < shortest - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    return begin, old[begin : len(old) - end], new[begin : len(new) - end]
