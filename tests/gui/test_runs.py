"""Stored runs in the window: listed, replayed at any moment, followed while written, compared."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.clients import person_of
from acquire.engine.status import EngineState
from acquire.report import summarise, to_markdown
from acquire.store import RunWriter, add_later_note, open_run, read_later_notes
from acquire.store.locking import hold
from acquire.stream import Row, RunReport
from gui import theme
from gui.app import main
from gui.pages import RunsPage
from gui.pages.runs.words import seconds_of
from gui.replay.cache import ArrayCache
from gui.replay.comparing import Against
from gui.replay.moments import Ending, Wish
from gui.replay.stored import StoredRun
from gui.window import OperatorWindow
from tests.gui.walking import assert_all_reached, assert_in_reading_order, assert_named, walk
from tests.report.conftest import FRAMES, PERIOD_S, abandon, write_experiment
from tests.store.conftest import make_maker

Key = QtCore.Qt.Key
EVENTUALLY_MS = 20_000
EXPOSED_S = 1.5
"""How long each image of the written experiment was exposed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that ended well, one that was killed, and one whose metadata are torn."""
    folder = tmp_path_factory.mktemp("runs")
    write_experiment(folder / "well")
    write_experiment(folder / "earlier" / "killed", outcome="", frames=12)
    torn = folder / "torn" / "run.zarr"
    torn.mkdir(parents=True)
    (torn / "zarr.json").write_text("{", encoding="utf-8")
    (folder / "no run at all").mkdir()
    return folder


def list_runs(qtbot: QtBot, window: OperatorWindow, folder: Path) -> RunsPage:
    qtbot.keyClick(window, Key.Key_4, QtCore.Qt.KeyboardModifier.ControlModifier)
    page = window.runs
    assert window.stack.currentWidget() is page
    page.browser.look_into(folder)
    qtbot.waitUntil(lambda: page.browser.listed == folder, timeout=EVENTUALLY_MS)
    return page


def open_one(qtbot: QtBot, page: RunsPage, path: Path) -> None:
    page.open_run(path)
    qtbot.waitUntil(lambda: page.replay.scene is not None, timeout=EVENTUALLY_MS)


def go(qtbot: QtBot, page: RunsPage, t_s: float) -> None:
    page.replay.go(t_s)
    settle(qtbot, page)


def settle(qtbot: QtBot, page: RunsPage) -> None:
    replay = page.replay
    qtbot.waitUntil(
        lambda: replay.scene is not None and replay.scene.wish.serial == replay.wished,
        timeout=EVENTUALLY_MS,
    )


def shown_index(page: RunsPage) -> int:
    assert page.replay.scene is not None
    assert page.replay.scene.image is not None
    return page.replay.scene.image.index


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


def test_runs_are_listed_and_searched_and_what_cannot_be_read_is_named(
    qtbot: QtBot, host, open_window, runs: Path
) -> None:
    window = open_window()
    page = list_runs(qtbot, window, runs)
    browser = page.browser
    lines = {line.path.name: line for line in browser.model.lines}
    assert set(lines) == {"well", "killed", "torn"}
    assert lines["well"].ending is Ending.COMPLETED
    assert lines["well"].duration_s == 240
    assert lines["well"].frames == FRAMES
    assert 699 < lines["well"].highest_celsius < 703
    assert lines["killed"].ending is Ending.CUT_OFF
    assert lines["killed"].frames == 12 + 40
    assert "hotstage recover" in lines["killed"].cause
    assert lines["torn"].ending is Ending.UNREADABLE
    assert "1 cannot be read" in browser.said.text()
    browser.words.setText("cut OFF first")  # of different columns, in any case
    assert [browser.search.line(browser.search.index(0, 0)).path.name] == ["killed"]
    assert browser.search.rowCount() == 1
    browser.words.setText("")
    browser.table.sortByColumn(1, QtCore.Qt.SortOrder.AscendingOrder)
    names = [browser.search.line(browser.search.index(row, 0)).path.name for row in range(3)]
    assert names == ["killed", "torn", "well"]
    # the same by keys: sorted by the column before, then by this one, then the other way round
    header = browser.table.horizontalHeader()
    browser.table.sortByColumn(0, QtCore.Qt.SortOrder.AscendingOrder)
    qtbot.keyClick(browser.table, Key.Key_S)
    assert header.sortIndicatorSection() == 1
    qtbot.keyClick(browser.table, Key.Key_S, QtCore.Qt.KeyboardModifier.ShiftModifier)
    assert header.sortIndicatorOrder() is QtCore.Qt.SortOrder.DescendingOrder
    browser.table.sortByColumn(1, QtCore.Qt.SortOrder.AscendingOrder)
    # one that was cut off can be gone on with, when its consequence has been confirmed
    offered = {}
    only = (
        QtCore.QItemSelectionModel.SelectionFlag.ClearAndSelect
        | QtCore.QItemSelectionModel.SelectionFlag.Rows
    )
    for row, name in reversed(list(enumerate(names))):
        browser.table.selectionModel().select(browser.search.index(row, 0), only)
        offered[name] = browser.continue_button.isEnabled()
    assert offered == {"killed": True, "torn": False, "well": False}
    qtbot.mouseClick(browser.continue_button, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(window.notices.rest.isVisible, timeout=EVENTUALLY_MS)
    assert host.commands == [("continuation", str(runs / "earlier" / "killed"))]
    window.notices.leave_it.click()
    # a run that comes meanwhile is told, and does not push the others about
    write_experiment(runs / "newest", parts=frozenset({"holder"}), frames=1)
    browser._look_again()
    qtbot.waitUntil(lambda: "1 new" in browser.said.text(), timeout=EVENTUALLY_MS)
    assert browser.search.rowCount() == 3
    browser.look()
    qtbot.waitUntil(lambda: browser.search.rowCount() == 4, timeout=EVENTUALLY_MS)
    # one that cannot be opened brings the operator back, with the reason
    page.open_run(runs / "torn")
    qtbot.waitUntil(lambda: "cannot be opened" in window.notices.message.text(), timeout=5000)
    assert not page.replaying
    assert window.settings.paths("runs/folders") == [runs]


def test_everything_follows_the_cursor(qtbot: QtBot, open_window, runs: Path) -> None:
    before = files_in(runs / "well")
    window = open_window()
    page = list_runs(qtbot, window, runs)
    replay, panels = page.replay, page.replay.panels
    open_one(qtbot, page, runs / "well")
    assert theme.REPLAY.word in replay.banner.badge.text()
    assert "COMPLETED" in replay.banner.ending.text()

    go(qtbot, page, 205.0)
    scene = replay.scene
    assert scene is not None
    assert scene.image is not None
    expected = int((205.0 - EXPOSED_S) // PERIOD_S)
    assert (scene.image.stream, scene.image.index) == ("overview", expected)
    stored = open_run(runs / "well").images("overview")
    np.testing.assert_array_equal(
        scene.image.detectors["haadf"], stored.haadf.isel(time=expected).values
    )
    assert scene.image.estimate_index == expected
    table = open_run(runs / "well").particle_table("particles")
    found = table[table.frame_index == expected]
    np.testing.assert_array_equal(scene.image.particles["diameter_nm"], found.diameter_nm)
    assert scene.spectrum is not None
    assert scene.spectrum.index == 29  # the last one whose exposure had ended
    assert scene.map is not None
    assert scene.map.stream == "line"  # a line of points, as far as it was taken
    assert scene.map.taken.sum() == 30
    assert scene.map.taken.shape == (1, 40)
    assert scene.map.spacing_nm[0] == pytest.approx(1.25)
    assert panels.time.t_s == 205.0
    note = panels.happened.model.notes[panels.happened.model.present]
    assert note.text == "begin step 3: line scan at 40 points"
    assert "700" in replay.transport.facts.text()
    assert "step 3 of 4" in replay.transport.facts.text()
    assert f"frame {expected}" in panels.image.frame.text()

    window.activateWindow()
    replay.timeline.setFocus()
    qtbot.keyClick(replay.timeline, Key.Key_Left)
    settle(qtbot, page)
    assert shown_index(page) == expected - 1
    qtbot.keyClick(replay.timeline, Key.Key_Period)
    settle(qtbot, page)
    assert shown_index(page) == expected
    qtbot.keyClick(replay.timeline, Key.Key_PageUp)
    assert replay.t_s == 190.0  # where the step under way began
    qtbot.keyClick(replay.timeline, Key.Key_PageUp)
    assert replay.t_s == 100.0  # the operator's mark
    panels.time.pin(60.0)  # a click in a plot
    assert replay.t_s == 60.0
    panels.time.now()  # and there is no present in a replay to go back to
    assert panels.time.t_s == 60.0
    row = next(r for r, n in enumerate(panels.happened.model.notes) if n.kind == "mark")
    panels.happened.table.clicked.emit(panels.happened.model.index(row, 0))
    assert replay.t_s == 100.0
    middle = QtCore.QPoint(replay.timeline.width() // 2, 34)
    qtbot.mouseClick(replay.timeline, QtCore.Qt.MouseButton.LeftButton, pos=middle)
    assert replay.t_s == pytest.approx(120, abs=1)
    replay.transport.field.setText("3:20")
    replay.transport._go()
    assert replay.t_s == 200
    replay.transport.field.setText("9:99:99:99")
    replay.transport._go()
    assert "is no time" in window.notices.message.text()
    assert replay.t_s == 200
    qtbot.keyClick(replay.timeline, Key.Key_L)
    qtbot.waitUntil(lambda: replay.t_s > 204, timeout=EVENTUALLY_MS)
    assert replay.transport.playing
    qtbot.keyClick(replay.timeline, Key.Key_End)
    settle(qtbot, page)
    assert not replay.transport.playing
    assert shown_index(page) == FRAMES - 1
    qtbot.keyClick(replay.timeline, Key.Key_Backspace)
    assert not page.replaying
    assert files_in(runs / "well") == before  # looking changes nothing


def test_a_replay_holds_the_live_controls_back_but_not_those_that_make_safe(
    qtbot: QtBot, host, server, open_window, runs: Path, recipe_file: Path
) -> None:
    window = open_window()
    host.state = EngineState.RUNNING
    bar = window.topbar
    qtbot.waitUntil(bar.pause.isEnabled, timeout=EVENTUALLY_MS)
    page = list_runs(qtbot, window, runs)
    assert bar.pause.isEnabled()  # a list of runs shows nothing that could be taken for the present
    open_one(qtbot, page, runs / "well")
    assert not bar.pause.isEnabled()
    assert not bar.run.isEnabled()
    assert "live" in bar.pause.toolTip()
    assert bar.hold.isEnabled()
    assert bar.abort.isEnabled()
    assert "RUNNING" in bar.state.text()  # the bar goes on showing the live run
    assert "top bar" in window.facts.link.text()
    window.activateWindow()
    page.replay.timeline.setFocus()
    qtbot.keyClick(page.replay.timeline, Key.Key_Space)
    assert "live run" in window.notices.message.text()
    qtbot.keyClick(page.replay.timeline, Key.Key_M)
    assert not window.log.field.hasFocus()
    assert host.commands == []
    qtbot.keyClick(page.replay.timeline, Key.Key_H)
    qtbot.waitUntil(lambda: host.commands == [("hold",)], timeout=EVENTUALLY_MS)
    window.show_page(window.live)
    qtbot.waitUntil(bar.pause.isEnabled, timeout=EVENTUALLY_MS)
    window.show_page(page)
    assert not bar.pause.isEnabled()
    qtbot.keyClick(page.replay.timeline, Key.Key_F12)
    qtbot.waitUntil(lambda: len(server.offs) == 1, timeout=EVENTUALLY_MS)
    # the run that has ended is one button away from its replay
    host.changes["folder"] = str(runs / "earlier" / "killed")
    window.show_page(window.live)
    qtbot.waitUntil(window.recipe.look_button.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.mouseClick(window.recipe.look_button, QtCore.Qt.MouseButton.LeftButton)
    assert window.stack.currentWidget() is page
    qtbot.waitUntil(lambda: "CUT OFF" in page.replay.banner.ending.text(), timeout=EVENTUALLY_MS)
    assert "hotstage recover" in page.replay.banner.words.text()
    # and nothing heats at the moment when somebody leaves a stored run
    window.open_recipe(recipe_file, start=True)
    qtbot.waitUntil(lambda: "stored run" in window.notices.message.text(), timeout=EVENTUALLY_MS)
    page._back()
    qtbot.waitUntil(bar.run.isEnabled, timeout=EVENTUALLY_MS)
    qtbot.wait(250)  # two looks at the status
    assert "start" not in {name for name, *_ in host.commands}


def test_a_run_is_followed_while_it_is_written_and_after_its_writer_died(
    qtbot: QtBot, open_window, tmp_path: Path
) -> None:
    maker = make_maker()
    writer: RunWriter = maker.open(tmp_path / "growing")

    def write(first: int, last: int) -> None:
        for index in range(first, last):
            writer.append_frame(maker.image(index), maker.context(index))
            writer.append_row(Row("holder", float(index), maker.row(index).values))
            writer.append_estimate(maker.estimate(index, 5))
        writer.publish()

    write(0, 3)
    window = open_window()
    page = list_runs(qtbot, window, tmp_path)
    [line] = page.browser.model.lines
    assert line.ending is Ending.WRITTEN
    replay = page.replay
    open_one(qtbot, page, tmp_path / "growing")
    assert "BEING WRITTEN" in replay.banner.ending.text()
    assert replay.story is not None
    assert len(replay.story.frames["overview"]) == 3
    window.activateWindow()
    replay.timeline.setFocus()
    qtbot.keyClick(replay.timeline, Key.Key_End)
    write(3, 20)
    qtbot.waitUntil(lambda: replay.t_s == 19.5, timeout=EVENTUALLY_MS)  # it stays at the end
    settle(qtbot, page)
    assert shown_index(page) == 19
    go(qtbot, page, 4.6)
    write(20, 30)
    qtbot.waitUntil(lambda: replay.story.t_end_s == 29.5, timeout=EVENTUALLY_MS)
    assert replay.t_s == 4.6  # and where one looks at something else, there
    assert shown_index(page) == 4
    abandon(writer)
    qtbot.waitUntil(lambda: "CUT OFF" in replay.banner.ending.text(), timeout=EVENTUALLY_MS)


def test_a_map_that_grows_is_another_one_whenever_it_is_looked_at(tmp_path: Path) -> None:
    """Panels know by its number whether they have drawn it."""
    maker = make_maker()
    writer = maker.open(tmp_path / "run")

    def take(first: int, last: int) -> None:
        for index in range(first, last):
            writer.append_frame(maker.spectrum(index), maker.context(index))
        writer.publish()

    take(0, 3)
    run = StoredRun(tmp_path / "run")
    first = run.scene(Wish(0, 200.0)).map
    assert first is not None
    assert run.scene(Wish(1, 200.0)).map is first
    take(3, 7)
    assert run.refresh()
    second = run.scene(Wish(2, 200.0)).map
    assert second is not None
    assert second.taken.sum() > first.taken.sum()
    assert second.serial > first.serial
    run.close()
    writer.close(maker.report())


def test_a_frame_that_is_damaged_is_named_and_not_shown(
    qtbot: QtBot, open_window, tmp_path: Path
) -> None:
    maker = make_maker()
    writer = maker.open(tmp_path / "run")
    for index in range(4):
        writer.append_frame(maker.image(index), maker.context(index))
    writer.close(RunReport("completed", "", 4.0, {"overview": 4}))
    [shard] = (tmp_path / "run" / "run.zarr" / "images/overview/full/haadf").glob("c*")
    data = bytearray(shard.read_bytes())
    data[-200:-100] = bytes(100)  # within the last chunk
    shard.write_bytes(data)
    window = open_window()
    page = list_runs(qtbot, window, tmp_path)
    open_one(qtbot, page, tmp_path / "run")
    damaged = []  # chunks are small, and two threads write them in any order
    for index in range(4):
        go(qtbot, page, index + 0.6)
        assert page.replay.scene is not None
        if page.replay.scene.image is None:
            damaged.append(index)
        else:
            assert shown_index(page) == index
            assert page.replay.trouble.isHidden()
    assert 0 < len(damaged) < 4
    go(qtbot, page, damaged[0] + 0.6)
    assert "hotstage verify" in page.replay.trouble.text()
    assert not page.replay.panels.image.empty.isHidden()


def test_runs_are_compared_in_one_plot_and_exported(
    qtbot: QtBot, open_window, runs: Path, tmp_path: Path
) -> None:
    window = open_window()
    page = list_runs(qtbot, window, runs)
    compare = page.compare
    page._compare([line for line in page.browser.model.lines if line.path.name != "newest"])
    qtbot.waitUntil(
        lambda: len(compare.runs) == 3 and len(compare._curves) == 2, timeout=EVENTUALLY_MS
    )
    assert not window.topbar.run.isEnabled()
    labels = [compare.list.item(row).text() for row in range(3)]
    assert any("torn: cannot be read" in label for label in labels)
    assert len({curve.opts["pen"].color().name() for curve in compare._curves}) == 2
    well = next(run for run in compare.runs if run.path.name == "well")
    t_s, values, sigma = well.curve("mean_diameter", Against.TIME)
    since_s, _, _ = well.curve("mean_diameter", Against.SINCE)
    assert since_s[0] == pytest.approx(t_s[0] - 34, abs=1)  # 700 °C were reached at 34 s
    celsius, again, _ = well.curve("mean_diameter", Against.TEMPERATURE)
    assert np.nanmax(celsius) == pytest.approx(700, abs=2)
    assert len(again) == np.isfinite(values).sum()
    assert np.isfinite(sigma).any()
    compare.against.setCurrentIndex(compare.against.findData(Against.SINCE.value))
    compare._chosen()
    target = tmp_path / "figure.svg"
    page._exporter.save(compare.plot, compare.figure(), target)
    qtbot.waitUntil(lambda: target.with_suffix(".csv").exists(), timeout=EVENTUALLY_MS)
    assert target.stat().st_size > 1000
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    assert any("well: mean diameter (nm)" in cell for row in rows for cell in row)
    window.activateWindow()
    stops = walk(window)
    assert_all_reached(window, stops)
    assert_in_reading_order(window, stops)
    assert_named(stops)
    compare.list.setCurrentRow(labels.index(next(label for label in labels if "well" in label)))
    compare.list.setFocus()
    drawn = len(compare._curves)
    for left in (drawn - 1, drawn):
        qtbot.keyClick(compare.list, Key.Key_X)
        assert len(compare._curves) == left
    qtbot.keyClick(compare.list, Key.Key_Return)
    qtbot.waitUntil(lambda: "COMPLETED" in page.replay.banner.ending.text(), timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: page.replay.scene is not None, timeout=EVENTUALLY_MS)
    stops = walk(window)
    assert_all_reached(window, stops)
    assert_in_reading_order(window, stops)
    assert_named(stops)
    page._show(compare)
    compare.list.setFocus()
    qtbot.keyClick(compare.list, Key.Key_Backspace)
    assert not page.replaying


def test_a_window_on_a_stored_run_needs_no_engine(qapp: QtWidgets.QApplication, runs: Path) -> None:
    seen: list[str] = []
    looking = QtCore.QTimer()

    def look() -> None:
        for window in qapp.topLevelWidgets():
            if isinstance(window, OperatorWindow) and window.runs.replay.scene is not None:
                seen[:] = [window.runs.replay.banner.ending.text(), window.topbar.state.text()]
                window.close()

    looking.timeout.connect(look)
    looking.start(20)
    give_up = QtCore.QTimer()
    give_up.timeout.connect(qapp.quit)
    give_up.start(EVENTUALLY_MS)
    assert main("", stored=runs / "well") == 0
    looking.stop()
    give_up.stop()
    assert "COMPLETED" in seen[0]
    assert "NO CONTACT" in seen[1]


def test_memory_of_frames_is_bounded_and_times_are_read_as_people_write_them() -> None:
    cache = ArrayCache(most_bytes=1000)
    for number in range(20):
        cache.get(number, lambda: np.zeros(300, np.uint8))
    assert cache.bytes == 900
    assert 19 in cache
    assert 0 not in cache
    assert cache.get("huge", lambda: np.zeros(2000, np.uint8)).nbytes == 2000
    assert cache.bytes == 900
    assert [seconds_of(w) for w in ("75", "1:15", "0:01:15", " 2:00:00 ")] == [75, 75, 75, 7200]
    for wrong in ("", "1:2:3:4", "soon", "-5", "nan"):
        with pytest.raises(ValueError):
            seconds_of(wrong)


def test_a_note_is_added_to_a_stored_run_and_nothing_else_of_it_is_changed(
    qtbot: QtBot, host, open_window, runs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "noted"
    shutil.copytree(runs / "well", run)
    (run / "summary.md").write_text("| | |\n|---|---|\n| folder | /x |\n", encoding="utf-8")
    before = files_in(run)
    window = open_window()
    page = list_runs(qtbot, window, tmp_path)
    open_one(qtbot, page, run)
    go(qtbot, page, 65.0)
    qtbot.keyClick(page.replay.timeline, Key.Key_W)
    sheet = page.notes.sheet
    assert sheet.windowTitle() == "A note for noted at 0:01:05, added later"
    sheet.text.setPlainText("the grain at the left\nis | another phase")
    with (run / "journal.jsonl").open("rb", buffering=0) as journal:
        hold(journal)  # as whoever still writes the run does
        qtbot.mouseClick(sheet.button, QtCore.Qt.MouseButton.LeftButton)
        said = window.notices.message.text
        qtbot.waitUntil(lambda: "still being written" in said(), timeout=EVENTUALLY_MS)
    assert "another phase" in sheet.text.toPlainText()  # it is not lost
    assert files_in(run) == before
    qtbot.mouseClick(sheet.button, QtCore.Qt.MouseButton.LeftButton)

    def lines() -> list[str]:
        return [n.text for n in page.replay.panels.happened.model.notes if n.t_s == 65.0]

    qtbot.waitUntil(lambda: any("another phase" in text for text in lines()), timeout=EVENTUALLY_MS)
    assert any("added later" in text and person_of(window.session.who) in text for text in lines())
    assert "Kept beside the run" in said()
    after = files_in(run)
    changed = {Path(name).name for name in after if after[name] != before.get(name)}
    assert changed == {"notes.jsonl", "summary.md"}
    (note,) = read_later_notes(run / "run.zarr")
    assert (note.t_s, note.text) == (65.0, "the grain at the left\nis | another phase")
    row, folder = (run / "summary.md").read_text(encoding="utf-8").splitlines()[2:]
    assert row.startswith(
        "| notes added later | 1 min 05 s: the grain at the left / is \\| another"
    )
    assert folder == "| folder | /x |"
    assert "the grain at the left" in to_markdown(summarise(open_run(run)))
    # what a crash has torn takes no other with it
    with (run / "notes.jsonl").open("ab") as notes:
        notes.write(b'{"wall": "20')
    add_later_note(run, "once more")
    assert [one.text for one in read_later_notes(run)][1:] == ["once more"]
    # one that goes on gets it by its engine, with the time of now
    host.state, host.changes["folder"] = EngineState.RUNNING, str(run)
    qtbot.waitUntil(lambda: window.session.snapshot().status.state.active, timeout=EVENTUALLY_MS)
    page.notes.write(run, 1.0)
    sheet.text.setPlainText("now")
    qtbot.mouseClick(sheet.button, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: ("note", "now") in host.commands, timeout=EVENTUALLY_MS)
    assert len(read_later_notes(run)) == 2
