"""What the window shows of a run: image, outlines, curves, and pictures of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtGui
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState, LiveImage
from acquire.errors import LinkError
from gui.app import grab, show
from tests.gui.conftest import FakeHost
from tests.gui.hands import EVENTUALLY_MS, run_to


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
