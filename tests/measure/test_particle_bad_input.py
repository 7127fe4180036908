"""What cannot be measured is flagged or refused, never a number without a warning."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acquire.errors import MeasureError
from acquire.instruments import Frame, StreamSpec
from acquire.measure.particles import (
    LIVE_QUANTITIES,
    QUANTITIES,
    ParticleEstimator,
    ParticleOptions,
    measure_particles,
)

Scenes = Callable[..., Any]
Image = np.ndarray[Any, Any]


def _noise(mean: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).poisson(mean, shape).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "flag"),
    [
        (np.full((256, 256), 40, np.uint16), "constant"),
        (np.zeros((256, 256), np.uint16), "blank"),
        (_noise(0.05), "blank"),
        (np.where(np.eye(256) > 0, np.nan, 30.0), "nonfinite"),
        (np.where(np.eye(256) > 0, np.inf, 30.0), "nonfinite"),
    ],
)
def test_unmeasurable_images_give_no_numbers(image: np.ndarray[Any, Any], flag: str) -> None:
    measured = measure_particles(image, 0.3)
    assert flag in measured.flags
    assert all(math.isnan(value.value) for value in measured.values.values())
    assert len(measured.table["x_nm"]) == 0


def test_an_empty_field_has_count_zero_and_no_mean() -> None:
    measured = measure_particles(_noise(30.0), 0.3)
    assert measured.values["count"].value == 0
    assert math.isnan(measured.values["mean_diameter"].value)
    assert "no_particles" in measured.flags


def test_few_particles_and_clipping_are_flagged(scene: Scenes) -> None:
    rng = np.random.default_rng(1)
    made = scene(rng, diameter_nm=8.0, count=2, inset_nm=10.0)
    image = made.image(rng, 200.0)
    measured = measure_particles(image, 0.3125)
    assert measured.flags == ("few_particles",)
    assert measured.values["mean_diameter"].value == pytest.approx(
        made.diameters_nm.mean(), rel=0.05
    )
    assert measured.values["areal_density"].value > 2e6 / made.side_nm**2
    clipped = measure_particles(np.minimum(image, 250), 0.3125)
    assert "saturated" in clipped.flags


@pytest.mark.parametrize(
    ("image", "pixel_nm", "says"),
    [
        (np.ones((4, 64, 64)), 0.3, "(y, x)"),
        (np.ones(64), 0.3, "(y, x)"),
        (np.ones((8, 512)), 0.3, "at least"),
        (np.ones((64, 64), complex), 0.3, "integers or floats"),
        (np.ones((64, 64)), math.nan, "pixel_size_nm"),
        (np.ones((64, 64)), -1.0, "pixel_size_nm"),
        (np.ones((64, 64)), 5.0, "too coarse"),
    ],
)
def test_what_is_no_image_is_refused(
    image: np.ndarray[Any, Any], pixel_nm: float, says: str
) -> None:
    with pytest.raises(MeasureError, match=says.replace("(", r"\(").replace(")", r"\)")):
        measure_particles(image, pixel_nm)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    image=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]),
        st.tuples(st.integers(48, 80), st.integers(48, 80)),
        elements=st.integers(0, 255),
        fill=st.integers(0, 255),
    )
)
def test_no_image_makes_it_fail(image: np.ndarray[Any, Any]) -> None:
    measured = measure_particles(image, 0.5)
    assert set(measured.values) == {quantity.name for quantity in QUANTITIES}
    for value in measured.values.values():
        assert math.isnan(value.value) or value.value >= 0
    assert len({len(column) for column in measured.table.values()}) == 1


def test_mean_of_the_few_above_the_smallest_diameter_is_flagged(scene: Scenes) -> None:
    rng = np.random.default_rng(11)
    image = scene(rng, diameter_nm=2.0, count=60, contrast_per_nm=0.5).image(rng, 400.0)
    measured = measure_particles(image, 0.3125)
    left_out = np.count_nonzero(measured.table["diameter_nm"] < 2.0)
    assert left_out > 0.25 * len(measured.table["id"])
    assert "near_limit" in measured.flags


def test_film_that_falls_to_nothing_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure_particles(np.tile(np.arange(256), (256, 1)), 0.47)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("count", [1, 5, 20, 60])
def test_the_wrong_polarity_spoils_every_quantity(
    scene: Scenes, count: int, polarity: Literal["bright", "dark"]
) -> None:
    rng = np.random.default_rng(count)
    for dose in (30.0, 1000.0):
        made = scene(rng, 7.0, count, dark=polarity == "bright", inset_nm=8.0)
        options = ParticleOptions(polarity=polarity)
        measured = measure_particles(made.image(rng, dose), 0.3125, options)
        assert "polarity" in measured.flags
    assert all("polarity" in quantity.spoiled_by for quantity in LIVE_QUANTITIES)


def _cut(image: Image) -> Image:
    return np.where(np.arange(len(image))[:, None] < 300, image, 0).astype(image.dtype)


def _dark_below(image: Image) -> Image:
    dark = np.random.default_rng(1).poisson(2.0, image.shape).astype(image.dtype)
    return np.where(np.arange(len(image))[:, None] < 300, image, dark)


def _repeated(image: Image) -> Image:
    return np.where(np.arange(len(image))[:, None] < 300, image, image[300])


def _clipped_low(image: Image) -> Image:
    return np.maximum(image, int(np.quantile(image, 0.3)))


def _clipped_high(image: Image) -> Image:
    return np.minimum(image, int(np.quantile(image, 0.95)))


@pytest.mark.parametrize(
    ("spoil", "flag"),
    [
        (_cut, "incomplete"),
        (_dark_below, "incomplete"),
        (_repeated, "incomplete"),
        (_clipped_low, "saturated"),
        (_clipped_high, "saturated"),
        (lambda image: image * 1e300, "nonfinite"),
        (lambda image: image.astype(np.float32) * np.float32(1e34), "nonfinite"),
    ],
)
def test_a_spoilt_image_is_flagged_for_every_quantity(
    scene: Scenes, spoil: Callable[[Image], Image], flag: str
) -> None:
    rng = np.random.default_rng(3)
    image = spoil(scene(rng, diameter_nm=8.0, count=20).image(rng, 200.0))
    measured = measure_particles(image, 0.3125)
    assert flag in measured.flags
    for quantity in QUANTITIES:
        value = measured.values[quantity.name].value
        assert math.isnan(value) or flag in quantity.spoiled_by


@pytest.mark.parametrize("size", [0.4, 0.25])
@pytest.mark.parametrize("dose", [0.8, 2.0, 20.0, 2000.0])
def test_an_honest_image_is_not_taken_for_a_spoilt_one(size: float, dose: float) -> None:
    rng = np.random.default_rng(5)
    slope = 1.0 + size * np.linspace(-2.0, 2.0, 300)[:, None]
    image = rng.poisson(dose * np.broadcast_to(slope, (300, 200))).astype(np.uint16)
    assert not {"incomplete", "saturated"} & set(measure_particles(image, 0.3).flags)
    scaled = (5.3 * image + 7).astype(np.uint16)
    assert not {"incomplete", "saturated"} & set(measure_particles(scaled, 0.3).flags)


@pytest.mark.parametrize("kind", ["int64", ">u2", ">f4", "float16", "float64", "longdouble"])
def test_the_type_and_layout_of_an_image_do_not_matter(scene: Scenes, kind: str) -> None:
    rng = np.random.default_rng(6)
    image = scene(rng, diameter_nm=8.0, count=20).image(rng, 200.0)
    plain = measure_particles(image, 0.3125)
    other = image.astype(kind)
    other.setflags(write=False)
    strided = np.repeat(other, 2, axis=1)[:, ::2]
    for same in (other, strided, np.asfortranarray(other)):
        found = measure_particles(same, 0.3125)
        for name, column in plain.table.items():
            assert found.table[name] == pytest.approx(column, rel=1e-3, abs=1e-3), name


_SPOILING = {q.name: {*q.spoiled_by} for q in LIVE_QUANTITIES}
_Frame = Callable[[Image, np.random.Generator], Any]
_FRAMES: dict[str, _Frame] = {
    "good": lambda image, rng: image,
    "eighty times weaker": lambda image, rng: rng.poisson(image / 80.0).astype(np.uint16),
    "off": lambda image, rng: rng.poisson(0.3, image.shape).astype(np.uint16),
    "nearly off": lambda image, rng: rng.poisson(2.0, image.shape).astype(np.uint16),
    "zeros": lambda image, rng: np.zeros_like(image),
    "constant": lambda image, rng: np.full_like(image, 9),
    "cut": lambda image, rng: _cut(image),
    "clipped": lambda image, rng: _clipped_high(image),
    "all clipped": lambda image, rng: np.full_like(image, 65535),
    "inverted": lambda image, rng: (4000 - image.astype(np.int64)).clip(0).astype(np.uint16),
    "another field": lambda image, rng: np.ascontiguousarray(image.T[::-1]),
    "noise": lambda image, rng: rng.integers(0, 65535, image.shape).astype(np.uint16),
    "nan": lambda image, rng: np.full(image.shape, np.nan),
    "small": lambda image, rng: image[:100],
    "flat": lambda image, rng: image.ravel(),
    "none": lambda image, rng: np.zeros((0, 0), np.uint16),
    "complex": lambda image, rng: image.astype(np.complex64),
    "bool": lambda image, rng: image > 1000,
    "objects": lambda image, rng: image.astype(object),
    "backwards": lambda image, rng: image[::-1, ::-1],
    "other bytes": lambda image, rng: image.astype(">u2"),
}


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kinds=st.lists(st.sampled_from(sorted(_FRAMES)), min_size=3, max_size=9))
def test_whatever_comes_the_estimator_goes_on_and_says_no_nonsense(
    scene: Scenes, spec: StreamSpec, kinds: list[str]
) -> None:
    rng = np.random.default_rng(7)
    made = scene(rng, diameter_nm=8.0, count=20, inset_nm=9.0)
    truth = float(made.diameters_nm.mean())
    estimator = ParticleEstimator("particles", spec, "haadf", {})
    for i, kind in enumerate(["good", "good", *kinds, "good", "good", "good", "good"]):
        data = _FRAMES[kind](made.image(rng, 1600.0), rng)
        estimate = estimator.update(Frame("overview", i, {"haadf": data}, float(i), i + 0.5))
        assert estimate is not None
        trusted = {
            name: value.value
            for name, value in estimate.values.items()
            if math.isfinite(value.value) and not _SPOILING[name] & {*estimate.flags}
        }
        assert trusted.get("mean_diameter", truth) == pytest.approx(truth, rel=0.05), kind
        assert trusted.get("median_diameter", truth) == pytest.approx(truth, rel=0.08), kind
        if kind != "noise":
            assert trusted.get("count", 20.0) == pytest.approx(20.0, abs=1.5), kind
        assert abs(trusted.get("growth_rate", 0.0)) < 1.0, kind
    assert "mean_diameter" in trusted


@settings(max_examples=30, deadline=None)
@given(
    image=hnp.arrays(
        st.sampled_from(["u1", "i2", "f4", ">f8", "c8", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=60),
        fill=st.just(0),
    ),
    pixel_nm=st.one_of(st.none(), st.floats(), st.sampled_from([0.3, 0.02, 1e-6])),
)
def test_nothing_but_a_measure_error_is_raised(image: Image, pixel_nm: Any) -> None:
    with contextlib.suppress(MeasureError):
        measured = measure_particles(image, pixel_nm)
        assert measured.flags
