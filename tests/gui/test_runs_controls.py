"""Every button, list and dialog of the page of stored runs."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from tests.gui.test_runs import list_runs, runs, settle, shown_index

__all__ = ["runs"]
Key = QtCore.Qt.Key
SHIFT = QtCore.Qt.KeyboardModifier.ShiftModifier
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000


def test_every_control_of_stored_runs_does_what_it_says(
    qtbot: QtBot, open_window, runs: Path, tmp_path: Path
) -> None:
    window = open_window()
    page = list_runs(qtbot, window, runs)
    browser, replay = page.browser, page.replay

    def until(true) -> None:
        qtbot.waitUntil(lambda: bool(true()), timeout=EVENTUALLY_MS)

    def press(button: QtWidgets.QAbstractButton) -> None:
        button.setFocus()
        qtbot.keyClick(button, Key.Key_Return)

    # another folder, by the dialog; and the one before, from those that are known
    press(browser.choose_button)
    until(lambda: window.findChild(QtWidgets.QFileDialog) is not None)
    dialog = window.findChild(QtWidgets.QFileDialog)
    dialog.setDirectory(str(runs / "earlier"))
    dialog.selectFile(str(runs / "earlier"))
    dialog.accept()
    until(lambda: browser.listed == runs / "earlier" and browser.search.rowCount() == 1)
    known = [browser.folders.itemData(row) for row in range(browser.folders.count())]
    browser.folders.setFocus()
    for _ in range(known.index(runs)):
        qtbot.keyClick(browser.folders, Key.Key_Down)
    until(lambda: browser.listed == runs and browser.search.rowCount() == 3)
    press(browser.again_button)
    until(lambda: browser.listed == runs and browser.search.rowCount() == 3)

    # two of them chosen by keys and compared; one of them looked at from the search field
    browser.table.sortByColumn(1, QtCore.Qt.SortOrder.AscendingOrder)
    browser.words.setText("first")
    until(lambda: browser.search.rowCount() == 2)
    browser.table.setFocus()
    browser.table.selectRow(0)
    qtbot.keyClick(browser.table, Key.Key_Down, SHIFT)
    press(browser.compare_button)
    until(lambda: len(page.compare.runs) == 2)
    press(page.compare.banner.back_button)
    assert not page.replaying
    browser.words.setFocus()
    browser.words.setText("completed")
    browser.table.selectRow(0)
    qtbot.keyClick(browser.words, Key.Key_Return)
    until(lambda: replay.scene is not None and replay.scene.image is not None)
    assert replay.path == runs / "well"

    # the line of time: its buttons, its field, a hand that drags along it
    transport, line = replay.transport, replay.timeline
    press(transport.later_mark)
    marked = replay.t_s
    assert marked > 0
    press(transport.later)
    press(transport.later)
    settle(qtbot, page)
    index = shown_index(page)
    press(transport.earlier)
    settle(qtbot, page)
    assert shown_index(page) == index - 1
    press(transport.earlier_mark)
    assert replay.t_s <= marked
    transport.speed.setFocus()
    qtbot.keyClick(transport.speed, Key.Key_End)
    fastest = transport.run_s_per_s
    assert window.settings.text("runs/speed") == f"{fastest:g}"
    press(transport.play)
    until(lambda: transport.playing and replay.t_s > marked)
    press(transport.play)
    assert not transport.playing
    window.activateWindow()  # as a desktop does when the dialog is gone
    until(window.isActiveWindow)
    line.setFocus()
    qtbot.keyClick(line, Key.Key_G)
    assert transport.field.hasFocus()
    qtbot.keyClicks(transport.field, "1:40")
    qtbot.keyClick(transport.field, Key.Key_Escape)
    assert line.hasFocus()
    qtbot.keyClick(line, Key.Key_G)
    qtbot.keyClicks(transport.field, "1:40")
    qtbot.keyClick(transport.field, Key.Key_Return)
    assert replay.t_s == 100
    at, words = line._tip(QtCore.QPoint(line.width() // 2, 10)).split("\n")
    assert at.startswith(("0:01:59", "0:02:0"))
    assert words.startswith("2  hold")
    qtbot.mousePress(line, LEFT, pos=QtCore.QPoint(line.width() // 4, 34))
    qtbot.mouseMove(line, QtCore.QPoint(line.width() // 2, 34))
    qtbot.mouseRelease(line, LEFT, pos=QtCore.QPoint(line.width() // 2, 34))
    assert 55 <= replay.t_s <= 125

    # the journal leads to its moments; another stream is shown where there is one
    journal = replay.panels.happened.table
    journal.setFocus()
    journal.setCurrentIndex(journal.model().index(0, 0))
    qtbot.keyClick(journal, Key.Key_Return)
    assert replay.t_s == replay.panels.happened.model.notes[0].t_s
    stream = replay.panels.image.stream
    stream.setFocus()
    qtbot.keyClick(stream, Key.Key_End)
    settle(qtbot, page)
    assert replay._stream == str(stream.currentData() or "")
    press(replay.banner.back_button)
    assert not page.replaying
