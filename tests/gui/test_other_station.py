"""Going over to another station from the window, which stays when that one cannot be opened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.station_view import ManualView
from acquire.engine.status import EngineState
from gui import stations
from gui.pages.instruments.choosing import StationSheet

EVENTUALLY_MS = 20_000
LEFT = QtCore.Qt.MouseButton.LeftButton
OTHER_WINDOW = """
import sys, pathlib, time
pathlib.Path(sys.argv[-1]).touch()
time.sleep(60)
"""


def test_the_window_closes_only_when_the_other_has_come_up(
    qtbot: QtBot, host, open_window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    page = window.instruments
    window.show_page(page)

    def until(true) -> None:
        qtbot.waitUntil(true, timeout=EVENTUALLY_MS)

    host.state = EngineState.RUNNING
    until(lambda: not page.other.isEnabled() and "a run is going on" in page.other.toolTip())
    window.moving.to("simulated")
    assert "simulated was not opened: a run is going on" in window.notices.message.text()
    host.state, host.manual = EngineState.IDLE, ManualView(of="window 9", heat="held at 300 °C")
    until(lambda: "something is on by hand" in page.other.toolTip())
    host.manual = ManualView()
    until(page.other.isEnabled)

    qtbot.mouseClick(page.other, LEFT)
    sheet = window.findChild(StationSheet)
    until(lambda: sheet.list.count() > 1)
    rows = [sheet.list.item(row).text() for row in range(sheet.list.count())]
    assert any(words.startswith("simulated · SIMULATED · open here\n") for words in rows)
    assert "this window closes; if they do not, it stays" in sheet.consequence.text()
    qtbot.mouseClick(sheet.file, LEFT)
    dialog = sheet.findChild(QtWidgets.QFileDialog)
    dialog.fileSelected.emit(str(tmp_path / "broken.toml"))
    dialog.close()
    assert not page.other.isEnabled()
    until(lambda: "this window stays:" in window.notices.message.text())
    assert f"{tmp_path / 'broken.toml'} was not opened" in window.notices.message.text()
    assert "broken.toml' cannot be read" in window.notices.message.text()  # the command's own words
    assert window.isVisible()
    until(page.other.isEnabled)

    program = tmp_path / "window.py"
    program.write_text(OTHER_WINDOW, encoding="utf-8")
    monkeypatch.setattr(stations, "PROGRAM", [sys.executable, str(program)])
    window.editor.document.open("hotstage: 1", None, unsaved=True)
    window.moving.to(str(tmp_path / "good.toml"))
    question = window.findChild(QtWidgets.QMessageBox, "question")
    throw_away = next(b for b in question.buttons() if b.text() == "Throw away")
    qtbot.mouseClick(throw_away, LEFT)  # and it goes on
    until(lambda: not window.isVisible())
    assert window.settings.paths("recent/stations") == [tmp_path / "good.toml"]
    (process,) = stations._left
    assert process.poll() is None
    process.kill()
    process.wait()
    stations._left.clear()
