"""What a ``regulate`` step takes of its recipe: quantities in the right units, and over what growth is averaged."""

from __future__ import annotations

from collections.abc import Mapping

from acquire.engine.estimating import known_quantities
from acquire.errors import RecipeError, UnitError
from acquire.recipe import Recipe, Regulate
from acquire.stream import Quantity
from acquire.units import convert, parse

GROWTH_WINDOW = "growth_window"
DEFAULT_WINDOW_S = 120.0
"""Where no ``growth_window`` is written: that of the estimator ``particles``."""
LEVEL_WINDOW_S = 300.0
SPECTRA_IN_WINDOW = 20
"""The rate of what spectra tell is fitted through so many of them at least, unless the step says otherwise."""


def check_regulate(step: Regulate, known: Mapping[str, Quantity]) -> None:
    """Raise RecipeError if what a step regulates by is not estimated."""
    of_growth = () if step.by_slope else ((step.growth_quantity, step.growth_unit),)
    for name, unit in ((step.quantity, step.unit), *of_growth):
        if name not in known:
            listed = ", ".join(sorted(known)) or "none (add an estimator under 'estimate')"
            raise RecipeError(f"{name!r} is needed, and not estimated; estimated are: {listed}.")
        try:
            convert(1.0, known[name].unit, unit)
        except UnitError as error:
            raise RecipeError(f"{name!r} cannot be regulated: {error}") from error
    if step.until is not None:
        step.until.check(known)


def growth_window_s(recipe: Recipe, estimator: str) -> float:
    """Over which time an estimator of a recipe averages growth, in s."""
    entry = recipe.estimate.get(estimator)
    window = entry.options.get(GROWTH_WINDOW) if entry is not None else None
    return parse(window, "s") if isinstance(window, str) else DEFAULT_WINDOW_S


def window_of(step: Regulate, recipe: Recipe, period_s: float) -> float:
    """Over which time the growth is averaged that a step steers by, unless it says so itself.

    ``period_s``: how often estimates come.
    """
    if step.by_slope:
        return max(LEVEL_WINDOW_S, SPECTRA_IN_WINDOW * period_s)
    for name, entry in recipe.estimate.items():
        alone = recipe.model_copy(update={"estimate": {name: entry}})
        if step.growth_quantity in known_quantities(alone):
            return growth_window_s(recipe, name)
    return DEFAULT_WINDOW_S
