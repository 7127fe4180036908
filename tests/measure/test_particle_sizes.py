"""Particle sizes are right at every dose, on textured and sloped film, bright and dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from acquire.measure.particles import ParticleOptions, Shape, measure_particles
from acquire.measure.particles.shapes import blurred_dome

PIXEL_NM = 0.3125
Scenes = Callable[..., Any]


def _mean_errors(
    scene: Scenes, seed: int, frames: int, dose: float, **how: Any
) -> tuple[list[float], list[float]]:
    """Relative errors of the mean diameter and errors of the count, frame by frame."""
    rng = np.random.default_rng(seed)
    options = ParticleOptions(polarity="dark" if how.get("dark") else "bright")
    means, counts = [], []
    for _ in range(frames):
        made = scene(rng, **how)
        measured = measure_particles(made.image(rng, dose), PIXEL_NM, options)
        truth = made.diameters_nm[made.whole].mean()
        means.append(measured.values["mean_diameter"].value / truth - 1)
        counts.append(measured.values["count"].value - len(made.diameters_nm))
    return means, counts


@pytest.mark.parametrize(
    ("diameter_nm", "dose", "frames", "within"),
    [(3.83, 200, 4, 0.03), (6.0, 30, 4, 0.015), (8.8, 10, 3, 0.015), (8.8, 1000, 3, 0.01)],
)
def test_mean_diameter_and_count_are_right(
    scene: Scenes, diameter_nm: float, dose: float, frames: int, within: float
) -> None:
    means, counts = _mean_errors(scene, 11, frames, dose, diameter_nm=diameter_nm)
    assert abs(np.mean(means)) < within
    assert max(abs(np.array(means))) < 3 * within
    assert abs(np.mean(counts)) <= (2.5 if diameter_nm < 4 else 1)


def test_mean_does_not_move_when_the_dose_rises_a_hundredfold(scene: Scenes) -> None:
    rng = np.random.default_rng(3)
    made = scene(rng, diameter_nm=8.8)
    mean = [
        measure_particles(made.image(rng, dose), PIXEL_NM).values["mean_diameter"]
        for dose in (10, 100, 1000)
    ]
    assert abs(mean[0].value / mean[2].value - 1) < 0.015
    assert abs(mean[1].value / mean[2].value - 1) < 0.01
    assert mean[0].sigma > 2 * mean[2].sigma


def test_sigma_tells_how_far_diameters_scatter(scene: Scenes) -> None:
    rng = np.random.default_rng(8)
    made = scene(rng, diameter_nm=7.0, count=16, inset_nm=8.0, texture=0.02)
    rows = [measure_particles(made.image(rng, 60.0), PIXEL_NM).table for _ in range(12)]
    pulls, relative = [], []
    for y, x in made.places_nm:
        nearest = [int(np.argmin(np.hypot(t["y_nm"] - y, t["x_nm"] - x))) for t in rows]
        sizes = np.array([t["diameter_nm"][i] for t, i in zip(rows, nearest, strict=True)])
        sigma = np.median([t["diameter_sigma_nm"][i] for t, i in zip(rows, nearest, strict=True)])
        # the texture is the same in every frame, so the scatter between frames is smaller
        pulls.append(sizes.std(ddof=1) / sigma)
        relative.append(sizes.mean())
    assert 0.5 < np.median(pulls) < 1.2
    assert len(rows[0]["x_nm"]) == 16


def test_positions_count_from_the_top_left_corner(scene: Scenes) -> None:
    rng = np.random.default_rng(4)
    made = scene(rng, diameter_nm=8.0, count=9, inset_nm=10.0)
    table = measure_particles(made.image(rng, 300.0), PIXEL_NM).table
    assert len(table["x_nm"]) == 9
    for y, x in made.places_nm:
        assert np.hypot(table["y_nm"] - y, table["x_nm"] - x).min() < 0.5 * PIXEL_NM + 0.15
    offset = [
        np.median([(table[k] - c)[np.argmin(np.abs(table[k] - c))] for c in made.places_nm[:, i]])
        for i, k in enumerate(("y_nm", "x_nm"))
    ]
    assert np.abs(offset).max() < 0.3 * PIXEL_NM


def test_dark_particles_are_sized_with_dark_polarity_only(scene: Scenes) -> None:
    means, counts = _mean_errors(scene, 6, 3, 100.0, diameter_nm=6.0, dark=True)
    assert abs(np.mean(means)) < 0.03
    assert abs(np.mean(counts)) <= 1
    rng = np.random.default_rng(6)
    made = scene(rng, diameter_nm=6.0, dark=True)
    wrong = measure_particles(made.image(rng, 100.0), PIXEL_NM)
    assert "polarity" in wrong.flags


def test_blank_textured_film_has_no_islands(scene: Scenes) -> None:
    rng = np.random.default_rng(21)
    found = 0
    for k in range(40):
        made = scene(rng, count=0, texture_nm=(0.6, 1.2, 3.0)[k % 3])
        measured = measure_particles(made.image(rng, (30.0, 200.0)[k % 2]), PIXEL_NM)
        found += bool(measured.values["count"].value)
    # fewer than 1 % are expected; two in 40 has a chance of 6 % then
    assert found <= 1


def test_border_particles_count_for_density_but_not_for_size(scene: Scenes) -> None:
    rng = np.random.default_rng(31)
    densities, truth = [], []
    for _ in range(6):
        made = scene(rng, diameter_nm=9.0, count=24)
        measured = measure_particles(made.image(rng, 100.0), PIXEL_NM)
        densities.append(measured.values["areal_density"].value)
        truth.append(24 / (made.side_nm * 1e-3) ** 2)
        border = measured.table["border"] == 1
        # where enough of a cut particle is seen it is fitted, but it enters no mean
        sized = measured.table["diameter_nm"][~border]
        assert measured.values["mean_diameter"].value == pytest.approx(sized.mean())
    assert np.mean(densities) == pytest.approx(np.mean(truth), rel=0.08)


def test_touching_particles_are_split_at_their_neck(scene: Scenes) -> None:
    rng = np.random.default_rng(2)
    made = scene(rng, diameter_nm=8.0, count=6, spread=0.0, inset_nm=20.0)
    radius_px = 8.0 / (2 * 0.5 ** (1 / 3)) / PIXEL_NM
    y, x = np.mgrid[:512, :512] + 0.5
    pair = np.zeros((512, 512))
    for centre in (250.0, 250.0 + 1.9 * radius_px):
        pair += np.sqrt(np.clip(radius_px**2 - (y - 470) ** 2 - (x - centre) ** 2, 0, None))
    image = rng.poisson(100 * made.mean * (1 + 0.1 * PIXEL_NM * pair)).astype(np.uint16)
    table = measure_particles(image, PIXEL_NM).table
    pair_rows = np.abs(table["y_nm"] - 470 * PIXEL_NM) < 3.0
    assert np.count_nonzero(pair_rows) == 2
    assert np.all(np.abs(table["diameter_nm"][pair_rows] - 8.0) < 0.8)


def test_shape_convention_is_the_sphere_of_equal_volume() -> None:
    radius = 3.0
    volume = 2 / 3 * np.pi * radius**3
    diameter = Shape.HEMISPHERE.diameter_per_radius * radius
    assert np.pi / 6 * diameter**3 == pytest.approx(volume)
    assert Shape.SPHERE.diameter_per_radius == 2.0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_blurred_dome_is_the_convolution_with_a_gaussian(exponent: float) -> None:
    from scipy import ndimage

    radius, blur = 60, 15.0
    y, x = np.mgrid[-200:201, -200:201]
    inside = np.clip(1 - (x * x + y * y) / radius**2, 0, None)
    dome = np.where(inside > 0, np.maximum(inside, 1e-12) ** exponent, 0.0)
    blurred = ndimage.gaussian_filter(dome, blur, truncate=7)[200, 200:320]
    table = blurred_dome(exponent)
    ours = table(np.arange(120.0), np.array(float(radius)), blur)
    assert np.abs(ours - blurred).max() < 0.004
