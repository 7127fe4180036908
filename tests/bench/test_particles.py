"""`hotstage bench particles`: its scenes obey their own truth, its limit is right, its table is complete."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from acquire.bench import particles
from acquire.bench.particle_ramp import FIELD_NM, ramp
from acquire.bench.particle_scenes import (
    GAP_NM,
    SCENES,
    Scene,
    SceneSettings,
    Truth,
    isolated,
    make_scene,
)
from acquire.bench.particle_solids import Solid, draw, draw_union
from acquire.bench.particles_limit import diameter_limit, poisson_limit
from acquire.bench.particles_score import match, overlap, score_discs
from acquire.bench.particles_tracks import make_series
from acquire.bench.work import Bench
from acquire.cli.app import main
from acquire.errors import ConfigError

SMALL = replace(SCENES["base"], size_px=256)
PER_VOLUME = math.pi / 6


@pytest.mark.parametrize("solid", Solid)
def test_an_image_holds_the_volume_of_its_particle(solid: Solid) -> None:
    image = np.zeros((64, 64))
    draw(image, solid, (31.7, 32.2), 9.3, 0.8)
    volume = PER_VOLUME * (9.3 * solid.diameter_per_radius) ** 3
    # of a settled one the film that it displaced is missing: a sixth of its lower half
    seen = 11 / 12 if solid is Solid.SETTLED else 1.0
    assert image.sum() == pytest.approx(seen * volume, rel=1e-6)


@pytest.mark.parametrize(("solid", "within"), [(Solid.DOME, 1e-3), (Solid.CAP, 1e-3)])
def test_a_pixel_is_the_blurred_solid_averaged_over_its_square(solid: Solid, within: float) -> None:
    image, fine, centre, radius, sigma = np.zeros((32, 32)), 24, (16.3, 15.8), 7.3, 0.8
    draw(image, solid, centre, radius, sigma)
    y, x = ((np.arange(32 * fine) + 0.5) / fine - c for c in centre)
    r = np.hypot(y[:, None], x) / radius
    thickness = np.where(r <= 1, radius * solid.thickness(np.minimum(r, 1.0)), 0.0)
    blurred = ndimage.gaussian_filter(thickness, sigma * fine, truncate=6)
    sampled = blurred.reshape(32, fine, 32, fine).mean(axis=(1, 3))
    assert np.abs(image - sampled).max() < within * image.max()


def test_a_particle_at_the_border_is_drawn_as_far_as_it_is_seen() -> None:
    whole, part = np.zeros((60, 60)), np.zeros((40, 40))
    draw(whole, Solid.DOME, (20.4, 30.1), 12.0, 0.8)
    draw(part, Solid.DOME, (0.4, 30.1), 12.0, 0.8)
    assert part == pytest.approx(whole[20:, :40])
    outside = np.zeros((8, 8))
    draw(outside, Solid.DOME, (-30.0, 4.0), 5.0, 0.8)
    assert not outside.any()


def test_where_particles_overlap_the_higher_one_is_seen() -> None:
    discs = np.array([[20.0, 20.0, 9.0], [20.0, 26.0, 9.0], [50.0, 50.0, 6.0]])
    union = draw_union(64, Solid.DOME, discs, 0.8)
    apart = np.zeros((3, 64, 64))
    for image, (y, x, radius) in zip(apart, discs, strict=True):
        draw(image, Solid.DOME, (y, x), radius, 0.8)
    assert np.abs(union - apart.max(axis=0))[:, :20].max() < 0.03  # far from the seam
    assert union[20, 23] < apart.sum(axis=0)[20, 23] / 1.5
    assert union[44:56, 44:56] == pytest.approx(apart[2, 44:56, 44:56], abs=0.02)


def test_a_scene_has_the_density_the_sizes_and_the_film_that_were_asked_for() -> None:
    settings = replace(SCENES["base"], size_px=512, slope=0.3)
    diameters = np.concatenate([make_scene(settings, k).particles.diameter_nm for k in range(20)])
    inside = [int(make_scene(settings, k).inside.sum()) for k in range(20)]
    error = 0.3 * 8.8 / math.sqrt(len(diameters))
    assert diameters.mean() == pytest.approx(8.8, abs=4 * error)
    assert diameters.std() / diameters.mean() == pytest.approx(0.3, abs=0.03)
    assert np.mean(inside) == pytest.approx(3000 * settings.side_nm**2 * 1e-6, rel=0.06)
    film = make_scene(replace(SCENES["blank"], size_px=512), 3).relative
    rows = film.mean(axis=0)
    assert rows[-32:].mean() - rows[:32].mean() == pytest.approx(0.3 * 480 / 512, abs=0.01)
    assert (film - rows).std() == pytest.approx(0.03, rel=0.1)


def test_particles_keep_apart_unless_they_may_overlap() -> None:
    truth = make_scene(SMALL, 5).particles
    places = np.column_stack([truth.y_nm, truth.x_nm])
    gap = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    gap -= truth.radius_nm[:, None] + truth.radius_nm
    np.fill_diagonal(gap, np.inf)
    assert gap.min() >= GAP_NM
    with pytest.raises(ConfigError, match="do not fit"):
        make_scene(replace(SMALL, density_per_um2=9000.0), 1)


def test_counts_are_poisson_counts_of_the_expected_image_and_seeds_repeat_them() -> None:
    scene = make_scene(replace(SMALL, dose=50.0), 2)
    first, again, other = scene.image(1), scene.image(1), scene.image(2)
    assert np.array_equal(first, again)
    assert np.array_equal(make_scene(replace(SMALL, dose=50.0), 2).image(1), first)
    assert not np.array_equal(first, other)
    mean = 50.0 * scene.relative
    pull = (first - mean) / np.sqrt(mean)
    assert pull.mean() == pytest.approx(0.0, abs=4 / 256)
    assert pull.std() == pytest.approx(1.0, abs=0.01)


def test_a_moved_scene_shows_the_same_specimen_elsewhere() -> None:
    scene = make_scene(replace(SMALL, slope=0.2), 4)
    moved = scene.moved(5.0, -2.5)  # 20 and -10 pixels
    assert moved.relative[30:, 10:-20] == pytest.approx(scene.relative[10:-20, 20:-10], abs=2e-5)
    back = moved.moved(-5.0, 2.5)
    assert back.relative == pytest.approx(scene.relative, abs=2e-5)
    with pytest.raises(ConfigError, match="Move it less"):
        scene.moved(25.0, 0.0)


def test_the_limit_of_a_gaussians_amplitude_is_the_analytic_one() -> None:
    y, x = np.mgrid[-20:21, -20:21]
    bump = np.exp(-(y**2 + x**2) / (2 * 3.0**2))

    def mean(at: np.ndarray) -> np.ndarray:
        return 1000.0 + at[0] * bump

    limit = poisson_limit(mean, np.array([1e-3]), np.array([1e-4]))
    # on a level B: variance = B / Σ g², and Σ g² = π s²
    assert limit[0] == pytest.approx(math.sqrt(1000.0 / (math.pi * 9.0)), rel=1e-3)


def test_the_limit_of_a_dome_is_the_published_one_and_falls_with_the_dose() -> None:
    # measured for domes given by their lateral diameter: 0.37 % at 8.8 nm, 2.4 % at 3.83 nm, D 200
    lateral = Solid.DOME.diameter_per_radius / 2
    assert diameter_limit(8.8 * lateral, 200.0) == pytest.approx(0.0037, rel=0.08)
    assert diameter_limit(3.83 * lateral, 200.0) == pytest.approx(0.024, rel=0.08)
    ratio = diameter_limit(6.0, 20.0) / diameter_limit(6.0, 2000.0)
    assert ratio == pytest.approx(10.0, rel=0.01)


def test_overlap_of_discs() -> None:
    unit = np.array([[0.0, 0.0, 1.0]])
    assert overlap(unit, unit) == pytest.approx(1.0)
    assert overlap(unit, np.array([[0.0, 2.0, 1.0]])) == pytest.approx(0.0)
    assert overlap(unit, np.array([[0.1, 0.0, 0.5]])) == pytest.approx(0.25)
    # half a radius apart: lens 2 acos(¼) - ½ √(4 - ¼) over 2π less it
    lens = 2 * math.acos(0.25) - 0.25 * math.sqrt(3.75)
    assert overlap(unit, np.array([[0.5, 0.0, 1.0]])) == pytest.approx(lens / (2 * math.pi - lens))


def test_the_truth_scores_full_marks_and_faults_are_counted() -> None:
    scene = make_scene(SMALL, 7)
    truth = scene.particles
    discs = np.column_stack([truth.y_nm, truth.x_nm, truth.radius_nm])[scene.inside]
    whole = scene.whole[scene.inside]
    perfect = score_discs(scene, discs, ~whole)
    assert (perfect.f1, perfect.missed, perfect.false) == (1.0, 0, 0)
    assert perfect.found == perfect.true == len(discs)
    assert perfect.mean_error == pytest.approx(0.0, abs=1e-12)
    rest = discs[np.flatnonzero(whole)[2:]]
    fewer = score_discs(scene, np.vstack([rest, [32.0, 32.0, 0.5]]))
    assert (fewer.missed, fewer.false) == (2, 1)
    larger = score_discs(scene, discs * [1.0, 1.0, 1.1], ~whole)
    assert larger.mean_error > 0.05
    assert larger.f1 == 1.0
    assert score_discs(scene, discs * [1.0, 1.0, 1.5], ~whole).f1 < 0.1
    assert len(match(discs, np.empty((0, 3))).true) == 0


def test_a_single_particle_lies_anywhere_in_its_pixel() -> None:
    scenes = [isolated(6.0, seed) for seed in range(40)]
    parts = np.array([float(scene.particles.x_nm[0]) / 0.25 % 1 for scene in scenes])
    assert parts.min() < 0.2
    assert parts.max() > 0.8
    mask = scenes[0].mask(0)
    area = math.pi * float(scenes[0].particles.radius_nm[0]) ** 2
    assert mask.sum() * 0.25**2 == pytest.approx(area, rel=0.03)


def test_simulated_tables_conserve_volume_in_a_merge() -> None:
    series = make_series(3, 60, merges=8, losses=4)
    assert series.merges
    for merge in series.merges:
        before, after = series.frames[merge.frame - 2], series.frames[merge.frame]
        assert merge.lost not in after.in_view
        sizes = [before.diameter_nm[before.who == who] for who in (merge.lost, merge.into)]
        now = after.diameter_nm[after.who == merge.into]
        if all(map(len, (*sizes, now))):
            assert now[0] ** 3 == pytest.approx(sum(float(s[0]) ** 3 for s in sizes), rel=0.2)
    false = sum(int((seen.who < 0).sum()) for seen in series.frames)
    total = sum(len(seen.in_view) for seen in series.frames)
    found = sum(int((seen.who >= 0).sum()) for seen in series.frames)
    assert false / total == pytest.approx(0.03, abs=0.006)
    assert found / total == pytest.approx(0.97, abs=0.006)


def test_the_ramp_drifts_far_and_its_field_is_where_the_truth_says() -> None:
    found = ramp(3, size_px=128, hold_s=2.0)
    assert found.frames > 150
    assert found.drifted_nm > 4 * FIELD_NM
    assert 0.0 < found.farthest < 0.1


def test_the_command_prints_and_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    arguments = ["bench", "particles", "--quick", "--parts", "links,drift", "--seed", "5"]
    assert main([*arguments, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "seed 5" in printed
    assert "links, 3 % missed" in printed
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["seed"] == 5
    assert document["parts"] == ["links", "drift"]
    assert not document["failures"]
    rows = document["verdicts"]
    assert {"section", "what", "value", "goal", "good"} == set(rows[0])
    assert [row["section"] for row in rows].count("tracks") == 2
    links = next(numbers for what, numbers in document["measured"].items() if "links" in what)
    assert 0 < links["right"] <= links["total"]


def test_the_exit_status_follows_the_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    def missed(bench: Bench) -> None:
        bench.add("section", "what", "2", "≤ 1", good=False)

    monkeypatch.setitem(particles.PARTS, "links", (missed,))
    assert particles.main("links", 1, check=True) == 1
    assert particles.main("links", 1) == 0


@pytest.mark.parametrize(
    ("parts", "seed", "said"),
    [
        ("links,nonsense", 1, "take some of isolated, scenes"),
        ("", 1, "take some of isolated, scenes"),
        ("links", -1, "--seed -1: take 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(parts: str, seed: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        particles.main(parts, seed)


def test_other_seeds_make_other_scenes() -> None:
    names = {tuple(Bench(seed).seeds(what, 3)) for seed in (1, 2) for what in ("a", "b")}
    assert len(names) == 4
    assert tuple(Bench(1).seeds("a", 3)) == tuple(Bench(1).seeds("a", 3))


def test_a_scene_is_its_settings_its_particles_and_its_film() -> None:
    settings = SceneSettings(size_px=64, texture=0.0, slope=0.0)
    scene = make_scene(settings, 1)
    nothing = Truth(*(np.zeros(0) for _ in range(4)))
    assert Scene(settings, nothing, scene.texture).relative == pytest.approx(1.0)
