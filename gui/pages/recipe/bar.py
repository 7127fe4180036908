"""The line of buttons over the editor: files, steps, undo, copy, run; and what must be known beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from PySide6 import QtCore, QtWidgets

from acquire.recipe.steps import KINDS
from gui import theme
from gui.pages.recipe.document import Document
from gui.recipes import templates
from gui.recipes.fields import about
from gui.widgets.panel import ElidedLabel, set_text
from gui.words import tr

if TYPE_CHECKING:
    from gui.pages.recipe.page import RecipePage


class Bar(QtWidgets.QWidget):
    """Buttons with their keys in the tips; the name of the file, with ● while it is not saved."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self._document = document
        self.file = _button(tr("File"), tr("Open, recent, examples, new, save as"))
        self.save = _button(tr("Save"), tr("Save the file (Ctrl+S)"))
        self.add = _button(tr("Add"), tr("Add a step behind the chosen one, a stream, an estimate"))
        self.duplicate = _button(tr("Duplicate"), tr("Copy the chosen step (Ctrl+D)"))
        self.delete = _button(tr("Delete"), tr("Delete the chosen part (Del, in the tree)"))
        self.up = _button("▲", tr("Move the step up (Alt+Up), or drag it"))
        self.down = _button("▼", tr("Move the step down (Alt+Down), or drag it"))
        self.undo = _button("↶", tr("Undo (Ctrl+Z), in the form and in the text"))
        self.redo = _button("↷", tr("Redo (Ctrl+Shift+Z)"))
        self.copy = _button(
            tr("Copy as Python"), tr("Copy a script of the same steps (Ctrl+Shift+C)")
        )
        self.run = _button(tr("Run this …"), tr("Asks, then runs this recipe (Ctrl+R)"))
        self.name = ElidedLabel(align_left=True, padding=4)
        self.note = QtWidgets.QLabel()
        self.note.setToolTip(tr("The run that is on has its own copy of its recipe."))
        self.offered = QtWidgets.QLabel()
        self.restore = _button(tr("Restore"), tr("Go on with the text that was kept"))
        self.give_up = _button(tr("Throw away"), tr("Delete the text that was kept"))
        line = QtWidgets.QHBoxLayout()
        line.setSpacing(5)
        for button in (self.file, self.save, self.add, self.duplicate, self.delete, self.up):
            line.addWidget(button)
        for button in (self.down, self.undo, self.redo, self.copy):
            line.addWidget(button)
        line.addWidget(self.name, 1)
        line.addWidget(self.note)
        line.addWidget(self.run)
        self._offer = QtWidgets.QWidget()
        offer = QtWidgets.QHBoxLayout(self._offer)
        offer.setContentsMargins(0, 0, 0, 0)
        offer.addWidget(self.offered, 1)
        offer.addWidget(self.restore)
        offer.addWidget(self.give_up)
        self._offer.hide()
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(line)
        column.addWidget(self._offer)
        for button in (self.up, self.down, self.undo, self.redo):
            button.setFixedWidth(30)
        theme.follow(self, self._paint)

    def connect_page(self, page: RecipePage) -> None:
        """Have the buttons do what the page does."""
        for button, act in (
            (self.save, page.save),
            (self.duplicate, page.changes.duplicate),
            (self.delete, page.changes.delete),
            (self.up, partial(page.changes.move_by, -1)),
            (self.down, partial(page.changes.move_by, 1)),
            (self.undo, page.undo),
            (self.redo, page.redo),
            (self.copy, page.copy_as_python),
            (self.run, page.run_this),
        ):
            button.clicked.connect(lambda _=False, act=act: act())
        self.undo.setEnabled(False)
        self.redo.setEnabled(False)
        self._document.undo.canUndoChanged.connect(self.undo.setEnabled)
        self._document.undo.canRedoChanged.connect(self.redo.setEnabled)
        file, add = QtWidgets.QMenu(self), QtWidgets.QMenu(self)
        file.aboutToShow.connect(lambda: _fill_file(file, page))
        file.setToolTipsVisible(True)
        add.setToolTipsVisible(True)
        self.file.setMenu(file)
        self.add.setMenu(add)
        for kind, model in KINDS.items():
            _act(add, kind, partial(page.changes.add_step, kind), about(model))
        add.addSeparator()
        for name, entry in templates.RECORDS.items():
            words = tr("record: {0}").format(name)
            _act(add, words, partial(page.changes.add_entry, "record", _RECORD_NAMES[name], entry))
        for name in templates.ESTIMATORS:
            words = tr("estimate: {0}").format(name)
            _act(add, words, partial(_add_estimate, page, name))

    def show_document(self) -> None:
        """Name the file; ● says that it is not saved."""
        mark = "●  " if self._document.unsaved else ""
        where = self._document.path
        set_text(self.name, f"{mark}{self._document.title}")
        self.name.setToolTip(str(where) if where is not None else tr("It has no file yet."))

    def show_run(self, on: bool) -> None:
        """Say that a run is on, which is not touched by what is edited."""
        set_text(self.note, tr("▶ a run is on: this is for the next one") if on else "")

    def offer(self, words: str, restore: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Offer text that a window left behind."""
        set_text(self.offered, words)
        for button, act in ((self.restore, restore), (self.give_up, give_up)):
            button.clicked.connect(lambda _=False, act=act: act())
            button.clicked.connect(self._offer.hide)
        self._offer.show()

    @property
    def offering(self) -> bool:
        """Whether text of a window that ended is offered."""
        return not self._offer.isHidden()

    def _paint(self) -> None:
        now = theme.now()
        self.note.setStyleSheet(f"color: {now.sky};")
        self._offer.setStyleSheet(f"color: {now.good_text}; background: {now.good_ground};")


_RECORD_NAMES = {"scan": "overview", "spectrum": "edge", "holder": "chip", "channel": "film"}


def _add_estimate(page: RecipePage, name: str) -> None:
    """Of the recorded scan's first detector if there is one; of spectra, of those that are recorded."""
    recipe = page.editing.reading.recipe
    stream = recipe.scan_stream if recipe is not None else None
    scan = recipe.record[stream].scan if recipe is not None and stream is not None else None
    source = f"{stream}.{scan.detectors[0]}" if scan is not None else "overview.haadf"
    if name == "eels":
        recorded = recipe.recorded_spectra if recipe is not None else ()
        source = f"{next(iter(recorded), 'line_scan')}.core_loss"
    page.changes.add_entry("estimate", name, {"from": source})


def _fill_file(menu: QtWidgets.QMenu, page: RecipePage) -> None:
    menu.clear()
    _act(menu, tr("Open …\tCtrl+O"), page.keeper.choose)
    _act(menu, tr("New\tCtrl+N"), page.keeper.new)
    _act(
        menu, tr("Save as …\tCtrl+Shift+S"), lambda: page.editing.when_settled(page.keeper.save_as)
    )
    recent = page.keeper.recent()
    menu.addSection(tr("Recent"))
    for path in recent:
        _act(menu, path.name, partial(page.keeper.open, path), str(path))
    menu.addSection(tr("Examples"))
    for path in templates.examples():
        _act(menu, path.stem.replace("_", " "), partial(page.keeper.open_example, path), str(path))


def _act(menu: QtWidgets.QMenu, words: str, act: Callable[[], object], tip: str = "") -> None:
    action = menu.addAction(words)
    action.setToolTip(tip)
    action.triggered.connect(lambda _=False: act())


def _button(caption: str, tip: str) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(caption)
    button.setToolTip(tip)
    button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
    return button
