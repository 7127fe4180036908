"""The recipe that Run would start, and the plan of the run that is on: steps, their state, planned times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineState, EngineStatus, PlanView
from gui import text, theme
from gui.orders import RecipeText
from gui.widgets.buttons import sign_button
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.words import tr

_COLUMNS = ("", tr("Step"), tr("At"), tr("For"))
_CELL_PX = 12
"""What the style leaves beside the words of a cell."""
Qt = QtCore.Qt
WIDE = 340
"""Narrower, how long a step takes is only in its tip."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of the table; times are run seconds, None where not planned."""

    index: int
    words: str
    at_s: float | None = None
    for_s: float | None = None


class PlanModel(QtCore.QAbstractTableModel):
    """The steps and where the run is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[StepRow, ...] = ()
        self.current = -1
        self.state = EngineState.IDLE

    def show(self, rows: tuple[StepRow, ...]) -> None:
        """Replace the steps."""
        if rows != self.rows:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()

    def mark(self, current: int, state: EngineState) -> None:
        """Say which step is being carried out, and the state of the run."""
        if (current, state) != (self.current, self.state):
            self.current, self.state = current, state
            if self.rows:
                last = self.index(len(self.rows) - 1, len(_COLUMNS) - 1)
                self.dataChanged.emit(self.index(0, 0), last)

    def glyph(self, row: StepRow) -> str:
        """Done, present, ended here, or to come."""
        if self.state is EngineState.COMPLETED or row.index < self.current:
            return "✓"
        if row.index != self.current:
            return "·"
        return {
            EngineState.ABORTED: "■",
            EngineState.FAILED: "✕",
            EngineState.PAUSED: "‖",
            EngineState.PAUSING: "‖",
        }.get(self.state, "▶")

    def rowCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """Number of steps."""
        return len(self.rows)

    def columnCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """State, words, planned begin, planned duration."""
        return len(_COLUMNS)

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Names of the columns."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return _COLUMNS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole and section == 1:
            return int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(
        self,
        index: QtCore.QModelIndex | QtCore.QPersistentModelIndex,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """What a cell shows, and how."""
        row = self.rows[index.row()]
        present = row.index == self.current and self.state.active
        if role == Qt.ItemDataRole.DisplayRole:
            at = text.clock(row.at_s) if row.at_s is not None else ""
            for_ = text.clock(row.for_s) if row.for_s is not None else ""
            return (self.glyph(row), f"{row.index + 1}  {row.words}", at, for_)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            lasts = tr("{words}, for {time}").format(
                words=row.words, time=text.clock(row.for_s or 0)
            )
            return row.words if row.for_s is None else lasts
        if role == Qt.ItemDataRole.BackgroundRole and present:
            return QtGui.QColor(theme.now().selection)
        if role == Qt.ItemDataRole.ForegroundRole and self.glyph(row) == "✓":
            return QtGui.QColor(theme.now().muted)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() in (0, 2, 3):
            return int(Qt.AlignmentFlag.AlignCenter)
        return None


class RecipePanel(Panel):
    """Emits ``opened`` with a path that the operator chose; the window reads it through the session."""

    opened = QtCore.Signal(Path)
    looked = QtCore.Signal(Path)
    """The folder of the run that has ended, to be looked at."""

    def __init__(self) -> None:
        super().__init__(tr("Recipe"))
        self._ended: Path | None = None
        self._followed = -1
        self.recipe: RecipeText | None = None
        self._plan = PlanView()
        self._plan_is_current = False
        self.open_button = QtWidgets.QPushButton(tr("Open…  Ctrl+O"))
        self.open_button.setToolTip(tr("Choose a recipe file; nothing starts before Run"))
        self.open_button.clicked.connect(self.choose)
        self.reload_button = sign_button(
            "⟳", tr("Read the file again: what is shown is what Run starts")
        )
        self.reload_button.setEnabled(False)
        self.reload_button.clicked.connect(self._reload)
        self.open_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.head.addWidget(self.open_button)
        self.head.addWidget(self.reload_button)
        self.name_line = ElidedLabel(align_left=True)
        self.next_line = ElidedLabel(align_left=True)
        self.next_line.setProperty("muted", True)
        self.model = PlanModel()
        self.table = QtWidgets.QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.table.setTabKeyNavigation(False)
        self.table.setAccessibleName(tr("Steps of the recipe"))
        self.table.setShowGrid(False)
        # padding at the sides is left out when Qt reckons where words wrap: they would be cut off
        self.table.setStyleSheet("QTableView::item { padding: 3px 0px; }")
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.verticalHeader().hide()
        self.table.setWordWrap(True)
        self.table.verticalHeader().setSectionResizeMode(
            QtWidgets.QHeaderView.ResizeMode.ResizeToContents
        )
        self.table.verticalHeader().setResizeContentsPrecision(0)  # only rows that are seen
        header = self.table.horizontalHeader()
        header.setHighlightSections(False)
        modes = QtWidgets.QHeaderView.ResizeMode
        clock_px = self.table.fontMetrics().horizontalAdvance("00:00:00") + _CELL_PX
        for column, width in ((0, 26), (2, clock_px), (3, clock_px)):
            header.setSectionResizeMode(column, modes.Fixed)
            header.resizeSection(column, width)
        header.setSectionResizeMode(1, modes.Stretch)
        header.setMinimumSectionSize(20)
        self.source = QtWidgets.QPlainTextEdit()
        self.source.setReadOnly(True)
        self.source.setTabChangesFocus(True)
        self.source.setAccessibleName(tr("Text of the recipe"))
        self.source.setFont(theme.mono())
        self.source.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.source.setPlaceholderText(tr("No recipe is open."))
        self.tabs = QtWidgets.QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.tabBar().setAccessibleName(tr("Steps or text of the recipe"))
        self.tabs.addTab(self.table, tr("Steps"))
        self.tabs.addTab(self.source, tr("Text"))
        self.look_button = QtWidgets.QPushButton(tr("Look at this run"))
        self.look_button.setToolTip(tr("Open the run that has ended on the page of stored runs"))
        self.look_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.look_button.setEnabled(False)
        self.look_button.hide()
        self.look_button.clicked.connect(self._look)
        self.body.addWidget(self.name_line)
        below = QtWidgets.QHBoxLayout()
        below.addWidget(self.next_line, 1)
        below.addWidget(self.look_button)
        self.body.addLayout(below)
        self.body.addWidget(self.tabs, 1)
        self._name_next()

    def choose(self) -> None:
        """Open the file dialog; Qt's own, since F12 must work over it."""
        dialog = QtWidgets.QFileDialog(self.window(), tr("Open recipe"))
        dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters([tr("Recipes (*.yaml *.yml)"), tr("All files (*)")])
        if self.recipe is not None:
            dialog.setDirectory(str(self.recipe.path.parent))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: self.opened.emit(Path(name)))
        dialog.open()

    def show_recipe(self, recipe: RecipeText) -> None:
        """Show a recipe that was read and can be started."""
        self.recipe = recipe
        self.source.setPlainText(recipe.text)
        self.reload_button.setEnabled(True)
        self._plan_is_current = False
        self._name_next()
        self._show_rows()

    def show_status(self, status: EngineStatus, plan: PlanView) -> None:
        """Draw the plan of the run that is on, or of the last one until another recipe is opened."""
        over = status.folder and not status.state.active
        self._ended = Path(status.folder) if over else None
        if self.look_button.isEnabled() != (self._ended is not None):
            self.look_button.setEnabled(self._ended is not None)
            self.look_button.setVisible(self._ended is not None)
        self._plan_is_current = self._plan_is_current or status.state.active
        if plan != self._plan:
            self._plan = plan
            self._plan_is_current = self._plan_is_current or self.recipe is None
        self.model.mark(status.step_index if self._plan_is_current else -1, self._state(status))
        self._show_rows()
        self._show_present_step()
        self._name_next()

    def _show_present_step(self) -> None:
        """Scroll to the step that has begun; not under the mouse."""
        if self.model.current != self._followed and not self.table.underMouse():
            self._followed = self.model.current
            found = next((i for i, r in enumerate(self.model.rows) if r.index == self._followed), 0)
            self.table.scrollTo(
                self.model.index(found, 1),
                QtWidgets.QAbstractItemView.ScrollHint.PositionAtCenter,
            )

    def _state(self, status: EngineStatus) -> EngineState:
        return status.state if self._plan_is_current else EngineState.IDLE

    def _show_rows(self) -> None:
        rows: tuple[StepRow, ...] = ()
        if self._plan_is_current:
            rows = tuple(
                StepRow(step.index, step.text, _known(step.t_start_s), _known(step.duration_s))
                for step in self._plan.steps
            )
        elif self.recipe is not None:
            rows = tuple(StepRow(i, words) for i, words in enumerate(self.recipe.steps))
        self.model.show(rows)
        columns = {
            2: any(row.at_s is not None for row in rows),
            3: any(row.for_s is not None for row in rows) and self.width() >= WIDE,
        }
        for column, shown in columns.items():
            self.table.setColumnHidden(column, not shown)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Rows have other heights: find the present step again."""
        super().resizeEvent(event)
        self._followed = -1

    def _name_next(self) -> None:
        read = self.recipe.name if self.recipe is not None else ""
        set_text(self.name_line, self._plan.name if self._plan_is_current else read)
        if self.recipe is None:
            words = tr("Open a recipe to run it.")
        else:
            words = tr("Run starts {file}").format(file=self.recipe.path.name)
        set_text(self.next_line, words)

    def _look(self) -> None:
        if self._ended is not None:
            self.looked.emit(self._ended)

    def _reload(self) -> None:
        if self.recipe is not None:
            self.opened.emit(self.recipe.path)


def _known(seconds: float) -> float | None:
    """None for NaN, which is unequal to itself and would have the table rebuilt at every look."""
    return seconds if math.isfinite(seconds) else None
