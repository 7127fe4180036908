"""The window without a mouse: everything is reached in reading order, seen to be reached, and pressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState
from gui.keys_sheet import KeysSheet
from tests.gui.test_plots import a_map
from tests.gui.walking import (
    assert_all_reached,
    assert_in_reading_order,
    assert_named,
    assert_pressed_by_return,
    walk,
)

Key = QtCore.Qt.Key
Modifier = QtCore.Qt.KeyboardModifier
EVENTUALLY_MS = 20_000


def test_every_page_is_walked_in_reading_order_and_one_sees_where_one_is(
    qtbot: QtBot, host, open_window, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.begun_s -= 30
    host.state = EngineState.FAILED
    host.changes.update(fault="over-temperature: 912 °C", prompt="look at the specimen")
    window = open_window()
    window.open_recipe(recipe_file)
    live = window.live
    qtbot.waitUntil(window.notices.clear_button.isEnabled, timeout=EVENTUALLY_MS)
    for plot in (live.sizes.plot, live.spectrum.plot):
        qtbot.waitUntil(plot.isVisible, timeout=EVENTUALLY_MS)
    window.complain("something to dismiss")
    for page in window.pages:
        window.show_page(page)
        if page is window.instruments:
            qtbot.waitUntil(page.heat.go.isEnabled, timeout=EVENTUALLY_MS)
        if page is window.editor:
            qtbot.waitUntil(
                lambda: page.editing.settled and not page.editing.checking,  # noqa: B023
                timeout=EVENTUALLY_MS,
            )
        stops = walk(window)
        assert_all_reached(window, stops)
        assert_in_reading_order(window, stops)
        assert_named(stops)
        assert_pressed_by_return(window, stops, monkeypatch)
        assert walk(window, back=True) == stops[::-1]
    # what goes while it has the keys gives them to nothing, and Tab goes on from there
    window.show_page(window.live)
    window.complain("something else to dismiss")
    window.notices.dismiss.setFocus()
    qtbot.keyClick(window.notices.dismiss, Key.Key_Return)
    assert QtWidgets.QApplication.focusWidget() is window.centralWidget()
    qtbot.keyClick(window, Key.Key_Tab)
    assert QtWidgets.QApplication.focusWidget() is window.notices.clear_button
    window.change_theme()
    for page in window.pages:
        window.show_page(page)
        assert_all_reached(window, walk(window))
    assert host.commands == []


def test_what_a_mouse_does_on_plots_images_and_edges_keys_do_as_well(
    qtbot: QtBot, host, open_window
) -> None:
    host.begun_s -= 30
    host.state = EngineState.RUNNING
    host.growing = a_map(1, "map", 3)
    window = open_window()
    live = window.live
    for plot in (live.sizes.plot, live.spectrum.plot):
        qtbot.waitUntil(plot.isVisible, timeout=EVENTUALLY_MS)
    live.decks["spectra"].turn(2)
    qtbot.waitUntil(live.map.plot.isVisible, timeout=EVENTUALLY_MS)

    # from panel to panel, and back
    parts = []
    for _ in range(9):
        qtbot.keyClick(window, Key.Key_F6)
        parts += [panel for panel in live.panels if panel.isAncestorOf(window.focusWidget())]
    seen = [live.recipe, live.log, live.image, live.temperature, live.sizes, live.map]
    assert parts[:6] == seen
    qtbot.mouseClick(live.image.canvas.viewport(), QtCore.Qt.MouseButton.LeftButton)
    assert window.ring.around is None, "the hand is on the mouse"
    qtbot.keyClick(live.image.canvas, Key.Key_Right)
    assert window.ring.around is live.image.canvas
    qtbot.keyClick(window, Key.Key_F6)
    qtbot.keyClick(window, Key.Key_F6, Modifier.ShiftModifier)
    assert live.image.isAncestorOf(window.focusWidget())

    # a panel takes room from its neighbour, and gives it back
    live.map.plot.setFocus()
    size = live.map.size()
    for arrow, way in ((Key.Key_Left, -1), (Key.Key_Right, 1)):
        qtbot.keyClick(window, arrow, Modifier.AltModifier | Modifier.ShiftModifier)
        assert np.sign(live.map.width() - size.width()) in (way, 0)
        size = live.map.size()
    qtbot.keyClick(window, Key.Key_Down, Modifier.AltModifier | Modifier.ShiftModifier)
    assert live.map.height() > size.height()

    # nearer, along, and all of it again; the command keys of the window go on being commands
    for panel, view in (
        (live.temperature, live.temperature.time.view),
        (live.map, live.map.plot.getPlotItem().getViewBox()),
    ):
        panel.plot.setFocus()
        whole = np.array(view.viewRange())
        qtbot.keyClick(panel.plot, Key.Key_Plus)
        near = np.array(view.viewRange())
        assert np.all(np.ptp(near, axis=1) < 0.9 * np.ptp(whole, axis=1))
        qtbot.keyClick(panel.plot, Key.Key_Right, Modifier.ControlModifier)
        assert view.viewRange()[0][0] > near[0][0]
        qtbot.keyClick(panel.plot, Key.Key_Home)
        qtbot.waitUntil(
            lambda v=view, w=whole: np.ptp(v.viewRange()[0]) > 0.95 * np.ptp(w[0]),
            timeout=EVENTUALLY_MS,
        )
    for arrow, read in ((Key.Key_Right, "(0, 0) nm: 0"), (Key.Key_Right, "(1, 0) nm: 1")):
        qtbot.keyClick(live.map.plot, arrow)
        assert read in live.map.at.text() + live.map.info.text()
    choice = live.temperature.window_choice
    choice.setFocus()
    qtbot.keyClick(choice, Key.Key_Return)
    assert choice.view().isVisible()
    choice.hidePopup()
    live.log.lines.setFocus()
    qtbot.keyClick(live.log.lines, Key.Key_H)
    qtbot.waitUntil(lambda: host.commands == [("hold",)], timeout=EVENTUALLY_MS)

    # what lies over the window lets one out, shows where one is, and is listed
    for open_it in (live.log.write_note, window.help.show_keys):
        open_it()
        qtbot.waitUntil(lambda: not window.isActiveWindow(), timeout=EVENTUALLY_MS)
        dialog = QtWidgets.QApplication.activeWindow()
        stops = set()
        for _ in range(6):
            qtbot.keyClick(QtWidgets.QApplication.focusWidget(), Key.Key_Tab)
            stops.add(QtWidgets.QApplication.focusWidget())
            assert window.ring.around is QtWidgets.QApplication.focusWidget()
        assert len(stops) >= (3 if isinstance(dialog, KeysSheet) else 1)
        if isinstance(dialog, KeysSheet):
            listed = {key for _, lines in dialog.sections for keys, _ in lines for key in keys}
            assert {"Tab", "F6", "Alt+Shift+Left", "+   -", "Ctrl+arrows"} <= listed
        qtbot.keyClick(dialog, Key.Key_Escape)
        window.activateWindow()  # as a desktop does
        qtbot.waitUntil(window.isActiveWindow, timeout=EVENTUALLY_MS)
