"""A newcomer's first ten minutes, on a real engine host of the simulated station whose clock is fast."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.client import HostClient
from acquire.engine.status import EngineState
from acquire.remote import emergency_off
from acquire.store import open_run
from gui.app import Folders, application_with_theme
from gui.bench.processes import engine_host
from gui.keys_sheet import KeysSheet
from gui.session import Session
from gui.window import OperatorWindow
from tests.gui.hands import press_run

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]
Key = QtCore.Qt.Key
Control = QtCore.Qt.KeyboardModifier.ControlModifier
Shift = QtCore.Qt.KeyboardModifier.ShiftModifier
EVENTUALLY_MS = 90_000
"""Long enough for a machine that has other things to do; nothing is promised about it."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The simulated station, its clock three times as fast as it is delivered."""
    text = resources.files("simulators").joinpath("stations/simulated.toml").read_text("utf-8")
    assert "clock_rate = 10 " in text
    station = tmp_path / "fast.toml"
    station.write_text(text.replace("clock_rate = 10 ", "clock_rate = 30 "), encoding="utf-8")
    with engine_host(str(station)) as (_, address):
        yield address


def open_window(address: str) -> OperatorWindow:
    session = Session(
        lambda: HostClient(address), lambda at, reason: emergency_off(at, reason=reason)
    )
    window = OperatorWindow(session, Folders(None))
    window.resize(1280, 720)
    window.show()
    window.help.begin_tour_if_new()  # as the program does
    return window


def test_a_newcomer_s_first_ten_minutes(
    qtbot: QtBot, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(true) -> None:  # type: ignore[no-untyped-def]
        qtbot.waitUntil(true, timeout=EVENTUALLY_MS)

    monkeypatch.chdir(tmp_path)
    application_with_theme()
    window = open_window(address)
    status = lambda: window.session.snapshot().status  # noqa: E731

    # the tour begins by itself, and leads to the example; nothing that matters is ever under a card
    wait(lambda: window.help.tour is not None)
    tour = window.help.tour
    assert tour is not None
    wait(window.isActiveWindow)
    frame = tour.frame
    assert "simulated" in frame.words.text()
    qtbot.keyClick(frame, Key.Key_Return)
    qtbot.keyClick(frame, Key.Key_Backspace)
    assert tour.index == 0
    while not tour.cards[tour.index].example:
        top = window.topbar.geometry().bottom()
        assert frame.mapTo(window, QtCore.QPoint(0, 0)).y() > top
        qtbot.keyClick(frame, Key.Key_Return)
    assert status().state is EngineState.IDLE
    qtbot.keyClick(frame, Key.Key_Return)
    wait(lambda: window.recipe.recipe is not None)
    assert "Run" in frame.title.text()
    qtbot.keyClick(frame, Key.Key_Return)
    assert window.help.tour is None

    # run the example, and see it
    wait(window.topbar.run.isEnabled)
    press_run(qtbot, window)
    wait(lambda: status().state is EngineState.RUNNING)
    wait(lambda: window.image.shown >= 3)
    wait(lambda: status().state is EngineState.COMPLETED)
    first = Path(status().folder)
    assert first.parent == tmp_path / "runs"

    # look at the result, at any moment of it
    wait(window.recipe.look_button.isEnabled)
    qtbot.mouseClick(window.recipe.look_button, QtCore.Qt.MouseButton.LeftButton)
    replay = window.runs.replay
    wait(lambda: replay.scene is not None and replay.scene.image is not None)
    qtbot.keyClick(replay.timeline, Key.Key_End)
    wait(lambda: replay.scene is not None and replay.scene.wish.serial == replay.wished)
    assert replay.story is not None
    assert replay.t_s == replay.story.t_end_s
    assert not window.topbar.run.isEnabled()

    # edit the recipe: one value, undo, redo
    qtbot.keyClick(window, Key.Key_2, Control)
    page = window.editor
    wait(lambda: page.editing.settled and not page.editing.checking)
    example = page.document.text
    assert "A short look" in example
    page.tree.select(("steps", 1))
    field = page.form.field("steps", 1, "hold", "for")
    assert isinstance(field, QtWidgets.QLineEdit)
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, "20 s")
    page.form.flush()
    wait(lambda: page.editing.settled and "20 s" in page.document.text)
    qtbot.keyClick(page.tree, Key.Key_Z, Control)
    wait(lambda: page.editing.settled and page.document.text == example)
    qtbot.keyClick(page.tree, Key.Key_Z, Control | Shift)
    wait(lambda: page.editing.settled and "20 s" in page.document.text)

    # run it again; the example itself is as it was
    qtbot.keyClick(page.tree, Key.Key_R, Control)
    wait(lambda: window.findChild(QtWidgets.QMessageBox, "question") is not None)
    box = window.findChild(QtWidgets.QMessageBox, "question")
    assert box is not None
    (button,) = [b for b in box.buttons() if b.text() == "Run unsaved text"]
    qtbot.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)
    wait(lambda: Path(status().folder) != first and not status().state.active)
    assert status().state is EngineState.COMPLETED
    second = Path(status().folder)
    lasted = [open_run(path).journal()[-1].t_s for path in (first, second)]
    assert lasted[1] < lasted[0] - 20
    assert page.document.path is None

    # who has seen the tour is not shown it again, but may ask for it
    page.document.undo.setClean()
    window.close()
    again = open_window(address)
    qtbot.addWidget(again)
    wait(lambda: not again.session.snapshot().stale)
    assert again.help.tour is None
    assert not again.help.waiting
    wait(again.isActiveWindow)
    qtbot.keyClick(again, Key.Key_F1, Shift)
    assert again.help.tour is not None
    qtbot.keyClick(again.help.tour.frame, Key.Key_Escape)
    assert again.help.tour is None

    # F1 lists every key that is installed, and says what it does
    again.activateWindow()
    wait(again.isActiveWindow)
    qtbot.keyClick(again, Key.Key_F1)
    (sheet,) = again.findChildren(KeysSheet)
    lines = [line for _, lines in sheet.sections for line in lines]
    assert all(words for _, words in lines)
    listed = {key for keys, _ in lines for key in keys}
    installed = {found.key().toString() for found in again.findChildren(QtGui.QShortcut)}
    assert {"F12", "F9"} | installed <= listed
    assert not sheet.isModal()
    wait(sheet.isActiveWindow)
    qtbot.keyClick(sheet, Key.Key_Escape)
    assert not sheet.isVisible()
    again.close()


def test_the_tour_keeps_off_a_run_and_lets_everything_through(
    qtbot: QtBot, host, server, open_window
) -> None:
    host.state = EngineState.RUNNING
    window = open_window()
    window.help.begin_tour_if_new()
    qtbot.waitUntil(lambda: not window.help.waiting, timeout=5000)
    assert window.help.tour is None  # somebody has other things to do

    window.help.begin_tour()  # asked for
    tour = window.help.tour
    qtbot.keyClick(tour.frame, Key.Key_H)
    qtbot.waitUntil(lambda: window.topbar.offers_resume, timeout=5000)
    qtbot.keyClick(tour.frame, Key.Key_Space)
    qtbot.waitUntil(lambda: ("resume",) in host.commands, timeout=5000)
    qtbot.keyClick(tour.frame, Key.Key_F12)
    qtbot.waitUntil(lambda: len(server.offs) == 1, timeout=5000)
    assert tour.frame.isVisible()
    assert tour.frame.hasFocus()

    # what must be read is under no card
    host.changes |= {"fault": "open heater", "prompt": "still there?"}
    qtbot.waitUntil(window.notices.fault.isVisible, timeout=5000)
    for _ in tour.cards[1:]:
        qtbot.waitUntil(lambda: not covers(window, tour.frame, window.notices), timeout=5000)
        assert not covers(window, tour.frame, window.topbar)
        tour.go(1)


def covers(window: OperatorWindow, card: QtWidgets.QWidget, other: QtWidgets.QWidget) -> bool:
    """Whether a card lies over a part of the window."""
    rects = [
        QtCore.QRect(widget.mapTo(window, QtCore.QPoint(0, 0)), widget.size())
        for widget in (card, other)
    ]
    return rects[0].intersects(rects[1])
