"""Writes figures without holding up the window, and says what became of them."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui.panels.image.figure import SUFFIXES, Figure, write_figure
from gui.settings import Settings
from gui.words import tr

_FOLDER = "image/figure_folder"
_SUFFIX = "image/figure_suffix"
_MOST_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one figure."""

    words: str
    failed: bool


class FigureSaver:
    """Threads of their own for the files; the UI takes the outcome when it ticks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outcome: deque[Saved] = deque()
        self._writing: list[threading.Thread] = []
        self._one_at_a_time = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where figures go: where the last one went, at first a folder ``figures`` here."""
        kept = self._settings.text(_FOLDER)
        return Path(kept) if kept else Path.cwd() / "figures"

    @property
    def suffix(self) -> str:
        """The format that was chosen last."""
        return self._settings.choice(_SUFFIX, SUFFIXES)

    def choose(self, parent: QtWidgets.QWidget, figure: Figure, name: str) -> QtWidgets.QFileDialog:
        """Ask where to; Qt's own dialog, since F12 must work over it, and it asks before it replaces."""
        dialog = QtWidgets.QFileDialog(parent, tr("Save figure"))
        dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
        dialog.setAcceptMode(QtWidgets.QFileDialog.AcceptMode.AcceptSave)
        filters = {".png": tr("Picture, PNG (*.png)"), ".svg": tr("Drawing, SVG (*.svg)")}
        dialog.setNameFilters(list(filters.values()))
        dialog.selectNameFilter(filters[self.suffix])
        dialog.setDefaultSuffix(self.suffix[1:])
        by_filter = {words: suffix[1:] for suffix, words in filters.items()}
        dialog.filterSelected.connect(lambda words: dialog.setDefaultSuffix(by_filter[words]))
        folder = self.folder
        dialog.setDirectory(str(folder if folder.is_dir() else Path.cwd()))
        dialog.selectFile(name + self.suffix)
        dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        # Qt has asked whether a file of that name is to be replaced
        dialog.fileSelected.connect(lambda path: self.save(figure, Path(path), replace=True))
        dialog.open()
        return dialog

    def snapshot(self, figure: Figure, name: str) -> None:
        """Write into the same folder without asking, under a name that is not taken."""
        self._begin(figure, self.folder / (name + self.suffix), replace=False, number=True)

    def save(self, figure: Figure, path: Path, replace: bool) -> None:
        """Write to a path, and remember its folder and format."""
        self._settings.put(_FOLDER, str(path.parent))
        if path.suffix.lower() in SUFFIXES:
            self._settings.put(_SUFFIX, path.suffix.lower())
        self._begin(figure, path, replace, number=False)

    def take(self) -> list[Saved]:
        """What has become of figures since the last call."""
        taken = []
        while self._outcome:
            taken.append(self._outcome.popleft())
        return taken

    def wait(self, timeout_s: float) -> None:
        """Let what is being written be finished."""
        for thread in self._writing:
            thread.join(timeout_s)

    def _begin(self, figure: Figure, path: Path, replace: bool, number: bool) -> None:
        self._writing = [thread for thread in self._writing if thread.is_alive()]
        thread = threading.Thread(
            target=self._write, args=(figure, path, replace, number), name="figure"
        )
        self._writing.append(thread)
        thread.start()

    def _write(self, figure: Figure, path: Path, replace: bool, number: bool) -> None:
        try:
            with self._one_at_a_time:  # two snapshots of one frame look for a free name
                if number:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path = _free(path)
                written, beside = write_figure(figure, path, replace)
        except OSError as error:
            said = tr("The figure was not saved to {path}: {error}")
            why = error.strerror or str(error)
            self._outcome.append(Saved(said.format(path=path, error=why), failed=True))
        else:
            said = tr("Figure saved to {path}, its caption beside it in {caption}")
            words = said.format(path=written, caption=beside.name)
            self._outcome.append(Saved(words, failed=False))


def _free(path: Path) -> Path:
    """The path, or with a number if it or its caption is taken."""
    for number in range(1, _MOST_TRIES):
        found = path if number == 1 else path.with_stem(f"{path.stem}_{number}")
        if not found.exists() and not found.with_suffix(".json").exists():
            return found
    raise OSError(tr("too many figures of that name; choose another folder."))


def file_name(*parts: str) -> str:
    """A name of words and numbers that any file system takes."""
    cleaned = (re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in parts)
    return "_".join(part for part in cleaned if part)
