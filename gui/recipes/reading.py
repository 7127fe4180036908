"""What a recipe's text means at present: its values, their places, every problem, and the planned course."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from acquire.config import each_told
from acquire.engine.checked import Place
from acquire.errors import RecipeError
from acquire.recipe import Recipe
from acquire.recipe.reading import read_yaml
from acquire.recipe.steps import KINDS
from gui.recipes.course import Course, course_of
from gui.recipes.fields import short_key
from gui.recipes.layout import Layout, layout_of

MAX_BYTES = 4_000_000
_LINE = re.compile(r"^recipe(?::(\d+))?: ", re.MULTILINE)
_FIRST_KEYS = re.compile(r"^([a-z_]+(?:\.\w+)*)\b")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a text is no recipe, at its place."""

    path: Place
    line: int
    """From 1; 0 where none is known."""
    words: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A text and what it means; made off the UI thread."""

    text: str
    plain: Any = None
    """Its plain values; None where it is not YAML."""
    layout: Layout | None = None
    recipe: Recipe | None = None
    """None where anything is wrong with it."""
    problems: tuple[Problem, ...] = ()
    course: Course = field(default_factory=Course)
    words: Mapping[Place, str] = field(default_factory=dict)
    """Of the steps that are good in themselves, by their places."""

    @property
    def mapping(self) -> Mapping[str, Any]:
        """Its keys and values; empty where it has none."""
        return self.plain if isinstance(self.plain, dict) else {}

    def below(self, path: Place) -> tuple[Problem, ...]:
        """The problems at a place and inside it; of the whole those that no other place has."""
        if not path:
            apart = ("record", "estimate", "steps")
            return tuple(p for p in self.problems if not p.path or p.path[0] not in apart)
        return tuple(p for p in self.problems if p.path[: len(path)] == path)

    def value(self, path: Place) -> Any:
        """The plain value at a place; None if there is none."""
        held = self.plain
        for part in path:
            if isinstance(held, dict):
                held = held.get(part)
            elif isinstance(held, list) and isinstance(part, int) and part < len(held):
                held = held[part]
            else:
                return None
        return held


def read(text: str) -> Reading:
    """Read a text; what is wrong is among the problems, nothing is raised."""
    if len(text) > MAX_BYTES:
        words = f"the text has {len(text)} characters; a recipe has at most {MAX_BYTES}."
        return Reading(text, problems=(Problem((), 0, words),))
    try:
        plain, lines = read_yaml(text, "recipe")
        layout = layout_of(text)
    except RecipeError as error:
        return Reading(text, problems=_from_words(error))
    try:
        recipe = Recipe.parse(text, "recipe")
    except RecipeError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            return Reading(text, plain, layout, problems=_from_words(error))
        told = each_told(cause, Recipe, lines)
        problems = tuple(_placed(Problem(t.path, t.line, t.words), layout) for t in told)
        return Reading(text, plain, layout, problems=problems, words=_words(plain))
    return Reading(text, plain, layout, recipe, course=course_of(recipe), words=_words(plain))


def _words(plain: Any) -> dict[Place, str]:
    found: dict[Place, str] = {}

    def go(steps: Any, at: Place) -> None:
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if not isinstance(step, dict) or len(step) != 1:
                continue
            ((kind, body),) = step.items()
            model = KINDS.get(kind)
            if model is None:
                continue
            short = short_key(kind)
            settings = {short: body} if short and not isinstance(body, dict) else body
            with contextlib.suppress(ValidationError):
                found[(*at, index)] = str(model.model_validate(settings))
            for key in ("steps", "then", "else") if isinstance(body, dict) else ():
                go(body.get(key), (*at, index, kind, key))

    go(plain.get("steps") if isinstance(plain, dict) else None, ("steps",))
    return found


def _from_words(error: RecipeError) -> tuple[Problem, ...]:
    found = []
    for line in str(error).split("\n"):
        head = _LINE.match(line)
        number = int(head[1]) if head is not None and head[1] else 0
        found.append(Problem((), number, line[head.end() :] if head is not None else line))
    return tuple(found)


def _placed(problem: Problem, layout: Layout) -> Problem:
    """A problem of the recipe as a whole, at the place that its words begin with."""
    if problem.path:
        return problem
    keys = _FIRST_KEYS.match(problem.words)
    path: Place = tuple(keys[1].split(".")) if keys is not None else ()
    path = layout.nearest(path)
    return Problem(path, layout.line_of(path) if path else 0, problem.words)
