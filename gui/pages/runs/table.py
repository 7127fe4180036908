"""The runs of a folder as a table that can be sorted and searched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6 import QtCore, QtGui

from acquire.units import show_bytes
from gui import text, theme
from gui.pages.runs.words import BADGES, when
from gui.replay.moments import Ending
from gui.words import tr

if TYPE_CHECKING:
    from gui.replay.listing import RunLine

Qt = QtCore.Qt
Index = QtCore.QModelIndex | QtCore.QPersistentModelIndex
COLUMNS = (
    tr("State"),
    tr("Run"),
    tr("Recipe"),
    tr("Began"),
    tr("Lasted"),
    tr("Highest T"),
    tr("Frames"),
    tr("Size"),
)
STATE, RUN, RECIPE, BEGAN, LASTED, HIGHEST, FRAMES, SIZE = range(len(COLUMNS))
_SORT = Qt.ItemDataRole.UserRole


class RunsModel(QtCore.QAbstractTableModel):
    """Lines by path: one that is known is changed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[RunLine] = []
        self._rows: dict[Path, int] = {}
        self.folder = Path()

    def begin(self, folder: Path) -> None:
        """Forget everything; paths are shown relative to ``folder``."""
        self.beginResetModel()
        self.lines, self._rows, self.folder = [], {}, folder
        self.endResetModel()

    def put(self, line: RunLine, add: bool = True) -> bool:
        """Change a line, or add it if ``add``; whether it is in the table now."""
        row = self._rows.get(line.path)
        if row is None:
            if add:
                row = len(self.lines)
                self.beginInsertRows(QtCore.QModelIndex(), row, row)
                self.lines.append(line)
                self._rows[line.path] = row
                self.endInsertRows()
            return add
        if self.lines[row] != line:
            self.lines[row] = line
            self.dataChanged.emit(self.index(row, 0), self.index(row, len(COLUMNS) - 1))
        return True

    def rowCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """Number of runs."""
        return len(self.lines)

    def columnCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """Number of columns."""
        return len(COLUMNS)

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Names of the columns."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:  # above what it is the name of
            side = Qt.AlignmentFlag.AlignLeft if section <= RECIPE else Qt.AlignmentFlag.AlignRight
            if section == BEGAN:  # the sign of its order stands at the right
                side = Qt.AlignmentFlag.AlignHCenter
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell shows, and how."""
        line, column = self.lines[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._words(line, column)
        if role == _SORT:
            return self._rank(line, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{line.path}\n{line.cause}".strip()
        badge = BADGES[line.ending]
        if role == Qt.ItemDataRole.BackgroundRole and column == STATE:
            return QtGui.QColor(badge.background)
        if role == Qt.ItemDataRole.ForegroundRole:
            if column == STATE:
                return QtGui.QColor(badge.foreground)
            if line.ending is Ending.UNREADABLE:
                return QtGui.QColor(theme.now().muted)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (LASTED, HIGHEST, FRAMES, SIZE):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _words(self, line: RunLine, column: int) -> str:
        if column == STATE:
            return BADGES[line.ending].text
        if column == RUN:
            within = line.path.is_relative_to(self.folder) and line.path != self.folder
            return str(line.path.relative_to(self.folder)) if within else line.path.name
        if line.ending is Ending.UNREADABLE:
            return (
                line.cause if column == RECIPE else show_bytes(line.bytes) if column == SIZE else ""
            )
        if column == RECIPE:
            return line.name + (f"  ({line.segments} segments)" if line.segments > 1 else "")
        return {
            BEGAN: lambda: when(line.begun_unix_s),
            LASTED: lambda: text.clock(line.duration_s),
            HIGHEST: lambda: text.celsius(line.highest_celsius),
            FRAMES: lambda: f"{line.frames}",
            SIZE: lambda: show_bytes(line.bytes),
        }[column]()

    def _rank(self, line: RunLine, column: int) -> Any:
        numbers = {
            BEGAN: line.begun_unix_s,
            LASTED: line.duration_s,
            HIGHEST: line.highest_celsius,
            FRAMES: line.frames,
            SIZE: line.bytes,
        }
        if column not in numbers:
            return self._words(line, column).casefold()
        return numbers[column] if math.isfinite(numbers[column]) else -math.inf


class Search(QtCore.QSortFilterProxyModel):
    """Shows the runs in which every word is found, in any column; sorts when asked to, not by itself."""

    def __init__(self, model: RunsModel) -> None:
        super().__init__()
        self._model = model
        self._words: list[str] = []
        self.setSourceModel(model)
        self.setSortRole(_SORT)
        self.setDynamicSortFilter(False)

    def look_for(self, words: str) -> None:
        """Show only runs with these words."""
        self._words = words.casefold().split()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:  # noqa: N802 - Qt's name
        """Whether a run has all the words."""
        if not self._words:
            return True
        line = self._model.lines[row]
        shown = [
            str(self._model.data(self._model.index(row, column))) for column in range(len(COLUMNS))
        ]
        everything = " ".join([*shown, line.cause]).casefold()
        return all(word in everything for word in self._words)

    def line(self, index: Index) -> RunLine:
        """The run of a row that is shown."""
        return self._model.lines[self.mapToSource(index).row()]
