"""The live image: what is drawn on it, measured in it, followed on it, and saved of it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets
from pytestqt.qtbot import QtBot

from acquire.engine.status import EngineState, LiveImage
from gui.app import application_with_theme
from gui.panels.image import ImagePanel, tints
from gui.panels.image.contrast import percentiles_of, read_percentiles
from gui.panels.image.marks import Outlines
from gui.panels.image.particles import Particles, particles_of
from gui.panels.image.profile import line_profile
from gui.panels.image.region import region_numbers
from gui.panels.image.shrinking import summed
from gui.panels.image.sightings import MOST_FRAMES, MOST_ROWS, Sightings
from gui.panels.image.sightings import Shown as Frame
from gui.settings import Settings
from gui.widgets.question import Question

Key = QtCore.Qt.Key
Modifier = QtCore.Qt.KeyboardModifier
LEFT = QtCore.Qt.MouseButton.LeftButton
EVENTUALLY_MS = 20_000


class Shown:
    """An image panel of its own, given the frames of the fake host one by one."""

    def __init__(self, qtbot: QtBot, host, path: Path) -> None:
        host.state = EngineState.RUNNING
        self._host = host
        application_with_theme()
        self.settings = Settings(path)
        self.panel = ImagePanel(self.settings)
        self.said: list[str] = []
        self.panel.told.connect(self.said.append)
        self.panel.complained.connect(self.said.append)
        qtbot.addWidget(self.panel)
        self.panel.resize(500, 640)
        self.panel.show()
        qtbot.waitUntil(self.panel.isActiveWindow, timeout=EVENTUALLY_MS)
        self.image: LiveImage | None = None
        self.frames(3)

    def frames(self, count: int = 1) -> ImagePanel:
        """Show so many more frames, each with its tick."""
        for _ in range(count):
            self._host.begun_s -= self._host.frame_period_s
            after = self.image.serial if self.image is not None else -1
            image = self._host.image("", after, 1.0)
            assert image is not None
            self.image = image
            self.panel.show_status(self._host.status())
            self.panel.show_image(image)
            self.panel.tick()
        return self.panel

    @property
    def particles(self) -> Particles:
        """Those of the frame that is shown."""
        found = self.panel.overlays.particles
        assert found is not None
        return found


@pytest.fixture
def shown(qtbot: QtBot, host, tmp_path: Path) -> Shown:
    host.frame_period_s = 0.5  # of which the test makes its own
    return Shown(qtbot, host, tmp_path / "window.ini")


# ------------------------------------------------------------------------ numbers by themselves


def test_a_region_has_the_numbers_of_the_pixels_whose_centres_lie_in_it() -> None:
    image = np.random.default_rng(1).poisson(200, (40, 60)).astype(np.uint16)
    table = {
        "x_nm": np.array([6.0, 11.0, 29.0]),
        "y_nm": np.array([4.0, 9.9, 5.0]),
        "diameter_nm": np.full(3, 2.0),
    }
    found = region_numbers(image, 0.5, (5.2, 3.0, 10.0, 7.0), particles_of(table))
    assert found is not None
    part = image[6:20, 10:30]
    assert (found.pixels, found.total, found.particles) == (part.size, part.sum(), 2)
    assert found.area_nm2 == pytest.approx(part.size * 0.25)
    assert found.sigma == pytest.approx(part.std())
    assert (found.mean, found.lowest, found.highest) == (part.mean(), part.min(), part.max())
    outside = region_numbers(image, 0.5, (31.0, 0.0, 5.0, 5.0), None)
    assert outside is None
    partly = region_numbers(image, 0.5, (-5.0, -5.0, 7.0, 7.0), None)
    assert partly is not None
    assert (partly.pixels, partly.total) == (16, image[:4, :4].sum())


def test_a_large_region_says_that_its_spread_is_of_some_pixels() -> None:
    image = np.random.default_rng(2).poisson(100, (1024, 1024)).astype(np.uint16)
    found = region_numbers(image, 1.0, (0.0, 0.0, 1024.0, 1024.0), None)
    assert found is not None
    assert found.total == image.sum(dtype=np.int64)
    assert found.sigma == pytest.approx(image.std(), rel=0.01)
    assert "(every 2th pixel)" in found.words or "every 2nd pixel" in found.words


def test_a_profile_is_the_signal_between_its_ends_averaged_across() -> None:
    y, x = np.mgrid[:50, :80] + 0.5
    image = 3 * x + 5 * y  # nm are pixels: what is interpolated linearly is exact
    distance, signal = line_profile(image, 1.0, ((10.0, 10.0), (40.0, 30.0)), 1)
    assert distance[-1] == pytest.approx(np.hypot(30, 20))
    assert len(distance) == 37
    along = distance / distance[-1]
    np.testing.assert_allclose(signal, 3 * (10 + 30 * along) + 5 * (10 + 20 * along))
    np.testing.assert_allclose(line_profile(image, 1.0, ((10, 10), (40, 30)), 7)[1], signal)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (50, 80))
    wide = line_profile(noise, 1.0, ((5.5, 25.5), (75.5, 25.5)), 15)[1]
    np.testing.assert_allclose(wide, noise[18:33, 5:76].mean(axis=0))
    off = line_profile(image, 1.0, ((-10.0, 25.0), (20.0, 25.0)), 1)[1]
    assert np.isnan(off[:10]).all()
    assert np.isfinite(off[10:]).all()


@pytest.mark.parametrize("words", ["", "5", "99 1", "-1 50", "0 101", "1 2 3", "50 50"])
def test_percentiles_that_are_none_are_refused(words: str) -> None:
    if words == "-1 50":
        assert read_percentiles("1 - 50 %") == (1.0, 50.0)
        return
    with pytest.raises(ValueError, match="percentiles"):
        read_percentiles(words)


def test_contrast_passes_over_what_is_not_a_number() -> None:
    image = np.full((64, 64), np.nan, np.float32)
    assert percentiles_of(image, (1, 99)) == (0.0, 1.0)
    image[10:20] = 7.0
    assert percentiles_of(image, (1, 99)) == (7.0, 7.0)


def test_what_was_shown_is_kept_within_bounds_and_gives_growth_and_trails() -> None:
    kept = Sightings()
    n = 300
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 100, (2, n))
    for index in range(MOST_FRAMES):
        table = {
            "id": np.arange(n) + (index >= 1000),  # the first particle is lost then
            "x_nm": x + 0.01 * index,
            "y_nm": y,
            "diameter_nm": 5 + 0.5 * index / 60 + rng.normal(0, 0.02, n),
        }
        found = particles_of(table)
        assert found is not None
        kept.add(Frame(index, float(index), (0.01 * index, 0.0), found))
    assert len(kept) * n <= MOST_ROWS
    growth = kept.growth(7)
    assert growth is not None
    assert growth.rate_nm_per_min == pytest.approx(0.5, abs=4 * growth.sigma_nm_per_min)
    assert growth.sigma_nm_per_min < 0.02
    track, trail_x, _ = kept.trails(None)
    of_one = trail_x[track == 7]
    assert 10 < len(of_one) < 40
    assert np.all(np.diff(of_one) > 0)
    still = kept.trails((0.0, 0.0))[1][track == 7]
    np.testing.assert_allclose(still, still[0], atol=1e-6)
    assert not (track == 0).any()
    assert not kept.add(Frame(MOST_FRAMES - 1, 1e6, (0, 0), found)), "one frame counts once"
    kept.add(Frame(3, 3.0, (0, 0), found))
    assert len(kept) == 1, "what goes back in time begins anew"


# -------------------------------------------------------------------------------- on the image


def test_outlines_labels_trails_and_a_followed_particle(qtbot: QtBot, host, shown: Shown) -> None:
    panel, menu, outlines = shown.panel, shown.panel.menu, shown.panel.overlays.outlines
    assert outlines.count == 60
    assert "60 particles outlined" in panel.measured.text()
    assert len({colour for colour, _, _ in outlines.circles()}) == 6
    menu.choose(menu.by, "size")
    assert panel.overlays.legend.isVisible()
    by_size = {
        colour: np.mean([radius for *_, radius in circles])
        for colour, dotted, circles in outlines.circles()
        if not dotted
    }
    assert by_size["#e0601b"] == max(by_size.values())
    menu.choose(menu.by, "plain")
    assert {colour for colour, _, _ in outlines.circles()} == {"#ffffff"}
    assert not panel.overlays.legend.isVisible()
    qtbot.keyClick(panel, Key.Key_O)
    assert outlines.count == 0
    assert "outlines off" in panel.measured.text()
    qtbot.keyClick(panel, Key.Key_O)
    qtbot.keyClick(panel, Key.Key_T)
    assert panel.overlays.trails.points > 60

    # under the mouse
    row = int(np.argmax(~shown.particles.cut))
    track = int(shown.particles.track[row])
    place = shown.particles.x_nm[row], shown.particles.y_nm[row]
    qtbot.mouseMove(panel.canvas.viewport(), panel.canvas.point_of(*place))
    qtbot.waitUntil(panel.hover.isVisible, timeout=EVENTUALLY_MS)
    assert panel.hover.text().startswith(f"particle {track} ")
    assert "± 0.05 nm" in panel.hover.text()
    shown.frames(6)
    assert "growth" in panel.hover.text()

    # followed
    before = panel.canvas.point_of(*place)
    qtbot.mouseClick(panel.canvas.viewport(), LEFT, pos=before)
    following = panel.following
    qtbot.waitUntil(lambda: following.track == track, timeout=EVENTUALLY_MS)
    qtbot.waitUntil(following.isVisible, timeout=EVENTUALLY_MS)
    moved = panel.canvas.point_of(*place) - before
    assert moved.manhattanLength() <= 2, "what was clicked stays under the hand"
    assert following.points == panel.shown, "the curve begins with what was shown before"
    shown.frames(2)
    assert following.points == panel.shown
    assert panel.overlays.emphasis.shown is not None
    assert f"Particle {track}" in following.words.text()

    # lost, in another, found again
    host.gone.add(track)
    host._x[track + 1], host._y[track + 1] = host._x[track], host._y[track]
    shown.frames(2)
    assert "lost: not found for 2 frames" in following.words.text()
    assert f"lies in particle {track + 1} now" in following.words.text()
    emphasised = panel.overlays.emphasis.shown
    assert emphasised is not None
    assert emphasised[3]
    host.gone.clear()
    shown.frames()
    assert not following.lost
    qtbot.keyClick(panel, Key.Key_N)
    assert following.track == track + 1
    qtbot.keyClick(panel, Key.Key_Escape)
    assert not following.on
    assert not panel.strip.isVisible()


def test_the_specimen_is_held_still_and_what_lies_on_it_stays_on_it(
    qtbot: QtBot, host, shown: Shown
) -> None:
    panel = shown.panel
    qtbot.keyClick(panel, Key.Key_D)
    assert "not held still" in panel.measured.text()
    host.drift_nm_per_s = (0.5, 0.25)
    shown.frames(4)
    assert panel.canvas.origin_nm[0] < -3
    assert "held still; drifted" in panel.measured.text()
    assert "nm right" in panel.measured.text()
    qtbot.keyClick(panel, Key.Key_P)
    qtbot.keyClick(panel, Key.Key_R)
    image = shown.image
    assert image is not None
    # outlines, region and line lie in the view, and measure what they lie on
    circles = [c for *_, some in panel.overlays.outlines.circles() for c in some]
    moved = np.array(sorted(circles))[:, :2] - panel.canvas.origin_nm
    seen = sorted(zip(image.particles["x_nm"], image.particles["y_nm"], strict=True))
    np.testing.assert_allclose(moved, seen, atol=1e-9)
    panel.region.put(10.0, 20.0, 30.0, 40.0)
    pixel = image.pixel_size_nm
    rows, columns = (slice(round(a / pixel), round(b / pixel)) for a, b in ((20, 60), (10, 40)))
    assert panel.region.numbers is not None
    assert panel.region.numbers.mean == image.detectors["haadf"][rows, columns].mean()
    assert "Region 30" in panel.region.words.text()
    panel.canvas.setFocus()
    elsewhere = QtGui.QShortcut(QtGui.QKeySequence("Shift+Right"), panel)  # as the replay has it
    elsewhere.activated.connect(lambda: shown.said.append("stepped"))
    qtbot.keyClick(panel.canvas, Key.Key_Right, Modifier.ShiftModifier)
    assert panel.region.rect_nm() == pytest.approx((11.2, 20.0, 30.0, 40.0))
    assert shown.said == []
    qtbot.keyClick(panel.canvas, Key.Key_Up, Modifier.ShiftModifier | Modifier.ControlModifier)
    assert panel.region.rect_nm() == pytest.approx((11.2, 20.0, 30.0, 38.8))
    for key in (Key.Key_P, Key.Key_P):  # what was laid last is what the arrows move
        qtbot.keyClick(panel, key)
    panel.profile.put((20.0, 60.0), (100.0, 60.0))
    qtbot.keyClick(panel.canvas, Key.Key_Down, Modifier.ShiftModifier)
    assert panel.profile.ends_nm()[1] == pytest.approx((100.0, 61.2), abs=1e-6)
    assert panel.region.rect_nm() == pytest.approx((11.2, 20.0, 30.0, 38.8))
    panel.profile.put((20.0, 60.0), (100.0, 60.0))
    (x0, y0), (x1, y1) = panel.profile.ends_nm()
    assert (x0, y0, x1, y1) == pytest.approx((20.0, 60.0, 100.0, 60.0), abs=1e-6)
    panel.menu.choose(panel.menu.profile_width, "7")
    _, drawn = panel.profile.curve.getData()
    expected = line_profile(image.detectors["haadf"], pixel, ((20, 60), (100, 60)), 7)[1]
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    rect = panel.region.rect_nm()
    shown.frames()
    assert panel.region.rect_nm()[0] > rect[0], "it moves over the image as the specimen does"
    qtbot.keyClick(panel, Key.Key_R)
    qtbot.keyClick(panel, Key.Key_P)
    assert not panel.strip.isVisible()
    assert not panel.region.words.isVisible()
    # by hand
    assert panel.canvas.view.viewRect().width() > 100
    qtbot.keyClick(panel.canvas, Key.Key_Plus)
    near = panel.canvas.view.viewRect().width()
    assert panel.canvas.item.image.shape[1] <= round(near / pixel) + 3, "only what is seen is drawn"
    qtbot.keyClick(panel, Key.Key_F)
    assert panel.canvas.view.viewRect().width() > near
    # the bar is as long as it says, whatever was done to the view
    for size in ((500, 640), (700, 500), (420, 700)):
        panel.resize(*size)
        shown.frames()
        panel.grab()
        share = panel.canvas.scale.length_nm / panel.canvas.view.viewRect().width()
        assert 0.1 < share <= 0.28 + 1e-9


def test_contrast_and_colours_are_chosen_refused_frozen_and_remembered(
    qtbot: QtBot, host, shown: Shown
) -> None:
    panel, menu = shown.panel, shown.panel.menu
    menu.choose(menu.colour_map, "cividis")
    menu.choose(menu.percentiles, "own")
    question = panel.findChild(Question)
    assert question is not None
    question.field.setText("99 98")
    question.accept()
    assert "below the second" in question.refusal.text()
    assert question.isVisible()
    question.field.setText("25 75")
    question.accept()
    assert menu.percentile_pair() == (25.0, 75.0)
    assert "25–75 %" in panel.frame.text()
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow, timeout=EVENTUALLY_MS)
    qtbot.keyClick(panel, Key.Key_K)
    assert "frozen" in panel.frame.text()
    levels = panel.canvas.levels
    host._noise += 500
    shown.frames(20)
    assert panel.canvas.levels == levels
    qtbot.keyClick(panel, Key.Key_K)
    shown.frames(20)
    assert panel.canvas.levels[0] > 400
    drawn = panel.canvas.item.picture
    assert {drawn.pixel(n, n) for n in range(50)} <= set(tints.colour_table("cividis"))
    shown.settings.save()
    again = ImagePanel(Settings(shown.settings.path))
    qtbot.addWidget(again)
    assert again.menu.chosen(again.menu.colour_map) == "cividis"
    assert again.menu.percentile_pair() == again.contrast.percentiles == (25.0, 75.0)


def test_figures_are_written_with_their_captions_and_overwrite_nothing_by_themselves(
    qtbot: QtBot, shown: Shown, tmp_path: Path
) -> None:
    panel, said = shown.panel, shown.said
    panel.follow(3)
    folder = tmp_path / "figures"
    folder.mkdir()
    qtbot.keyClick(panel, Key.Key_S, Modifier.ControlModifier)
    dialog = panel.findChild(QtWidgets.QFileDialog)
    assert dialog is not None
    dialog.setDirectory(str(folder))
    name = Path(dialog.selectedFiles()[0]).name
    image = shown.image
    assert image is not None
    assert name == f"Ni-exsolution-first-look_overview_haadf_{image.index:06d}.png"
    dialog.selectFile(str(folder / name))
    dialog.accept()
    panel.saver.wait(10)
    panel.tick()
    assert [("saved" in words) for words in said] == [True]
    picture = QtGui.QImage(str(folder / name))
    assert (picture.width(), picture.height()) == (1280, 1280)
    caption = json.loads((folder / name).with_suffix(".json").read_text(encoding="utf-8"))
    assert caption["frame"] == image.index
    assert caption["pixel_size_nm"] == image.pixel_size_nm
    assert (caption["stream"], caption["detector"]) == ("overview", "haadf")
    assert caption["temperature_celsius"] > 25
    assert caption["particles"] == 60
    assert caption["scale_bar_nm"] == 20.0
    assert caption["place_x_nm"] is None
    assert "Simulated." in caption["caption"]
    assert "contrast" in caption["caption"]
    bar = picture.copy(1280 - 30 - 213, 1280 - 37, 200, 1)
    assert {bar.pixelColor(x, 0).lightness() for x in range(20, 180)} == {255}

    first = (folder / name).read_bytes()
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow, timeout=EVENTUALLY_MS)
    for _ in range(2):
        qtbot.keyClick(panel, Key.Key_S, Modifier.ControlModifier | Modifier.ShiftModifier)
    panel.saver.wait(10)
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == [name, *(name.replace(".png", f"_{n}.png") for n in (2, 3))]
    assert (folder / name).read_bytes() == first
    figure = panel.figure()
    assert figure is not None
    panel.saver.save(figure, folder / "drawing.svg", replace=False)
    panel.saver.wait(10)
    drawing = ElementTree.parse(folder / "drawing.svg").getroot()
    assert drawing.tag.endswith("svg")
    text = (folder / "drawing.svg").read_text(encoding="utf-8")
    assert "20 nm" in text
    assert text.count("<ellipse") + text.count("<circle") >= 60
    panel.tick()
    said.clear()
    panel.saver.save(figure, folder / "drawing.svg", replace=False)
    panel.saver.save(figure, tmp_path / "nowhere" / "a.png", replace=False)
    panel.saver.wait(10)
    panel.tick()
    assert "is there already" in said[0]
    assert "nowhere" in said[1]
    assert not list(folder.glob(".*"))


def test_a_shrunk_image_holds_every_pixel_and_no_fringe_that_is_not_there() -> None:
    fringes = np.tile(np.array([0, 60000], np.uint16), (90, 45))
    total, pixels = summed(fringes, 2)
    assert pixels == 4
    assert np.all(total == 4 * 30000), "every second pixel would be black, or white"
    bright = np.zeros((10, 9))
    bright[4, 4] = 9.0
    assert summed(bright, 3)[0].tolist() == [[0, 0, 0], [0, 9, 0], [0, 0, 0]]
    assert summed(bright, 1) == (bright, 1)
    total, pixels = summed(fringes[:2, :3], 4)
    assert (total.tolist(), pixels) == ([[120000]], 6), "smaller than a block"


def test_thousands_of_outlines_are_drawn_where_the_particles_are(qtbot: QtBot) -> None:
    image = QtGui.QImage(300, 300, QtGui.QImage.Format.Format_ARGB32_Premultiplied)
    outlines = Outlines()
    scene = QtWidgets.QGraphicsScene()
    scene.addItem(outlines)
    many = 1000
    x, y = np.full(many, -40.0), np.full(many, 20.0)  # out of sight, but for some
    radius, cut = np.full(many, 30.0), np.zeros(many, np.bool_)
    x[:900], y[:900], radius[:900] = 50.0, 60.0, 0.5  # too small for a ring: a dot
    x[900:990], y[900:990] = 150.0, 100.0
    x[990:], y[990:], cut[990:] = 150.0, 220.0, True
    outlines.set_circles(x, y, 2 * radius, cut, np.zeros(many, np.int64), ("#ff0000",))

    def pixels(zoom: float) -> NDArray[np.bool_]:
        image.fill(0)
        painter = QtGui.QPainter(image)
        painter.setTransform(QtGui.QTransform.fromScale(zoom, zoom))
        outlines.paint(painter, QtWidgets.QStyleOptionGraphicsItem())
        painter.end()
        red = np.frombuffer(image.constBits(), np.uint32).reshape(300, 300)
        assert set(np.unique(red)) <= {0, 0xFFFF0000}
        return red.copy() != 0

    drawn = pixels(1.0)
    rows, columns = np.nonzero(drawn[65:150])
    ring = np.hypot(columns - 150, rows + 65 - 100)
    assert len(ring) > 150
    assert np.abs(ring - 30).max() < 1.5, "a ring of one pixel about its centre"
    assert drawn[55:65, 45:55].sum() == 1, "a dot"
    assert 0.2 < drawn[180:].sum() / len(ring) < 0.6, "those at the border are dotted"
    larger = pixels(1.4)
    rows, columns = np.nonzero(larger[100:200])
    assert np.abs(np.hypot(columns - 210, rows + 100 - 140) - 42).max() < 1.5
