"""The compiled loops under particle sizing say what plain numpy says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from acquire.measure.particles.arrays import in_order, middle, negative_side_sigma
from acquire.measure.particles.islands import find_peaks, free_film
from acquire.measure.particles.meeting import meeting_pairs, overlapping
from acquire.measure.particles.noise import film_noise, ring_covariance
from acquire.measure.particles.rings import MOST_RINGS, average_rings, ring_sums

_VALUES = arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, -2.5]),
)


@settings(deadline=None, max_examples=60)
@given(_VALUES)
def test_values_are_ordered_and_their_median_is_exact(values: NDArray[np.float32]) -> None:
    assert np.array_equal(in_order(values), np.sort(values))
    ordered = np.sort(values).astype(np.float64)
    exact = 0.5 * (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2])
    assert middle(values) == exact


def test_one_hot_pixel_neither_moves_the_median_nor_the_order() -> None:
    values = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    values[7] = 1e30
    assert middle(values) == pytest.approx(float(np.median(values)), rel=1e-6)
    assert np.array_equal(in_order(values), np.sort(values))


def test_noise_is_read_off_the_negative_side_alone() -> None:
    image = np.random.default_rng(2).normal(size=(200, 200)).astype(np.float32)
    image[:90] += 30.0
    assert negative_side_sigma(image) == pytest.approx(1.0, abs=0.03)
    assert negative_side_sigma(np.ones(5, np.float32)) == 0.0


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(("y", "x"), [(20.3, 30.8), (2.0, 1.4), (40.913, 57.237), (47.0, 66.0)])
@pytest.mark.parametrize(("inner", "reach", "rings"), [(0.0, 12.3, 24), (4.0, 12.3, 16)])
@pytest.mark.parametrize("sums_wanted", [3, 9])
def test_ring_sums_are_those_of_the_pixels_that_belong_to_no_other(
    factor: int, y: float, x: float, inner: float, reach: float, rings: int, sums_wanted: int
) -> None:
    rng = np.random.default_rng(3)
    contrast = rng.normal(size=(48, 64)).astype(np.float32)
    labels = rng.integers(0, 4, (48 // factor, 64 // factor)).astype(np.int32)
    width, name = 0.5, 2
    sums = np.full((sums_wanted, MOST_RINGS), np.nan)
    assert ring_sums(contrast, labels, factor, name, y, x, inner, reach, width, sums) == rings

    i, j = np.mgrid[:48, :64]
    owner = labels[
        np.minimum(i // factor, labels.shape[0] - 1), np.minimum(j // factor, labels.shape[1] - 1)
    ]
    dy, dx = i + 0.5 - y, j + 0.5 - x
    away = np.hypot(dy, dx) / width
    beyond = away - inner / width
    seen = (beyond >= 0.0) & (beyond <= rings) & ((owner == 0) | (owner == name))
    ring = np.minimum(beyond[seen].astype(int), rings - 1)
    weights = [np.ones_like(dx), contrast, away * width, contrast * dx, contrast * dy]
    weights += [dx, dy, dx * dx, dx * dy]
    for row, weight in zip(sums, weights, strict=False):
        exact = np.bincount(ring, weight[seen], rings)
        assert row[:rings] == pytest.approx(exact, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_rings_around_a_particle_hold_every_pixel_of_its_surroundings_once(factor: int) -> None:
    rng = np.random.default_rng(6)
    y, x, radius, edge, reach = 60.4, 58.7, 20.0, 23.0, 40.0
    i, j = np.mgrid[:120, :120]
    away = np.hypot(i + 0.5 - y, j + 0.5 - x)
    image = (100.0 + away + rng.normal(0.0, 0.01, away.shape)).astype(np.float32)
    coarse = image.reshape(120 // factor, factor, 120 // factor, factor).mean(axis=(1, 3))
    labels = np.zeros(coarse.shape, np.int32)
    rings, sums = np.zeros((MOST_RINGS, 5)), np.zeros((3, MOST_RINGS))
    place = np.array([y, x])
    count = average_rings(
        image, coarse, labels, factor, 1, place, radius, edge, reach, 1.0, sums, rings
    )
    taken = rings[:count]
    assert count < 30  # of 40 that are one pixel wide
    assert taken[:, 2].sum() == pytest.approx(np.pi * reach**2, rel=0.03)
    assert taken[0, 3] == 0
    assert np.array_equal(taken[1:, 3], taken[:-1, 4])
    assert np.all(taken[:, 1] > taken[:, 3] - 0.5 * factor - 1.0)
    assert np.all(taken[:, 1] < taken[:, 4] + 0.5 * factor + 1.0)
    assert taken[:, 0] - 100.0 == pytest.approx(taken[:, 1], abs=0.02 + 0.02 * (factor - 1))


@pytest.mark.parametrize("share", [1.0, 1.3])
def test_circles_that_meet_are_found_whatever_their_sizes(share: float) -> None:
    rng = np.random.default_rng(8)
    y, x = rng.uniform(0.0, 300.0, (2, 150))
    radius = rng.uniform(1.0, 15.0, 150)
    radius[40] = 250.0
    apart = np.hypot(y[:, None] - y, x[:, None] - x)
    a, b = np.nonzero(np.triu(apart < share * (radius[:, None] + radius), 1))
    found = meeting_pairs(y, x, radius, share)
    assert set(map(tuple, found.tolist())) == set(zip(a.tolist(), b.tolist(), strict=True))
    assert len(found) == len(a)
    assert np.array_equal(
        np.flatnonzero(overlapping(y, x, radius / 2)),
        np.unique(meeting_pairs(y, x, radius / 2, 1.0)),
    )


def test_textures_covariance_of_rings_is_that_of_their_points() -> None:
    gaussians = np.array([[0.3, 0.9], [0.7, 6.0]])
    turn = np.arange(2000) * 2.0 * np.pi / 2000
    for harmonic, weight in ((False, np.ones(2000)), (True, 2.0 * np.cos(turn))):
        shared = ring_covariance(gaussians, 30, 0.5, harmonic)
        assert np.array_equal(shared, shared.T)
        for i, j in ((0, 0), (3, 1), (12, 12), (29, 22), (29, 29)):
            a, b = 0.5 * (i + 0.5), 0.5 * (j + 0.5)
            square = a * a + b * b - 2.0 * a * b * np.cos(turn)
            points = sum(v * np.exp(-0.5 * square / w**2) for v, w in gaussians)
            assert shared[i, j] == pytest.approx(float((points * weight).mean()), abs=1e-6)


def test_film_is_free_beyond_the_margin_around_particles() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[5, 7], labels[19, 29] = 1, 2
    free = free_film(labels, 2)
    assert not free[5, 5:10].any()
    assert not free[3:8, 7].any()
    assert free[2, 7]
    assert free[5, 10]
    assert not free[17:, 29].any()
    assert free.sum() == free.size - 9 - 5


def test_of_a_plateau_the_first_pixel_is_the_peak() -> None:
    image = np.zeros((9, 9), np.float32)
    image[4, 4:6] = 5.0
    image[1, 1] = 7.0
    ys, xs = find_peaks(image, 1.0, np.zeros((0, 0), bool), 1.0, 1)
    assert list(zip(ys.tolist(), xs.tolist(), strict=True)) == [(1, 1), (4, 4)]


def test_white_noise_and_texture_are_told_apart_beside_particles() -> None:
    rng = np.random.default_rng(4)
    white = rng.normal(0.0, 0.2, (512, 512))
    k2 = np.square(np.fft.fftfreq(512))[:, None] + np.square(np.fft.rfftfreq(512))
    rough = np.fft.rfft2(rng.normal(size=(512, 512))) * np.exp(-2.0 * np.pi**2 * k2 * 4.0**2)
    texture = np.fft.irfft2(rough, (512, 512))
    texture *= 0.1 / texture.std()
    free = np.ones((256, 256), bool)
    free[60:120, 40:200] = False
    contrast = (white + texture).astype(np.float32)
    contrast[120:240, 80:400] += 1.0  # particles, which the film's noise shall not see
    found = film_noise(contrast, free, 2, 40)
    assert found.white == pytest.approx(0.04, rel=0.05)
    assert found.texture[0] == pytest.approx(0.01, rel=0.15)
    assert found.texture[4] == pytest.approx(0.01 * np.exp(-(4.0**2) / (4 * 4.0**2)), rel=0.2)
