"""The runs of a folder: choose one to look at, or several to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PySide6 import QtCore, QtWidgets

from gui import text
from gui.pages.runs.table import BEGAN, RECIPE, RunsModel, Search
from gui.replay.desk import Desk, Done
from gui.replay.moments import Ending
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.keys import ALONE, INSIDE, install
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.words import tr

if TYPE_CHECKING:
    from gui.replay.listing import Catalogue, RunLine

Qt = QtCore.Qt
LOOK_AGAIN_MS = 5000
_JOB = "list"
_RECENT = "runs/folders"
_UNFINISHED = (Ending.ABORTED, Ending.FAILED, Ending.CUT_OFF)


class Browser(Panel):
    """Lists runs; a worker reads them.

    While one looks at the list, lines that are there are kept up to date, and runs that have come
    are counted, but shown only when asked for: rows do not move under the hand.
    """

    opened = QtCore.Signal(Path)
    compared = QtCore.Signal(object)
    """Several :class:`~gui.replay.listing.RunLine` that were chosen."""
    continued = QtCore.Signal(str)
    """Somebody asks what going on with the run in a folder would do."""

    def __init__(self, desk: Desk, settings: Settings) -> None:
        super().__init__(tr("Runs"))
        self._desk, self._settings = desk, settings
        self._catalogue: Catalogue | None = None
        self._serial, self._adding, self._new = -1, True, 0
        self.listed: Path | None = None
        """The folder that was listed to its end."""
        self.folder = next((p for p in settings.paths(_RECENT) if p.is_dir()), Path.cwd() / "runs")
        self.model = RunsModel()
        self.search = Search(self.model)
        self.table = _table(self.search)
        self.folders = Choice(tr("Folder whose runs are listed; the last ones are remembered"))
        self.choose_button = _button(tr("Folder…"), tr("Choose another folder"), self.choose)
        self.again_button = _button("⟳", tr("Look again (Ctrl+R)"), self.look)
        self.words = QtWidgets.QLineEdit()
        self.words.setPlaceholderText(tr("Search  (Ctrl+F)"))
        self.words.setClearButtonEnabled(True)
        self.words.setToolTip(tr("Runs with all of these words, in any column"))
        self.words.setAccessibleName(tr("Search"))
        self.words.setFixedWidth(240)
        self.head.addWidget(self.folders)
        self.head.addWidget(self.choose_button)
        self.head.addWidget(self.words)
        self.head.addWidget(self.again_button)
        self.open_button = _button(
            tr("Look at it  ⏎"), tr("Open the run that is chosen"), self._open
        )
        self.compare_button = _button(
            tr("Compare"),
            tr("Draw all chosen runs in one plot (Ctrl or Shift chooses several)"),
            self._compare,
        )
        self.continue_button = _button(
            tr("↻ Continue …"),
            tr("See what is left of a run that was cut off. Nothing moves before you confirm."),
            self._continue,
        )
        self.said = ElidedLabel(align_left=True)
        self.said.setProperty("muted", True)
        foot = QtWidgets.QHBoxLayout()
        foot.addWidget(self.said, 1)
        foot.addWidget(self.continue_button)
        foot.addWidget(self.compare_button)
        foot.addWidget(self.open_button)
        self.body.addWidget(self.table, 1)
        self.body.addLayout(foot)
        self.words.textChanged.connect(self.search.look_for)
        self.words.textChanged.connect(self._count)
        self.table.doubleClicked.connect(self._open)
        self.table.selectionModel().selectionChanged.connect(self._enable)
        self.folders.activated.connect(self._choose_known)
        install(
            self,
            ("Ctrl+R", tr("look again"), self.look),
            ("Ctrl+F", tr("search"), self.words.setFocus),
            context=INSIDE,
        )
        self.words.returnPressed.connect(self._open)
        install(
            self.table,
            ("Return", tr("look at the run that is chosen"), self._open),
            ("Enter", tr("look at the run that is chosen"), self._open),
            ("S", tr("sort by the next column"), self._sort_by_next),
            ("Shift+S", tr("sort the other way round"), self._sort_round),
            context=ALONE,
        )
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(LOOK_AGAIN_MS)
        self._timer.timeout.connect(self._look_again)
        self._offer_folders()
        self._enable()

    # ------------------------------------------------------------------ for the page

    def entered(self) -> None:
        """List, if nothing is listed yet, and keep the lines up to date from now on."""
        if self._serial < 0:
            self.look()
        else:
            self._look_again()
        self._timer.start()
        self.table.setFocus()

    def left(self) -> None:
        """Nobody looks."""
        self._timer.stop()

    def look(self) -> None:
        """List the folder anew."""
        self._adding, self._new, self.listed = True, 0, None
        self.model.begin(self.folder)
        self.table.sortByColumn(BEGAN, Qt.SortOrder.DescendingOrder)
        set_text(self.said, text.homely(tr("Looking into {folder} …").format(folder=self.folder)))
        self._serial = self._desk.ask(_JOB, partial(self._list, self.folder))

    def look_into(self, folder: Path) -> None:
        """List another folder, and remember it."""
        self.folder = folder
        self._settings.put_recent(_RECENT, folder)
        self._offer_folders()
        self.look()

    def take(self, kind: str, serial: int, piece: object) -> None:
        """Take what the desk has read."""
        if kind != _JOB or serial != self._serial:
            return
        if isinstance(piece, Done):
            self._finish(piece.error)
            return
        for line in cast("list[RunLine]", piece):
            if not self.model.put(line, self._adding):
                self._new += 1

    def chosen(self) -> list[RunLine]:
        """The runs that are chosen, as they are sorted."""
        rows = self.table.selectionModel().selectedRows()
        return [self.search.line(row) for row in sorted(rows, key=lambda row: row.row())]

    def choose(self) -> None:
        """Open the dialog; Qt's own, since F12 must work over it."""
        dialog = QtWidgets.QFileDialog(self.window(), tr("Folder of runs"))
        dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.Directory)
        dialog.setDirectory(str(self.folder))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: self.look_into(Path(name)))
        dialog.open()

    # ------------------------------------------------------------------ inside

    def _list(self, folder: Path) -> Iterator[list[RunLine]]:
        """The worker's: runs in portions."""
        from gui.replay.listing import Catalogue

        if self._catalogue is None:
            self._catalogue = Catalogue()
        yield from _portions(self._catalogue.lines(folder))

    def _look_again(self) -> None:
        if self.isVisible() and self.listed == self.folder:
            self._adding, self._new = False, 0
            self._serial = self._desk.ask(_JOB, partial(self._list, self.folder))

    def _finish(self, error: str) -> None:
        self.listed = self.folder
        if self._adding:
            self.search.sort(self.search.sortColumn(), self.search.sortOrder())
            if self.model.lines and not self.table.selectionModel().hasSelection():
                self.table.selectRow(0)
        self._count()
        if error:
            set_text(self.said, f"✕  {error}")

    def _count(self) -> None:
        shown, there = self.search.rowCount(), len(self.model.lines)
        bad = sum(line.ending is Ending.UNREADABLE for line in self.model.lines)
        words = tr("{shown} of {there} runs").format(shown=shown, there=there)
        if not there:
            words = tr("No runs in {folder}").format(folder=self.folder)
        if bad:
            words += tr(" · {bad} cannot be read").format(bad=bad)
        if self._new:
            words += tr(" · {new} new: ⟳ shows them").format(new=self._new)
        set_text(self.said, words)

    def _enable(self) -> None:
        chosen = self.chosen()
        self.open_button.setEnabled(len(chosen) == 1)
        self.continue_button.setEnabled(len(chosen) == 1 and chosen[0].ending in _UNFINISHED)
        self.compare_button.setEnabled(
            len(chosen) > 1 and all(line.ending is not Ending.UNREADABLE for line in chosen)
        )

    def _open(self) -> None:
        if self.words.hasFocus():
            self.table.setFocus()
        chosen = self.chosen()
        if len(chosen) == 1:
            self.opened.emit(chosen[0].path)

    def _sort_by_next(self) -> None:
        header = self.table.horizontalHeader()
        column = (header.sortIndicatorSection() + 1) % header.count()
        self.table.sortByColumn(column, Qt.SortOrder.AscendingOrder)

    def _sort_round(self) -> None:
        header = self.table.horizontalHeader()
        way = Qt.SortOrder.AscendingOrder
        if header.sortIndicatorOrder() is way:
            way = Qt.SortOrder.DescendingOrder
        self.table.sortByColumn(header.sortIndicatorSection(), way)

    def _continue(self) -> None:
        chosen = self.chosen()
        if len(chosen) == 1:
            self.continued.emit(str(chosen[0].path.absolute()))

    def _compare(self) -> None:
        self.compared.emit(self.chosen())

    def _offer_folders(self) -> None:
        known = [self.folder, *(p for p in self._settings.paths(_RECENT) if p != self.folder)]
        own = Path.cwd() / "runs"
        self.folders.clear()
        for path in [*known, *([] if own in known else [own])]:
            self.folders.addItem(_short(path), path)
            self.folders.setItemData(
                self.folders.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole
            )

    def _choose_known(self, index: int) -> None:
        self.look_into(Path(self.folders.itemData(index)))


def _portions(lines: Iterable[RunLine], size: int = 20) -> Iterator[list[RunLine]]:
    taken: list[RunLine] = []
    for line in lines:
        taken.append(line)
        if len(taken) == size:
            yield taken
            taken = []
    yield taken


def _table(search: Search) -> QtWidgets.QTableView:
    table = QtWidgets.QTableView()
    table.setModel(search)
    table.setAccessibleName(tr("Stored runs"))
    table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.ExtendedSelection)
    table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSortingEnabled(True)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setTabKeyNavigation(False)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(26)
    header = table.horizontalHeader()
    header.setHighlightSections(False)
    for column, width in enumerate((150, 260, 300, 130, 76, 86, 76, 84)):
        header.resizeSection(column, width)
    header.setSectionResizeMode(RECIPE, QtWidgets.QHeaderView.ResizeMode.Stretch)
    return table


def _button(caption: str, tip: str, act: object) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(caption)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.clicked.connect(lambda: act() if callable(act) else None)
    return button


def _short(path: Path) -> str:
    """The last two parts: whole paths have no room."""
    return str(Path(*path.parts[-2:])) if len(path.parts) > 3 else str(path)
