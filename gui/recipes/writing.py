"""Plain values as YAML text in the manner of a recipe: in brackets, steps with steps inside on lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

WIDTH = 96
"""A step that is wider goes on lines of its own."""
_LISTS = ("steps", "then", "else")
"""Keys that hold steps."""


def read_value(text: str) -> Any:
    """What a person's words mean as a YAML value: a number, a list in brackets, else the text itself."""
    words = text.strip()
    try:
        (found,) = YAML(typ="safe", pure=True).load(f"[{words}]")
    except (YAMLError, ValueError):
        return words
    return found if isinstance(found, bool | int | float | str | list | dict) else words


@lru_cache(maxsize=4096)
def _scalar(text: str) -> str:
    if text and text == text.strip() and "\n" not in text:
        try:
            if YAML(typ="safe", pure=True).load(f"[{text}]") == [text]:
                return text
        except (YAMLError, ValueError):
            pass
    return json.dumps(text, ensure_ascii=False)


def inline(value: Any) -> str:
    """A value on one line, lists and settings in brackets."""
    if isinstance(value, str):
        return _scalar(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(str(k))}: {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    return str(value)


def step_lines(step: Mapping[str, Any]) -> list[str]:
    """The lines of a step in a list, the first beginning with ``- ``."""
    ((kind, body),) = step.items()
    whole = f"- {kind}: {inline(body)}"
    nested = isinstance(body, Mapping) and any(
        _holds_steps(key, value) for key, value in body.items()
    )
    if not isinstance(body, Mapping) or not body or (not nested and len(whole) <= WIDTH):
        return [whole]
    return [f"- {kind}:", *("    " + line for line in entry_lines(body))]


def entry_lines(body: Mapping[str, Any]) -> list[str]:
    """Settings, one line each; steps inside on lines below."""
    lines = []
    for key, value in body.items():
        if _holds_steps(key, value):
            lines.append(f"{key}:")
            lines += ["  " + line for step in value for line in step_lines(step)]
        else:
            lines.append(f"{_scalar(str(key))}: {inline(value)}")
    return lines


def _holds_steps(key: str, value: Any) -> bool:
    return key in _LISTS and isinstance(value, list | tuple) and bool(value)
