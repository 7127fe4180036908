"""The recipe page: form and text of one model, its course and checks, its files, and how it is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.checked import Finding
from acquire.engine.status import EngineState
from gui.recipes.files import Drafts, Stored
from gui.window import OperatorWindow

Key = QtCore.Qt.Key
Control = QtCore.Qt.KeyboardModifier.ControlModifier
Alt = QtCore.Qt.KeyboardModifier.AltModifier
EVENTUALLY_MS = 20_000
TEXT = """\
# why it is done
hotstage: 1
name: window test # its name
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf, abf], size: 512, field_of_view: 120 nm, dwell_time: 1 µs}, every: 1 s}
estimate:
  particles: {from: overview.haadf}
steps:
  - ramp: {to: 700 °C, rate: 5 °C/s} # slowly
  - hold: {for: 20 min}
  # and back
  - ramp: {to: 25 °C, rate: 50 °C/s}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def opened(qtbot: QtBot, window: OperatorWindow, path: Path):
    page = window.editor
    window.open_recipe(path)  # what is opened to be run is what is edited
    window.show_page(page)
    qtbot.waitUntil(lambda: page.document.path == path, timeout=EVENTUALLY_MS)
    settle(qtbot, page)
    return page


def settle(qtbot: QtBot, page) -> None:
    """Until all is read and the station has looked at it."""
    qtbot.waitUntil(
        lambda: page.editing.settled and not page.editing.checking, timeout=EVENTUALLY_MS
    )


def undo_to(qtbot: QtBot, page, text: str) -> None:
    for _ in range(9):
        if page.document.text != text:
            qtbot.keyClick(page.text, Key.Key_Z, Control)
            settle(qtbot, page)
    assert page.document.text == page.text.toPlainText() == text


def question(qtbot: QtBot, window: OperatorWindow) -> QtWidgets.QMessageBox:
    qtbot.waitUntil(
        lambda: window.findChild(QtWidgets.QMessageBox, "question") is not None,
        timeout=EVENTUALLY_MS,
    )
    return window.findChild(QtWidgets.QMessageBox, "question")


def answer(qtbot: QtBot, window: OperatorWindow, caption: str) -> str:
    box = question(qtbot, window)
    words = f"{box.text()} {box.informativeText()}"
    (button,) = [b for b in box.buttons() if b.text() == caption]
    qtbot.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(
        lambda: window.findChild(QtWidgets.QMessageBox, "question") is None, timeout=EVENTUALLY_MS
    )
    if window.isVisible() and window.stack.currentWidget() is window.editor:
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow, timeout=EVENTUALLY_MS)
        window.editor.tree.setFocus()
    return words


def fill_in(qtbot: QtBot, page, words: str, *path: int | str) -> None:
    field = page.form.field(*path)
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, words)
    page.form.flush()
    settle(qtbot, page)


def test_form_and_text_are_one_recipe_with_one_undo(
    qtbot: QtBot, host, open_window, path: Path
) -> None:
    host.findings = (Finding("warning", "the first ramp is slow", (("steps", 0),)),)
    window = open_window()
    page = opened(qtbot, window, path)
    assert host.checked[-1] == TEXT
    assert page.tree.times(("steps", 1)) == ("0:01:40", "0:01:40")  # as the station says
    assert "6 min 48 s" in page.course.figures.text()
    assert page.tree.glyph(("steps", 0)) == "⚠"
    page.objections.gone_to.emit(page.objections.rows[0][2])
    assert page.tree.place == ("steps", 0)
    assert page.text.textCursor().blockNumber() == 9
    assert page.text.underlined() == [10]

    # the form changes what was meant, and nothing else
    fill_in(qtbot, page, "7 °C/s", "steps", 0, "ramp", "rate")
    assert page.document.text == TEXT.replace("rate: 5 °C/s", "rate: 7 °C/s")
    assert page.text.toPlainText() == page.document.text
    assert window.tabs.tabText(window.pages.index(page)) == "● Recipe"
    assert window.windowTitle().startswith("● ")

    # the text changes the form; both have one undo
    cursor = page.text.textCursor()
    cursor.setPosition(TEXT.index("700 °C"))
    cursor.setPosition(cursor.position() + 3, QtGui.QTextCursor.MoveMode.KeepAnchor)
    page.text.setFocus()
    page.text.setTextCursor(cursor)
    qtbot.keyClicks(page.text, "650")
    settle(qtbot, page)
    assert page.form.field("steps", 0, "ramp", "to").text() == "650 °C"
    undo_to(qtbot, page, TEXT.replace("rate: 5 °C/s", "rate: 7 °C/s"))
    assert page.form.field("steps", 0, "ramp", "to").text() == "700 °C"
    field = page.form.field("steps", 0, "ramp", "rate")
    field.setFocus()
    qtbot.keyClick(field, Key.Key_Z, Control)
    settle(qtbot, page)
    assert page.document.text == page.text.toPlainText() == TEXT
    assert window.tabs.tabText(window.pages.index(page)) == "Recipe"

    # what is wrong is said at its line, beside its field and in the list; nothing is corrected
    fill_in(qtbot, page, "7", "steps", 0, "ramp", "rate")
    assert "has no unit" in page.form.words_beside("steps", 0, "ramp", "rate")
    assert page.text.underlined() == [10]
    assert "has no unit" in page.text.words_at(10)
    assert page.objections.rows[0][0] == "✕"
    assert page.tree.glyph(("steps", 0)) == "✕"
    qtbot.keyClick(page.tree, Key.Key_R, Control)
    assert window.notices.kind == "error"
    assert "has no unit" in window.notices.message.text()
    qtbot.keyClick(page.tree, Key.Key_Z, Control)
    settle(qtbot, page)
    assert page.document.text == TEXT
    page.text.setFocus()
    page.text.selectAll()
    qtbot.keyClicks(page.text, "a: [")
    settle(qtbot, page)
    assert not page.form.isEnabled()
    assert "not valid YAML" in page.objections.rows[0][1]
    undo_to(qtbot, page, TEXT)
    assert page.form.isEnabled()


def test_steps_are_added_moved_copied_and_deleted(
    qtbot: QtBot, host, open_window, path: Path
) -> None:
    window = open_window()
    page = opened(qtbot, window, path)
    page.tree.select(("steps", 1))
    qtbot.keyClick(page.tree, Key.Key_Up, Alt)
    settle(qtbot, page)
    assert page.tree.place == ("steps", 0)
    assert page.editing.reading.recipe.steps[0].kind == "hold"
    qtbot.keyClick(page.tree, Key.Key_D, Control)
    settle(qtbot, page)
    assert [s.kind for s in page.editing.reading.recipe.steps] == ["hold", "hold", "ramp", "ramp"]
    qtbot.keyClick(page.tree, Key.Key_Delete)
    settle(qtbot, page)
    (repeat,) = [a for a in page.bar.add.menu().actions() if a.text() == "repeat"]
    repeat.trigger()
    settle(qtbot, page)
    kinds = [s.kind for s in page.editing.reading.recipe.steps]
    assert kinds[page.tree.place[1]] == "repeat"

    # a hand drags the first ramp into the repeat
    where = page.tree.place
    source = ("steps", kinds.index("ramp"))
    page.tree.select(source)
    inside = page.tree._items[(*where, "repeat", "steps", 0)]
    box = page.tree.visualItemRect(inside)
    drop = QtGui.QDropEvent(
        QtCore.QPointF(box.center().x(), box.top() + 1),
        QtCore.Qt.DropAction.MoveAction,
        QtCore.QMimeData(),
        QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
    )
    page.tree.dropEvent(drop)
    settle(qtbot, page)
    (found,) = [s for s in page.editing.reading.recipe.steps if s.kind == "repeat"]
    assert [s.kind for s in found.steps] == ["ramp", "hold"]
    assert page.document.text.count("#") == TEXT.count("#")

    # keys lead out of a block, and back into it
    def kinds_now() -> list[object]:
        return [
            [inner.kind for inner in s.steps] if s.kind == "repeat" else s.kind
            for s in page.editing.reading.recipe.steps
        ]

    with_block = kinds_now()
    at = with_block.index(["ramp", "hold"])
    qtbot.keyClick(page.tree, Key.Key_Left, Alt)
    settle(qtbot, page)
    assert kinds_now()[at : at + 2] == [["hold"], "ramp"]
    qtbot.keyClick(page.tree, Key.Key_Right, Alt)
    settle(qtbot, page)
    assert kinds_now()[at] == ["hold", "ramp"]
    qtbot.keyClick(page.tree, Key.Key_Up, Alt)
    settle(qtbot, page)
    assert kinds_now() == with_block
    qtbot.keyClick(page.tree, Key.Key_C, Control | QtCore.Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: "Copied" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    assert "for _ in range(2):" in QtWidgets.QApplication.clipboard().text()

    # streams and estimates: added, renamed, given an option
    page.changes.add_entry("record", "chip", {"holder": {"every": "200 ms"}})
    settle(qtbot, page)
    assert page.tree.place == ("record", "chip")
    name = page.form.field("record", "chip")
    name.setText("chip2")
    name.editingFinished.emit()
    settle(qtbot, page)
    assert list(page.editing.reading.recipe.record) == ["overview", "chip2"]
    page.tree.select(("estimate", "particles"))
    page.form.option_added.emit(("estimate", "particles"), "growth_window: 1 min")
    settle(qtbot, page)
    assert page.form.field("estimate", "particles", "growth_window").text() == "1 min"


def test_what_is_shown_is_saved_and_run_and_nothing_is_lost(
    qtbot: QtBot, host, open_window, path: Path, tmp_path: Path
) -> None:
    window = open_window()
    page = opened(qtbot, window, path)
    page.tree.select(("steps", 0))
    host.findings = (Finding("problem", "the disk is full", ()),)
    fill_in(qtbot, page, "9 °C/s", "steps", 0, "ramp", "rate")
    qtbot.keyClick(page.tree, Key.Key_R, Control)
    assert "Not run: the disk is full" in window.notices.message.text()
    host.findings = ()
    qtbot.keyClick(page.tree, Key.Key_S, Control)
    qtbot.waitUntil(lambda: not page.document.unsaved, timeout=EVENTUALLY_MS)
    assert path.read_text(encoding="utf-8") == TEXT.replace("5 °C/s", "9 °C/s")
    assert page.keeper.recent() == [path]
    path.write_text("theirs", encoding="utf-8")
    fill_in(qtbot, page, "4 °C/s", "steps", 0, "ramp", "rate")
    qtbot.keyClick(page.tree, Key.Key_S, Control)
    assert "changed by somebody else" in answer(qtbot, window, "Cancel")
    assert path.read_text(encoding="utf-8") == "theirs"

    # undo does not lead back to what is in a file that holds something else by now
    page.document.undo.setClean()
    page.document.replace(page.document.text + "# more\n", "")
    page.document.saved(Stored(path, "what was there when it was written", "\n", ""))
    page.document.undo.undo()
    assert page.document.unsaved
    settle(qtbot, page)

    # a file that was changed since is not what was asked about: it is not run
    page.document.undo.setClean()
    page.keeper.if_unchanged(page.run_wanted.emit)
    qtbot.waitUntil(lambda: "Not run" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    assert host.commands == []
    page.document.undo.resetClean()

    # nor does a file that comes late take the place of what was typed meanwhile
    page.document.undo.setClean()
    page.keeper.open(path)
    page.document.replace(page.document.text + "# meanwhile\n", "")
    assert "not saved" in answer(qtbot, window, "Cancel")
    assert page.document.text.endswith("# meanwhile\n")
    page.document.undo.undo()
    settle(qtbot, page)
    page.document.undo.resetClean()

    # a run is asked for, told what it does, and is of the text that is shown
    host.state = EngineState.RUNNING
    qtbot.waitUntil(lambda: "a run is on" in page.bar.note.text(), timeout=EVENTUALLY_MS)
    qtbot.keyClick(page.tree, Key.Key_R, Control)
    assert "a run is on" in window.notices.message.text()
    host.state = EngineState.IDLE
    qtbot.waitUntil(lambda: not page.bar.note.text(), timeout=EVENTUALLY_MS)
    page.tree.setFocus()
    qtbot.keyClick(page.tree, Key.Key_R, Control)
    assert "heats to 700 °C" in answer(qtbot, window, "Run unsaved text")
    qtbot.waitUntil(lambda: bool(host.commands), timeout=EVENTUALLY_MS)
    [(name, text, _)] = host.commands
    assert (name, text) == ("start", TEXT.replace("5 °C/s", "4 °C/s"))
    assert window.stack.currentWidget() is window.live
    assert window.recipe.recipe.text == text

    # the window is not closed over unsaved text; after a crash it is offered again
    page.document.replace(page.document.text + "# a\u00a0hard space\n", "")
    page.text.setFocus()
    page.text.moveCursor(QtGui.QTextCursor.MoveOperation.End)
    qtbot.keyClicks(page.text, "#")
    assert page.document.text.endswith("# a\u00a0hard space\n#")
    left_ms = page.keeper._due.remainingTime()
    qtbot.wait(20)
    qtbot.keyClicks(page.text, "#")  # who never rests is kept for, too
    assert page.keeper._due.remainingTime() < left_ms
    page.keeper._keep()
    window.close()
    assert "not saved" in answer(qtbot, window, "Cancel")
    assert window.isVisible()
    drafts = window.settings.path.parent / "drafts"
    qtbot.waitUntil(lambda: len(list(drafts.glob("*.json"))) == 1, timeout=EVENTUALLY_MS)
    (draft,) = drafts.glob("*.json")
    (drafts / "older.json").write_bytes(draft.read_bytes())  # of a window that is gone
    other = open_window()
    qtbot.waitUntil(lambda: other.editor.bar.offering, timeout=EVENTUALLY_MS)
    other.show_page(other.editor)
    qtbot.mouseClick(other.editor.bar.restore, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "4 °C/s" in other.editor.document.text, timeout=EVENTUALLY_MS)
    assert other.editor.document.unsaved
    for one in (other, window):
        one.close()
        answer(qtbot, one, "Throw away")
        assert not one.isVisible()


def test_a_text_that_was_run_unsaved_goes_some_time_after_its_window(tmp_path: Path) -> None:
    window, other = Drafts(tmp_path), Drafts(tmp_path)
    path = window.for_run("hotstage: 1", "first.yaml")
    window.forget()
    other.clean(older_s=0)
    assert path.exists(), "its window is open, and may read it again"
    window.release()
    other.clean()
    assert path.exists(), "the run has only just begun"
    other.clean(older_s=0)
    assert not path.parent.exists()
    assert not list(tmp_path.glob("*.lock"))
