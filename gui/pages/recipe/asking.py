"""Questions that wait for an answer without holding up the window, and answers that are words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui.words import tr


def ask(
    owner: QtWidgets.QWidget,
    words: str,
    answers: Sequence[tuple[str, Callable[[], None]]],
    more: str = "",
) -> QtWidgets.QMessageBox:
    """Show a question over the window; each answer is a caption and what follows. Escape is Cancel.

    One that still waits for its answer is brought to the front instead.
    """
    waiting = owner.window().findChild(QtWidgets.QMessageBox, "question")
    if waiting is not None and waiting.isVisible():
        waiting.raise_()
        return waiting
    box = QtWidgets.QMessageBox(owner.window())
    box.setObjectName("question")
    box.setWindowTitle("hotstage")
    box.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    box.setText(words)
    box.setInformativeText(more)
    role = QtWidgets.QMessageBox.ButtonRole
    acts: dict[object, Callable[[], None]] = {}
    for caption, act in answers:
        acts[box.addButton(caption, role.ActionRole)] = act
    cancel = box.addButton(tr("Cancel"), role.RejectRole)
    box.setEscapeButton(cancel)
    box.setDefaultButton(cancel)  # a key that was meant for something else does nothing
    box.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)

    def answered(button: QtWidgets.QAbstractButton) -> None:
        act = acts.get(button)
        if act is not None:
            act()

    box.buttonClicked.connect(answered)
    box.open()
    return box


def choose_file(
    owner: QtWidgets.QWidget, caption: str, start: Path | None, *, to_save: bool
) -> QtWidgets.QFileDialog:
    """Qt's own file dialog, since F12 must work over it; connect to its ``fileSelected``."""
    dialog = QtWidgets.QFileDialog(owner.window(), caption)
    dialog.setOption(QtWidgets.QFileDialog.Option.DontUseNativeDialog)
    dialog.setNameFilters([tr("Recipes (*.yaml *.yml)"), tr("All files (*)")])
    if to_save:
        dialog.setAcceptMode(QtWidgets.QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.AnyFile)
        dialog.setDefaultSuffix("yaml")
    else:
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.ExistingFile)
    if start is not None:
        dialog.setDirectory(str(start.parent))
        if to_save:
            dialog.selectFile(start.name)
    dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    return dialog
