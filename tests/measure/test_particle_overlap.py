"""Particles that overlap are told apart and sized; those that stand alone are never split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.bench.particle_scenes import SCENES, SceneSettings, make_scene
from acquire.bench.particle_solids import Solid, draw, draw_union
from acquire.bench.particles_work import measure_scene
from acquire.measure.particles import ParticleOptions, measure_particles
from acquire.measure.particles.islands import own_share

PIXEL_NM = 0.25
SIDE_PX = 640
RADII_NM = (5.5, 4.4)
ESD_PER_RADIUS = 2 * 0.5 ** (1 / 3)


def _pairs(
    seed: int, apart: float, dose: float, texture: float = 0.0
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Counts of eight pairs ``apart`` times their radii's sum, and two lone domes a row; truth (n, 3)."""
    rng = np.random.default_rng(seed)
    discs = []
    for row in range(4):
        for column in range(4):
            y, x = 20.0 + 40.0 * row, 20.0 + 40.0 * column
            y, x = y + rng.uniform(-3, 3), x + rng.uniform(-3, 3)
            discs.append((y, x, RADII_NM[0]))
            if (row + column) % 2:
                angle = rng.uniform(0, 2 * np.pi)
                away = apart * sum(RADII_NM)
                discs.append((y + away * np.sin(angle), x + away * np.cos(angle), RADII_NM[1]))
    truth = np.array(discs)
    height = draw_union(SIDE_PX, Solid.DOME, truth / PIXEL_NM, 0.2 / PIXEL_NM) * PIXEL_NM
    film = 1.0 + texture * rng.normal(size=height.shape)
    return rng.poisson(dose * film * (1.0 + 0.1 * height)).astype(np.uint16), truth


@pytest.mark.parametrize("apart", [0.55, 0.7, 0.85, 0.97])
@pytest.mark.parametrize("dose", [60.0, 400.0])
def test_a_pair_is_two_particles_of_the_right_sizes(apart: float, dose: float) -> None:
    image, truth = _pairs(int(100 * apart), apart, dose)
    measured = measure_particles(image, PIXEL_NM)
    table = measured.table
    assert measured.values["count"].value == len(truth) == 24
    for y, x, radius in truth:
        k = int(np.argmin(np.hypot(table["y_nm"] - y, table["x_nm"] - x)))
        # a dome of which half is hidden is known less well
        assert table["diameter_nm"][k] == pytest.approx(
            radius * ESD_PER_RADIUS, rel=0.03 if apart > 0.6 else 0.06
        )
        assert np.hypot(table["y_nm"][k] - y, table["x_nm"][k] - x) < 0.4
    assert np.count_nonzero(table["overlap"]) == 16
    assert "crowded" in measured.flags


def test_coverage_counts_shared_room_once() -> None:
    image, truth = _pairs(5, 0.6, 400.0)
    at = (np.arange(SIDE_PX) + 0.5) * PIXEL_NM
    covered = np.zeros((SIDE_PX, SIDE_PX), bool)
    for y, x, radius in truth:
        covered |= (at[:, None] - y) ** 2 + (at - x) ** 2 < radius**2
    measured = measure_particles(image, PIXEL_NM).values["coverage"]
    assert measured.value == pytest.approx(covered.mean(), rel=0.02)


def test_own_shares_add_up_to_the_union() -> None:
    y, x, radius = np.array([0.0, 0.0, 9.0]), np.array([0.0, 1.0, 9.0]), np.array([1.0, 1.0, 2.0])
    area = np.pi * radius**2
    lens = 2 * np.arccos(0.5) - 0.5 * np.sqrt(3)
    assert (area * own_share(y, x, radius)).sum() == pytest.approx(area.sum() - lens, rel=0.02)
    assert own_share(y, x, radius)[2] == 1.0


@pytest.mark.parametrize(
    "settings",
    [
        SCENES["base"],
        SCENES["D 20"],
        SCENES["texture 10 %"],
        SCENES["795/µm²"],
        replace(SCENES["base"], name="D 2000", dose=2000.0),
        replace(SCENES["base"], name="cap", solid=Solid.CAP),
        replace(SCENES["base"], name="settled", solid=Solid.SETTLED),
    ],
    ids=lambda settings: settings.name,
)
def test_particles_that_stand_alone_are_not_split(settings: SceneSettings) -> None:
    scene = make_scene(replace(settings, size_px=768), 71)
    table = measure_scene(scene, scene.image(72)).result.table
    particles = scene.particles
    twice = 0
    for k in np.flatnonzero(scene.whole):
        away = np.hypot(table["y_nm"] - particles.y_nm[k], table["x_nm"] - particles.x_nm[k])
        twice += np.count_nonzero(away < 0.8 * particles.radius_nm[k]) > 1
    assert twice == 0


def test_a_faceted_particle_is_one() -> None:
    rng = np.random.default_rng(9)
    size = 512
    height = np.zeros((size, size))
    for row in range(4):
        for column in range(4):
            centre = (64.0 + 128.0 * row, 64.0 + 128.0 * column)
            if (row + column) % 2:
                draw(height, Solid.DOME, centre, 22.0, 0.8)
                continue
            y, x = np.mgrid[:size, :size] + 0.5
            turn = rng.uniform(0, np.pi / 3)
            edges = [
                23.0 - np.abs((y - centre[0]) * np.sin(a) + (x - centre[1]) * np.cos(a))
                for a in turn + np.arange(3) * np.pi / 3
            ]
            # a hexagon with sloping sides and a flat top
            height += np.clip(np.min(edges, axis=0), 0.0, 14.0)
    image = rng.poisson(200.0 * (1.0 + 0.1 * PIXEL_NM * height)).astype(np.uint16)
    table = measure_particles(image, PIXEL_NM).table
    assert len(table["x_nm"]) == 16


def test_crowded_random_places_are_found_and_flagged() -> None:
    settings = replace(SCENES["overlapping"], size_px=768)
    f1, counts = [], []
    for seed in (7001, 7002, 7003):
        scene = make_scene(settings, seed)
        measured = measure_scene(scene, scene.image(seed + 50))
        f1.append(measured.score.f1)
        counts.append(measured.count / measured.score.true - 1.0)
        assert "crowded" in measured.result.flags
    assert np.mean(f1) >= 0.88
    assert abs(np.mean(counts)) < 0.15


def test_sigma_of_a_pair_tells_how_far_sizes_scatter() -> None:
    pulls = []
    for seed in range(6):
        image, truth = _pairs(seed, 0.75, 100.0)
        table = measure_particles(image, PIXEL_NM).table
        for y, x, radius in truth:
            k = int(np.argmin(np.hypot(table["y_nm"] - y, table["x_nm"] - x)))
            if table["overlap"][k]:
                off = table["diameter_nm"][k] - radius * ESD_PER_RADIUS
                pulls.append(off / table["diameter_sigma_nm"][k])
    assert 0.4 < np.std(pulls) < 1.3
    assert abs(np.median(pulls)) < 0.7


def test_the_same_crowd_gives_the_same_bits() -> None:
    scene = make_scene(replace(SCENES["overlapping"], size_px=384), 3)
    image = scene.image(4)
    options = ParticleOptions()
    first, again = (measure_particles(image, PIXEL_NM, options).table for _ in range(2))
    for name, column in first.items():
        assert np.array_equal(column, again[name], equal_nan=True)
