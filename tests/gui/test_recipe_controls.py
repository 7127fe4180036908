"""Every button, menu and dialog of the recipe page, pressed by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.checked import Finding
from gui.recipes import templates
from tests.gui.test_recipe_page import TEXT, answer, opened, path, settle

__all__ = ["path"]
Key = QtCore.Qt.Key
EVENTUALLY_MS = 20_000


def act(menu: QtWidgets.QMenu, words: str) -> None:
    """Open a menu and choose what begins with some words."""
    menu.popup(QtCore.QPoint(0, 0))
    found = [one for one in menu.actions() if one.text().startswith(words)]
    assert found, [one.text() for one in menu.actions()]
    menu.close()
    found[0].trigger()


def test_every_button_of_the_editor_does_what_it_says(
    qtbot: QtBot, host, open_window, path: Path, tmp_path: Path
) -> None:
    window = open_window()
    page = opened(qtbot, window, path)
    bar, tree = page.bar, page.tree

    def press(button: QtWidgets.QAbstractButton) -> None:
        qtbot.waitUntil(button.isEnabled, timeout=EVENTUALLY_MS)
        button.setFocus()
        qtbot.keyClick(button, Key.Key_Return)
        settle(qtbot, page)

    def kinds() -> list[str]:
        return [step.kind for step in page.editing.reading.recipe.steps]

    def dialog() -> QtWidgets.QFileDialog:
        found: list[QtWidgets.QFileDialog] = []

        def there() -> bool:
            found[:] = [d for d in window.findChildren(QtWidgets.QFileDialog) if d.isVisible()]
            return bool(found)

        qtbot.waitUntil(there, timeout=EVENTUALLY_MS)
        return found[0]

    def until(true: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(true()), timeout=EVENTUALLY_MS)

    # steps
    tree.select(("steps", 0))
    for button, then in (
        (bar.duplicate, ["ramp", "ramp", "hold", "ramp"]),
        (bar.delete, ["ramp", "hold", "ramp"]),
    ):
        press(button)
        assert kinds() == then
    tree.select(("steps", 1))
    for button, then in (
        (bar.up, ["hold", "ramp", "ramp"]),
        (bar.down, ["ramp", "hold", "ramp"]),
        (bar.undo, ["hold", "ramp", "ramp"]),
        (bar.redo, ["ramp", "hold", "ramp"]),
    ):
        press(button)
        assert kinds() == then
    press(bar.copy)
    assert "ramp" in QtWidgets.QApplication.clipboard().text()

    # the form: a choice, an option that comes and goes, an estimate from the menu
    tree.select(())
    held = page.form.field("pause", "temperature")
    assert isinstance(held, QtWidgets.QComboBox)
    held.setFocus()
    qtbot.keyClick(held, Key.Key_Down)
    settle(qtbot, page)
    assert page.editing.reading.recipe.pause.temperature == held.currentData() != ""
    qtbot.keyClick(held, Key.Key_Home)
    settle(qtbot, page)
    assert not page.editing.reading.mapping["pause"]
    buttons = page.form.findChildren(QtWidgets.QPushButton)
    press(next(one for one in buttons if one.text() == "＋ specimen"))
    assert "specimen:" in page.document.text
    removers = [one for one in page.form.findChildren(QtWidgets.QPushButton) if one.text() == "✕"]
    press(next(one for one in removers if "specimen" in one.toolTip()))
    assert "specimen:" not in page.document.text
    act(bar.add.menu(), "estimate: drift")
    settle(qtbot, page)
    assert tree.place == ("estimate", "drift")
    assert "overview.haadf" in page.document.text.partition("drift:")[2]

    # a step goes on from one branch into the other, and back
    tree.select(("steps", 0))
    act(bar.add.menu(), "when")
    settle(qtbot, page)
    block = (*tree.place, "when")
    tree.select((*block, "then", 0))
    for button, branch in ((bar.down, "else"), (bar.up, "then")):
        press(button)
        assert tree.place[: len(block) + 1] == (*block, branch)
    tree.select(block[:-1])
    press(bar.delete)

    # an objection is gone to from the list
    host.findings = (Finding("warning", "the hold is long", (("steps", 1),)),)
    tree.select(("estimate", "drift"))
    press(bar.delete)
    until(lambda: "the hold is long" in page.objections.rows[0][1])
    checks = page.objections.list
    checks.setCurrentRow(0)
    checks.setFocus()
    qtbot.keyClick(checks, Key.Key_Return)
    assert tree.place == ("steps", 1)
    host.findings = ()

    # files: another name, the one before, an example, a new one, what somebody else has written
    press(bar.save)
    until(lambda: not page.document.unsaved)
    act(bar.file.menu(), "Save as")
    asked = dialog()
    asked.selectFile(str(tmp_path / "other.yaml"))
    asked.accept()
    until(lambda: page.document.path == tmp_path / "other.yaml" and not page.document.unsaved)
    act(bar.file.menu(), path.name)
    until(lambda: page.document.path == path)
    act(bar.file.menu(), "first light")
    until(lambda: page.document.path is None and "first" in page.document.text)
    act(bar.file.menu(), "Open")
    asked = dialog()
    asked.selectFile(str(tmp_path / "other.yaml"))
    asked.accept()
    until(lambda: page.document.path == tmp_path / "other.yaml")
    settle(qtbot, page)
    path.write_text(TEXT, encoding="utf-8")
    for caption, then in (
        ("Overwrite it", lambda: page.document.path.read_text("utf-8") == page.document.text),
        ("Read it, and lose my changes", lambda: page.document.text == "theirs"),
    ):
        page.document.path.write_text("theirs", encoding="utf-8")
        page.document.replace(page.document.text + "# mine\n", "")
        settle(qtbot, page)
        page.save()
        answer(qtbot, window, caption)
        until(then)
        until(lambda: not page.document.unsaved)
    act(bar.file.menu(), "New")
    until(lambda: page.document.text == templates.NEW)
    settle(qtbot, page)

    # run: a recipe without a file is saved first, where one says
    page.document.replace(TEXT, "")
    settle(qtbot, page)
    press(bar.run)
    answer(qtbot, window, "Save and run")
    asked = dialog()
    asked.selectFile(str(tmp_path / "third.yaml"))
    asked.accept()
    until(lambda: [name for name, *_ in host.commands] == ["start"])
    assert (tmp_path / "third.yaml").read_text(encoding="utf-8") == TEXT
    assert window.recipe.recipe.path == tmp_path / "third.yaml"

    # a draft that is offered can be thrown away
    gave_up: list[bool] = []
    window.show_page(page)
    bar.offer("kept", lambda: None, lambda: gave_up.append(True))
    press(bar.give_up)
    assert gave_up == [True]
    assert not bar.offering
