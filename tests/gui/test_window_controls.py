"""What the controls of the window command, and when: against a host in this process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState
from gui import orders
from gui.twice import NOT_BEFORE_S
from tests.gui.hands import EVENTUALLY_MS, LEFT, Key, hold_down, press_run, run_to, state_shown


def test_run_starts_the_recipe_that_is_shown_into_the_folder_asked_for(
    qtbot: QtBot, host, open_window, recipe_file: Path, tmp_path: Path
) -> None:
    window = open_window()
    assert not window.topbar.run.isEnabled()
    window.open_recipe(recipe_file)
    qtbot.waitUntil(window.topbar.run.isEnabled, timeout=EVENTUALLY_MS)
    assert window.recipe.model.rows[0].words.startswith("ramp")
    recipe_file.write_text("changed behind the window's back", encoding="utf-8")
    for _ in range(2):  # a double click
        window.topbar.run.click()
    qtbot.waitUntil(lambda: "Again" in window.topbar.run.text(), timeout=EVENTUALLY_MS)
    window.show_page(window.runs)  # whoever looks elsewhere meanwhile is asked anew
    window.show_page(window.live)
    assert window.notices.kind == ""
    assert host.commands == []
    said = press_run(qtbot, window)
    assert "heats to 700.0 °C at most, takes about 0:22:2" in said
    qtbot.waitUntil(lambda: "RUNNING" in state_shown(window), timeout=EVENTUALLY_MS)
    [(name, text, folder)] = host.commands
    assert name == "start"
    assert "name: window test" in text
    assert folder == str(tmp_path / "out")
    assert not window.topbar.run.isEnabled()


CONTROLS = [
    (EngineState.RUNNING, Key.Key_Space, "pause", ("pause",), EngineState.PAUSED),
    (EngineState.PAUSED, Key.Key_Space, "pause", ("resume",), EngineState.RUNNING),
    (EngineState.RUNNING, Key.Key_H, "hold", ("hold",), EngineState.PAUSED),
]


def test_a_control_calls_its_method_and_nothing_else(qtbot: QtBot, host, open_window) -> None:
    window = open_window()
    for by in ("key", "button"):
        for state, key, name, command, then in CONTROLS:
            run_to(qtbot, window, host, state)
            button = getattr(window.topbar, name)
            qtbot.waitUntil(button.isEnabled, timeout=EVENTUALLY_MS)
            host.commands.clear()
            if by == "key":
                qtbot.keyClick(window, key)
            else:
                qtbot.mouseClick(button, LEFT)
            shown = then.value.upper()
            qtbot.waitUntil(lambda: shown in state_shown(window), timeout=EVENTUALLY_MS)  # noqa: B023
            assert host.commands == [command], (by, name)


def test_a_click_on_abort_does_nothing_but_holding_it_aborts(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    abort = window.topbar.abort
    qtbot.mouseClick(abort, LEFT)
    assert window.notices.kind == "error"
    assert abort.fraction == 0
    qtbot.mousePress(abort, LEFT)
    qtbot.waitUntil(lambda: 0 < abort.fraction < 1, timeout=1000)
    assert host.commands == []
    qtbot.waitUntil(lambda: "ABORTED" in state_shown(window), timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(abort, LEFT)
    assert host.commands == [("abort", "aborted by the operator")]


def test_abort_by_holding_its_key(qtbot: QtBot, host, open_window) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.keyPress(window, Key.Key_F9)
    qtbot.waitUntil(lambda: "ABORTED" in state_shown(window), timeout=EVENTUALLY_MS)
    qtbot.keyRelease(window, Key.Key_F9)
    assert [name for name, *_ in host.commands] == ["abort"]


def test_a_window_that_stalls_takes_no_short_press_for_a_long_one(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    abort = window.topbar.abort
    for press in (
        lambda: qtbot.keyPress(window, Key.Key_F9),
        lambda: qtbot.mousePress(abort, LEFT),
    ):
        press()
        time.sleep(0.8)  # what the operator does meanwhile waits in the queue behind the timer
        QtWidgets.QApplication.processEvents()
        assert 0 < abort.fraction < 0.5
        abort.cancel()
        qtbot.wait(150)
        assert host.commands == []
        qtbot.keyRelease(window, Key.Key_F9)


def test_a_key_that_is_let_go_in_another_window_does_not_go_on_to_abort(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.keyPress(window, Key.Key_F9)
    QtWidgets.QApplication.sendEvent(window, QtCore.QEvent(QtCore.QEvent.Type.WindowDeactivate))
    assert window.topbar.abort.fraction == 0
    qtbot.wait(800)
    assert host.commands == []


def test_a_moment_without_contact_turns_no_letter_of_a_note_into_a_command(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    window.activateWindow()
    window.log.field.setFocus()
    qtbot.waitUntil(window.log.field.hasFocus, timeout=EVENTUALLY_MS)
    host.dead = True
    qtbot.waitUntil(lambda: "NO CONTACT" in state_shown(window), timeout=EVENTUALLY_MS)
    host.dead = False
    qtbot.waitUntil(lambda: "RUNNING" in state_shown(window), timeout=EVENTUALLY_MS)
    assert window.log.field.hasFocus()
    qtbot.keyClicks(window.focusWidget(), "oh no")
    assert window.log.field.text() == "oh no"
    assert host.commands == []


def test_controls_are_offered_only_where_they_make_sense(
    qtbot: QtBot, host, open_window, recipe_file: Path
) -> None:
    window = open_window()
    window.open_recipe(recipe_file)
    qtbot.waitUntil(lambda: window.recipe.recipe is not None, timeout=EVENTUALLY_MS)
    offered = {}
    for state in EngineState:
        run_to(qtbot, window, host, state)
        bar = window.topbar
        buttons = {"run": bar.run, "pause": bar.pause, "hold": bar.hold, "abort": bar.abort}
        offered[state.value] = {name for name, button in buttons.items() if button.isEnabled()}
        assert bar.heater_off.isEnabled()
        assert window.log.field.isEnabled() == state.active
    assert offered == {
        "idle": {"run"},
        "preparing": {"abort"},
        "running": {"pause", "hold", "abort"},
        "pausing": {"hold", "abort"},
        "paused": {"pause", "hold", "abort"},
        "finishing": set(),
        "completed": {"run"},
        "aborted": {"run"},
        "failed": {"run"},
    }


def test_marks_are_sent_as_written_and_letters_in_the_field_command_nothing(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(window.log.field.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.keyClicks(window.log.field, "H h <b>&")
    assert host.commands == []
    qtbot.mouseClick(window.log.button, LEFT)
    qtbot.waitUntil(lambda: host.commands == [("mark", "H h <b>&")], timeout=EVENTUALLY_MS)
    assert window.log.field.text() == ""


def test_a_prompt_is_shown_and_continue_confirms_it(qtbot: QtBot, host, open_window) -> None:
    window = open_window()
    host.state = EngineState.RUNNING
    host.changes["prompt"] = "Focus, then continue"
    qtbot.waitUntil(window.notices.prompt.isVisible, timeout=EVENTUALLY_MS)
    assert "Focus, then continue" in window.notices.prompt_text.text()
    qtbot.mouseClick(window.notices.continue_button, LEFT)
    qtbot.waitUntil(lambda: host.commands == [("confirm",)], timeout=EVENTUALLY_MS)


def test_a_fault_is_shown_and_cleared_only_by_holding_and_only_without_a_run(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    host.changes["fault"] = "over-temperature: 912 °C"
    host.state = EngineState.RUNNING
    qtbot.waitUntil(window.notices.fault.isVisible, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: not window.notices.clear_button.isEnabled(), timeout=EVENTUALLY_MS)
    run_to(qtbot, window, host, EngineState.FAILED)
    qtbot.mouseClick(window.notices.clear_button, LEFT)
    assert host.commands == []
    hold_down(qtbot, window.notices.clear_button, lambda: host.commands == [("clear_fault",)])


def test_a_refusal_is_shown_in_its_own_words_until_dismissed(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    host.refusal = "hold refused: the heater is off. Ramp first."
    qtbot.mouseClick(window.topbar.hold, LEFT)
    qtbot.waitUntil(lambda: window.notices.kind == "error", timeout=EVENTUALLY_MS)
    assert host.refusal in window.notices.message.text()
    assert host.refusal in window.log.lines.toPlainText()
    qtbot.mouseClick(window.notices.dismiss, LEFT)
    assert host.refusal not in window.notices.message.text()


def test_a_recipe_that_cannot_be_run_is_refused_and_the_old_one_stays(
    qtbot: QtBot, host, open_window, recipe_file: Path, tmp_path: Path
) -> None:
    window = open_window()
    window.open_recipe(recipe_file)
    qtbot.waitUntil(lambda: window.recipe.recipe is not None, timeout=EVENTUALLY_MS)
    bad = tmp_path / "bad.yaml"
    bad.write_text("hotstage: 1\nname: x\nstepz: []\n", encoding="utf-8")
    message = window.notices.message
    for path, said in ((bad, "stepz"), (tmp_path / "none.yaml", "cannot be read")):
        assert said not in message.text()
        window.open_recipe(path, start=True)
        qtbot.waitUntil(lambda: said in message.text(), timeout=EVENTUALLY_MS)  # noqa: B023
        assert window.notices.kind == "error"
        assert window.recipe.recipe.path == recipe_file
        assert host.commands == []


def test_the_old_recipe_is_not_started_while_the_one_to_start_is_still_read(
    qtbot: QtBot, host, open_window, recipe_file: Path, tmp_path: Path, monkeypatch
) -> None:
    window = open_window()
    window.open_recipe(recipe_file)
    qtbot.waitUntil(window.topbar.run.isEnabled, timeout=EVENTUALLY_MS)
    slow = tmp_path / "slow.yaml"
    slow.write_text(recipe_file.read_text(encoding="utf-8").replace("name: ", "name: slow "))
    may_read, real = threading.Event(), orders._read_recipe

    def read(path: Path) -> orders.RecipeText:
        may_read.wait(30)
        return real(path)

    monkeypatch.setattr(orders, "_read_recipe", read)
    window.open_recipe(slow, start=True)
    qtbot.wait(500)
    assert host.commands == []
    may_read.set()
    qtbot.waitUntil(lambda: bool(host.commands), timeout=EVENTUALLY_MS)
    assert window.recipe.recipe.path == slow
    assert "slow" in str(host.commands[0])


def test_a_run_begins_only_where_one_sees_it_and_never_later_by_itself(
    qtbot: QtBot, host, open_window, recipe_file: Path
) -> None:
    host.dead = True
    window = open_window(wait=False)
    window.open_recipe(recipe_file, start=True)
    qtbot.waitUntil(lambda: window.recipe.recipe is not None, timeout=EVENTUALLY_MS)
    host.state, host.dead = EngineState.RUNNING, False  # somebody else's
    qtbot.waitUntil(
        lambda: "was not started: a run is going on" in window.log.lines.toPlainText(),
        timeout=EVENTUALLY_MS,
    )
    run_to(qtbot, window, host, EngineState.COMPLETED)
    qtbot.waitUntil(window.topbar.run.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(window.isActiveWindow, timeout=EVENTUALLY_MS)
    window.show_page(window.editor)  # another recipe may be edited here: it is asked about
    qtbot.keyClick(window, Key.Key_F5)
    qtbot.waitUntil(
        lambda: window.findChild(QtWidgets.QMessageBox, "question") is not None,
        timeout=EVENTUALLY_MS,
    )
    window.findChild(QtWidgets.QMessageBox, "question").reject()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=EVENTUALLY_MS)
    window.show_page(window.instruments)
    qtbot.keyClick(window, Key.Key_F5)
    assert window.stack.currentWidget() is window.live
    assert "first_light.yaml: heats to 700.0 °C" in window.notices.message.text()
    assert host.commands == []
    qtbot.wait(round(1000 * NOT_BEFORE_S) + 20)
    qtbot.keyClick(window, Key.Key_F5)
    qtbot.waitUntil(lambda: len(host.commands) == 1, timeout=EVENTUALLY_MS)


def test_a_wheel_over_a_choice_changes_nothing(qtbot: QtBot, host, open_window) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    choice = window.image.detector
    qtbot.waitUntil(lambda: choice.count() == 2, timeout=EVENTUALLY_MS)
    at = QtCore.QPointF(5, 5)
    wheel = QtGui.QWheelEvent(
        at,
        choice.mapToGlobal(at),
        QtCore.QPoint(0, -120),
        QtCore.QPoint(0, -120),
        QtCore.Qt.MouseButton.NoButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QtWidgets.QApplication.sendEvent(choice, wheel)
    assert choice.currentText() == "haadf"
    QtWidgets.QApplication.sendEvent(window.tabs, wheel)
    assert window.stack.currentWidget() is window.live
    assert not window.findChildren(QtWidgets.QAbstractSpinBox)
