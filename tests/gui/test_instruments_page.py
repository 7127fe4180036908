"""The instruments' page and what is always visible: shown, commanded by hand, refused in words."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.station_view import LIVE_VIEW, LinkState, ManualView, ReadingView
from acquire.engine.status import EngineState, EstimateView, LiveImage
from acquire.errors import LinkError
from acquire.instruments import ScanExposure
from gui import hand
from gui.beam import dose_before
from gui.pages.instruments import InstrumentsPage
from gui.widgets.quantity import units_are_read
from gui.window import OperatorWindow
from tests.gui.fake_station import HOLDER
from tests.gui.hands import hold_down

Key = QtCore.Qt.Key
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000


def the_page(qtbot: QtBot, window: OperatorWindow) -> InstrumentsPage:
    qtbot.keyClick(window, Key.Key_3, QtCore.Qt.KeyboardModifier.ControlModifier)
    page = window.instruments
    qtbot.waitUntil(lambda: window.stack.currentWidget() is page, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: len(page.cards.cards) == 5, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(units_are_read, timeout=EVENTUALLY_MS)
    return page


def commands(host, name: str) -> list[tuple[object, ...]]:
    return [command[1:] for command in host.commands if command[0] == name]


def test_every_instrument_says_how_it_stands_what_it_allows_and_what_to_do(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window((1180, 640))
    assert window.width() == 1180  # all of it fits
    page = the_page(qtbot, window)
    cards = page.cards.cards
    holder, lost = cards["holder"].words.text(), cards["spectrometer"].words.text()
    for words in (
        "connected",
        "WF-7",
        "25 °C to 1300 °C  (driver)",
        "microscope.toml, holder.limits",
    ):
        assert words in holder
    for words in ("✕ lost", "no answer on the camera", "→ It is asked again", "EELS filter"):
        assert words in lost
    assert cards["spectrometer"].property("stale")
    assert "<b>1234 Ω</b>" in cards["resistance"].words.text()
    assert "probe current 50 pA" in cards["scan"].words.text()
    assert "100 ns to 10 ms" in cards["scan"].words.text()
    assert "asked again all the time, by itself" in page.station.text()
    tripped = replace(
        HOLDER,
        link=LinkState.FAULT,
        trouble="over <temperature>",
        mend="Find the cause first.",
        readings=(ReadingView("measured", float("nan"), "°C"),),
    )
    host.station = tuple(tripped if one.role == "holder" else one for one in host.station)
    qtbot.waitUntil(
        lambda: "over &lt;temperature&gt;" in cards["holder"].words.text(), timeout=EVENTUALLY_MS
    )
    assert "⚠ fault" in cards["holder"].words.text()
    assert "measured <b>–</b>" in cards["holder"].words.text()
    assert not window.findChildren(QtWidgets.QAbstractSpinBox)
    host.station = host.station[:2]  # the host has another station now
    qtbot.waitUntil(lambda: set(cards) == {"server", "holder"}, timeout=EVENTUALLY_MS)


def test_the_heater_by_hand_states_its_consequence_and_must_be_held(
    qtbot: QtBot, host, open_window, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.changes.update(setpoint_celsius=25.0, holder_state="off")
    window = open_window()
    page = the_page(qtbot, window)
    heat = page.heat
    assert "up to 900 °C (microscope.toml" in heat.limits.text()
    heat.target.setText("700")
    assert "has no unit" in heat.consequence.text()
    assert heat.target.property("refused")
    hold_down(qtbot, heat.go, lambda: window.notices.kind == "error")
    assert "Not heated: 700" in window.notices.message.text()
    heat.target.setText("700 °C")
    heat.rate.setText("300 °C/min")
    assert heat.consequence.text() == (
        "heats from 25 °C to 700 °C at 5 °C/s: 2 min 15 s, then holds"
    )
    qtbot.mouseClick(heat.go, LEFT)
    assert "hold the button" in window.notices.message.text()
    qtbot.mousePress(heat.go, LEFT)
    window.show_page(window.live)  # by its key, with the button still held
    assert not heat.go._timer.isActive()
    qtbot.mouseRelease(heat.go, LEFT)
    window.show_page(page)
    assert host.commands == []
    hold_down(qtbot, heat.go, lambda: commands(host, "manual_heat") == [(700.0, 5.0)])
    qtbot.waitUntil(lambda: "to 700 °C at 5 °C/s" in page.in_hand.text(), timeout=EVENTUALLY_MS)
    assert "By hand: to 700 °C" in window.topbar.step.text()
    assert window.facts.control.text() == "control: this window, in hand"
    qtbot.waitUntil(lambda: host.beats > 1, timeout=EVENTUALLY_MS)  # this window lives
    line = window.session.hand
    monkeypatch.setattr(hand, "FROZEN_AFTER_S", 0.0)  # it has stood still for longer than that
    for _ in range(2):
        told_s = line._told_s
        qtbot.waitUntil(lambda told_s=told_s: line._told_s > told_s, timeout=EVENTUALLY_MS)
        beats = host.beats
    told_s = line._told_s
    qtbot.waitUntil(lambda: line._told_s > told_s, timeout=EVENTUALLY_MS)
    assert host.beats == beats  # nobody could command from it
    monkeypatch.undo()

    host.changes.update(setpoint_celsius=300.0, holder_state="ramping")
    qtbot.waitUntil(window.topbar.hold.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.keyClick(window, Key.Key_H)
    qtbot.waitUntil(lambda: commands(host, "manual_hold") == [()], timeout=EVENTUALLY_MS)
    assert commands(host, "hold") == []
    qtbot.mouseClick(heat.cool, LEFT)
    qtbot.waitUntil(lambda: commands(host, "manual_cool") == [(5.0,)], timeout=EVENTUALLY_MS)
    # beyond a limit: sent as it is, never changed, and refused in the host's own words
    heat.target.setText("5000 °C")
    host.refusal = "ramp to 5000 °C refused: the station allows 900 °C. Lower the target."
    hold_down(qtbot, heat.go, lambda: host.refusal in window.notices.message.text())
    assert commands(host, "manual_heat")[-1] == (5000.0, 5.0)
    assert heat.target.text() == "5000 °C"
    host.refusal = ""
    qtbot.mouseClick(page.end, LEFT)
    qtbot.waitUntil(lambda: page.in_hand.text() == "nothing is on by hand", timeout=EVENTUALLY_MS)
    assert len(heat._curve.x) > 3
    assert commands(host, "manual_end") == [()]
    host.manual = ManualView(of=line.who, heat="to 400 °C at 5 °C/s")
    qtbot.waitUntil(page.end.isEnabled, timeout=EVENTUALLY_MS)
    window.close()  # does not wait until it is missed
    assert commands(host, "give_control") == [()]


def test_the_beam_by_hand_must_be_held_says_its_dose_and_ends_by_itself(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    page = the_page(qtbot, window)
    view = page.view
    qtbot.waitUntil(lambda: view.detector.count() == 2, timeout=EVENTUALLY_MS)
    view.pixels.setCurrentIndex(1)
    view.field.setText("50 nm")
    # 50 pA for 1 µs on (50 nm / 256)²
    assert "8.18e3 e/nm² each" in view.consequence.text()
    qtbot.mouseClick(view.live, LEFT)
    assert commands(host, "manual_view") == []
    view.single.setFocus()
    qtbot.keyPress(view.single, Key.Key_Return)
    exposure = ScanExposure(("haadf",), (256, 256), 50.0, 1e-6)
    qtbot.waitUntil(
        lambda: commands(host, "manual_view") == [(exposure, 1, 120.0)], timeout=EVENTUALLY_MS
    )
    qtbot.keyRelease(view.single, Key.Key_Return)
    qtbot.waitUntil(lambda: "sharpness 0.0421" in view.finder.words.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "ends in 120 s" in view.info.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseClick(view.stop, LEFT)
    qtbot.waitUntil(lambda: commands(host, "manual_blank") == [()], timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: "ended: this was" in view.finder.words.text(), timeout=EVENTUALLY_MS)
    qtbot.mouseClick(view.arrows["↑"], LEFT)
    qtbot.waitUntil(lambda: commands(host, "manual_shift") == [(0.0, -20.0)], timeout=EVENTUALLY_MS)
    beam = page.beam
    beam.at_x.setText("12 nm")
    assert "rests on one point for 10 s: 3.12e10 e/nm² there" in beam.consequence.text()
    hold_down(qtbot, beam.on, lambda: commands(host, "manual_beam") == [(10.0, 12.0, 0.0)])
    assert window.session.watched_stream == LIVE_VIEW
    host.state = EngineState.RUNNING
    image = host.image("overview", -1, 1.0)
    assert isinstance(image, LiveImage)
    view.show_image(image)  # of the run
    assert view.finder.item.image is None
    view.show_image(replace(image, stream=LIVE_VIEW))
    assert view.finder.item.image.shape == (256, 256)
    window.show_page(window.live)
    assert window.session.watched_stream == ""


def test_nothing_is_done_by_hand_where_it_must_not_be_and_a_loss_is_shown_within_a_second(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    page = the_page(qtbot, window)
    controls = (
        page.heat.go,
        page.heat.hold,
        page.heat.cool,
        page.view.single,
        page.view.live,
        page.view.arrows["←"],
        page.beam.on,
    )
    qtbot.waitUntil(page.heat.go.isEnabled, timeout=EVENTUALLY_MS)

    def held_back(why: str) -> bool:
        said = all(why in panel.info.text() for panel in page.panels)
        return said and not any(control.isEnabled() for control in controls)

    host.state = EngineState.RUNNING
    qtbot.waitUntil(lambda: held_back("a run is going on: abort it"), timeout=EVENTUALLY_MS)
    host.state = EngineState.IDLE
    host.changes["server"] = "connection refused"
    qtbot.waitUntil(lambda: held_back("instrument server does not"), timeout=EVENTUALLY_MS)
    del host.changes["server"]
    answer = host.instruments

    def unknown() -> None:
        raise LinkError("'hotstage.engine' here serves no method 'instruments'.")

    host.instruments = unknown
    qtbot.waitUntil(lambda: held_back("another version of hotstage"), timeout=EVENTUALLY_MS)
    assert "?" in page.cards.cards["holder"].words.text()
    host.instruments = answer
    qtbot.waitUntil(page.heat.go.isEnabled, timeout=EVENTUALLY_MS)

    host.state = EngineState.RUNNING
    qtbot.waitUntil(lambda: "RUNNING" in window.topbar.state.text(), timeout=EVENTUALLY_MS)
    begun_s = time.monotonic()
    host.changes["server"] = "connection refused"
    qtbot.waitUntil(window.notices.fault.isVisible, timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun_s < 1.0
    assert "instrument server is lost: connection refused." in window.notices.fault_text.text()
    assert not window.notices.clear_button.isVisible()
    assert "server lost" in window.facts.control.text()
    assert window.topbar.holder.property("stale")
    assert window.topbar.beam.text().startswith("?")
    del host.changes["server"]
    host.changes["control"] = "control is lost: no sign of life"
    qtbot.waitUntil(lambda: "no sign of life" in window.facts.control.text(), timeout=1000)
    qtbot.waitUntil(lambda: not window.notices.fault.isVisible(), timeout=EVENTUALLY_MS)
    begun_s = time.monotonic()
    host.dead = True
    qtbot.waitUntil(lambda: "NO CONTACT" in window.topbar.state.text(), timeout=EVENTUALLY_MS)
    assert time.monotonic() - begun_s < 1.5  # a second after the last that was heard
    qtbot.waitUntil(lambda: "No contact" in page.station.text(), timeout=EVENTUALLY_MS)
    assert "no contact with the engine" in page.cards.cards["scan"].words.text()
    assert page.heat.property("stale")
    assert not page.heat.go.isEnabled()
    assert window.topbar.heater_off.isEnabled()


def test_what_is_always_visible_fits_and_long_notes_are_kept(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window((1180, 640))
    log, facts, bar = window.log, window.facts, window.topbar
    assert not log.note_button.isEnabled()
    host.state = EngineState.RUNNING
    host.changes.update(
        dose_e_per_nm2=1e8,
        dose_used_up_s=host.now_s() + 3000.0,
        asked_by="a script",
        planned_celsius=650.0,
        setpoint_celsius=649.5,
        estimates={
            "drift_rate": EstimateView(0.02, 0.001, "nm/s", 1.0),
            "film.resistance": EstimateView(1234.5, float("nan"), "Ω", 1.0),
        },
    )
    qtbot.waitUntil(lambda: "asks for it" in facts.control.text(), timeout=EVENTUALLY_MS)
    assert facts.dose.text().startswith("dose 50 % of 2.00e8 e/nm², 0:")
    assert facts.drift.text() == "drift 1.20 nm/min"
    assert "resistance 1234 Ω" in facts.channels.text()
    assert "recorded" in facts.frames.text()
    assert "plan 650.0" in bar.setpoint.text()
    assert bar.holder.text().startswith("♨")
    assert bar.beam.text().endswith("beam on")
    host.changes["beam_known"] = False
    qtbot.waitUntil(lambda: bar.beam.text().startswith("?"), timeout=EVENTUALLY_MS)
    whole = (
        bar.setpoint,
        bar.holder,
        bar.beam,
        bar.measured,
        facts.dose,
        facts.drift,
        facts.frames,
    )
    qtbot.waitUntil(
        lambda: all(label.width() >= label.sizeHint().width() for label in whole),
        timeout=EVENTUALLY_MS,
    )
    assert window.width() == 1180

    qtbot.waitUntil(log.note_button.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.keyClick(window, Key.Key_M, QtCore.Qt.KeyboardModifier.ControlModifier)
    sheet = log.sheet
    qtbot.waitUntil(sheet.isActiveWindow, timeout=EVENTUALLY_MS)
    assert not sheet.button.isEnabled()
    words = "grains <coarser>\nthan yesterday"
    sheet.text.setPlainText(words)
    qtbot.keyClick(sheet, Key.Key_Return, QtCore.Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: commands(host, "note") == [(words,)], timeout=EVENTUALLY_MS)
    assert not sheet.isVisible()
    assert sheet.text.toPlainText() == ""


def test_a_run_that_was_cut_off_is_continued_after_its_consequence_was_confirmed(
    qtbot: QtBot, host, open_window
) -> None:
    window = open_window()
    notices = window.notices
    assert not notices.go_on.isVisible()
    host.state = EngineState.FAILED
    qtbot.waitUntil(notices.go_on.isVisible, timeout=EVENTUALLY_MS)
    qtbot.mouseClick(notices.go_on, LEFT)
    qtbot.waitUntil(notices.rest.isVisible, timeout=EVENTUALLY_MS)
    for words in ("the scan was lost", "Left: hold for 12 min, ramp to 850", "heats up to 850 °C"):
        assert words in notices.rest_text.text()
    qtbot.mouseClick(notices.rest_button, LEFT)
    assert commands(host, "continue_run") == []
    folder = "/data/runs/ni-exsolution-0042"
    hold_down(qtbot, notices.rest_button, lambda: commands(host, "continue_run") == [(folder,)])
    assert not notices.rest.isVisible()
    host.refusal = "nothing is left to do"
    qtbot.mouseClick(notices.go_on, LEFT)
    qtbot.waitUntil(lambda: "nothing is left" in notices.message.text(), timeout=EVENTUALLY_MS)
    assert not notices.rest.isVisible()


def test_a_beam_that_nobody_counts_is_told_and_blanked_and_dose_by_hand_counts_before_run(
    qtbot: QtBot, host, open_window, recipe_file: Path
) -> None:
    window = open_window()
    host.changes["blanked"] = False
    qtbot.waitUntil(lambda: window.topbar.beam.text().startswith("⚠"), timeout=EVENTUALLY_MS)
    assert "its dose is not counted" in window.notices.message.text()
    qtbot.mouseClick(window.notices.blank_button, LEFT)
    qtbot.waitUntil(lambda: ("manual_blank",) in host.commands, timeout=EVENTUALLY_MS)
    host.changes["blanked"] = True
    host.manual = replace(host.manual, dose_e_per_nm2=2.26e6)
    dose = window.facts.dose
    qtbot.waitUntil(lambda: dose.text() == "dose by hand 2.26e6 e/nm²", timeout=EVENTUALLY_MS)
    assert not window.notices.blank_button.isVisible()
    window.open_recipe(recipe_file)
    qtbot.waitUntil(window.topbar.run.isEnabled, timeout=EVENTUALLY_MS)
    window.commanding.run()
    assert "2.26e6 e/nm² given by hand count" in window.notices.message.text()
    assert dose_before(2e6, 5e6, 4e6) == (
        "2.00e6 e/nm² given by hand count: 3.00e6 of 5.00e6 e/nm² are left, "
        "⚠ 4.00e6 are foreseen: it would end early"
    )
    assert not dose_before(0.0, 5e6, 4e6)
