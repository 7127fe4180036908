"""The sheet on which another station is chosen, with what will happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui.stations import KnownStation
from gui.words import tr

Qt = QtCore.Qt
_WHICH = Qt.ItemDataRole.UserRole


class StationSheet(QtWidgets.QDialog):
    """Lists stations; ``chosen`` is given the name or file of the one that is to be opened."""

    def __init__(
        self, owner: QtWidgets.QWidget, present: str, chosen: Callable[[str], None]
    ) -> None:
        super().__init__(owner.window())
        self.setObjectName("stations")
        self.setWindowTitle(tr("Other station"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._present, self._chosen = present, chosen
        self.list = QtWidgets.QListWidget()
        self.list.setWordWrap(True)
        self.list.setAccessibleName(tr("Stations"))
        self.list.setToolTip(tr("Up and Down to choose, Return to open"))
        self.consequence = QtWidgets.QLabel(
            tr(
                "A new window is opened on it, with an engine of its own. When its instruments have "
                "answered, this window closes; if they do not, it stays. What both stations use must "
                "first be free: then close this window, wait half a minute, and start the other one."
            )
        )
        self.consequence.setWordWrap(True)
        self.consequence.setProperty("muted", True)
        self.open_it = QtWidgets.QPushButton(tr("Open it"))
        self.open_it.setDefault(True)
        self.open_it.setToolTip(tr("Open a window on the chosen station"))
        self.file = QtWidgets.QPushButton(tr("Station file…"))
        self.file.setToolTip(tr("Choose a station file (.toml)"))
        self.leave = QtWidgets.QPushButton(tr("Cancel"))
        buttons = QtWidgets.QHBoxLayout()
        buttons.addWidget(self.file)
        buttons.addStretch(1)
        buttons.addWidget(self.leave)
        buttons.addWidget(self.open_it)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.list, 1)
        column.addWidget(self.consequence)
        column.addLayout(buttons)
        self.resize(640, 460)
        self.open_it.clicked.connect(self._open)
        self.list.itemActivated.connect(self._open)
        self.list.currentRowChanged.connect(self._allow)
        self.file.clicked.connect(self._ask_for_file)
        self.leave.clicked.connect(self.reject)
        self._allow()

    def show_stations(self, known: Sequence[KnownStation], files: Sequence[Path]) -> None:
        """List the installed ones, then files that were opened before."""
        self.list.clear()
        for one in known:
            marks = [tr("SIMULATED")] if one.simulated else []
            marks += [tr("open here")] if one.name == self._present else []
            words = " · ".join([one.name, *marks])
            self._add(words, one.description, one.name, one.trouble)
        for path in files:
            self._add(path.name, str(path.parent), str(path), "")
        self.list.setFocus()
        self.list.setCurrentRow(0)

    def _add(self, words: str, more: str, which: str, trouble: str) -> None:
        item = QtWidgets.QListWidgetItem(f"⚠ {words}\n{trouble}" if trouble else f"{words}\n{more}")
        item.setToolTip(trouble or which)
        item.setData(_WHICH, "" if trouble else which)
        self.list.addItem(item)

    def _allow(self) -> None:
        item = self.list.currentItem()
        self.open_it.setEnabled(item is not None and bool(item.data(_WHICH)))

    def _open(self) -> None:
        item = self.list.currentItem()
        if item is not None and item.data(_WHICH):
            self._choose(str(item.data(_WHICH)))

    def _ask_for_file(self) -> None:
        # Qt's own, since F12 must work over it
        dialog = QtWidgets.QFileDialog(self, tr("Station file"))
        dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
        dialog.setNameFilters([tr("Stations (*.toml)"), tr("All files (*)")])
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._choose)
        dialog.open()

    def _choose(self, which: str) -> None:
        self.accept()
        self._chosen(which)
