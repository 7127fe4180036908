"""The estimator keeps ids over drift, repeats itself exactly, and refuses bad options by name."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from acquire.errors import ConfigError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.particles import (
    LIVE_COLUMNS,
    LIVE_QUANTITIES,
    ParticleEstimator,
    with_segmenter,
)
from acquire.plugins import ESTIMATORS, find
from acquire.recipe.conditions import Condition
from acquire.stream import Estimate
from acquire.units import convert
from simulators.imaging import render
from simulators.specimen import View, lived, named

Scenes = Callable[..., Any]


def _frames(images: list[Any], channel: str = "haadf") -> list[Frame]:
    return [
        Frame("overview", i, {channel: image}, float(i), i + 0.5) for i, image in enumerate(images)
    ]


def _run(spec: StreamSpec, images: list[Any], **options: object) -> list[Estimate]:
    estimator = ParticleEstimator("particles", spec, "haadf", options)
    estimates = [estimator.update(frame) for frame in _frames(images)]
    return [estimate for estimate in estimates if estimate is not None]


def test_the_entry_point_is_this_estimator() -> None:
    assert find(ESTIMATORS, "particles") is ParticleEstimator
    assert ParticleEstimator.quantities == LIVE_QUANTITIES
    assert ParticleEstimator.columns == LIVE_COLUMNS


def test_same_frames_give_identical_estimates(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(0)
    made = scene(rng, diameter_nm=5.0)
    images = [made.image(rng, 30.0) for _ in range(3)]
    first, second = _run(spec, images), _run(spec, images)
    for a, b in zip(first, second, strict=True):
        assert (a.values, a.flags, a.frame_index, a.t_s) == (
            b.values,
            b.flags,
            b.frame_index,
            b.t_s,
        )
        assert all(np.array_equal(a.table[name], b.table[name]) for name in LIVE_COLUMNS)


def test_ids_persist_while_the_view_drifts(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(5)
    wide = scene(rng, diameter_nm=7.0, count=24, size=640)
    images = []
    for step in (0, 9, 18, 27, 36):  # 2.8 nm per frame
        part = wide.mean[step : step + 512, 2 * step : 2 * step + 512]
        images.append(rng.poisson(100 * part).astype(np.uint16))
    estimates = _run(spec, images)
    for before, after, move in zip(estimates, estimates[1:], [9] * 4, strict=False):
        shared, i, j = np.intersect1d(before.table["id"], after.table["id"], return_indices=True)
        whole = (before.table["border"][i] == 0) & (after.table["border"][j] == 0)
        dy = (after.table["y_nm"][j] - before.table["y_nm"][i])[whole]
        dx = (after.table["x_nm"][j] - before.table["x_nm"][i])[whole]
        assert len(shared) >= 0.8 * min(len(before.table["id"]), len(after.table["id"]))
        assert np.abs(dy + move * 0.3125).max() < 0.5
        assert np.abs(dx + 2 * move * 0.3125).max() < 0.5


def test_faint_particles_stay_once_several_frames_have_seen_them(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(12)
    made = scene(rng, diameter_nm=3.83, count=20, spread=0.12, inset_nm=3.0)
    estimates = _run(spec, [made.image(rng, 30.0) for _ in range(14)])
    late = [estimate.values["count"].value for estimate in estimates[8:]]
    assert np.mean(late) > estimates[0].values["count"].value - 1
    assert abs(np.mean(late) - 20) <= 2.5
    truth = made.diameters_nm.mean()
    mean = np.mean([estimate.values["mean_diameter"].value for estimate in estimates[8:]])
    assert mean == pytest.approx(truth, rel=0.03)


def test_a_beam_that_goes_off_is_flagged_and_ids_survive(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(9)
    made = scene(rng, diameter_nm=7.0, count=10, inset_nm=8.0)
    off = rng.poisson(0.6, (512, 512)).astype(np.uint16)
    shown, dark, again = _run(spec, [made.image(rng, 200.0), off, made.image(rng, 200.0)])
    assert "blank" in dark.flags
    assert math.isnan(dark.values["mean_diameter"].value)
    assert set(shown.table["id"]) == set(again.table["id"])


def test_a_damaged_frame_does_not_end_the_run(spec: StreamSpec) -> None:
    estimator = ParticleEstimator("particles", spec, "haadf", {})
    frame = Frame("overview", 0, {"haadf": np.ones((3, 3, 3))}, 0.0, 1.0)
    estimate = estimator.update(frame)
    assert estimate is not None
    assert estimate.flags == ("unreadable",)
    assert set(estimate.table) == set(LIVE_COLUMNS)
    assert estimator.update(Frame("overview", 1, {}, 1.0, 2.0)) is None


def test_abf_is_dark_unless_told_otherwise(spec: StreamSpec) -> None:
    assert ParticleEstimator("p", spec, "abf", {}).options.polarity == "dark"
    assert ParticleEstimator("p", spec, "haadf", {}).options.polarity == "bright"
    assert ParticleEstimator("p", spec, "abf", {"polarity": "bright"}).options.polarity == "bright"


def test_a_weaker_beam_is_a_change_of_dose_and_not_a_blank(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(9)
    made = scene(rng, diameter_nm=8.0, count=14, inset_nm=8.0)
    doses = [1600.0] * 5 + [20.0] * 6
    estimates = _run(spec, [made.image(rng, dose) for dose in doses])
    flagged = ["dose_change" in estimate.flags for estimate in estimates]
    assert flagged == [False] * 5 + [True] * 3 + [False] * 3
    assert not any("blank" in estimate.flags for estimate in estimates)
    truth = made.diameters_nm.mean()
    for estimate in estimates:
        assert estimate.values["mean_diameter"].value == pytest.approx(truth, rel=0.05)
    before, after = (set(estimates[i].table["id"]) for i in (4, 10))
    assert len(before & after) >= 13


def test_a_beam_that_stays_off_stays_blank_until_it_is_back(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(9)
    made = scene(rng, diameter_nm=7.0, count=10, inset_nm=8.0)
    shown = [made.image(rng, 200.0) for _ in range(4)]
    off = [rng.poisson(2.0, (512, 512)).astype(np.uint16) for _ in range(8)]
    estimates = _run(spec, [*shown, *off, *shown])
    blank = ["blank" in estimate.flags for estimate in estimates]
    assert blank == [False] * 4 + [True] * 8 + [False] * 4
    assert all(math.isnan(estimate.values["count"].value) for estimate in estimates[4:12])
    tracked = [set(estimate.table["id"][estimate.table["snr"] > 10]) for estimate in estimates]
    assert tracked[3] == tracked[12]
    assert "dose_change" not in estimates[-1].flags


def test_another_field_is_flagged_and_its_particles_are_new(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(2)
    here, there = (scene(rng, diameter_nm=7.0, count=20, inset_nm=8.0) for _ in range(2))
    images = [field.image(rng, 200.0) for field in (here, there) for _ in range(5)]
    estimates = _run(spec, images)
    assert ["field_moved" in estimate.flags for estimate in estimates].index(True) == 5
    assert not set(estimates[4].table["id"]) & set(estimates[5].table["id"])
    assert estimates[-1].values["nucleations"].value == 0
    assert estimates[-1].values["disappearances"].value == 0


@pytest.mark.parametrize("broken", ["shape", "dtype", "nonfinite", "saturated", "inverted"])
def test_a_bad_frame_among_good_ones_is_flagged_and_the_next_is_as_ever(
    scene: Scenes, spec: StreamSpec, broken: str
) -> None:
    rng = np.random.default_rng(4)
    made = scene(rng, diameter_nm=7.0, count=30, inset_nm=8.0)
    good = [made.image(rng, 200.0) for _ in range(5)]
    bad, flag = {
        "shape": (good[0][:400], "unreadable"),
        "dtype": (good[0].astype(np.float32), "unreadable"),
        "nonfinite": (good[0].astype(np.complex64), "unreadable"),
        "saturated": (np.minimum(good[0], 210), "saturated"),
        "inverted": ((600 - good[0].astype(np.int64)).clip(0).astype(np.uint16), "polarity"),
    }[broken]
    estimates = _run(spec, [*good[:4], bad, good[4]])
    assert flag in estimates[4].flags
    assert set(estimates[3].table["id"]) == set(estimates[5].table["id"])
    spoiled = {q.name: q.spoiled_by for q in LIVE_QUANTITIES}
    for name, value in estimates[4].values.items():
        if name in ("mean_diameter", "count", "growth_rate"):
            assert math.isnan(value.value) or set(spoiled[name]) & set(estimates[4].flags)


def test_growth_measured_on_simulated_images_is_that_of_the_specimen() -> None:
    view = View((0, 0), (384, 384), 0.4)
    axes = {"y": Axis(0.0, 0.4, "nm"), "x": Axis(0.0, 0.4, "nm")}
    spec = StreamSpec("overview", {"haadf": ChannelSpec("uint16", (384, 384), ("y", "x"), axes)})
    film = named("lsnt_nonstoichiometric", seed=1).under(lived([(135, 700)]))
    options = {"growth_window": "1 min", "link_distance": "2 nm"}
    estimator = ParticleEstimator("particles", spec, "haadf", options)
    rng = np.random.default_rng(0)
    rates = []
    for k in range(31):
        t_s = 300.0 + 2 * k
        image = render(film, t_s, view, 2000.0, {"haadf": rng})
        assert image is not None
        estimate = estimator.update(Frame("overview", k, image, t_s - 1, t_s))
        assert estimate is not None
        rates.append((estimate.values["growth_rate"], estimate.flags))
    assert math.isnan(rates[3][0].value)
    assert "short_watch" in rates[3][1]
    first, last = (film.domes(view, t) for t in (300.0, 360.0))
    _, i, j = np.intersect1d(first.id, last.id, return_indices=True)
    truth = float((last.diameter_nm[j] - first.diameter_nm[i])[first.diameter_nm[i] > 2.5].mean())
    rate, flags = rates[-1]
    assert not {"short_watch", "few_tracked"} & set(flags)
    # which particles are found and which are cut by the border differs a little from the truth's
    assert rate.value == pytest.approx(truth, abs=3 * rate.sigma + 0.1 * truth)
    assert 0 < rate.sigma < 0.2 * truth


def test_conditions_understand_the_unit_of_growth() -> None:
    condition = Condition.parse("growth_rate >= 0.2 nm/min for 3 frames")
    condition.check({quantity.name: quantity for quantity in LIVE_QUANTITIES})
    assert condition.unit == "nm/min"
    assert convert(12.0, "nm/h", "nm/min") == pytest.approx(0.2)


def test_another_segmenter_finds_and_hotstage_sizes(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(7)
    made = scene(rng, diameter_nm=8.0, count=12, inset_nm=8.0)
    chosen = with_segmenter(first_three)("ml", spec, "haadf", {})
    estimate = chosen.update(_frames([made.image(rng, 500.0)])[0])
    assert estimate is not None
    assert len(estimate.table["id"]) == 3
    for y, x, size in zip(
        estimate.table["y_nm"],
        estimate.table["x_nm"],
        estimate.table["diameter_nm"],
        strict=True,
    ):
        nearest = np.argmin(np.hypot(*(made.places_nm - [y, x]).T))
        assert size == pytest.approx(made.diameters_nm[nearest], rel=0.08)
    assert pickle.loads(pickle.dumps(chosen.measurer())) is not None


def first_three(image: Any) -> Any:
    """The three largest bright spots of an image."""
    smooth = ndimage.gaussian_filter(image.astype(float), 3.0)
    labels, count = ndimage.label(smooth > 1.25 * np.median(smooth))
    size = np.bincount(labels.ravel())[1:]
    keep = np.argsort(size)[::-1][:3] + 1
    assert count >= 3
    return np.where(np.isin(labels, keep), labels, 0)


@pytest.mark.parametrize(
    ("channel", "options", "says"),
    [
        ("haadf", {"polarty": "dark"}, "polarity"),
        ("haadf", {"polarity": "grey"}, "'grey'"),
        ("haadf", {"probe_sigma": 0.3}, "unit"),
        ("haadf", {"expected_diameter": "40 nm"}, "largest_diameter"),
        ("haadf", {"shape": "cube"}, "hemisphere"),
        ("haadf", {"smallest_diameter": "0.2 nm"}, "too small"),
        ("haadff", {}, "haadf"),
        ("core_loss", {}, r"\(y, x\)"),
    ],
)
def test_bad_options_are_refused_by_name(
    spec: StreamSpec, channel: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        ParticleEstimator("particles", spec, channel, options)


def test_a_pixel_size_that_is_no_length_is_refused() -> None:
    axes = {"y": Axis(0.0, 1.0, "s"), "x": Axis(0.0, 1.0, "s")}
    spec = StreamSpec("overview", {"haadf": ChannelSpec("uint16", (64, 64), ("y", "x"), axes)})
    with pytest.raises(ConfigError, match="not a length"):
        ParticleEstimator("particles", spec, "haadf", {})


def test_pixel_size_is_read_in_any_unit_of_length() -> None:
    axes = {"y": Axis(0.0, 3e-4, "µm"), "x": Axis(0.0, 3e-4, "µm")}
    spec = StreamSpec("overview", {"haadf": ChannelSpec("uint16", (64, 64), ("y", "x"), axes)})
    assert ParticleEstimator("p", spec, "haadf", {}).pixel_size_nm == pytest.approx(0.3)
