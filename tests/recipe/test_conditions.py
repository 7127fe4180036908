"""A condition counts only fresh estimates of frames that were exposed within its step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquire.errors import RecipeError
from acquire.recipe import Condition, ConditionWatch
from acquire.stream import Estimate, Quantity, Value

QUANTITY = Quantity("mean_diameter", "nm", "mean diameter", spoiled_by=("few_particles",))
DIAMETER = {"mean_diameter": QUANTITY}


def _estimate(frame: int, value: float, t_s: float, *flags: str) -> Estimate:
    values = {"mean_diameter": Value(value, 0.1)}
    return Estimate("particles", "overview", frame, t_s, values, flags)


@pytest.mark.parametrize(
    "text",
    [
        "mean_diameter >= 3.83 nm for 3 frames",
        "count >= 5 for 2 frames",
        "coverage > 0.1",
        "growth_rate <= 0.2 nm/min within 60 s",
        "areal_density < 795 1/µm² for 10 frames within 5 s",
    ],
)
def test_conditions_are_written_as_they_are_read(text: str) -> None:
    assert str(Condition.parse(text)) == text


@given(
    st.sampled_from([">=", "<=", ">", "<"]),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.sampled_from(["1", "nm", "1/µm²", "nm/min"]),
    st.integers(1, 1000),
)
def test_any_condition_survives_writing_and_reading(
    op: str, value: float, unit: str, frames: int
) -> None:
    condition = Condition("q", op, float(f"{value:.12g}"), unit, frames)
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text", ["", "big", "d >", "d >= nm", "d => 3", "d >= 3 nm for 0 frames", "d >= 1e999"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        Condition.parse(text)


def test_the_quantity_and_its_unit_must_be_known() -> None:
    with pytest.raises(RecipeError, match=r"'size' is not estimated; estimated are: mean_diameter"):
        Condition.parse("size >= 3 nm").check(DIAMETER)
    with pytest.raises(RecipeError, match="cannot be read in nm"):
        Condition.parse("mean_diameter >= 3 eV").check(DIAMETER)
    Condition.parse("mean_diameter >= 38 Å").check(DIAMETER)


def test_frames_must_agree_in_succession() -> None:
    watch = ConditionWatch(Condition.parse("mean_diameter >= 38.3 Å for 3 frames"), QUANTITY, 10.0)
    verdicts = [
        watch.judge(_estimate(frame, value, 10.5 + frame), 10.0 + frame, 10.6 + frame)
        for frame, value in enumerate([3.9, 3.9, 3.8, 3.9, 3.9, math.nan, 4.0, 4.0, 3.83])
    ]
    assert verdicts == [False] * 8 + [True]
    assert watch.met_by is not None
    assert watch.met_by.frame_index == 8


def test_frames_from_before_the_step_stale_ones_and_repeats_do_not_count() -> None:
    watch = ConditionWatch(
        Condition.parse("mean_diameter >= 3 nm for 2 frames within 5 s"), QUANTITY, 10.0
    )
    assert not watch.judge(_estimate(0, 9.0, 10.2), 9.9, 10.3), "exposed before the step"
    assert not watch.judge(_estimate(1, 9.0, 11.0), 10.5, 16.5), "older than 5 s"
    assert not watch.judge(_estimate(2, 9.0, 12.0), 11.5, 12.1)
    assert not watch.judge(_estimate(2, 9.0, 12.0), 11.5, 12.1), "the same frame again"
    assert watch.judge(_estimate(3, 9.0, 13.0), 12.5, 13.1)


def test_an_estimate_that_is_flagged_as_doubtful_decides_nothing() -> None:
    watch = ConditionWatch(Condition.parse("mean_diameter >= 3 nm for 2 frames"), QUANTITY, 0.0)
    assert not watch.judge(_estimate(0, 9.0, 1.0), 0.5, 1.0)
    assert not watch.judge(_estimate(1, 9.0, 2.0, "few_particles"), 1.5, 2.0)
    assert not watch.judge(_estimate(2, 9.0, 3.0, "another_flag"), 2.5, 3.0)
    assert watch.judge(_estimate(3, 9.0, 4.0), 3.5, 4.0)
