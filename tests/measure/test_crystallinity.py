"""Lattice fringes of single particles: found where they are, with the stated rate where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from acquire.errors import MeasureError
from acquire.measure.crystallinity import CrystalOptions, measure_crystallinity
from acquire.measure.crystallinity.statistics import detection_power, false_alarm, threshold
from acquire.measure.crystallinity.windows import round_window
from tests.measure.crystal_images import NI_111_NM, NI_200_NM, Field, make_field


def _look(field: Field, rng: np.random.Generator, dose: float, **options: float):  # type: ignore[no-untyped-def]
    return measure_crystallinity(
        field.image(rng, dose),
        field.pixel_nm,
        field.places_nm,
        field.radii_nm,
        CrystalOptions(**options),  # type: ignore[arg-type]
    )


def test_crystals_show_and_droplets_on_the_same_film_do_not() -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        field = make_field(rng, crystals=3, droplets=3)
        seen = _look(field, rng, 300.0)
        assert seen.judged.all()
        assert np.array_equal(seen.crystalline, field.crystalline)
        assert seen.flags == ()


@pytest.mark.parametrize(("film", "dose"), [(0.0, 20.0), (0.1, 20.0), (0.1, 1000.0)])
def test_amorphous_droplets_pass_for_crystals_no_more_often_than_stated(
    film: float, dose: float
) -> None:
    rate, found, judged = 0.01, 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        field = make_field(rng, droplets=8, film=film)
        seen = _look(field, rng, dose, false_positive_rate=rate)
        found += int(seen.crystalline.sum())
        judged += int(np.isfinite(seen.table["spot_snr"]).sum())
    assert judged > 200
    assert found <= stats.binom.ppf(0.999, judged, rate)


def test_places_without_any_particle_pass_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(7)
    along = np.arange(4.0, 35.0, 5.2)
    places = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
    found = count = 0
    for _ in range(20):
        image = rng.poisson(12.0, (480, 480)).astype(np.uint16)
        options = CrystalOptions(false_positive_rate=0.05)
        seen = measure_crystallinity(image, 0.08, places, np.full(len(places), 1.6), options)
        # their power is nil, so that nothing but a spot makes one judged
        assert np.array_equal(seen.judged, seen.crystalline)
        found, count = found + int(seen.crystalline.sum()), count + len(places)
    assert found <= stats.binom.ppf(0.999, count, 0.05)
    assert found > 0, "a threshold that nothing ever passes would state no rate"


def test_spacing_and_angle_are_right_within_their_sigmas() -> None:
    pulls, turns = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        angle = rng.uniform(-1.5, 1.5)
        field = make_field(rng, crystals=3, angle_rad=angle)
        table = _look(field, rng, 200.0).table
        for n in np.flatnonzero(table["crystalline"]):
            d, sigma = float(table["spacing_nm"][n]), float(table["spacing_sigma_nm"][n])
            wanted = NI_111_NM if d > 0.19 else NI_200_NM
            pulls.append((d - wanted) / sigma)
            first = np.array([0.0, math.acos(1 / 3)]) + angle
            of = first if d > 0.19 else np.array([first[1] / 2 + first[0] / 2 + np.pi / 2])
            off = np.angle(np.exp(2j * (float(table["spot_angle_rad"][n]) - of))) / 2
            turns.append(np.abs(off).min() / float(table["spot_angle_sigma_rad"][n]))
    assert len(pulls) > 40
    assert 0.6 < np.std(pulls) < 1.5
    assert abs(np.mean(pulls)) < 0.6
    assert np.sqrt(np.mean(np.square(turns))) < 1.6


def test_what_the_dose_cannot_show_is_not_judged() -> None:
    rng = np.random.default_rng(3)
    field = make_field(rng, crystals=5, droplets=2, diameter_nm=3.0)
    seen = _look(field, rng, 0.5)
    assert "no_power" in seen.flags
    assert not seen.judged[~seen.crystalline].any()
    assert (seen.table["power"] < 0.5).all()


def test_the_stated_power_is_how_many_crystals_are_found() -> None:
    stated: list[float] = []
    found: list[bool] = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        field = make_field(rng, crystals=6, film=0.02, fringe=0.15)
        # one wave of three; the others only help
        seen = _look(field, rng, 50.0, fringe_contrast=0.15)
        stated += seen.table["power"].tolist()
        found += seen.crystalline.tolist()
    assert 0.2 < np.mean(stated) < 0.98
    assert np.mean(found) > np.mean(stated) - 0.1


def test_a_pixel_that_cannot_carry_the_fringes_is_refused_by_a_flag() -> None:
    rng = np.random.default_rng(4)
    field = make_field(rng, crystals=2, pixel_nm=0.12, size=256)
    seen = _look(field, rng, 500.0)
    assert "pixel_too_coarse" in seen.flags
    assert not seen.judged.any()
    assert np.isnan(seen.table["spot_snr"]).all()


def test_only_the_spacings_that_pixels_resolve_are_searched() -> None:
    rng = np.random.default_rng(4)
    field = make_field(rng, crystals=2, pixel_nm=0.095, size=256)  # {111} yes, {200} no
    seen = _look(field, rng, 500.0)
    assert seen.crystalline.all()
    assert np.abs(seen.table["spacing_nm"] - NI_111_NM).max() < 0.006


def test_without_bare_film_nothing_is_judged() -> None:
    rng = np.random.default_rng(5)
    image = rng.poisson(50.0, (96, 96)).astype(np.uint16)
    seen = measure_crystallinity(image, 0.08, np.array([[3.8, 3.8]]), np.array([3.5]))
    assert "no_film" in seen.flags
    assert not seen.judged.any()


@pytest.mark.parametrize(
    ("image", "flag"),
    [
        (np.zeros((128, 128), np.uint16), "blank"),
        (np.full((128, 128), 7, np.uint16), "constant"),
        (np.full((128, 128), np.nan), "nonfinite"),
    ],
)
def test_images_without_content_are_flagged(image: np.ndarray, flag: str) -> None:
    seen = measure_crystallinity(image, 0.08, np.array([[5.0, 5.0]]), np.array([2.0]))
    assert flag in seen.flags
    assert not seen.judged.any()


def test_an_image_without_particles_says_so() -> None:
    image = np.random.default_rng(1).poisson(9.0, (128, 128))
    seen = measure_crystallinity(image, 0.08, np.zeros((0, 2)), np.zeros(0))
    assert seen.flags == ("no_particles",)


def test_particles_at_the_edge_or_outside_are_not_judged() -> None:
    rng = np.random.default_rng(2)
    image = rng.poisson(100.0, (256, 256))
    places = np.array([[10.0, 10.0], [0.1, 10.0], [-3.0, 5.0], [50.0, 50.0]])
    seen = measure_crystallinity(image, 0.08, places, np.full(4, 2.0))
    assert np.isfinite(seen.table["spot_snr"]).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("places", "radii"),
    [
        (np.zeros((2, 2)), np.ones(1)),
        (np.full((1, 2), np.nan), np.ones(1)),
        (np.ones((1, 2)), np.zeros(1)),
    ],
)
def test_places_that_are_none_are_refused(places: np.ndarray, radii: np.ndarray) -> None:
    image = np.random.default_rng(1).poisson(9.0, (128, 128))
    with pytest.raises(MeasureError, match="radi"):
        measure_crystallinity(image, 0.08, places, radii)


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"false_positive_rate": 0.9}])
def test_options_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(MeasureError, match=next(iter(options))):
        CrystalOptions(**options)  # type: ignore[arg-type]


def test_the_threshold_is_the_inverse_of_the_false_alarm_and_few_cells_raise_it() -> None:
    window = round_window(2.0, 0.08)
    where = 9.0, 16.0, window.roughness_nm2
    for rate in (0.05, 0.01, 0.001):
        power = threshold(rate, *where)
        assert false_alarm(power, *where) == pytest.approx(rate, rel=0.01)
        assert threshold(rate, *where, 50.0) > power
    assert false_alarm(0.5, *where) == 1.0


def test_the_power_is_the_false_alarm_of_a_point_where_there_is_no_spot() -> None:
    power = detection_power(np.array([0.0, 4.0, 9.0, 40.0]), np.full(4, 9.0))
    assert power[0] == pytest.approx(math.exp(-9.0), rel=0.01)
    assert 0.1 < power[1] < 0.3
    assert 0.45 < power[2] < 0.7
    assert power[3] > 0.999
