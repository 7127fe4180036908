"""The window against a host in this process: controls, pictures, refusals, loss of contact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState, LiveImage
from acquire.errors import LinkError
from gui import answers, orders
from gui.app import grab, show
from gui.emergency import ENGINE, SERVER, EmergencyReport
from gui.twice import NOT_BEFORE_S
from gui.window import OperatorWindow
from tests.gui.conftest import FakeHost
from tests.gui.hands import hold_down, press_run

Key = QtCore.Qt.Key
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000
"""Long enough for a machine that has other things to do; nothing is promised about it."""


NO_KEYS = QtCore.Qt.KeyboardModifier.NoModifier


class Dragging(QtCore.QObject):
    """What Qt does with keys during a drag on a desktop."""

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        return isinstance(event, QtGui.QKeyEvent)


def state_shown(window: OperatorWindow) -> str:
    return window.topbar.state.text()


def run_to(qtbot: QtBot, window: OperatorWindow, host, state: EngineState) -> None:
    host.state = state
    word = state.value.upper()
    qtbot.waitUntil(lambda: word in state_shown(window), timeout=EVENTUALLY_MS)


# ------------------------------------------------------------------------------ controls


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


# ---------------------------------------------------------------------------- heater off


def test_f12_over_a_modal_dialog_reaches_server_and_engine(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    box = QtWidgets.QDialog(window)
    box.setModal(True)
    box.open()
    qtbot.waitUntil(box.isVisible, timeout=EVENTUALLY_MS)
    begun = time.monotonic()
    qtbot.keyClick(box, Key.Key_F12)
    qtbot.waitUntil(lambda: bool(server.offs and host.commands), timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun < 0.5
    reason = "heater off pressed by the operator"
    assert server.offs == [("127.0.0.1:49000", reason)]
    assert host.commands == [("heater_off", reason)]
    qtbot.waitUntil(lambda: "ack." in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "engine ack" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "server ack" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    box.close()
    # over an open menu; and while something is dragged, when Qt eats all keys by a filter of its own
    window.help.menu.popup(QtCore.QPoint(0, 0))
    qtbot.keyClick(window.help.menu, Key.Key_F12)
    qtbot.waitUntil(lambda: len(server.offs) == 2, timeout=EVENTUALLY_MS)
    window.help.menu.close()
    application = QtWidgets.QApplication.instance()
    assert application is not None
    drag = Dragging()
    application.installEventFilter(drag)
    mime = QtCore.QMimeData()
    enter = QtGui.QDragEnterEvent(
        QtCore.QPoint(9, 9), QtCore.Qt.DropAction.MoveAction, mime, LEFT, NO_KEYS
    )
    QtWidgets.QApplication.sendEvent(window, enter)
    qtbot.keyClick(window, Key.Key_F12)
    application.removeEventFilter(drag)
    qtbot.waitUntil(lambda: len(server.offs) == 3, timeout=EVENTUALLY_MS)


def test_an_answer_to_heater_off_is_not_covered_and_a_missing_one_not_forgotten(
    qtbot: QtBot, host, open_window, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    button, line = window.topbar.heater_off, window.notices.message
    window.telling.emergency(EmergencyReport(1, ENGINE, True, "", 0.01, True))
    window.complain("the scan refused")
    window.telling.tell("Mark: taken")
    assert "HEATER OFF: engine acknowledged" in line.text()
    monkeypatch.setattr(answers, "SHOWN_S", 0.0)
    qtbot.waitUntil(lambda: "the scan refused" in line.text(), timeout=EVENTUALLY_MS)
    assert button.text().endswith("F12")
    for path in (ENGINE, SERVER):
        window.telling.emergency(EmergencyReport(2, path, False, "no route", 5.0, True))
    assert "Switch the heater off at its control unit" in line.text()
    window.telling.tick()
    assert "NOT SENT" in button.text()


def test_heater_off_reaches_the_server_when_the_engine_hangs(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    host.delay_s = 3.0
    qtbot.mousePress(window.topbar.heater_off, LEFT)
    qtbot.waitUntil(lambda: bool(server.offs), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "ack." in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(window.topbar.heater_off, LEFT)
    assert host.commands == []
    host.delay_s = 0.0
    qtbot.waitUntil(lambda: len(host.commands) == 1, timeout=EVENTUALLY_MS)


def test_heater_off_that_cannot_arrive_is_tried_again_and_says_so(
    qtbot: QtBot, host, server, open_window
) -> None:
    window = open_window()
    server.dead, host.dead = True, True
    qtbot.mousePress(window.topbar.heater_off, LEFT)
    qtbot.waitUntil(lambda: "trying" in window.topbar.heater_off.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseRelease(window.topbar.heater_off, LEFT)
    server.dead = False
    qtbot.waitUntil(lambda: len(server.offs) == 1, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "NOT SENT" not in window.topbar.heater_off.text(), timeout=100)
    host.dead = False
    qtbot.waitUntil(lambda: bool(host.commands), timeout=EVENTUALLY_MS)


# ------------------------------------------------------------------------------- picture


def test_image_outlines_and_curves_follow_the_run(qtbot: QtBot, host, open_window) -> None:
    host.frame_period_s = 0.2
    window = open_window()
    indices: list[int] = []
    show_image = window.image.show_image

    def remember(image: LiveImage) -> None:
        indices.append(image.index)
        show_image(image)

    window.image.show_image = remember
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: len(indices) >= 4, timeout=EVENTUALLY_MS)
    assert indices == sorted(set(indices))  # no frame twice
    assert window.image.canvas.item.image.shape == (host.size, host.size)
    outlines = window.image.overlays.outlines
    drawn = np.array(sorted(circle[:2] for *_, circles in outlines.circles() for circle in circles))
    np.testing.assert_allclose(drawn, sorted(zip(host._x, host._y, strict=True)))
    assert "60 particles outlined" in window.image.measured.text()
    host.measured_behind = 3  # the view may have moved since: nothing is outlined
    qtbot.waitUntil(lambda: "3 frames ago" in window.image.measured.text(), timeout=EVENTUALLY_MS)
    assert outlines.count == 0
    qtbot.waitUntil(
        lambda: window.live.temperature.measured.xData is not None, timeout=EVENTUALLY_MS
    )
    before = len(window.live.curves.temperature.x)
    qtbot.waitUntil(lambda: len(window.live.curves.temperature.x) > before, timeout=EVENTUALLY_MS)
    t_s = window.live.curves.temperature.x
    assert np.all(np.diff(t_s) > 0.49)  # no reading twice, none left out
    assert np.all(np.diff(t_s) < 0.51)
    qtbot.waitUntil(lambda: window.live.spectrum.curve.xData is not None, timeout=EVENTUALLY_MS)
    assert "SIMULATED  ×10" in window.notices.simulated.text()
    assert 0 < window.image.canvas.scale.length_nm < 120


def test_detector_and_logarithm_can_be_chosen(qtbot: QtBot, host, open_window) -> None:
    host.frame_period_s = 1e6
    fetched, maps = [], []

    def image(*arguments):
        found = FakeHost.image(host, *arguments)
        fetched.extend([] if found is None else [found.index])
        return found

    def no_map(*arguments):
        maps.append(arguments)
        raise LinkError("'hotstage.engine' here serves no method 'map'.")

    host.image, host.map = image, no_map
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: window.image.detector.count() == 2, timeout=EVENTUALLY_MS)
    seen = len(maps)
    qtbot.waitUntil(lambda: len(maps) > seen + 2, timeout=EVENTUALLY_MS)
    assert fetched.count(0) <= 2  # what one watcher lacks shows no old image as if it were new
    window.image.detector.setCurrentText("abf")
    assert window.image.canvas.item.image.max() <= 400
    window.image.menu.outlines.trigger()
    assert window.image.overlays.outlines.count == 0
    qtbot.waitUntil(lambda: window.live.spectrum.channel.count() == 2, timeout=EVENTUALLY_MS)
    window.live.spectrum.channel.setCurrentIndex(1)
    window.live.spectrum.log.setChecked(True)
    assert np.nanmax(window.live.spectrum.curve.getData()[1]) == pytest.approx(5.0, abs=0.1)


def test_a_new_run_replaces_the_curves_of_the_old_one(
    qtbot: QtBot, host, open_window, recipe_file: Path
) -> None:
    window = open_window()
    host.begun_s -= 30
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: len(window.live.curves.temperature.x) > 500, timeout=EVENTUALLY_MS)
    run_to(qtbot, window, host, EngineState.COMPLETED)
    window.open_recipe(recipe_file, start=True)
    qtbot.waitUntil(lambda: len(host.commands) == 1, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: 0 < len(window.live.curves.temperature.x) < 100, timeout=EVENTUALLY_MS)
    assert window.live.curves.temperature.x[0] == 0.0
    qtbot.waitUntil(lambda: window.image.shown > 2, timeout=EVENTUALLY_MS)


def test_a_screenshot_shows_something(qtbot: QtBot, host, open_window, tmp_path: Path) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: window.image.shown > 0, timeout=EVENTUALLY_MS)
    assert (window.width(), window.height()) == (1280, 720)
    path = tmp_path / "window.png"
    grab(window, path)
    picture = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format.Format_RGB32)
    pixels = np.frombuffer(picture.constBits(), np.uint8).reshape(720, 1280, 4)
    assert len(np.unique(pixels.view(np.uint32))) > 500, "colours"
    red = pixels[:70, -150:, 2].astype(int) - pixels[:70, -150:, 0]
    assert (red > 80).mean() > 0.4  # heater off lies in its corner


def test_show_runs_a_recipe_takes_its_picture_and_ends(
    qtbot: QtBot, host, server, recipe_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.png"
    status = show(
        host.connect,
        server.emergency,
        recipe=recipe_file,
        folder=tmp_path / "run",
        screenshot=path,
        start=True,
        screenshot_after_s=1.5,
    )
    assert status == 0
    assert path.stat().st_size > 20_000
    assert [command[0] for command in host.commands] == ["start"]
    assert host.state is EngineState.RUNNING  # the window's end left the run alone


# ----------------------------------------------------------------- slowness, loss, errors


class Heartbeat:
    """How late a 10 ms timer of the UI thread comes, and a plain thread of this process beside it."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.machine_late_s = [0.0]
        self._ended = threading.Event()
        self._beside = threading.Thread(target=self._wait, name="heartbeat", daemon=True)
        self._beside.start()
        self._last_s = time.monotonic()
        self.timer = QtCore.QTimer()
        self.timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._beat)
        self.timer.start(10)

    def _beat(self) -> None:
        now_s = time.monotonic()
        self.late_s.append(now_s - self._last_s - 0.01)
        self._last_s = now_s

    def _wait(self) -> None:
        began_s = time.monotonic()
        while not self._ended.wait(0.01):
            now_s = time.monotonic()
            self.machine_late_s.append(now_s - began_s - 0.01)
            began_s = now_s

    def stop(self) -> None:
        self.timer.stop()
        self._ended.set()
        self._beside.join()

    def assert_usually_on_time(self) -> None:
        """The window holds itself up by no more than 0.1 s; what the machine does comes on top."""
        late_s, machine_s = (np.percentile(x, 90) for x in (self.late_s, self.machine_late_s))
        assert late_s < 0.1 + machine_s


def test_a_host_whose_calls_take_half_a_second_never_holds_up_the_window(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    host.delay_s = 0.5
    heart = Heartbeat()
    for _ in range(2):
        window.commanding.hold()
        window.session.mark("slow")
        qtbot.wait(700)
    heart.stop()
    assert len(heart.late_s) > 30
    # a call that blocked would show as half a second
    assert max(heart.late_s) < 0.45 + max(heart.machine_late_s)
    heart.assert_usually_on_time()
    assert "LIVE" in window.facts.link.text()  # slow is not lost


def test_three_hundred_fast_frames_leave_the_window_responsive(
    qtbot: QtBot, host, open_window
) -> None:
    host.frame_period_s, host.size = 0.01, 128
    host.__post_init__()
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    heart = Heartbeat()
    qtbot.waitUntil(
        lambda: window.image.shown > 10 and window.image.shown + window.image.not_shown >= 300,
        timeout=20_000,
    )
    heart.stop()
    heart.assert_usually_on_time()
    assert window.image.not_shown > 0  # newest wins, and the others are counted


def test_a_host_that_dies_makes_everything_stale_and_comes_back_by_itself(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    qtbot.waitUntil(lambda: window.image.shown > 0, timeout=EVENTUALLY_MS)
    host.dead = True
    begun = time.monotonic()
    qtbot.waitUntil(lambda: "NO CONTACT" in state_shown(window), timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun < 2.0
    assert all(panel.property("stale") for panel in window.live.panels)
    assert "STALE" in window.facts.link.text()
    assert "does not answer" in window.notices.message.text()
    assert not window.topbar.pause.isEnabled()
    assert window.topbar.heater_off.isEnabled()
    points = len(window.live.curves.temperature.x)
    host.dead = False
    qtbot.waitUntil(lambda: "RUNNING" in state_shown(window), timeout=EVENTUALLY_MS)
    assert not any(panel.property("stale") for panel in window.live.panels)
    qtbot.waitUntil(lambda: len(window.live.curves.temperature.x) > points, timeout=EVENTUALLY_MS)
    shown = window.image.shown
    qtbot.waitUntil(lambda: window.image.shown != shown, timeout=EVENTUALLY_MS)


def test_a_window_without_a_host_says_so(qtbot: QtBot, host, open_window) -> None:
    host.dead = True
    window = open_window(wait=False)
    qtbot.waitUntil(
        lambda: "does not answer" in window.notices.message.text(), timeout=EVENTUALLY_MS
    )
    assert "NO CONTACT" in state_shown(window)
    assert not window.topbar.run.isEnabled()


@pytest.mark.parametrize("state", [EngineState.RUNNING, EngineState.ABORTED])
def test_a_temperature_that_is_not_read_any_more_is_marked_old(
    qtbot: QtBot, host, open_window, state: EngineState
) -> None:
    window = open_window()
    run_to(qtbot, window, host, state)
    host.changes["reading_t_s"] = host.now_s() - 50 * host.rate
    qtbot.waitUntil(lambda: "ago" in window.topbar.setpoint.text(), timeout=EVENTUALLY_MS)
    assert window.topbar.holder.property("stale")


def test_closing_ends_every_thread_within_half_a_second_and_tells_the_host_nothing(
    qtbot: QtBot, host, open_window
) -> None:
    window: OperatorWindow = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    begun = time.monotonic()
    window.close()
    assert time.monotonic() - begun < 0.6
    assert [t.name for t in threading.enumerate() if t.name.startswith("window-")] == []
    assert host.commands == []
    assert host.state is EngineState.RUNNING


def test_an_error_in_the_window_is_shown_and_ends_nothing(
    qtbot: QtBot, host, server, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path
) -> None:
    import gui.app as app

    seen: list[str] = []
    complain: Callable[[OperatorWindow, str], None] = OperatorWindow.complain

    def remember(window: OperatorWindow, words: str) -> None:
        seen.append(words)
        complain(window, words)

    monkeypatch.setattr(OperatorWindow, "complain", remember)

    class Clumsy(OperatorWindow):
        def _take_image(self) -> None:
            if not seen:
                raise ValueError("a fault of the window")

    monkeypatch.setattr(app, "OperatorWindow", Clumsy)
    with qtbot.captureExceptions():  # pytest-qt's own hook is put back afterwards
        status = show(
            host.connect, server.emergency, screenshot=tmp_path / "a.png", screenshot_after_s=0.6
        )
    assert status == 0
    assert "a fault of the window" in seen[0]


def test_orders_that_waited_too_long_are_not_sent(
    qtbot: QtBot, host, open_window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "COMMAND_TOO_OLD_S", 0.5)
    window = open_window()
    run_to(qtbot, window, host, EngineState.RUNNING)
    host.delay_s = 0.4  # connecting and calling: 0.8 s
    window.session.mark("first")
    window.session.mark("second")
    qtbot.waitUntil(lambda: host.commands == [("mark", "first")], timeout=EVENTUALLY_MS)
    host.delay_s = 0.0
    qtbot.waitUntil(lambda: "not sent" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    assert host.commands == [("mark", "first")]
