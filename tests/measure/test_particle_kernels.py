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
from acquire.measure.particles.shapes import blurred_dome
from acquire.measure.particles.weigh import weigh_domes
from acquire.measure.particles.whitening import factorise, whiten, whiten_three

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


@pytest.mark.parametrize("m", [1, 2, 7, 26])
def test_vectors_whitened_with_a_factor_are_those_of_a_unit_covariance(m: int) -> None:
    rng = np.random.default_rng(m)
    mixed = rng.normal(size=(m, m + 3))
    cover = mixed @ mixed.T
    room = np.full((30, 30), np.nan)
    room[:m, :m] = np.triu(cover) + np.tril(
        np.full((m, m), np.nan), -1
    )  # left of it is not looked at
    factorise(room, m, True)
    upper = np.triu(room[:m, :m])
    assert upper.T @ upper == pytest.approx(cover, rel=1e-9, abs=1e-9)
    vectors = rng.normal(size=(3, 30))
    exact = np.linalg.solve(upper.T, vectors[:, :m].T).T
    alone = vectors[1].copy()
    whiten(room, alone, m, True)
    whiten_three(room, vectors, m, True)
    assert vectors[:, :m] == pytest.approx(exact, rel=1e-6, abs=1e-9)
    assert alone[:m] == pytest.approx(exact[1], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("first_guess", [0.75, 1.0, 1.3])
def test_a_profile_without_noise_gives_its_dome_whatever_the_rings_and_the_guess(
    first_guess: float,
) -> None:
    dome, radius, height, offset, blur = blurred_dome(0.5), 9.0, 0.4, 0.02, 1.1
    # rings of different widths, some left out, as where others stand
    ends = np.array([0, 2, 4, 6, *range(7, 24), 27, 30, 34])
    rings = np.zeros((1, MOST_RINGS, 5))
    count = len(ends) - 1
    rings[0, :count, 3], rings[0, :count, 4] = ends[:-1], ends[1:]
    at = 0.25 * (ends[:-1] + ends[1:])
    smear = float(np.hypot(blur, np.sqrt(0.25 / 12.0)))
    seen = height * dome(at, np.full(count, radius), smear) + offset
    rings[0, :count, 0], rings[0, :count, 1] = seen, at
    rings[0, :count, 2] = np.pi * 0.25 * (ends[1:] ** 2 - ends[:-1] ** 2)
    rings[0, 5, 2] = 0.0
    texture = np.zeros((1, MOST_RINGS, MOST_RINGS))
    texture[0] = ring_covariance(np.array([[4e-4, 3.0]]), MOST_RINGS, 0.5, False)
    fitted = np.array([[0.0, 0.0, first_guess * radius, height, 0.0]])
    found = weigh_domes(
        fitted, rings, np.array([count]), np.array([0.5]), np.array([1e-3]), texture,
        dome.values, blur, 1, height / radius,
    )[0]  # fmt: skip
    assert found[0] == pytest.approx(radius, rel=2e-3)
    assert found[2] == pytest.approx(height, rel=2e-3)
    assert found[4] == pytest.approx(offset, abs=1e-3)
    assert found[5] == pytest.approx(0.0, abs=1e-2)
    assert found[6] > 50.0  # no Gaussian is as good
    assert found[7] == count - 1
    # σ from the information matrix, by hand
    used = np.arange(count) != 5
    noise = np.maximum(1.0 + height * dome(at, np.full(count, fitted[0, 2]), smear), 0.2)
    cover = np.empty((count, count))
    area = 0.5 * (ends[1:] ** 2 - ends[:-1] ** 2)
    weights = np.arange(MOST_RINGS) + 0.5
    for a in range(count):
        for b in range(count):
            block = np.s_[ends[a] : ends[a + 1], ends[b] : ends[b + 1]]
            shared = (np.outer(weights, weights) * texture[0])[block].sum() / area[a] / area[b]
            cover[a, b] = shared * noise[a] * noise[b]
    cover[np.diag_indices(count)] += 1e-3 * noise / np.maximum(rings[0, :count, 2], 1e-9)
    slope = height * (
        dome(at, np.full(count, found[0] * 1.01), smear)
        - dome(at, np.full(count, found[0] * 0.99), smear)
    )
    design = np.stack([slope / (0.02 * found[0]), (seen - offset) / height, np.ones(count)], axis=1)
    information = design[used].T @ np.linalg.solve(cover[np.ix_(used, used)], design[used])
    stiff = 1.0 / 0.3**2
    information[0, 0] += stiff / found[0] ** 2
    information[1, 1] += stiff / found[2] ** 2
    information[0, 1] -= stiff / (found[0] * found[2])
    information[1, 0] = information[0, 1]
    sigmas = np.sqrt(np.diag(np.linalg.inv(information)))
    assert found[1] == pytest.approx(sigmas[0], rel=0.03)
    assert found[3] == pytest.approx(sigmas[1], rel=0.03)
