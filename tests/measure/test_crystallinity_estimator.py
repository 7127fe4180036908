"""The live estimators of crystals and superlattices on frames, and what they refuse."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from acquire.errors import ConfigError, MeasureError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.crystallinity import (
    CrystallinityEstimator,
    SuperlatticeEstimator,
    measure_superlattice,
)
from acquire.plugins import ESTIMATORS, find
from acquire.stream import Estimate
from simulators.imaging import render
from simulators.noise import generator
from simulators.specimen import View, named
from tests.measure.crystal_images import make_field

PIXEL_NM = 0.08


def _stream(pixel_nm: float = PIXEL_NM, size: int = 320) -> StreamSpec:
    axis = Axis(0.0, pixel_nm, "nm")
    image = ChannelSpec("uint16", (size, size), ("y", "x"), {"y": axis, "x": axis})
    return StreamSpec("close", {"haadf": image})


def _run(images: list[np.ndarray], **options: object) -> list[Estimate]:
    estimator = CrystallinityEstimator("crystallinity", _stream(), "haadf", options)
    frames = [Frame("close", i, {"haadf": im}, 2.0 * i, 2.0 * i + 2) for i, im in enumerate(images)]
    return [e for e in map(estimator.update, frames) if e is not None]


def test_the_entry_points_are_these_estimators() -> None:
    assert find(ESTIMATORS, "crystallinity") is CrystallinityEstimator
    assert find(ESTIMATORS, "superlattice") is SuperlatticeEstimator


def test_a_particle_that_crystallises_is_counted_and_its_time_told() -> None:
    made = [
        make_field(np.random.default_rng(11), crystals=n, droplets=4 - n, diameter_nm=4.0)
        for n in (0, 1)
    ]
    assert np.array_equal(made[0].places_nm, made[1].places_nm)
    rng = np.random.default_rng(1)
    images = [made[int(k >= 4)].image(rng, 400.0) for k in range(12)]
    estimates = _run(images, stable_for="8 s", stable_looks=4, smallest_diameter="2 nm")
    counts = [e.values["crystalline_count"].value for e in estimates]
    assert counts == [0.0] * 4 + [1.0] * 8
    assert estimates[-1].values["crystalline_fraction"].value == pytest.approx(0.25)
    first = [e.values["first_stable_crystal_time"] for e in estimates]
    assert np.isnan(first[7].value)
    assert first[-1].value == pytest.approx(8.0)  # between the middles of frames 3 and 4
    assert np.isnan(estimates[-1].values["critical_diameter"].value)
    table = estimates[-1].table
    assert set(table) == set(CrystallinityEstimator.columns)
    of_crystal = np.hypot(
        table["y_nm"] - made[1].places_nm[0, 0], table["x_nm"] - made[1].places_nm[0, 1]
    )
    assert table["stable"].tolist() == (of_crystal < 0.5).astype(int).tolist()


def test_same_frames_give_identical_estimates() -> None:
    rng = np.random.default_rng(4)
    field = make_field(rng, crystals=2, droplets=2)
    images = [field.image(rng, 200.0) for _ in range(3)]
    for a, b in zip(_run(images), _run(images), strict=True):
        assert repr(a.values) == repr(b.values)
        assert a.flags == b.flags
        assert all(np.array_equal(a.table[n], b.table[n], equal_nan=True) for n in a.table)


def test_unfit_frames_are_flagged_and_the_next_good_one_counts_again() -> None:
    rng = np.random.default_rng(6)
    field = make_field(rng, crystals=2, droplets=1)
    good = field.image(rng, 300.0)
    nan = np.full(good.shape, np.nan)
    estimates = _run([good, np.zeros_like(good), nan, good[:7], good])
    assert estimates[0].values["crystalline_count"].value == 2
    for estimate, flag in zip(estimates[1:4], ("blank", "nonfinite", "unreadable"), strict=True):
        assert flag in estimate.flags
        assert np.isnan(estimate.values["crystalline_fraction"].value)
        assert len(estimate.table["id"]) == 0
    assert estimates[4].values["crystalline_count"].value == 2


def test_a_frame_of_few_particles_takes_less_than_half_a_second() -> None:
    rng = np.random.default_rng(8)
    field = make_field(rng, crystals=3, droplets=3, size=512)
    image = field.image(rng, 200.0)
    estimator = CrystallinityEstimator("c", _stream(size=512), "haadf", {})
    frame = Frame("close", 0, {"haadf": image}, 0.0, 1.0)
    estimator.update(frame)
    began = time.thread_time()
    for _ in range(3):
        estimator.update(frame)
    assert (time.thread_time() - began) / 3 < 0.5


@pytest.mark.parametrize(
    ("pixel_nm", "options", "says"),
    [
        (0.2, {}, "cannot show lattice fringes"),
        (PIXEL_NM, {"spacings": []}, "spacings"),
        (PIXEL_NM, {"tolerance": 0.5}, "tolerance"),
        (PIXEL_NM, {"stable": 3}, "stable_for"),
    ],
)
def test_options_and_pixels_that_cannot_work_are_refused(
    pixel_nm: float, options: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        CrystallinityEstimator("crystallinity", _stream(pixel_nm), "haadf", options)


# ------------------------------------------------------------------------ superlattice


def _beside_the_boundary(seed: int, away_nm: float) -> np.ndarray:
    specimen = named("lstz_grain_boundary", seed)
    assert specimen.grain_boundary is not None
    view = View((specimen.grain_boundary.x_nm + away_nm, 5.0), (256, 256), PIXEL_NM)
    electrons = 2e5 * PIXEL_NM**2
    images = render(specimen, 0.0, view, electrons, {"haadf": generator(seed, "test", 1)})
    assert images is not None
    return np.asarray(images["haadf"])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_superlattice_reaches_as_far_from_the_boundary_as_published(seed: int) -> None:
    region = (0.0, 0.0, 5.0, 20.0)
    at, near, far = (
        measure_superlattice(_beside_the_boundary(seed, away), PIXEL_NM, region)
        for away in (0.3, 2.5, 7.5)  # 17 cells are 6.6 nm
    )
    assert at.found
    assert near.found
    assert not far.found
    assert at.intensity.value > near.intensity.value > 3 * near.intensity.sigma
    assert abs(far.intensity.value) < 4 * far.intensity.sigma
    assert at.lattice_nm.value == pytest.approx(0.391, abs=0.002)


def test_a_film_without_order_passes_for_a_superlattice_no_more_often_than_stated() -> None:
    chances = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        image = make_field(rng, size=256, film=0.1).image(rng, 30.0)
        for region in ((0.5, 0.5, 9.5, 9.5), (10.5, 10.5, 20.0, 20.0)):
            seen = measure_superlattice(image, PIXEL_NM, region)
            assert seen.flags == ()
            chances.append(seen.false_alarm)
    for rate in (0.05, 0.01):
        passed = int(np.count_nonzero(np.array(chances) < rate))
        assert passed <= stats.binom.ppf(0.999, len(chances), rate)


def test_the_superlattice_of_a_region_is_estimated_live() -> None:
    settings = {"region": ["0 nm", "0 nm", "6 nm", "20 nm"]}
    estimator = SuperlatticeEstimator("superlattice", _stream(size=256), "haadf", settings)
    ordered = Frame("close", 0, {"haadf": _beside_the_boundary(1, 0.5)}, 0.0, 1.0)
    plain = Frame("close", 1, {"haadf": _beside_the_boundary(1, 9.0)}, 1.0, 2.0)
    estimate = estimator.update(ordered)
    assert estimate is not None
    assert estimate.flags == ()
    assert estimate.values["superlattice_snr"].value > 10
    estimate = estimator.update(plain)
    assert estimate is not None
    assert estimate.flags == ("no_superlattice",)
    assert estimator.update(Frame("close", 2, {}, 2.0, 3.0)) is None
    damaged = estimator.update(Frame("close", 3, {"haadf": np.ones(4)}, 3.0, 4.0))
    assert damaged is not None
    assert damaged.flags == ("unreadable",)


def test_noise_has_no_lattice_and_coarse_pixels_no_spots() -> None:
    noise = np.random.default_rng(1).poisson(40.0, (256, 256))
    assert measure_superlattice(noise, PIXEL_NM).flags == ("no_lattice",)
    assert measure_superlattice(noise, 0.3).flags == ("pixel_too_coarse",)


@pytest.mark.parametrize(
    "region", [(0.0, 0.0, 30.0, 5.0), (5.0, 0.0, 1.0, 5.0), (0.0, 0.0, 1.0, 1.0)]
)
def test_regions_that_cannot_be_used_are_refused(
    region: tuple[float, float, float, float],
) -> None:
    image = np.random.default_rng(1).poisson(40.0, (256, 256))
    with pytest.raises(MeasureError, match="region"):
        measure_superlattice(image, PIXEL_NM, region)


def test_a_region_outside_of_the_stream_is_refused_before_the_run() -> None:
    settings = {"region": ["0 nm", "0 nm", "60 nm", "20 nm"]}
    with pytest.raises(ConfigError, match="does not lie in the image"):
        SuperlatticeEstimator("superlattice", _stream(), "haadf", settings)
    with pytest.raises(ConfigError, match="cannot show a lattice"):
        SuperlatticeEstimator("superlattice", _stream(0.25), "haadf", {})
