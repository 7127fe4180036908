"""Counting statistics and shapes in simulated images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import poisson

from simulators.column import Beam
from simulators.imaging import (
    DETECTORS,
    PROBE_SIGMA_NM,
    expected_counts,
    height_map,
    render,
)
from simulators.noise import generator, poisson_counts
from simulators.specimen import Domes, Specimen, View, lived, named

ELECTRONS = Beam().electrons_per_s * 1e-6  # 50 pA, 1 µs


@pytest.fixture(scope="module")
def lsnt() -> Specimen:
    return named("lsnt_nonstoichiometric", 1).under(lived([(0.7, 700.0)]))


def _dome(diameter_nm: float, x_nm: float, y_nm: float) -> Domes:
    one = [np.array([value]) for value in (x_nm, y_nm, diameter_nm)]
    return Domes(np.array([0]), *one)


def _rngs(index: int = 0) -> dict[str, np.random.Generator]:
    return {name: generator(1, f"scan {name}", index) for name in DETECTORS}


@pytest.mark.parametrize("mean", [0.02, 3.0, 15.9, 16.1, 31.0, 94.0, 3000.0])
def test_counts_have_the_moments_of_a_poisson_distribution(mean: float) -> None:
    n = 1 << 20
    counts = poisson_counts(np.full(n, mean, np.float32), generator(1, "test")).astype(float)
    # four standard errors, and 0.1 % for the approximation
    assert counts.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / n) + 1e-3 * mean)
    spread = math.sqrt((mean + 2 * mean**2) / n)
    assert counts.var() == pytest.approx(mean, abs=4 * spread + 1e-3 * mean)


def test_approximate_counts_are_distributed_as_exact_ones() -> None:
    n = 1 << 20
    counts = poisson_counts(np.full(n, 16.5, np.float32), generator(2, "test"))
    found = np.bincount(counts, minlength=60)[:60] / n
    assert 0.5 * np.abs(found - poisson.pmf(np.arange(60), 16.5)).sum() < 4e-3


def test_a_blank_film_scatters_as_its_dose_and_thickness_say() -> None:
    specimen, view = named("blank_film", 1), View((100.0, 50.0), (512, 512), 0.3)
    images = render(specimen, 1e4, view, ELECTRONS, _rngs())
    means = expected_counts(specimen, specimen.domes(view, 1e4), view, ELECTRONS, DETECTORS)
    assert images is not None
    for name, image in images.items():
        residual = (image - means[name]) / np.sqrt(means[name])
        assert residual.mean() == pytest.approx(0.0, abs=0.01)
        assert residual.var() == pytest.approx(1.0, abs=0.02)
        share = means[name].mean() / ELECTRONS
        assert share == pytest.approx(DETECTORS[name].detected_share, rel=0.35)
    place = (np.arange(512, dtype=np.float64) + 0.5) * 0.3
    texture = means["haadf"] / specimen.film.thickness_map(100.0 + place, 50.0 + place)
    assert texture.std() / texture.mean() == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize("diameter", [2.0, 3.83, 8.8])
@pytest.mark.parametrize("pixel", [0.15, 0.3125, 1.0])
def test_a_dome_has_the_volume_of_its_equivalent_sphere(diameter: float, pixel: float) -> None:
    view = View((0.0, 0.0), (200, 200), pixel)
    middle = 100 * pixel
    height = height_map(_dome(diameter, middle + 0.04, middle - 0.09), view, (0, 200))
    assert height.sum() * pixel**2 == pytest.approx(math.pi / 6 * diameter**3, rel=0.01)


def test_a_dome_is_a_blurred_hemisphere_where_it_should_be() -> None:
    pixel, n, x, y = 0.05, 400, 9.03, 11.4
    view = View((0.0, 0.0), (n, n), pixel)
    dome = _dome(8.8, x, y)
    centre = (np.arange(n) + 0.5) * pixel
    square = dome.radius_nm[0] ** 2 - (centre[None, :] - x) ** 2 - (centre[:, None] - y) ** 2
    sharp = np.sqrt(np.maximum(square, 0))
    expected = gaussian_filter(sharp, PROBE_SIGMA_NM / pixel, truncate=6)
    height = height_map(dome, view, (0, n))
    assert np.abs(height - expected).max() < 0.03
    assert height.max() == pytest.approx(8.8 / 4 ** (1 / 3), rel=0.01)


def test_nickel_brightens_haadf_by_a_tenth_per_nm_and_darkens_abf() -> None:
    specimen, view = named("blank_film", 1), View((0.0, 0.0), (128, 128), 0.2)
    dome = _dome(8.8, 12.8, 12.8)
    bare = expected_counts(specimen, _dome(0.01, 900, 900), view, 1e4, DETECTORS)
    with_dome = expected_counts(specimen, dome, view, 1e4, DETECTORS)
    height = 8.8 / 4 ** (1 / 3)
    gain = {name: float(with_dome[name][64, 64] / bare[name][64, 64]) for name in DETECTORS}
    assert gain["haadf"] == pytest.approx(1 + 0.1 * height, rel=0.01)
    assert gain["abf"] == pytest.approx(math.exp(-0.06 * height), rel=0.01)


def test_bands_do_not_show_in_a_large_image(lsnt: Specimen) -> None:
    view = View((0.0, 0.0), (600, 700), 0.5)
    domes = lsnt.domes(view, 2000.0, 2.0)
    whole = height_map(domes, view, (0, 600))
    parts = [height_map(domes, view, rows) for rows in ((0, 111), (111, 400), (400, 600))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_the_picture_moves_with_the_view(lsnt: Specimen) -> None:
    pixel = 0.3125
    views = [View((x, 5.0), (256, 256), pixel) for x in (10.0, 10.0 + 16 * pixel)]
    left, right = (
        expected_counts(lsnt, lsnt.domes(v, 400.0, 1.0), v, ELECTRONS, DETECTORS)["haadf"]
        for v in views
    )
    assert np.allclose(left[:, 16:], right[:, :-16], rtol=1e-3)


def test_rendering_stops_when_told(lsnt: Specimen) -> None:
    view = View((0.0, 0.0), (4096, 4096), 0.1)
    asked: list[int] = []

    def keep_going() -> bool:
        asked.append(1)
        return len(asked) < 3

    assert render(lsnt, 400.0, view, ELECTRONS, _rngs(), keep_going) is None
    assert len(asked) == 3


def test_no_beam_gives_the_dark_count_only(lsnt: Specimen) -> None:
    images = render(lsnt, 1e5, View((0.0, 0.0), (256, 256), 0.3), 0.0, _rngs())
    assert images is not None
    for name, image in images.items():
        assert image.mean() == pytest.approx(DETECTORS[name].dark_counts, rel=0.2)
