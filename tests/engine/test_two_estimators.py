"""Two estimators of the same kind run side by side: ``use`` names the plugin, ``prefix`` the quantities."""

from __future__ import annotations

from typing import Any

import pytest

from acquire.engine.estimating import known_quantities, make_estimators
from acquire.errors import PluginError, RecipeError
from acquire.measure.particles import LIVE_COLUMNS, LIVE_QUANTITIES
from acquire.recipe import Recipe
from acquire.stream import Estimate, Value


class Counting:
    """Says the frame's number."""

    quantities = LIVE_QUANTITIES
    columns = LIVE_COLUMNS

    def update(self, frame: Any) -> Estimate:
        values = {"count": Value(float(frame.index), 0.0)}
        return Estimate("any", frame.stream, frame.index, frame.t_end_s, values)


def _twice(short: Recipe, second: str) -> Recipe:
    return Recipe.parse(
        short.dump()
        + "estimate:\n  particles: {from: overview.haadf}\n"
        + f"  other: {{from: overview.haadf, {second}}}\n"
    )


def test_a_prefix_tells_two_of_the_same_kind_apart(short: Recipe) -> None:
    known = known_quantities(_twice(short, "use: particles, prefix: ml_"))
    assert known["ml_mean_diameter"].unit == known["mean_diameter"].unit == "nm"
    assert known["ml_growth_rate"].spoiled_by == known["growth_rate"].spoiled_by
    with pytest.raises(RecipeError, match="prefix: other_"):
        known_quantities(_twice(short, "use: particles"))
    with pytest.raises(PluginError, match="particles"):
        known_quantities(_twice(short, "use: partycles"))


def test_use_and_prefix_are_no_options_of_the_estimator(short: Recipe) -> None:
    recipe = _twice(short, "use: particles, prefix: ml_, growth_window: 1 min")
    assert recipe.estimate["other"].options == {"growth_window": "1 min"}
    assert Recipe.parse(recipe.dump()).estimate["other"].prefix == "ml_"
    assert make_estimators(recipe.model_copy(update={"estimate": {}}), {}) == {}


def test_stored_and_told_estimates_carry_the_prefix(bench: Any, short: Recipe) -> None:
    recipe = _twice(short, "use: particles, prefix: ml_")
    made = {"particles": Counting(), "other": Counting()}
    with bench.clock.enrolled("test"):
        report = bench.engine.run(recipe, bench.sink, make=lambda recipe, specs: made)
    assert report.outcome == "completed", report.cause
    names = {name for estimate in bench.sink.estimates for name in estimate.values}
    assert names == {"count", "ml_count"}
