"""Where the recipe comes from and goes to: files, recent ones, examples, and drafts that outlive a crash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

from gui.background import Background
from gui.pages.recipe.asking import ask, choose_file
from gui.pages.recipe.document import Document
from gui.recipes import files, templates
from gui.recipes.files import ChangedOnDisk, Draft, Drafts, Stored
from gui.settings import Settings
from gui.words import tr

RECENT = "recipe/recent"
KEEP_AFTER_MS = 2000
"""Unsaved text is kept beside the settings so long after a change, also while typing goes on."""
_LANE = "files"


def _nothing() -> None:
    pass


class Keeper(QtCore.QObject):
    """Opens and saves for one document; the disk is never waited for."""

    complained = QtCore.Signal(str)
    told = QtCore.Signal(str)
    draft_found = QtCore.Signal(object)

    def __init__(
        self,
        owner: QtWidgets.QWidget,
        document: Document,
        settings: Settings,
        background: Background,
    ) -> None:
        super().__init__(owner)
        self._owner, self._document = owner, document
        self._settings, self._background = settings, background
        self._drafts = Drafts(settings.path.parent / "drafts")
        self._due = QtCore.QTimer(self)
        self._due.setSingleShot(True)
        self._due.setInterval(KEEP_AFTER_MS)
        self._due.timeout.connect(self._keep)
        document.changed.connect(self._soon)
        document.saved_changed.connect(self._forget_if_saved)
        background.submit(_LANE, self._drafts.left_behind, self._left_behind)
        background.submit(_LANE, self._drafts.clean, lambda _, error: None)

    # ------------------------------------------------------------------ opening

    def new(self) -> None:
        """Begin with the template."""
        self._unless_unsaved(lambda: self._document.open(templates.NEW, None))

    def choose(self) -> None:
        """Ask which file to open."""

        def ask_file() -> None:
            recent = self.recent()
            start = self._document.path or (recent[0] if recent else None)
            dialog = choose_file(self._owner, tr("Open recipe"), start, to_save=False)
            dialog.fileSelected.connect(lambda name: self._load(Path(name)))

        self._unless_unsaved(ask_file)

    def open(self, path: Path) -> None:
        """Open a file, after asking what becomes of unsaved text."""
        self._unless_unsaved(lambda: self._load(path))

    def open_example(self, path: Path) -> None:
        """Open an example as a recipe of one's own, which has no file yet."""
        self._unless_unsaved(lambda: self._load(path, example=True))

    def recent(self) -> list[Path]:
        """Files that were opened or saved lately."""
        return self._settings.paths(RECENT)

    def restore(self, draft: Draft) -> None:
        """Go on with text that a window left behind."""

        def take_over() -> None:
            self._document.open(draft.text, draft.path, unsaved=True)
            self._document.known = ""  # whatever the file holds by now, it is asked about
            self._background.submit(_LANE, lambda: Drafts.discard(draft), self._done)
            self._keep()

        self._unless_unsaved(take_over)

    def give_up(self, draft: Draft) -> None:
        """Throw away text that a window left behind."""
        self._background.submit(_LANE, lambda: Drafts.discard(draft), self._done)

    def _load(self, path: Path, *, example: bool = False) -> None:
        before = self._document.text

        def loaded(stored: Stored | None, error: Exception | None) -> None:
            if stored is None:
                self.complained.emit(str(error))
            elif self._document.text != before and self._document.unsaved:
                self.ask_before_leaving(
                    lambda: self._load(path, example=example)
                )  # typed meanwhile
            elif example:
                self._document.open(stored.text, None)
            else:
                self._document.open(stored.text, path, stored)
                self._settings.put_recent(RECENT, path)

        self._background.submit(_LANE, lambda: files.load(path), loaded)

    # ------------------------------------------------------------------ saving

    def save(self, then: Callable[[], object] = _nothing, *, over: bool = False) -> None:
        """Write the file; ``then`` follows if it was written."""
        path = self._document.path
        if path is None:
            self.save_as(then)
            return
        text, newline = self._document.text, self._document.newline
        known = None if over else self._document.known

        def written(stored: Stored | None, error: Exception | None) -> None:
            if isinstance(error, ChangedOnDisk):
                self._ask_about_change(path, str(error), then)
            elif stored is None:
                self.complained.emit(str(error))
            else:
                self._document.saved(stored)
                self._settings.put_recent(RECENT, path)
                self.told.emit(tr("Saved {0}").format(path))
                then()

        self._background.submit(_LANE, lambda: files.save(path, text, known, newline), written)

    def save_as(self, then: Callable[[], object] = _nothing) -> None:
        """Ask for a file and write it; the dialog asks before it takes one that exists."""
        recent = self.recent()
        start = self._document.path
        if start is None:
            start = (recent[0].parent if recent else Path.cwd()) / "recipe.yaml"
        dialog = choose_file(self._owner, tr("Save recipe as"), start, to_save=True)

        def chosen(name: str) -> None:
            self._document.path, self._document.known = Path(name), None
            self.save(then)

        dialog.fileSelected.connect(chosen)

    def ask_before_leaving(self, then: Callable[[], object]) -> None:
        """Ask what becomes of unsaved text; ``then`` follows unless it is to stay."""
        ask(
            self._owner,
            tr("{0} has changes that are not saved.").format(self._document.title),
            (
                (tr("Save"), lambda: self.save(then)),
                (tr("Throw away"), lambda: self._throw_away(then)),
            ),
            tr("A run that is on is not touched by this."),
        )

    def for_run(self, then: Callable[[Path], None]) -> None:
        """Write the unsaved text where a run can read it; ``then`` is given the file."""
        text = self._document.text
        name = self._document.path.name if self._document.path is not None else "unsaved.yaml"

        def written(path: Path | None, error: Exception | None) -> None:
            if path is None:
                self.complained.emit(tr("The text cannot be kept for the run: {0}").format(error))
            else:
                then(path)

        self._background.submit(_LANE, lambda: self._drafts.for_run(text, name), written)

    def if_unchanged(self, then: Callable[[Path], None]) -> None:
        """``then`` is given the file, if it still holds what is shown: a run reads it anew."""
        path, text = self._document.path, self._document.text
        if path is None:
            return

        def read(stored: Stored | None, error: Exception | None) -> None:
            if stored is None:
                self.complained.emit(tr("Not run: {0}").format(error))
            elif stored.text != text:
                words = tr(
                    "Not run: {0} was changed by somebody else since it was read. Open it again."
                )
                self.complained.emit(words.format(path))
            else:
                then(path)

        self._background.submit(_LANE, lambda: files.load(path), read)

    def forget_draft(self) -> None:
        """Nothing of the present text needs to be kept."""
        self._due.stop()
        self._background.submit(_LANE, self._drafts.forget, self._done)

    def close(self) -> None:
        """The window goes."""
        self._due.stop()
        self._drafts.release()

    def _ask_about_change(self, path: Path, words: str, then: Callable[[], object]) -> None:
        ask(
            self._owner,
            words,
            (
                (tr("Overwrite it"), lambda: self.save(then, over=True)),
                (tr("Save as another file"), lambda: self.save_as(then)),
                (tr("Read it, and lose my changes"), lambda: self._load(path)),
            ),
        )

    def _throw_away(self, then: Callable[[], object]) -> None:
        self._document.undo.setClean()
        self.forget_draft()
        then()

    def _unless_unsaved(self, then: Callable[[], object]) -> None:
        if self._document.unsaved:
            self.ask_before_leaving(then)
        else:
            then()

    # ------------------------------------------------------------------ drafts

    def _soon(self, *_: object) -> None:
        if not self._due.isActive():
            self._due.start()

    def _keep(self) -> None:
        if self._document.unsaved:
            text, path = self._document.text, self._document.path
            self._background.submit(_LANE, lambda: self._drafts.keep(text, path), self._done)

    def _forget_if_saved(self) -> None:
        if not self._document.unsaved:
            self.forget_draft()

    def _left_behind(self, found: list[Draft] | None, error: Exception | None) -> None:
        if found:
            self.draft_found.emit(found[0])
        if error is not None:
            self._done(None, error)

    def _done(self, _: Any, error: Exception | None) -> None:
        if error is not None:
            words = tr("Unsaved text cannot be kept for a crash: {0}").format(error)
            self.complained.emit(words)


def when(draft: Draft) -> str:
    """When a draft was kept, as a person says it."""
    return datetime.fromtimestamp(draft.wall_s).astimezone().strftime("%Y-%m-%d %H:%M")
