"""What cannot be measured is flagged or refused, never a number without a warning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acquire.errors import MeasureError
from acquire.measure.particles import QUANTITIES, measure_particles

Scenes = Callable[..., Any]


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
