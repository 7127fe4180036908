"""Particles on rough film, cut by the border, or barely above the noise: found, counted, and with a σ."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from acquire.bench.particle_scenes import SCENES, make_scene
from acquire.bench.particles_score import match
from acquire.bench.particles_work import measure_scene, options_for
from acquire.measure.particles import measure_particles
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.matched import Discs, dome_spectrum, find_discs
from acquire.measure.particles.noise import FilmNoise, film_noise, ring_covariance
from acquire.measure.particles.shapes import blurred_dome
from acquire.measure.particles.summary import chance_to_find
from acquire.measure.particles.textured import merged

ROUGH = replace(SCENES["texture 10 %"], size_px=512)


def test_particles_are_found_and_sized_on_a_film_as_rough_as_they_are_bright() -> None:
    scores, pulls, mean_pulls = [], [], []
    for seed in range(700, 708):
        scene = make_scene(ROUGH, seed)
        found = measure_scene(scene, scene.image(seed))
        scores.append(found.score.f1)
        table, true = found.result.table, scene.particles
        radius = table["diameter_nm"] / options_for(scene).diameter_per_radius
        pairs = match(
            np.column_stack([true.y_nm, true.x_nm, true.radius_nm]),
            np.column_stack([table["y_nm"], table["x_nm"], radius]),
        )
        whole = (table["border"][pairs.found] == 0) & (table["fitted"][pairs.found] == 1)
        error = table["diameter_nm"][pairs.found] - true.diameter_nm[pairs.true]
        pulls.append((error / table["diameter_sigma_nm"][pairs.found])[whole])
        sigma = found.result.values["mean_diameter"].sigma
        mean_pulls.append((found.mean_nm - found.true_mean_nm) / sigma)
    assert np.mean(scores) >= 0.965
    every = np.concatenate(pulls)
    assert 1.4826 * np.median(np.abs(every)) < 1.25
    assert np.sqrt(np.mean(np.square(mean_pulls))) < 2.0


def test_a_rough_film_without_particles_has_none() -> None:
    blank = replace(ROUGH, density_per_um2=0.0)
    found = 0
    for seed in range(30):
        scene = make_scene(blank, 100 + seed)
        image = scene.image(seed, (20.0, 200.0, 2000.0)[seed % 3])
        found += len(measure_particles(image, 0.25).table["id"]) > 0
    # a fourth of 1 % is expected of so small a field; two in 30 then have a chance of 0.3 %
    assert found <= 1


def test_centres_beyond_the_border_are_not_counted() -> None:
    found, true = 0.0, 0
    for seed in range(16):
        scene = make_scene(replace(SCENES["base"], size_px=512), 300 + seed)
        found += measure_scene(scene, scene.image(seed)).count
        true += int(scene.inside.sum())
    # a quarter of them touches the border of so small a field
    assert abs(found / true - 1.0) < 0.012


def test_the_filter_is_the_dome_over_the_power_of_the_film() -> None:
    y, x = np.mgrid[:256, :256] - 128.0
    radius = 20.3
    drawn = np.sqrt(np.clip(1.0 - (y**2 + x**2) / radius**2, 0.0, None))
    seen = np.abs(np.fft.rfft2(drawn))[0, :12]
    k = 2.0 * np.pi * np.arange(12) / 256
    spectrum = np.abs(dome_spectrum(blurred_dome(0.5), k, radius))
    assert spectrum == pytest.approx(seen, rel=0.02, abs=2.0)


def test_power_is_the_spectrum_of_the_measured_correlation() -> None:
    rng = np.random.default_rng(3)
    rough = ndimage.gaussian_filter(rng.normal(size=(1024, 1024)), 3.0, mode="wrap")
    film = (0.1 * rough / rough.std() + rng.normal(0.0, 0.05, rough.shape)).astype(np.float32)
    noise = film_noise(film, np.ones(film.shape, bool), 1, 30)
    # ∫ P k dk / 2π is the variance of the texture, and P is white beyond it
    k = np.linspace(0.0, 3.0, 3000)
    texture = noise.power(k) - noise.white
    assert (texture * k).sum() * k[1] / (2 * np.pi) == pytest.approx(0.01, rel=0.08)
    assert noise.power(np.array([2.5]))[0] == pytest.approx(0.0025, rel=0.08)


def test_first_harmonics_covary_as_on_a_drawn_film() -> None:
    rng = np.random.default_rng(4)
    width = 4.0
    rough = ndimage.gaussian_filter(rng.normal(size=(1200, 1200)), width, mode="wrap")
    rough /= rough.std()
    gaussians = np.array([[1.0, np.sqrt(2.0) * width]])
    expected = ring_covariance(gaussians, 12, 1.0, True)
    angle = np.arange(64) * 2 * np.pi / 64
    places = rng.uniform(20, 1180, (3000, 2))
    seen = np.empty((2, 3000))
    for row, ring in enumerate((4, 8)):
        y = places[:, :1] + (ring + 0.5) * np.sin(angle) - 0.5
        x = places[:, 1:] + (ring + 0.5) * np.cos(angle) - 0.5
        values = ndimage.map_coordinates(rough, [y, x], order=1)
        seen[row] = 2.0 * (values * np.cos(angle)).mean(axis=1)
    assert np.cov(seen) == pytest.approx(expected[np.ix_([4, 8], [4, 8])], rel=0.12)


def test_no_disc_is_found_in_noise_alone() -> None:
    rng = np.random.default_rng(5)
    film = rng.normal(0.0, 0.1, (256, 256)).astype(np.float32)
    noise = FilmNoise(0.01, np.zeros(1))
    discs = find_discs(film, noise, blurred_dome(0.5), 0.5, (3.0, 12.0), 0.001, 0.0007)
    assert len(discs) == 0


def test_what_is_no_dome_stays_beside_the_domes() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[4:12, 4:12], labels[24:34, 24:34] = 1, 2
    two = np.array([1.0, 1.0])
    found = Detection(
        labels=labels,
        factor=2,
        y_px=np.array([16.0, 58.0]),
        x_px=np.array([16.0, 58.0]),
        area_px=256 * two,
        half_area_px=128 * two,
        top_px=8 * two,
        bottom_px=24 * two,
        left_px=8 * two,
        right_px=24 * two,
        peak=two,
        peak_snr=7 * two,
        smoothing_px=2.0,
        sigma=0.1,
        seed_snr=5.0,
        dips=0,
        rises=9,
        known_snr=np.zeros(0),
    )
    one = np.ones(1)
    discs = Discs(29.0 * one, 29.0 * one, 6.0 * one, 12.0 * one, 0.5 * one, 6.0)
    both = merged(found, discs, 0.87)
    assert both.peak_snr == pytest.approx([10.0, 7.0])
    assert (both.labels[29, 29], both.labels[8, 8]) == (1, 2)
    assert both.start_px[0] == pytest.approx([58.0, 58.0, 12.0])
    assert np.isnan(both.start_px[1]).all()


def test_clear_particles_stand_for_no_others_and_faint_ones_do() -> None:
    diameters = np.linspace(4.0, 8.0, 30)
    clear: NDArray[np.float64] = 5.0 * diameters**1.3
    assert chance_to_find(diameters, clear, 5.0) == pytest.approx(1.0)
    faint = 0.9 * diameters**1.5
    chance = chance_to_find(diameters, faint, 8.0)
    assert chance[0] < 0.7
    assert chance[-1] > 0.99
    # something small that stands out as only large ones do is not one of many missed
    faint[0] = 14.0
    assert chance_to_find(diameters, faint, 8.0)[0] == 1.0


def test_warm_up_compiles_what_a_rough_film_needs() -> None:
    code = (
        "import sys, numpy as np\n"
        "from acquire.measure.particles import warm_up, measure_particles\n"
        "from acquire.measure.particles import border, centre, matched, size, textured\n"
        "kernels = [centre.centre_domes, size._textures, matched._greedy,\n"
        "           textured.paint, border.fit_beside]\n"
        "warm_up(('uint16',))\n"
        "sys.exit(0 if all(kernel.signatures for kernel in kernels) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=300)
    assert done.returncode == 0
