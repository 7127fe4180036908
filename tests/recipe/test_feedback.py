"""Decisions and regulation as they are written: strict, with the line of every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acquire.errors import RecipeError
from acquire.recipe import (
    Amount,
    Condition,
    Conditions,
    ConditionsWatch,
    Outcome,
    Recipe,
    Regulate,
    When,
    parse_condition,
    regulate,
    when,
)
from acquire.stream import Estimate, Quantity, Value

KNOWN = {
    "size": Quantity("size", "nm", "size", ("doubtful",)),
    "count": Quantity("count", "1", "number"),
}


@pytest.fixture
def text(examples: Path) -> str:
    return (examples / "recipes" / "steered_growth.yaml").read_text(encoding="utf-8")


def test_the_example_reads_as_it_is_meant_and_survives_writing(text: str) -> None:
    recipe = Recipe.parse(text)
    decision = recipe.steps[2]
    assert isinstance(decision, When)
    step = decision.then[0]
    assert isinstance(step, Regulate)
    assert (step.target, step.between, step.for_) == (Amount(0.1, "nm/min"), (650.0, 850.0), 1200.0)
    assert str(step) == (
        "regulate growth_rate at 0.1 nm/min between 650 and 850 °C for 20 min 00 s, or until "
        "mean_diameter >= 6 nm for 3 frames"
    )
    assert Recipe.parse(recipe.dump()) == recipe


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        ("target: 0.1 nm/min", "target: 0.1", r"recipe:29.*target = 0.1: 0.1 is not a value with"),
        ("target: 0.1 nm/min", "target: -0.1 nm/min", "must be above 0 nm/min"),
        ("target: 0.1 nm/min", "target: 4 nm", "'target' of growth_rate: 4 nm cannot be read in"),
        ("target: 0.1 nm/min", "target: 4 florins", "cannot be read"),
        ("by: temperature", "by: pressure", "must be 'temperature'"),
        ("[650 °C, 850 °C]", "[850 °C, 650 °C]", r"\[850 °C, 650 °C\] must rise"),
        ("quantity: growth_rate", "quantity: coverage", "'coverage' cannot be steered by the temp"),
        (
            "            for: 20 min\n",
            "",
            r"key 'steps\[2\].when.then\[0\].regulate.for' is missing",
        ),
        (
            "for: 20 min",
            "for: 20 min\n            over: 5 min",
            "'from' and 'over' belong together",
        ),
        ("condition: count >= 10", "condition: count => 10", "is not a condition"),
        ("unknown: else", "unknown: perhaps", "unknown = 'perhaps'"),
        ("quantity: growth_rate", "quantity: growth_rate\n            gian: 1", "unknown key"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, change: str, to: str, words: str) -> None:
    assert change in text
    with pytest.raises(RecipeError, match=words) as told:
        Recipe.parse(text.replace(change, to, 1))
    assert str(told.value).startswith("recipe:")


def test_a_decision_needs_something_to_decide_between(text: str) -> None:
    lone = text[: text.index("  - when:")] + "  - when: {condition: count >= 10}\n"
    with pytest.raises(RecipeError, match="has nothing to decide between"):
        Recipe.parse(lone)


def _names(steps: Any) -> list[str]:
    return [getattr(step, "text", step.kind) for step in steps]


NESTED = """
hotstage: 1
name: nested
steps:
  - repeat:
      times: 2
      steps:
        - when:
            condition: count >= 1
            then: [{mark: a}, {when: {condition: count >= 2, then: [{mark: b}], unknown: then}}]
            else: [{mark: c}]
  - mark: d
"""


def test_a_plan_takes_one_branch_and_a_list_shows_both() -> None:
    recipe = Recipe.parse(NESTED)
    whole = ["when", "a", "when", "b", "c"]
    assert _names(recipe.flat_steps()) == [*whole, *whole, "d"]
    assert _names(recipe.distinct_steps()) == [*whole, "d"]
    results = iter(["met", "done", "unknown", "done", "not_met", "done", "done"])
    plan, taken = recipe.plan(), []
    step = next(plan)
    for result in results:
        taken.append(step)
        try:
            step = plan.send(Outcome(result, 0.0, 1.0))
        except StopIteration:
            break
    assert _names(taken) == ["when", "a", "when", "b", "when", "c", "d"]


@pytest.mark.parametrize(
    ("results", "left"),
    [
        ([], ["when", "a", "when", "b", "c", "when", "a", "when", "b", "c", "d"]),
        (["met"], ["a", "when", "b", "when", "a", "when", "b", "c", "d"]),
        (["met", "done", "not_met"], ["when", "a", "when", "b", "c", "d"]),
        (["not_met", "done", "not_met", "done"], ["d"]),
    ],
)
def test_what_is_left_of_a_recipe_follows_what_was_decided(
    results: list[str], left: list[str]
) -> None:
    assert _names(Recipe.parse(NESTED).steps_after(results)) == left


def test_a_target_that_moves_is_where_it_should_be() -> None:
    step = regulate(
        "mean_diameter", "50 Å", ("650 °C", "850 °C"), "30 min", from_="3 nm", over="20 min"
    )
    assert [step.target_at(t) for t in (0, 600, 1200, 1800)] == pytest.approx([3, 4, 5, 5])
    assert [step.slope_at(t) for t in (0, 1200)] == pytest.approx([0.1, 0])
    assert step.growth_quantity == "growth_rate"
    with pytest.raises(RecipeError, match="heat does not make particles smaller"):
        regulate(
            "mean_diameter", "3 nm", ("650 °C", "850 °C"), "30 min", from_="5 nm", over="9 min"
        )


def test_an_estimator_with_a_prefix_is_steered_by_its_own_growth() -> None:
    step = regulate("ml_median_diameter", "4 nm", ("650 °C", "850 °C"), "30 min")
    assert step.growth_quantity == "ml_growth_rate"


# ------------------------------------------------------------------- joined conditions


@pytest.mark.parametrize(
    "text", ["size >= 3 nm for 2 frames and count >= 20", "count < 3 or size > 8 nm or count > 50"]
)
def test_joined_conditions_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_condition(text)) == text
    assert isinstance(parse_condition(text), Conditions)
    assert isinstance(parse_condition("count >= 20"), Condition)


def test_and_and_or_do_not_mix() -> None:
    with pytest.raises(RecipeError, match="which can be read in two ways"):
        parse_condition("count >= 3 and size >= 1 nm or count >= 9")
    with pytest.raises(RecipeError, match="unknown"):
        when("count >= 3", unknown="what", wait="1 s")


def _judge(watch: ConditionsWatch, frame: int, size: float, count: float, *flags: str) -> None:
    values = {"size": Value(size, 0.1), "count": Value(count, 0.0)}
    t_s = float(frame)
    watch.judge(Estimate("e", "overview", frame, t_s, values, flags), t_s - 0.5, t_s)


@pytest.mark.parametrize(
    ("word", "size", "count", "flags", "verdict"),
    [
        ("and", 5.0, 9.0, (), True),
        ("and", 5.0, 1.0, (), False),
        ("and", 5.0, 9.0, ("doubtful",), None),
        ("and", 5.0, 1.0, ("doubtful",), False),
        ("or", 1.0, 9.0, (), True),
        ("or", 1.0, 1.0, (), False),
        ("or", 5.0, 9.0, ("doubtful",), True),
        ("or", 5.0, 1.0, ("doubtful",), None),
    ],
)
def test_what_one_condition_leaves_open_another_may_decide(
    word: str, size: float, count: float, flags: tuple[str, ...], verdict: bool | None
) -> None:
    watch = ConditionsWatch(parse_condition(f"size >= 3 nm {word} count >= 5"), KNOWN, 0.0)
    assert watch.verdict(1.0) is None
    _judge(watch, 1, size, count, *flags)
    assert watch.verdict(1.0) is verdict
    assert watch.met == (verdict is True)
    assert watch.verdict(60.0) is None, "too old to tell"


def test_a_yes_takes_as_many_frames_as_it_says_and_a_no_takes_one() -> None:
    watch = ConditionsWatch(parse_condition("size >= 3 nm for 3 frames"), KNOWN, 0.0)
    seen = []
    for frame, size in enumerate([5.0, 5.0, 1.0, 5.0, 5.0, 5.0], start=1):
        _judge(watch, frame, size, 1.0)
        seen.append(watch.verdict(float(frame)))
    assert seen == [None, None, False, None, None, True]
    assert watch.grounds[0][1].frame_index == 6
