"""The plots of the run page: what they show of hours, of one moment, of a frame, of a spectrum, of a map."""

from __future__ import annotations

import csv
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.live_maps import LiveMap
from acquire.engine.status import (
    EngineState,
    EngineStatus,
    EstimateView,
    LiveImage,
    LiveNote,
    LiveSeries,
    LiveSpectrum,
    PlannedStep,
    PlanView,
)
from gui.aside import Aside, Failed
from gui.lateness import Lateness
from gui.panels.histogram import HistogramPanel, bin_edges
from gui.panels.image import tints
from gui.panels.image.particles import particles_of
from gui.panels.map import MapPanel
from gui.panels.spectrum import SpectrumPanel
from gui.panels.temperature import TemperaturePanel
from gui.widgets.trace import Trace, zigzag

EVENTUALLY_MS = 30_000
Key = QtCore.Qt.Key
SHIFT = QtCore.Qt.KeyboardModifier.ShiftModifier


# ------------------------------------------------------------------------------ curves


def test_what_is_drawn_of_a_long_curve_is_little_and_hides_no_peak() -> None:
    rng = np.random.default_rng(1)
    t_s = 0.02 * np.arange(300_000)
    y = rng.normal(700, 1, len(t_s))
    y[[123, 234_567]] = 900, 20
    trace = Trace("measured")
    for part in np.split(np.arange(len(t_s)), [7, 4096, 99_999, 299_990]):
        trace.append(t_s[part], measured=y[part])
    x, low, high = trace.shown(0.0, t_s[-1], 500)
    assert 500 <= len(x) <= 2200
    assert (high.max(), low.min()) == (900, 20)
    assert np.all(np.diff(x) >= 0)
    near = trace.shown(t_s[234_560], t_s[234_570], 500)
    np.testing.assert_array_equal(near[0], t_s[234_559:234_572])
    np.testing.assert_array_equal(zigzag(near[0], near[1][0], near[2][0])[1], y[234_559:234_572])
    assert trace.at(t_s[234_567] + 0.004)["measured"] == 20


def test_a_gap_parts_a_curve_at_every_magnification_and_has_no_value() -> None:
    t_s = np.concatenate([np.arange(5000.0), 20_000 + np.arange(5000.0)])
    trace = Trace("value")
    trace.append(t_s, value=np.where(t_s < 10_000, 1.0, 2.0))
    trace.append(np.array([26_000.0, 25_000.0]), value=np.array([3.0, 9.0]))
    for points in (50, 500, 50_000):
        x, low, high = trace.shown(0.0, 27_000.0, points)
        broken = x[np.isnan(low[0])]
        assert list(broken) == [(4999 + 20_000) / 2, (24_999 + 26_000) / 2]
        assert set(low[0][x < 10_000]) == {1.0}
        assert np.nanmax(high[0]) == 3.0, "a point that goes back in time is left out"
    for within in (5100.0, 12_000.0, 19_900.0):
        assert np.isnan(trace.at(within)["value"]), "however near its edge"
    assert (trace.at(4999.0)["value"], trace.at(20_000.0)["value"]) == (1.0, 2.0)
    assert np.isnan(trace.at(99_000.0)["value"])


def test_bins_stay_where_they_are_while_sizes_change() -> None:
    sizes = np.random.default_rng(0).lognormal(1.7, 0.25, 200)
    before, after = bin_edges(sizes), bin_edges(sizes * 1.01)
    assert before[1] - before[0] == after[1] - after[0] == 0.5
    assert len(np.intersect1d(np.round(before, 6), np.round(after, 6))) > 8
    assert bin_edges(sizes, 0.25)[0] <= sizes.min()
    assert sizes.max() < bin_edges(sizes, 0.25)[-1]
    assert len(bin_edges(np.array([0.5, 5000.0]), 0.1)) < 402


# ------------------------------------------------------------------------------ single panels


def a_map(serial: int, stream: str, rows: int, *, streams: tuple[str, ...] = ()) -> LiveMap:
    values = {"shift": np.arange(rows * rows, dtype=np.float64).reshape(rows, rows)}
    taken = np.ones((rows, rows), np.int32)
    return LiveMap(serial, stream, (0.0, 0.0), (1.0, 1.0), 1, taken, values, streams)


def test_a_map_says_nothing_of_another_one_and_waits_for_none_of_an_earlier_run(
    qtbot: QtBot,
) -> None:
    panel = MapPanel()
    qtbot.addWidget(panel)
    panel.resize(456, 194)  # as in a small window
    panel.show()
    panel.show_map(a_map(1, "large", 8, streams=("large", "small")))
    drawn = panel.image.mapRectToScene(panel.image.boundingRect())
    assert drawn.height() > 0.95 * panel.stage.height(), "as large as there is room for"
    panel._look(panel.image.mapToScene(QtCore.QPointF(6.5, 7.5)))
    assert "(6, 7) nm: 62" in panel.at.text()
    panel.show_map(a_map(2, "small", 3, streams=("large", "small")))
    assert panel.info.text().startswith("small")
    assert not panel.at.text()
    asked: list[str] = []
    panel.stream_chosen.connect(asked.append)
    panel.stream.setCurrentIndex(panel.stream.findData("large"))
    panel.clear()
    assert asked == ["large", ""], "the new run has no map of that name"


def test_a_spectrum_is_drawn_anew_for_another_stream_with_the_same_number(qtbot: QtBot) -> None:
    panel = SpectrumPanel()
    qtbot.addWidget(panel)
    panel.show()
    energy = {"core_loss": np.arange(100.0)}
    for stream, height in (("line", 5.0), ("map", 9.0)):
        counts = {"core_loss": np.full(100, height)}
        panel.show_spectrum(LiveSpectrum(3, stream, 3, 1.0, counts, energy))
        assert panel.info.text().startswith(stream)
        assert set(panel.curve.yData) == {height}
    for t_s, before in ((0.0, ""), (-300.0, " (5 min before)")):
        told = {"line_ti3_fraction": EstimateView(0.3, 0.1, "1", t_s)}
        panel.show_status(EngineStatus(estimates=told))
        panel._draw()
        assert panel.numbers.text() == f"Ti³⁺ 0.30 ± 0.10{before}"


def test_a_histogram_is_of_the_table_that_came_last(qtbot: QtBot) -> None:
    panel = HistogramPanel(Aside())
    qtbot.addWidget(panel)
    panel.fit.setCurrentIndex(2)  # no fit
    panel.show()

    def come(stream: str, index: int, sizes: list[float] | None) -> None:
        table = {} if sizes is None else {"diameter_nm": np.array(sizes)}
        image = LiveImage(0, stream, index, 0.0, 1.0, {}, index if table else -1, table)
        panel.show_image(image)
        panel._asked_at_s = -np.inf
        panel.show_status(EngineStatus())

    come("overview", 5, [4.0, 5.0, 6.0])
    assert list(panel.drawn.sizes) == [4, 5, 6]
    come("detail", 5, [7.0, 8.0])
    assert list(panel.drawn.sizes) == [7, 8], (
        "frames of every stream, and of every segment, count from 0"
    )
    come("overview", 6, None)
    assert list(panel.drawn.sizes) == [7, 8], "of another stream, which is not measured"
    come("detail", 4, None)
    assert panel.stage.currentIndex() == 0, "nothing was measured by then"


def test_a_particle_of_unknown_size_has_no_colour_of_a_size_nor_a_plan_temperatures_behind_its_end(
    qtbot: QtBot,
) -> None:
    table = {
        "x_nm": np.arange(3.0),
        "y_nm": np.zeros(3),
        "diameter_nm": np.array([4.0, np.nan, 8.0]),
        "mask_diameter_nm": np.full(3, 6.0),
    }
    particles = particles_of(table)
    assert particles is not None
    tint = tints.tint_of(particles, "size", (4.0, 8.0))
    colours = [tints.palette("size")[n] for n in tint]
    assert colours == [tints.SIZES[0], tints.PLAIN, tints.SIZES[-1]]
    panel = TemperaturePanel()
    qtbot.addWidget(panel)
    panel.show()
    t_s = np.arange(0.0, 30.0)
    none = np.empty(0)
    panel.add(LiveSeries((0, 0, 0), 1, t_s, 20 + t_s, 20 + t_s, none, {}, ()), True)
    plan = PlanView("short", (), (0.0, 10.0), (20.0, 30.0))
    panel.show_status(EngineStatus(state=EngineState.RUNNING, t_s=29.0), plan)
    columns = panel.figure().tables["temperature"]
    assert columns["planned_celsius"][5] == 25
    assert np.isnan(columns["planned_celsius"][11:]).all()


# ------------------------------------------------------------------------------ the window


def test_who_comes_to_a_paused_run_sees_its_last_image_spectrum_and_map(
    qtbot: QtBot, host: Any, open_window: Any
) -> None:
    host.state = EngineState.PAUSED
    host.frame_period_s = 1e9  # no other frame comes
    host.growing = a_map(1, "map", 3)
    one = host.spectrum
    host.spectrum = lambda after=-1, wait_s=0.0: one(-1) if after < 0 else time.sleep(wait_s)
    whole = host.series
    shown = threading.Event()

    def series(cursor: tuple[int, int, int] = (0, 0, 0)) -> Any:
        shown.wait(5)  # a long run's curves take their time
        return whole(cursor)

    host.series = series
    live = open_window().live
    there = lambda: live.image.shown and live.spectrum._spectrum and live.map._map  # noqa: E731
    qtbot.waitUntil(lambda: bool(there()), timeout=EVENTUALLY_MS)
    shown.set()
    qtbot.waitUntil(lambda: len(live.curves.temperature) > 0, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: bool(there()), timeout=EVENTUALLY_MS)
    assert live.image.empty.isHidden()


def test_a_moment_is_shown_in_all_plots_which_stay_still_until_the_present_is_asked_for(
    qtbot: QtBot, host: Any, open_window: Any
) -> None:
    host.begun_s -= 30
    host.state = EngineState.RUNNING
    live = open_window().live
    qtbot.waitUntil(lambda: len(live.curves.estimates) == 2, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: live.sizes.plot.isVisible(), timeout=EVENTUALLY_MS)
    cursor, heat, sizes = live.time_cursor, live.temperature, live.sizes
    view = heat.time.view

    def at(t_s: float) -> QtCore.QPoint:
        place = view.mapViewToScene(QtCore.QPointF(t_s, 300.0))
        return heat.plot.mapFromScene(place)

    qtbot.mouseMove(heat.plot.viewport(), at(100.0))
    qtbot.waitUntil(lambda: cursor.t_s is not None, timeout=EVENTUALLY_MS)
    assert cursor.t_s == pytest.approx(100.0, abs=5.0)
    assert not cursor.pinned
    qtbot.mouseClick(heat.plot.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=at(40.0))
    qtbot.waitUntil(lambda: cursor.pinned, timeout=EVENTUALLY_MS)
    qtbot.mouseMove(heat.plot.viewport(), at(200.0))
    assert cursor.t_s == pytest.approx(40.0, abs=5.0)
    cursor.pin(40.0)
    assert heat.time.line.isVisible()
    assert sizes.time.line.value() == 40.0
    assert heat._legend.text().count("225.0") == 2  # planned and set
    assert "first particles" in heat.info.text()
    assert sizes.info.text().startswith(f"◂ {host.diameters(40.0).mean():.2f} ± 0.12 nm")
    heat.plot.setFocus()
    before = cursor.t_s
    qtbot.keyClick(heat.plot, Key.Key_Right, SHIFT)
    assert cursor.t_s > before
    ranges = view.viewRange(), sizes.time.view.viewRange()
    points = len(live.curves.temperature)
    host.rate = 60.0  # the run goes on, far beyond what is shown
    qtbot.waitUntil(lambda: live.curves.end_s > 1600, timeout=EVENTUALLY_MS)
    assert len(live.curves.temperature) > points
    assert (view.viewRange(), sizes.time.view.viewRange()) == ranges
    qtbot.keyClick(heat.plot, Key.Key_Escape)
    qtbot.waitUntil(lambda: view.viewRange()[0][1] > 1600, timeout=EVENTUALLY_MS)
    assert not heat.time.line.isVisible()
    assert "measured" in heat._legend.text()

    heat.time.events.show_notes(
        [
            LiveNote(900.0, "action", "begin step 1: ramp"),
            LiveNote(900.001, "action", "end step 1: done"),
            LiveNote(900.0, "shift", "of no interest here"),
            LiveNote(901.0, "warning", "the disk is nearly full"),
        ]
    )
    assert heat.time.events.near(900.0) == [
        "▸ 0:15:00 step: begin step 1: ramp",
        "⚠ 0:15:01 warning: the disk is nearly full",
    ]
    assert heat.time.events.near(500.0) == []

    live.temperature.window_choice.setCurrentIndex(2)
    for panel in (heat, sizes):
        qtbot.waitUntil(lambda p=panel: p.time.view.viewRange()[0][0] > 900, timeout=EVENTUALLY_MS)


def test_any_quantity_is_drawn_on_either_side_over_time_or_temperature_and_remembered(
    qtbot: QtBot, host: Any, open_window: Any, tmp_path: Path
) -> None:
    host.begun_s -= 10
    host.state = EngineState.RUNNING
    whole = host.series

    def more(cursor: tuple[int, int, int] = (0, 0, 0)) -> Any:
        found = whole(cursor)
        rate = np.where(found.estimate_t_s < 50, np.nan, 0.2)
        return replace(found, estimates={**found.estimates, "growth_rate": rate})

    host.series = more
    host.changes["estimates"] = {"growth_rate": EstimateView(0.2, 0.01, "nm/min", 1.0)}
    window = open_window()
    sizes = window.live.sizes
    qtbot.waitUntil(
        lambda: sizes.choices["right"].findData("growth_rate") >= 0, timeout=EVENTUALLY_MS
    )
    sizes.choices["right"].setCurrentIndex(sizes.choices["right"].findData("growth_rate"))
    sizes.choices["right"].activated.emit(0)
    assert sizes.choices["right"].currentText() == "growth rate (nm/min)"
    assert sizes.lines["right"].xData.min() >= 50
    assert sizes.band.pieces == 1
    sizes.against.setCurrentIndex(1)
    qtbot.waitUntil(lambda: sizes.band.pieces == 0, timeout=EVENTUALLY_MS)
    celsius, diameter = sizes.lines["left"].getData()
    known = np.isfinite(celsius)
    slope = np.polyfit(celsius[known], diameter[known], 1)[0]
    assert 0.001 < slope < 0.01
    window.live.time_cursor.pin(60.0)
    assert sizes.spot.getData()[0][0] == pytest.approx(325, abs=6)
    assert not sizes.time.line.isVisible()

    target = tmp_path / "figures"
    target.mkdir()
    exporter = window.live.exporter
    exporter.save(sizes.plot, sizes.figure(), target / "sizes.svg")
    qtbot.waitUntil(lambda: (target / "sizes-2.csv").exists(), timeout=EVENTUALLY_MS)
    assert b"<svg" in (target / "sizes.svg").read_bytes()
    lines = (target / "sizes.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Ni exsolution")
    assert "measured temperature" in lines[0]
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert float(rows[0]["mean_diameter"]) == pytest.approx(host.diameters(0.0).mean())
    said: list[str] = []
    exporter.complained.connect(said.append)
    exporter.save(sizes.plot, sizes.figure(), target / "sizes-2.png")
    assert "sizes-2.csv exists" in said[0]
    assert not (target / "sizes-2.png").exists()

    button = window.live.temperature.head.itemAt(window.live.temperature.head.count() - 1).widget()
    button.click()
    assert exporter.dialog is not None
    [suggested] = exporter.dialog.selectedFiles()
    assert suggested.endswith("-temperature.png")
    exporter.dialog.reject()
    window.live.decks["sizes"].turn(1)
    window.close()
    again = open_window().live
    assert again.sizes.chosen("right") == "growth_rate"
    assert not again.sizes.by_time
    assert again.decks["sizes"].currentIndex() == 1


def test_histogram_spectrum_profile_and_map_tell_what_they_show(
    qtbot: QtBot, host: Any, open_window: Any
) -> None:
    values = np.full((3, 4), np.nan)
    values[0] = (0.1, 0.2, 0.3, 0.4)
    values[1, :2] = (0.3, 0.4)
    host.growing = LiveMap(
        1,
        "map",
        (10.0, 20.0),
        (2.0, 2.0),
        1,
        np.isfinite(values).astype(np.int32),
        {"ti3_fraction": values, "ti3_fraction_sigma": np.full((3, 4), 0.02)},
        ("map",),
    )
    host.state = EngineState.RUNNING
    live = open_window().live
    live.decks["sizes"].bars[0].setFocus()
    qtbot.keyClick(live.decks["sizes"].bars[0], Key.Key_Right)
    assert live.histogram.isVisible()
    assert not live.sizes.isVisible()
    qtbot.waitUntil(lambda: live.histogram.found is not None, timeout=EVENTUALLY_MS)
    words = live.histogram.info.text()
    assert words == live.histogram.words()
    assert "lognormal fit: mean" in words
    assert f"bins {live.histogram.width_nm:.3g} nm" in words
    assert live.histogram.bars.getData()[1].sum() == len(live.histogram.drawn.sizes) > 50
    found = live.histogram.found
    assert found.mean_nm == pytest.approx(live.histogram.drawn.sizes.mean(), rel=0.02)

    qtbot.waitUntil(lambda: live.spectrum.facts is not None, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(lambda: len(live.spectrum.shades.edges) == 2, timeout=EVENTUALLY_MS)
    assert [edge[0] for edge in live.spectrum.shades.edges] == ["Ti-L2,3", "O-K"]
    assert "FWHM 0.6" in live.spectrum.numbers.text()
    label = live.spectrum.plot.getPlotItem().getAxis("bottom").labelText
    assert label.startswith("energy loss (eV) from the zero loss")
    energy, fitted = live.spectrum.background.getData()
    under = fitted[np.nanargmin(np.abs(energy - 470))]
    assert under == pytest.approx(4e3 * (470 / 400) ** -2.5, rel=0.05)
    host.changes["estimates"] = {"energy_shift": EstimateView(0.5, 0.01, "eV", 1.0)}
    qtbot.waitUntil(lambda: live.spectrum.curve.xData[0] == 399.5, timeout=EVENTUALLY_MS)

    live.decks["spectra"].turn(1)
    qtbot.waitUntil(lambda: live.profile.plot.isVisible(), timeout=EVENTUALLY_MS)
    x, y = live.profile.curve.getData()
    assert list(x) == [0, 2, 4, 6]
    assert list(y) == pytest.approx([0.2, 0.3, 0.3, 0.4])
    assert "6 of 12 points" in live.profile.info.text()
    live.decks["spectra"].turn(2)
    qtbot.waitUntil(lambda: live.map.plot.isVisible(), timeout=EVENTUALLY_MS)
    assert (live.map.bar.low, live.map.bar.high) == (0.1, 0.4)
    place = live.map.image.mapToScene(QtCore.QPointF(3.5, 0.5))
    live.map._look(place)
    assert "(16, 20) nm: 0.40 ± 0.02" in live.map.at.text()
    host.run += 1
    host.growing = None
    qtbot.waitUntil(lambda: live.map._map is None, timeout=EVENTUALLY_MS)
    assert live.map.stage.currentIndex() == 0


def test_what_fails_aside_is_said_and_the_next_question_is_answered(qtbot: QtBot) -> None:
    aside = Aside()

    def ask(*what: Any) -> Any:
        aside.ask("fit", *what)
        found: list[Any] = []

        def answered() -> bool:
            found[:] = [aside.take("fit")]
            return found[0] is not None

        qtbot.waitUntil(answered, timeout=EVENTUALLY_MS)
        return found[0]

    assert isinstance(ask("fit_sizes", np.ones(3), "normal"), Failed)
    child = aside._child
    assert child is not None
    child.kill()
    child.wait()
    sizes = np.random.default_rng(0).normal(8.0, 1.0, 500)
    fit = ask("fit_sizes", sizes, "normal")
    assert fit.mean_nm == pytest.approx(sizes.mean())
    assert np.trapezoid(fit.per_nm, fit.x_nm) == pytest.approx(1.0, abs=0.01)
    thread = aside._thread
    assert thread is not None
    aside.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_plan_is_moved_as_its_steps_were_late_or_early() -> None:
    steps = (
        PlannedStep(0, "ramp to 700 °C", 0.0, 60.0),
        PlannedStep(1, "hold", 60.0, 300.0),
        PlannedStep(2, "ramp to 25 °C", 360.0, 40.0),
    )
    plan = PlanView("p", steps, (0.0, 60.0, 360.0, 400.0), (25.0, 700.0, 700.0, 25.0))
    notes = [LiveNote(4.0, "action", "begin step 1: ramp"), LiveNote(64.0, "action", "end step 1")]
    running = EngineStatus(state=EngineState.RUNNING, t_s=70.0)
    assert Lateness().plan(plan, [], 0, running) is plan, "nothing has begun"
    notes.append(LiveNote(66.0, "action", "begin step 2: hold"))
    lateness = Lateness()
    late = lateness.plan(plan, notes, 1, replace(running, t_s=500.0, eta_s=40.0))
    assert [step.t_start_s for step in late.steps] == [4.0, 66.0, 500.0], "a pause in the hold"
    assert late.steps[0].duration_s == 62.0
    at = np.interp([4, 64, 499, 500, 540], late.profile_t_s, late.profile_celsius)
    assert at == pytest.approx([25, 700, 700, 700, 25])
    notes.append(LiveNote(100.0, "action", "begin step 3: ramp"))  # a condition was met
    early = lateness.plan(plan, notes, 2, replace(running, t_s=110.0, eta_s=30.0))
    at = np.interp([99, 100, 120, 140], early.profile_t_s, early.profile_celsius)
    assert at == pytest.approx([700, 700, 362.5, 25])
    done = replace(running, state=EngineState.COMPLETED)
    assert lateness.plan(plan, notes, 2, done).steps == early.steps
