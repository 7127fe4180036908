"""Two windows on one engine: one commands, both are safe, and whoever loses control is told."""

from __future__ import annotations

from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.station_view import ManualView
from acquire.engine.status import EngineState

EVENTUALLY_MS = 10_000
OTHER = "window 99, ben@scope"
Key, LEFT = QtCore.Qt.Key, QtCore.Qt.MouseButton.LeftButton
CTRL = QtCore.Qt.KeyboardModifier.ControlModifier


def test_one_window_drives_and_takes_over_only_with_the_consequence_stated(
    qtbot: QtBot, host, open_window, recipe_file
) -> None:
    host.driven_by = OTHER
    host.changes["attended"] = (OTHER,)
    window = open_window()
    window.open_recipe(recipe_file, start=True)
    bar, me, facts = window.control, window.session.who, window.facts

    def until(true) -> None:
        qtbot.waitUntil(true, timeout=EVENTUALLY_MS)

    until(
        lambda: (
            "was not started: take control first (Ctrl+G): window 99"
            in window.notices.message.text()
        )
    )
    assert facts.control.text() == f"control: {OTHER}"
    assert facts.control.toolTip().endswith(f"attached as well: {OTHER}")
    window.show_page(window.live)
    assert not window.topbar.run.isEnabled()
    assert "take control first (Ctrl+G)" in window.topbar.run.toolTip()
    qtbot.keyClick(window, Key.Key_F5)
    assert window.notices.message.text().startswith(f"✕  take control first (Ctrl+G): {OTHER} has")
    host.state = EngineState.RUNNING
    host.changes["prompt"] = "look"
    until(window.topbar.hold.isEnabled)
    window.notices.clear()
    qtbot.keyClick(window, Key.Key_Space)
    assert "take control first" in window.notices.message.text()
    assert not window.topbar.pause.isEnabled()
    assert not window.notices.continue_button.isEnabled()
    assert window.topbar.abort.isEnabled()
    qtbot.keyClick(window, Key.Key_H)  # safe: everybody's
    until(lambda: host.commands == [("hold",)])
    host.state = EngineState.IDLE
    host.manual = ManualView(of=OTHER, heat="to 400 °C at 5 °C/s")
    host.changes["holder_state"] = "ramping"
    window.show_page(window.instruments)
    until(window.instruments.heat.hold.isEnabled)
    until(lambda: "take control first" in window.instruments.heat.info.text())
    assert not window.instruments.heat.go.isEnabled()
    until(window.instruments.end.isEnabled)

    qtbot.keyClick(window, Key.Key_G, CTRL)
    assert bar.bar.isVisible()
    assert f"{OTHER} is in control, and is told when you take it." in bar.words.text()
    assert "What is on by hand ends: heater off" in bar.words.text()
    qtbot.mouseClick(bar.take, LEFT)
    assert "Control was not taken" in window.notices.message.text()
    assert host.driven_by == OTHER
    assert bar.take.hasFocus()
    qtbot.keyPress(bar.take, Key.Key_Return)
    until(lambda: host.driven_by == me)
    qtbot.keyRelease(window, Key.Key_Return)
    until(lambda: facts.control.text() == "control: this window, in hand")
    assert not bar.bar.isVisible()
    until(window.instruments.heat.go.isEnabled)
    beats = host.beats
    until(lambda: host.beats > beats)

    host.driven_by, host.manual = OTHER, ManualView()  # as somebody takes it
    until(bar.bar.isVisible)
    assert f"{OTHER} took control at" in bar.words.text()
    assert "What was on by hand has ended" in bar.words.text()
    qtbot.mouseClick(bar.leave, LEFT)
    assert not bar.bar.isVisible()

    host.driven_by = me
    until(lambda: facts.control.text() == "control: this window")
    qtbot.mouseClick(facts.change, LEFT)
    assert "whoever commands next has it" in bar.words.text()
    qtbot.mouseClick(bar.give, LEFT)
    until(lambda: facts.control.text() == "control free")
    assert not bar.bar.isVisible()
    assert "had not heard" not in window.notices.message.text()
    assert [name for name, *_ in host.commands if "control" in str(name)] == [
        "take_control",
        "give_control",
    ]
