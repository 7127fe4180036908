"""Exponent and blur are found on images, honestly, fast enough for a live frame, and then held."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial import KDTree

from acquire.bench.particle_scenes import SCENES, make_scene
from acquire.bench.particle_solids import Solid
from acquire.errors import ConfigError
from acquire.instruments import Frame, StreamSpec
from acquire.measure.particles import (
    ParticleEstimator,
    ParticleOptions,
    Shape,
    calibrate_shape,
    fit_lognormal,
    measure_particles,
    warm_up,
)
from acquire.measure.particles.shapes import blurred_dome, cap_exponent, dome_between
from simulators.imaging import render
from simulators.specimen import View, lived, named

Scenes = Callable[..., Any]
CAP = cap_exponent(53.0)


@pytest.mark.parametrize("exponent", [0.016, 0.13, 0.49, 0.505, 0.61, 0.87, 0.99, 1.2])
def test_a_dome_between_those_of_the_grid_is_right_to_a_tenth_of_a_per_mille(
    exponent: float,
) -> None:
    apart = np.abs(dome_between(exponent).values - blurred_dome(exponent).values)
    assert apart.max() < 1e-4


@pytest.mark.parametrize(
    ("solid", "exponent"), [(Solid.DOME, 0.5), (Solid.CAP, CAP), (Solid.DISC, 0.0)]
)
def test_the_exponent_is_that_of_the_solid_within_its_sigma(solid: Solid, exponent: float) -> None:
    for seed in (31, 32):
        film = replace(SCENES["base"], solid=solid, size_px=512, texture=0.0, dose=1000.0)
        scene = make_scene(film, seed)
        found = calibrate_shape([scene.image(k) for k in range(2)], scene.settings.pixel_nm)
        assert abs(found.exponent - exponent) < 3.5 * found.exponent_sigma
        assert abs(found.probe_sigma_nm - 0.2) < 3.5 * found.probe_sigma_sigma_nm
        assert 0.01 <= found.exponent_sigma < 0.04
        assert 0.8 < found.chi2 < 1.3


def test_more_images_of_one_rough_place_do_not_make_the_exponent_much_surer() -> None:
    scene = make_scene(replace(SCENES["base"], size_px=640), 33)
    images = [scene.image(k) for k in range(8)]
    few, many = (calibrate_shape(images[:n], scene.settings.pixel_nm) for n in (2, 8))
    assert many.exponent_sigma > 0.7 * few.exponent_sigma


def test_ten_frames_are_calibrated_within_a_second_and_none_takes_longer_live(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(3)
    made = scene(rng, diameter_nm=9.0, count=60, spread=0.3, inset_nm=9.0, texture=0.0)
    images = [made.image(rng, 500.0) for _ in range(13)]
    warm_up(("uint16",))
    chosen = {"exponent": "calibrate", "calibrate_frames": 10, "probe_sigma": "0.3 nm"}
    estimator = ParticleEstimator("p", spec, "haadf", chosen)
    with pytest.raises(ConfigError, match="calibrate"):
        estimator.measurer()
    calibrating, longest = [], 0.0
    for i, image in enumerate(images):
        began = time.thread_time()
        estimate = estimator.update(Frame("overview", i, {"haadf": image}, i, i + 0.5))
        longest = max(longest, time.thread_time() - began)
        assert estimate is not None
        calibrating.append("calibrating" in estimate.flags)
    assert calibrating == [True] * 10 + [False] * 3
    assert estimator.options.exponent == pytest.approx(0.5, abs=0.03)
    assert estimator.options.probe_sigma_nm == pytest.approx(0.2, abs=0.04)
    assert longest < 1.0
    mean = estimate.values["mean_diameter"]
    assert mean.value == pytest.approx(made.diameters_nm.mean(), rel=0.01)
    held = estimator.options
    estimator.update(Frame("overview", 13, {"haadf": images[0]}, 13.0, 13.5))
    assert estimator.options is held


def test_calibrating_waits_for_particles(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(4)
    full, bare = (
        scene(rng, diameter_nm=9.0, count=count, inset_nm=9.0, texture=0.0) for count in (30, 1)
    )
    chosen = {"exponent": "calibrate", "calibrate_frames": 3}
    estimator = ParticleEstimator("p", spec, "haadf", chosen)
    flags = []
    for i, shown in enumerate([bare, bare, bare, full, full]):
        frame = Frame("overview", i, {"haadf": shown.image(rng, 500.0)}, i, i + 0.5)
        estimate = estimator.update(frame)
        assert estimate is not None
        flags.append("calibrating" in estimate.flags)
    assert flags == [True] * 4 + [False]
    assert estimator.options.exponent == pytest.approx(0.5, abs=0.04)


def test_settled_particles_are_read_right_as_settled_and_a_fifth_too_small_as_domes() -> None:
    up_s = 875.0 / (5.0 / 60.0)
    knots = [(up_s, 900.0), (up_s + 36000.0, 900.0), (2.0 * up_s + 36000.0, 25.0)]
    film = named("lsnt_nonstoichiometric", seed=2).under(lived(knots))
    view, t_s = View((0.0, 0.0), (640, 640), 0.3), knots[-1][0]
    image = render(film, t_s, view, 400.0, {"haadf": np.random.default_rng(3)})
    assert image is not None
    real = film.domes(view, t_s)
    real = real[real.z_nm == 0]
    places = np.column_stack([real.y_nm, real.x_nm])
    for shape, ratio in ((Shape.SETTLED, 1.0), (Shape.HEMISPHERE, 0.5 ** (1 / 3))):
        options = ParticleOptions(shape=shape, largest_diameter_nm=25.0)
        table = measure_particles(image["haadf"], 0.3, options).table
        away, which = KDTree(places).query(np.column_stack([table["y_nm"], table["x_nm"]]))
        whole = (away < 3.0) & (table["border"] == 0)
        assert whole.sum() >= 12
        seen = table["diameter_nm"][whole].sum() / real.diameter_nm[which][whole].sum()
        assert seen == pytest.approx(ratio, rel=0.01)


def test_sizes_of_a_table_tell_the_population_below_the_detection_limit() -> None:
    scene = make_scene(replace(SCENES["base"], mean_diameter_nm=7.0, spread=0.35), 34)
    table = measure_particles(scene.image(1), scene.settings.pixel_nm).table
    whole = table["border"] == 0
    fit = fit_lognormal(table["diameter_nm"][whole], smallest_nm=5.0)
    sizes = scene.particles.diameter_nm[scene.whole]
    assert abs(fit.median_nm - np.exp(np.log(sizes).mean())) < 3.0 * fit.median_sigma_nm
    assert abs(fit.spread - 0.35) < 3.0 * fit.spread_sigma
    assert abs(fit.found_share - np.mean(sizes > 5.0)) < 0.1
