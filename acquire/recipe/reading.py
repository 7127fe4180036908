"""Reads YAML as plain values, with the line of every key for messages about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from acquire.errors import RecipeError

Lines = dict[tuple[int | str, ...], int]
"""Line by the path of a key: ``("steps", 1, "ramp")``."""
MOST_VALUES = 100_000
"""A few lines of aliases that stand for aliases could mean more than any memory holds."""

MOST_LEVELS = 200
"""Of brackets in brackets; what reads YAML takes longer with the square of them."""
_TOO_DEEP = "{}: it is nested too deeply. Write it with fewer levels."
_BRACKET = re.compile(r"[\[\]{}]")


def read_yaml(text: str, source: str) -> tuple[Any, Lines]:
    """Plain dicts, lists and scalars, and their lines; raises RecipeError where it is not YAML."""
    if _levels(text) > MOST_LEVELS:
        raise RecipeError(_TOO_DEEP.format(source))
    try:
        raw = YAML(typ="rt").load(text)
        if _count(raw, source, {}) > MOST_VALUES:
            raise RecipeError(
                f"{source}: with its aliases written out it has more than {MOST_VALUES} values. "
                "Use `repeat` for what is repeated."
            )
        return _plain(raw), _lines(raw)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{source}{line}: not valid YAML: {error.problem}.") from error
    except (YAMLError, ValueError) as error:
        raise RecipeError(f"{source}: not valid YAML: {error}.") from error
    except RecursionError as error:
        raise RecipeError(_TOO_DEEP.format(source)) from error


def _levels(text: str) -> int:
    """How deep brackets stand in brackets."""
    depth = deepest = 0
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _count(node: Any, source: str, known: dict[int, int]) -> int:
    """How many values a node holds when its aliases are written out; each node is looked at once."""
    if not isinstance(node, Mapping | list | tuple):
        return 1
    if id(node) in known:
        if known[id(node)] < 0:
            raise RecipeError(f"{source}: an alias refers to what it stands in. Write it out.")
        return known[id(node)]
    known[id(node)] = -1  # it has been begun
    inside = node.values() if isinstance(node, Mapping) else node
    known[id(node)] = 1 + sum(_count(value, source, known) for value in inside)
    return known[id(node)]


def read_text(path: str, what: str) -> str:
    """The text of a file; raises RecipeError, which calls it ``what``."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{what} {path!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what} {path!r} is not UTF-8 text: {error}.") from error


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


def _lines(node: Any, at: tuple[int | str, ...] = ()) -> Lines:
    """The line of every key, by its path."""
    found: Lines = {}
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            found[(*at, str(key))] = node.lc.key(key)[0] + 1
            found.update(_lines(value, (*at, str(key))))
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            found[(*at, index)] = node.lc.item(index)[0] + 1
            found.update(_lines(value, (*at, index)))
    return found
