"""The compiled passes over whole images say what scipy and plain numpy say, however they get there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.arrays import negative_side_sigma
from acquire.measure.particles.checks import image_flags
from acquire.measure.particles.filters import noise_of_filters
from acquire.measure.particles.islands import find_peaks
from acquire.measure.particles.pixels import contrast_over, multiply_by, pixel_statistics, spread
from acquire.measure.particles.runs import describe, islands_of, runs_of, split_islands
from acquire.measure.particles.smoothing import evenness, smooth, smooth_evenly, wide_mean

_NONE = np.zeros((0, 0), bool)


def _noise(seed: int, shape: tuple[int, int], scale: float = 1.6) -> NDArray[np.float32]:
    rough = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smoothed = smooth(rough, scale)
    return np.asarray(smoothed / smoothed.std(), np.float32)


@pytest.mark.parametrize("shape", [(50, 64), (64, 50), (71, 129), (3, 7)])
def test_islands_are_the_connected_pixels_around_peaks(shape: tuple[int, int]) -> None:
    image = _noise(1, shape, 0.8)
    ys, xs = find_peaks(image, 1.5, _NONE, 0.0, 1)
    labels, runs, count = islands_of(image, 0.7, ys, xs)
    every, _ = ndimage.label(image > 0.7)
    names = np.unique(every[ys, xs])  # scipy numbers in reading order, too
    assert count == len(names)
    assert np.array_equal(
        labels, np.where(np.isin(every, names), np.searchsorted(names, every) + 1, 0)
    )
    assert np.array_equal(runs, runs_of(labels))
    assert (runs[:, 2] - runs[:, 1]).sum() == (labels > 0).sum()


def test_only_a_neck_divides_and_the_larger_takes_more() -> None:
    y, x = np.mgrid[:40, :60]
    one = 10.0 * np.exp(-((y - 20) ** 2 + (x - 18) ** 2) / 72.0)
    other = 10.0 * np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 32.0)
    for image, parts in (
        (one + other, 2),
        (np.maximum(one, 9.0 * (y > 10) * (abs(x - 30) < 20)), 1),
    ):
        image = image.astype(np.float32)
        ys, xs = np.array([20, 20]), np.array([18, 40])
        labels, runs, islands = islands_of(image, 0.5, ys, xs)
        assert islands == 1
        runs, count = split_islands(image, labels, runs, islands, ys, xs, 0.25, 0.3)
        assert count == parts
        assert np.array_equal(runs, runs_of(labels))
        if parts == 2:
            # the first stays above half of its height for 6 √(2 ln 2) pixels, the other for 4 of these
            border = int(np.argmax(labels[20] == 2))
            assert 18 + 0.6 * 22 - 1.5 < border < 18 + 0.6 * 22 + 1.5


def test_particles_are_described_by_what_their_labels_cover() -> None:
    image = _noise(2, (90, 110))
    ys, xs = find_peaks(image, 2.0, _NONE, 0.0, 2)
    labels, runs, count = islands_of(image, 0.8, ys, xs)
    runs, count = split_islands(image, labels, runs, count, ys, xs, 0.25, 0.2)
    found = describe(image, runs, count)
    assert count > 10
    for k in range(count):
        mask = labels == k + 1
        peak = image[mask].max()
        core_y, core_x = np.nonzero(mask & (image > 0.5 * peak))
        assert found[k, 0] == peak
        assert found[k, 1] == mask.sum()
        assert found[k, 2] == len(core_y)
        assert found[k, 3:5] == pytest.approx([core_y.mean() + 0.5, core_x.mean() + 0.5])
        assert found[k, 5:7].tolist() == [core_y.min(), core_y.max() + 1]
        assert found[k, 7:9].tolist() == [core_x.min(), core_x.max() + 1]


@pytest.mark.parametrize("half", [1, 3])
@pytest.mark.parametrize("helped", [False, True])
def test_peaks_are_the_pixels_that_no_neighbour_exceeds(half: int, helped: bool) -> None:
    image = _noise(3, (61, 83))
    easy = np.random.default_rng(4).random(image.shape) < 0.5 if helped else _NONE
    ys, xs = find_peaks(image, 1.5, easy, 0.5, half)
    top = ndimage.maximum_filter(image, 2 * half + 1, mode="nearest") == image
    top &= (image > 1.5) | (easy & (image > 0.5)) if helped else image > 1.5
    expected = np.stack(np.nonzero(top), axis=1)
    order = np.argsort(-image[top], kind="stable")
    assert np.array_equal(np.stack([ys, xs], axis=1), expected[order])


@pytest.mark.parametrize("sigma", [0.8, 2.0, 9.0])
def test_a_wide_mean_is_two_box_means_over_the_pixels_that_there_are(sigma: float) -> None:
    image = np.random.default_rng(5).normal(size=(97, 140)).astype(np.float32)
    reach = round((np.sqrt(6.0 * sigma**2 + 1.0) - 1.0) / 2.0)
    expected: NDArray[np.float64] = image.astype(np.float64)
    for axis in (0, 0, 1, 1):
        size = 2 * reach + 1
        total = ndimage.uniform_filter1d(expected, size, axis, mode="constant")
        expected = total / ndimage.uniform_filter1d(
            np.ones(image.shape), size, axis, mode="constant"
        )
    assert wide_mean(image, sigma) == pytest.approx(expected, abs=2e-5)


def test_filters_are_compared_on_what_they_give() -> None:
    image = np.random.default_rng(6).normal(size=(224, 200)).astype(np.float32)
    smoothed, wide = smooth(image, 1.7), wide_mean(image, 5.1)
    plain, less_surround = noise_of_filters(image, 1.7, 5.1, 2)
    assert plain == pytest.approx(negative_side_sigma(smoothed[::2, ::2]), rel=1e-4)
    assert less_surround == pytest.approx(
        negative_side_sigma((smoothed - wide)[::2, ::2]), rel=1e-4
    )
    even = smooth_evenly(image, 1.7)
    expected = smoothed * evenness(1.7, 224)[:, None] * evenness(1.7, 200)
    assert even == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("nodes", [(1, 1), (1, 4), (5, 1), (6, 7)])
def test_between_nodes_lie_straight_lines(nodes: tuple[int, int]) -> None:
    film = np.random.default_rng(7).uniform(50.0, 60.0, nodes).astype(np.float32)
    image = np.random.default_rng(8).poisson(55.0, (66, 75)).astype(np.uint16)
    cell = 11
    at = [(np.arange(n) + 0.5) / cell - 0.5 for n in image.shape]
    wanted: NDArray[np.float64] = film.astype(np.float64)
    for axis, (place, many) in enumerate(zip(at, nodes, strict=True)):
        low = np.clip(np.floor(place), 0, max(many - 2, 0)).astype(int)
        share = (place - low if many > 1 else 0.0 * place).reshape(
            [-1, 1] if axis == 0 else [1, -1]
        )
        here, there = wanted.take(low, axis), wanted.take(np.minimum(low + 1, many - 1), axis)
        wanted = here + share * (there - here)
    assert spread(film, cell, (66, 75)) == pytest.approx(wanted, rel=1e-5)
    times = image.astype(np.float32)
    multiply_by(times, film, cell)
    assert times == pytest.approx(image * wanted, rel=1e-5)
    for sign, factor, floor in ((1, 1, 1.0), (-1, 2, 1.0), (1, 3, 57.0)):
        contrast, coarse = contrast_over(image, 3.0, film, cell, floor, sign, factor)
        expected = sign * ((image - 3.0) / np.maximum(wanted, floor) - 1.0)
        assert contrast == pytest.approx(expected, abs=2e-6)
        high, wide = 66 // factor, 75 // factor
        blocks = expected[: high * factor, : wide * factor]
        blocks = blocks.reshape(high, factor, wide, factor).mean(axis=(1, 3))
        assert coarse == pytest.approx(blocks, abs=2e-6)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_pixels_are_summed_up_row_by_row(kind: str) -> None:
    image = np.random.default_rng(9).poisson(100.0, (60, 70)).astype(kind)
    image[3, 5:9], image[7, 2] = 250, 1
    image[20] = image[19]
    low, high, on_top, finite, means, again = pixel_statistics(image)
    assert (low, high, on_top, finite) == (1.0, 250.0, 4, True)
    assert means == pytest.approx(image.mean(axis=1))
    assert np.nonzero(again)[0].tolist() == [20]


def test_one_row_that_repeats_is_none_that_is_missing_but_two_of_a_hundred_are() -> None:
    image = np.random.default_rng(10).poisson(100.0, (100, 80)).astype(np.uint16)
    image[50] = image[49]
    assert image_flags(image) == ()
    image[70] = 0
    assert image_flags(image) == ("incomplete",)
