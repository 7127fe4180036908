"""The sheet of keys: what is installed in the window, by where it works; made from the shortcuts themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.widgets.keys import KeyLine, lines_of
from gui.words import tr

if TYPE_CHECKING:
    from gui.pages import Page

Qt = QtCore.Qt
BELOW = 78
"""Pixels below the top of the window: the bar with the state and heater off stays free."""
_COLUMNS = 3
_NATIVE = QtGui.QKeySequence.SequenceFormat.NativeText
_HEAD = 2
"""Lines that the title of a section takes."""
Line = tuple[tuple[str, ...], str]
"""Keys that do the same, and what they do."""
Section = tuple[str, list[Line]]
"""A title and its lines."""


class KeysSheet(QtWidgets.QDialog):
    """Lies beside the window and holds nothing up; Escape closes it. ``toured`` asks for the tour."""

    toured = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget, sections: Sequence[Section]) -> None:
        super().__init__(parent)
        self.setObjectName("keysSheet")
        self.setWindowTitle(tr("Keys"))
        self.setModal(False)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.sections = list(sections)
        area = QtWidgets.QScrollArea()
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        table = self._table()
        area.setWidget(table)
        tour = QtWidgets.QPushButton(tr("Take the tour"))
        tour.setToolTip(tr("Cards beside the parts of the window that say what they are"))
        tour.setAutoDefault(False)
        tour.clicked.connect(self._take_tour)
        close = QtWidgets.QPushButton(tr("Close  (Esc)"))
        close.clicked.connect(self.close)
        close.setDefault(True)
        row = QtWidgets.QHBoxLayout()
        note = QtWidgets.QLabel(tr("Letters are letters while one writes in a field."))
        note.setProperty("muted", True)
        row.addWidget(note, 1)
        row.addWidget(tour)
        row.addWidget(close)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(area, 1)
        column.addLayout(row)
        height = table.sizeHint().height() + row.sizeHint().height() + 48
        self.resize(min(1190, parent.width() - 40), min(height, parent.height() - BELOW - 6))
        close.setFocus()

    def _take_tour(self) -> None:
        self.toured.emit()
        self.close()

    def _table(self) -> QtWidgets.QWidget:
        """Sections in their order, in columns of about the same length."""
        table = QtWidgets.QWidget()
        across = QtWidgets.QHBoxLayout(table)
        across.setContentsMargins(6, 0, 6, 0)
        across.setSpacing(26)
        columns = [QtWidgets.QVBoxLayout() for _ in range(_COLUMNS)]
        for column in columns:
            column.setSpacing(12)
            across.addLayout(column, 1)
        total = sum(len(lines) + _HEAD for _, lines in self.sections)
        done = 0.0
        for title, lines in self.sections:
            middle = done + (len(lines) + _HEAD) / 2
            columns[min(_COLUMNS - 1, int(_COLUMNS * middle / total))].addWidget(
                _section(title, lines)
            )
            done += len(lines) + _HEAD
        for column in columns:
            column.addStretch(1)
        return table


def sections_of(window: QtWidgets.QWidget, pages: Iterable[Page]) -> list[Section]:
    """What the sheet shows of a window: over dialogs, on every page, then page by page.

    Lines of two pages, as those of the image, stand once under the titles of both.
    """
    pages = list(pages)
    over: list[Line] = []
    everywhere: list[Line] = []
    by_line: dict[Line, list[str]] = {}
    for line in lines_of(window):
        page = next((page for page in pages if _within(line, page)), None)
        if line.over_dialogs:
            over.append((line.keys, line.words))
        elif page is None:
            everywhere.append((line.keys, line.words))
        else:
            titles = by_line.setdefault((line.keys, line.words), [])
            if page.title not in titles:
                titles.append(page.title)
    sections: list[Section] = [
        (tr("Everywhere, over any dialog"), over),
        (tr("On every page"), everywhere),
    ]
    named: dict[str, list[Line]] = {page.title: [] for page in pages}
    for pair, titles in by_line.items():
        in_order = [page.title for page in pages if page.title in titles]
        named.setdefault(" · ".join(in_order), []).append(pair)
    every = " · ".join(page.title for page in pages)
    for title, lines in named.items():
        words = tr("Page {title}").format(title=title)
        sections.append((tr("On every page, in a part of it") if title == every else words, lines))
    return [(title, lines) for title, lines in sections if lines]


def _within(line: KeyLine, page: QtWidgets.QWidget) -> bool:
    """Whether the keys belong to a page, also those of a sheet of its own that lies over it."""
    found: QtWidgets.QWidget | None = line.owner
    while found is not None and found is not page:
        found = found.parentWidget()
    return found is page


def _section(title: str, lines: Sequence[Line]) -> QtWidgets.QWidget:
    section = QtWidgets.QWidget()
    grid = QtWidgets.QGridLayout(section)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(10)
    grid.setVerticalSpacing(2)
    grid.setColumnStretch(1, 1)
    head = QtWidgets.QLabel(title)
    theme.follow(head, lambda: head.setStyleSheet(f"color: {theme.now().sky}; font-weight: 600;"))
    grid.addWidget(head, 0, 0, 1, 2)
    for row, (keys, words) in enumerate(lines, 1):
        key, about = QtWidgets.QLabel(written(keys)), QtWidgets.QLabel(_begun(words))
        key.setObjectName("key")
        for label in (key, about):
            label.setTextFormat(Qt.TextFormat.PlainText)
        about.setWordWrap(True)
        grid.addWidget(key, row, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(about, row, 1)
    return section


def written(keys: Sequence[str]) -> str:
    """Keys that do the same, those that differ only in their end together: ``Shift+Left, Right``."""
    ends: dict[str, list[str]] = {}
    for key in keys:
        head, plus, last = key.rpartition("+") if len(key) > 1 else ("", "", key)
        ends.setdefault(head + plus, []).append(last)
    arrows = {Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down}
    names = {QtGui.QKeySequence(key).toString(_NATIVE) for key in arrows}
    return "   ".join(
        head + (tr("arrows") if set(last) == names else (", " if head else "   ").join(last))
        for head, last in ends.items()
    )


def _begun(words: str) -> str:
    return words[:1].upper() + words[1:]


def show_sheet(
    window: QtWidgets.QWidget, pages: Iterable[Page], tour: Callable[[], object]
) -> KeysSheet:
    """Open the sheet over a window, or bring the one that is open to the front; ``tour`` begins the tour."""
    for open_one in window.findChildren(KeysSheet):
        open_one.raise_()
        open_one.activateWindow()
        return open_one
    sheet = KeysSheet(window, sections_of(window, pages))
    sheet.toured.connect(tour)
    left = max(0, (window.width() - sheet.width()) // 2)
    sheet.move(window.mapToGlobal(QtCore.QPoint(left, BELOW)))
    sheet.show()
    return sheet
