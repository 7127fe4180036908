"""The estimator keeps ids over drift, repeats itself exactly, and refuses bad options by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from acquire.errors import ConfigError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.particles import COLUMNS, QUANTITIES, ParticleEstimator
from acquire.plugins import ESTIMATORS, find
from acquire.stream import Estimate

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
    assert ParticleEstimator.quantities == QUANTITIES
    assert ParticleEstimator.columns == COLUMNS


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
        assert all(np.array_equal(a.table[name], b.table[name]) for name in COLUMNS)


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
    assert set(estimate.table) == set(COLUMNS)
    assert estimator.update(Frame("overview", 1, {}, 1.0, 2.0)) is None


def test_abf_is_dark_unless_told_otherwise(spec: StreamSpec) -> None:
    assert ParticleEstimator("p", spec, "abf", {}).options.polarity == "dark"
    assert ParticleEstimator("p", spec, "haadf", {}).options.polarity == "bright"
    assert ParticleEstimator("p", spec, "abf", {"polarity": "bright"}).options.polarity == "bright"


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
