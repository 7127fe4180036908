"""A whole recipe: read from YAML with the line of every mistake, written back, and turned into a plan."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from acquire.config import explain
from acquire.errors import RecipeError
from acquire.recipe.schema import (
    EstimateSettings,
    Limits,
    LinkLossSettings,
    Name,
    PauseSettings,
    Record,
    SafeStateSettings,
    Specimen,
    StoreChoices,
    Strict,
)
from acquire.recipe.steps import AnyStep, Plan, Repeat, Step

STEPS_AT_MOST = 100_000
"""A plan with more is taken for a mistake, in a recipe and in a script."""


class Recipe(Strict):
    """What an experiment does, in a form that a person can read two years later."""

    hotstage: Literal[1] = 1
    name: str = Field(min_length=1)
    specimen: Specimen | None = None
    limits: Limits = Limits()
    safe_state: SafeStateSettings = SafeStateSettings()
    pause: PauseSettings = PauseSettings()
    on_link_loss: LinkLossSettings = LinkLossSettings()
    store: StoreChoices = StoreChoices()
    record: dict[Name, Record] = Field(default_factory=dict)
    estimate: dict[Name, EstimateSettings] = Field(default_factory=dict)
    steps: tuple[AnyStep, ...] = ()
    """Empty for a script, which brings a plan of its own."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        scans = [name for name, entry in self.record.items() if entry.scan is not None]
        holders = [name for name, entry in self.record.items() if entry.holder is not None]
        for what, names in (("scan", scans), ("holder", holders)):
            if len(names) > 1:
                raise ValueError(
                    f"record: {' and '.join(names)} both record the one {what}; keep one of them"
                )
        for name, settings in self.estimate.items():
            entry = self.record.get(settings.stream)
            if entry is None or entry.scan is None:
                raise ValueError(
                    f"estimate.{name}.from = {settings.source!r}: no scan called "
                    f"{settings.stream!r} is recorded; recorded are: {', '.join(scans) or 'none'}"
                )
            if settings.channel not in entry.scan.detectors:
                raise ValueError(
                    f"estimate.{name}.from = {settings.source!r}: record.{settings.stream} has no "
                    f"detector {settings.channel!r}, only {', '.join(entry.scan.detectors)}"
                )
        total = _count(self.steps)
        if total > STEPS_AT_MOST:
            raise ValueError(
                f"steps: {total} steps with all repeats written out are too many; at most "
                f"{STEPS_AT_MOST} can be run"
            )
        for step in self.distinct_steps():
            if getattr(step, "name", None) in self.record:
                raise ValueError(
                    f"the step '{step}' is named like the recorded stream "
                    f"{getattr(step, 'name', '')!r}; give it another 'name'"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe file; raises RecipeError naming file, line, key, value and mend."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"recipe {str(path)!r} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"recipe {str(path)!r} is not UTF-8 text: {error}.") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str = "recipe") -> Recipe:
        """Read a recipe from YAML text; raises RecipeError."""
        try:
            raw = YAML(typ="rt").load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark
            line = f":{mark.line + 1}" if mark is not None else ""
            raise RecipeError(f"{source}{line}: not valid YAML: {error.problem}.") from error
        except (YAMLError, ValueError) as error:
            raise RecipeError(f"{source}: not valid YAML: {error}.") from error
        if not isinstance(raw, Mapping):
            raise RecipeError(f"{source}: a recipe is a mapping that begins with 'hotstage: 1'.")
        if "hotstage" not in raw:
            raise RecipeError(
                f"{source}:1: the key 'hotstage' is missing; begin with 'hotstage: 1', the version "
                "of the recipe language."
            )
        try:
            return cls.model_validate(_plain(raw))
        except ValidationError as error:
            raise RecipeError(explain(error, source, cls, _lines(raw))) from error

    def dump(self) -> str:
        """The recipe as YAML text that :meth:`parse` reads to an equal recipe."""
        body = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        stream = io.StringIO()
        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 100
        yaml.dump({"hotstage": 1, **body}, stream)
        return stream.getvalue()

    def flat_steps(self) -> Iterator[Step]:
        """The steps in the order in which they run, repeats written out."""
        yield from _flatten(self.steps)

    def distinct_steps(self) -> Iterator[Step]:
        """The steps as they are written, those of a repeat once."""
        yield from _flatten(self.steps, once=True)

    def plan(self) -> Plan:
        """The steps as a plan for an engine."""
        yield from self.flat_steps()

    @property
    def scan_stream(self) -> str | None:
        """The name of the recorded scan, if there is one."""
        return next((n for n, entry in self.record.items() if entry.scan is not None), None)

    @property
    def holder_period_s(self) -> float:
        """How often the holder is read; it always is, at least once a second."""
        periods = [e.holder.every for e in self.record.values() if e.holder is not None]
        return min([1.0, *periods])


def _flatten(steps: tuple[Step, ...], *, once: bool = False) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(1 if once else step.times):
                yield from _flatten(step.steps, once=once)
        else:
            yield step


def _count(steps: tuple[Step, ...]) -> int:
    return sum(s.times * _count(s.steps) if isinstance(s, Repeat) else 1 for s in steps)


def _plain(node: Any) -> Any:
    """YAML nodes as plain dicts, lists and scalars."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    for scalar in (int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def _lines(node: Any, at: tuple[int | str, ...] = ()) -> dict[tuple[int | str, ...], int]:
    """The line of every key, by its path."""
    found: dict[tuple[int | str, ...], int] = {}
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            found[(*at, str(key))] = node.lc.key(key)[0] + 1
            found.update(_lines(value, (*at, str(key))))
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            found[(*at, index)] = node.lc.item(index)[0] + 1
            found.update(_lines(value, (*at, index)))
    return found
