"""Turns a preflight into what a window draws: every expected step and every objection beside its place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from acquire.engine.checked import CheckReport, Finding, Place
from acquire.engine.rehearsal import Preflight
from acquire.recipe import Recipe, Repeat, Step, When

_NUMBERED = re.compile(r"^step (\d+)\b")
_DOTTED = re.compile(
    r"\b(record|estimate|limits|safe_state|store|on_link_loss)((?:\.[A-Za-z_]\w*)*)"
)


def report_of(recipe: Recipe, found: Preflight, station: str) -> CheckReport:
    """A preflight with the place of every step and of every objection."""
    # of what was refused before it began, nothing was carried out
    rehearsed = found.results if math.isfinite(found.duration_s) else ()
    carried_out = tuple(_carried_out(recipe.steps, iter(rehearsed), ("steps",)))
    return CheckReport(
        found.plan,
        tuple(place for place, _ in carried_out),
        found.results,
        found.duration_s,
        found.worst_s,
        found.dose_e_per_nm2,
        recipe.limits.dose if recipe.limits.dose is not None else math.nan,
        found.expected_bytes,
        found.free_bytes,
        dict(found.frames),
        (
            *(
                Finding("problem", text, places_of(text, recipe, carried_out))
                for text in found.problems
            ),
            *(
                Finding("warning", text, places_of(text, recipe, carried_out))
                for text in found.warnings
            ),
        ),
        station,
        found.twin,
    )


def places_of(
    text: str, recipe: Recipe, carried_out: Sequence[tuple[Place, Step]] = ()
) -> tuple[Place, ...]:
    """Where in a recipe the words of a check belong, as far as they say so.

    They name a step by its words (then every step of the same words is meant, which is refused for
    the same reason), by its number in the run, or a part of the header by its keys.
    """
    if "step '" in text:
        named = tuple(
            place for place, step in _written(recipe.steps, ("steps",)) if _names(text, step)
        )
        if named:
            return named
    number = _NUMBERED.match(text)
    if number is not None and 0 < int(number[1]) <= len(carried_out):
        return (carried_out[int(number[1]) - 1][0],)
    for found in _DOTTED.finditer(text):
        keys = [found[1], *found[2].split(".")[1:]]
        if found[2] or text.startswith(f"{found[1]}:"):
            return (tuple(keys),)
    return ()


def _names(text: str, step: Step) -> bool:
    return f"step '{step}'" in text


def _written(steps: Sequence[Step], at: Place) -> Iterator[tuple[Place, Step]]:
    """Every step as it is written, with its place."""
    for index, step in enumerate(steps):
        here = (*at, index)
        yield here, step
        for key, inner in _branches(step):
            yield from _written(inner, (*here, step.kind, key))


def _branches(step: Step) -> tuple[tuple[str, Sequence[Step]], ...]:
    if isinstance(step, Repeat):
        return (("steps", step.steps),)
    if isinstance(step, When):
        return ("then", step.then), ("else", step.else_)
    return ()


def _carried_out(
    steps: Sequence[Step], results: Iterator[str], at: Place
) -> Iterator[tuple[Place, Step]]:
    """The steps in the order of a run that ended so, with their places; stops where the run does."""
    for index, step in enumerate(steps):
        here = (*at, index)
        if isinstance(step, Repeat):
            for _ in range(step.times):
                yield from _carried_out(step.steps, results, (*here, step.kind, "steps"))
            continue
        result = next(results, None)
        if result is None:
            return
        yield here, step
        if isinstance(step, When):
            taken = step.branch(result)
            key = "then" if taken is step.then else "else"
            yield from _carried_out(taken, results, (*here, step.kind, key))
