"""What the window says in states that come seldom, and its controls that no other test presses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.station_view import LinkState
from acquire.engine.status import EngineState
from gui.keys_sheet import KeysSheet
from tests.gui.conftest import RECIPE
from tests.gui.test_plots import a_map

Key = QtCore.Qt.Key
Modifier = QtCore.Qt.KeyboardModifier
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000
HOLDERS = {
    "off": ("○", "off"),
    "ramping": ("♨", "ramping"),
    "holding": ("♨", "holding"),
    "making_safe": ("◔", "making safe"),
    "tripped": ("⚠", "tripped"),
}


def test_heater_disk_dose_warnings_ends_and_links_are_told_in_sign_and_word(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    bar, facts, notices = window.topbar, window.facts, window.notices

    def told(what: dict[str, Any], true) -> None:
        host.changes = dict(what)
        qtbot.waitUntil(lambda: bool(true()), timeout=EVENTUALLY_MS)

    host.state = EngineState.RUNNING
    for state, (glyph, word) in HOLDERS.items():
        said = lambda g=glyph, w=word: bar.holder.text().startswith(g) and w in bar.holder.text()  # noqa: E731
        told({"holder_state": state}, said)
    told({"blanked": True}, lambda: "blanked" in bar.beam.text())
    told({"disk_free_bytes": 3_000_000_000}, lambda: facts.disk.text().startswith("⚠ disk 3"))
    dose = {"dose_e_per_nm2": 1.7e8, "dose_limit_e_per_nm2": 2e8}
    told(dose, lambda: facts.dose.text().startswith("⚠ dose 85 %"))
    told({"dose_limit_e_per_nm2": math.inf}, lambda: "%" not in facts.dose.text())
    warned = {"warnings": ("the scan answers late",)}
    told(warned, lambda: notices.message.text().startswith("⚠ the scan answers late"))
    told({"prompt": "insert the aperture"}, lambda: "waits for you" in bar.state.text())
    assert "insert the aperture" in notices.prompt_text.text()
    nothing = dict.fromkeys(
        ("measured_celsius", "setpoint_celsius", "planned_celsius", "eta_s", "step_progress"),
        math.nan,
    )
    told({**nothing, "clock_rate": 1.0}, lambda: "–" in bar.measured.text())
    assert "wall" not in bar.eta.text()
    assert bar.progress.text() == ""

    # how a run ended is said with its cause, and stays said
    host.state = EngineState.FAILED
    told({"cause": "the disk is full"}, lambda: bar.eta.text() == "the disk is full")
    assert bar.state.toolTip() == "the disk is full"
    for state in (EngineState.PREPARING, EngineState.FINISHING, EngineState.COMPLETED):
        host.state = state
        told({}, lambda s=state: s.value.upper() in bar.state.text())

    # every way in which an instrument can stand
    qtbot.keyClick(window, Key.Key_3, Modifier.ControlModifier)
    cards = window.instruments.cards
    qtbot.waitUntil(lambda: len(cards.cards) == 5, timeout=EVENTUALLY_MS)
    seen = set()
    for link in LinkState:
        host.station = tuple(replace(view, link=link) for view in host.station)
        qtbot.waitUntil(
            lambda link=link: link.value in cards.cards["scan"].words.text(), timeout=EVENTUALLY_MS
        )
        words = cards.cards["scan"].words.text()
        seen.add(words[words.index("<b>", 4) :][:5])
    assert len(seen) == len(LinkState), "each has a sign of its own"

    # the run of another window: its plan, not the recipe that lies here
    host.state, host.run = EngineState.RUNNING, host.run + 1
    told({"run_name": "somebody else's"}, lambda: "somebody else's" in window.windowTitle())
    assert len(window.recipe.model.rows) == 4


def test_controls_of_the_run_page_are_pressed_by_keys(
    qtbot: QtBot, host, open_window, recipe_file: Path, tmp_path: Path
) -> None:
    host.begun_s -= 30
    host.state = EngineState.FAILED
    host.changes["fault"] = "open heater"
    host.growing = a_map(1, "large", 4, streams=("large", "small"))
    asked: list[str] = []
    whole = host.map

    def a_named_map(stream: str = "", after: int = -1, wait_s: float = 0.0) -> Any:
        asked.append(stream)
        return whole(stream, after, wait_s)

    host.map = a_named_map
    window = open_window()
    live = window.live

    def until(true) -> None:
        qtbot.waitUntil(lambda: bool(true()), timeout=EVENTUALLY_MS)

    def press(button: QtWidgets.QAbstractButton) -> None:
        until(button.isEnabled)
        button.setFocus()
        qtbot.keyClick(button, Key.Key_Return)

    def front() -> None:
        window.activateWindow()  # as a desktop does when a dialog is gone
        until(window.isActiveWindow)

    def dialog() -> QtWidgets.QFileDialog:
        until(lambda: any(d.isVisible() for d in window.findChildren(QtWidgets.QFileDialog)))
        (found,) = [d for d in window.findChildren(QtWidgets.QFileDialog) if d.isVisible()]
        return found

    # a recipe by its dialog, and read again when the file is another
    qtbot.keyClick(window, Key.Key_O, Modifier.ControlModifier)
    chosen = dialog()
    chosen.selectFile(str(recipe_file))
    chosen.accept()
    until(lambda: window.recipe.recipe is not None)
    recipe_file.write_text(RECIPE.replace("window test", "another"), encoding="utf-8")
    press(window.recipe.reload_button)
    until(lambda: "name: another" in window.recipe.source.toPlainText())
    front()

    # a fault is cleared by holding Return; a message is dismissed; day comes
    clear = window.notices.clear_button
    until(clear.isEnabled)
    clear.setFocus()
    qtbot.keyPress(clear, Key.Key_Return)
    until(lambda: host.commands == [("clear_fault",)])
    qtbot.keyRelease(clear, Key.Key_Return)
    window.complain("nothing of importance")
    press(window.notices.dismiss)
    assert window.notices.kind == ""

    # what is drawn is saved by dialogs that hold nothing up
    folder = tmp_path / "figures"
    folder.mkdir()
    panels = (live.temperature, live.sizes, live.spectrum, live.profile, live.map, live.histogram)
    for panel in panels:
        for deck in live.decks.values():
            if panel in deck.panels:
                deck.turn(deck.panels.index(panel))
        until(panel.isVisible)
        save = panel.head.itemAt(panel.head.count() - 1).widget()
        press(save)
        chosen = dialog()
        chosen.setDirectory(str(folder))
        chosen.selectFile(str(folder / f"{panel.title.text().lower()}.csv"))
        chosen.accept()
        front()
    until(
        lambda: {"temperature.csv", "map.csv", "spectrum.csv"} <= {p.name for p in folder.iterdir()}
    )

    # choices: which map, which quantity of it; contrast and captions of the image
    live.decks["spectra"].turn(2)
    until(live.map.stream.isVisible)
    live.map.stream.setFocus()
    qtbot.keyClick(live.map.stream, Key.Key_End)
    until(lambda: "small" in asked)
    live.map.choice.setFocus()
    qtbot.keyClick(live.map.choice, Key.Key_Home)
    assert live.map.choice.quantity == "spectra_taken"
    menu = live.image.menu
    menu.menu.popup(QtCore.QPoint(0, 0))
    qtbot.keyClick(menu.menu, Key.Key_Down)
    qtbot.keyClick(menu.menu, Key.Key_Return)
    assert not menu.outlines.isChecked()
    until(lambda: live.image.shown > 0)
    qtbot.keyClick(window, Key.Key_O)
    for switch in (menu.labels, menu.scale_bar):
        switch.trigger()
    assert not live.image.canvas.scale.isVisible()
    qtbot.keyClick(window, Key.Key_N)
    until(lambda: live.image.following.on)
    press(live.image.following.end_button)
    assert not live.image.following.on

    # the log is read further up while lines come
    for line in range(200):
        window.log.say("window", f"line {line}")
    bar = window.log.lines.verticalScrollBar()
    until(lambda: bar.maximum() > 0)
    window.log.lines.setFocus()
    bar.triggerAction(QtWidgets.QAbstractSlider.SliderAction.SliderToMinimum)
    for line in range(50):
        window.log.say("window", f"later line {line}")
    qtbot.wait(150)
    assert bar.value() == 0

    # help: its menu, the tour by mouse, the sheet that leads to the tour
    press(window.help.button)
    until(window.help.menu.isVisible)
    qtbot.keyClick(window.help.menu, Key.Key_Escape)
    window.help.show_keys()
    (sheet,) = window.findChildren(KeysSheet)
    (tour,) = [b for b in sheet.findChildren(QtWidgets.QPushButton) if "tour" in b.text()]
    tour.click()
    card = window.help.tour.frame
    qtbot.mouseClick(card.next, LEFT)
    qtbot.mouseClick(card.back, LEFT)
    assert window.help.tour.index == 0
    qtbot.mouseClick(card.skip, LEFT)
    assert window.help.tour is None
