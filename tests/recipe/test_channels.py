"""A recipe records channels, and calls what they give by the record and the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from acquire.errors import RecipeError
from acquire.recipe import Condition, Recipe

HEAD = "hotstage: 1\nname: film\nrecord:\n  film: {channel: {name: resistance, every: 1 s}}\n"


def test_it_is_read_and_written_back() -> None:
    steps = "steps:\n  - hold: {for: 1 min, until: film.resistance <= 2 kΩ for 3 readings}\n"
    recipe = Recipe.parse(HEAD + steps)
    assert {n: (c.name, c.every) for n, c in recipe.channels.items()} == {"film": ("resistance", 1)}
    assert recipe.scan_stream is None
    assert Recipe.parse(recipe.dump()) == recipe


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{channel: {name: resistance}}", "every"),
        ("{channel: {name: resistance, every: 0 s}}", "greater than 0"),
        ("{channel: {name: '', every: 1 s}}", "name"),
        ("{channel: {name: resistance, every: 1 s, unit: Ω}}", "unit"),
        ("{channel: {name: resistance, every: 1 s}, every: 2 s}", "write 'every' inside 'channel'"),
        ("{channel: {name: resistance, every: 1 s}, holder: {every: 1 s}}", "say one of"),
        ("{}", "say one of"),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused(entry: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Recipe.parse(f"hotstage: 1\nname: film\nrecord:\n  film: {entry}\n")


def test_one_channel_is_recorded_once() -> None:
    with pytest.raises(RecipeError, match="film and again both record the channel 'resistance'"):
        Recipe.parse(HEAD + "  again: {channel: {name: resistance, every: 2 s}}\n")


def test_no_estimator_can_look_at_it() -> None:
    with pytest.raises(RecipeError, match="no scan called 'film' is recorded"):
        Recipe.parse(HEAD + "estimate: {mean: {from: film.resistance}}\n")


@pytest.mark.parametrize(
    "text",
    [
        "film.resistance <= 2 kΩ",
        "film.resistance <= 2 kΩ for 3 readings within 5 s",
        "gas.pressure > 1e-05 mbar",
    ],
)
def test_a_condition_is_written_as_it_was_read(text: str) -> None:
    assert str(Condition.parse(text)) == text
    assert Condition.parse(text).of_channel


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("film.resistance <= 2 kΩ for 3 frames", "write 'for 3 readings'"),
        ("mean_diameter >= 4 nm for 3 readings", "write 'for 3 frames'"),
        ("film. <= 2 kΩ", "is not a condition"),
        ("a.b.c <= 2 kΩ", "is not a condition"),
        ("film.resistance <= 2 kΩ for 0 readings", "at least 1"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Condition.parse(text)


def test_the_example_is_a_recipe(examples: Path) -> None:
    recipe = Recipe.load(examples / "recipes" / "resistance.yaml")
    assert list(recipe.channels) == ["film"]
