"""What happened in a stored run, line by line; a click goes to its time."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import LiveNote
from gui import text, theme
from gui.widgets.panel import Panel, set_text
from gui.words import tr

Qt = QtCore.Qt
Index = QtCore.QModelIndex | QtCore.QPersistentModelIndex


class _Notes(QtCore.QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[LiveNote] = []
        self.present = -1

    def show(self, notes: Sequence[LiveNote]) -> None:
        known = len(self.notes)
        if list(notes[:known]) == self.notes and known:
            if len(notes) > known:
                self.beginInsertRows(QtCore.QModelIndex(), known, len(notes) - 1)
                self.notes = list(notes)
                self.endInsertRows()
            return
        self.beginResetModel()
        self.notes, self.present = list(notes), -1
        self.endResetModel()

    def mark(self, row: int) -> None:
        before, self.present = self.present, row
        for changed in {before, row}:
            if 0 <= changed < len(self.notes):
                self.dataChanged.emit(self.index(changed, 0), self.index(changed, 1))

    def rowCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        return len(self.notes)

    def columnCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        return 2

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        note = self.notes[index.row()]
        now = theme.now()
        if role == Qt.ItemDataRole.DisplayRole:
            return text.clock(note.t_s) if index.column() == 0 else f"{note.kind}  {note.text}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{text.clock(note.t_s)}  {note.kind}\n{note.text}"
        if role == Qt.ItemDataRole.BackgroundRole and index.row() == self.present:
            return QtGui.QColor(now.selection)
        if role == Qt.ItemDataRole.ForegroundRole:
            if index.row() > self.present:
                return QtGui.QColor(now.muted)
            colour = {
                "mark": now.sky,
                "note": now.sky,
                "fault": now.error_text,
                "warning": now.orange,
            }
            return QtGui.QColor(colour.get(note.kind, now.text))
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 0:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


class HappenedPanel(Panel):
    """The journal of a run; what lies after the cursor is dimmed. Emits ``went`` with a run time."""

    went = QtCore.Signal(float)

    def __init__(self) -> None:
        super().__init__(tr("Journal"))
        self.model = _Notes()
        self.table = QtWidgets.QTableView()
        self.table.setModel(self.model)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTabKeyNavigation(False)
        self.table.setToolTip(tr("Click a line, or press Return on it, to go to its time"))
        self.table.setAccessibleName(tr("Journal"))
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(20)
        self.table.horizontalHeader().hide()
        self.table.horizontalHeader().resizeSection(0, 66)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.add = QtWidgets.QPushButton(tr("✎ Note…"))
        self.add.setToolTip(
            tr("Add a note about this moment, marked as added later (W); nothing else is changed")
        )
        self.add.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.head.addWidget(self.add)
        self.body.addWidget(self.table, 1)
        self.table.clicked.connect(self._go)
        self.table.activated.connect(self._go)
        theme.follow(self, lambda: self.table.viewport().update())
        self._times: list[float] = []

    def show_notes(self, notes: Sequence[LiveNote]) -> None:
        """Show the lines of a run, or what has come to them."""
        known = [note for note in notes if math.isfinite(note.t_s)]
        known.sort(key=lambda note: note.t_s)
        self.model.show(known)
        self._times = [note.t_s for note in known]
        set_text(self.info, tr("{count} lines").format(count=len(known)))

    def show_time(self, t_s: float) -> None:
        """Mark the last line that was written by a time."""
        row = bisect.bisect_right(self._times, t_s + 1e-9) - 1
        if row != self.model.present:
            self.model.mark(row)
            if row >= 0 and not self.table.hasFocus():
                self.table.scrollTo(self.model.index(row, 0))

    def _go(self, index: QtCore.QModelIndex) -> None:
        self.went.emit(self.model.notes[index.row()].t_s)
