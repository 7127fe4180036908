"""Turns a pydantic refusal into one clear sentence: file, key, value, mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

_UNION_TAG = re.compile(r"literal\[.*\]|tuple\[.*\]|int|str|[A-Z][A-Za-z]+")
"""What pydantic puts into a location beside keys: the member of a union."""

_PLAIN = {
    "tuple_type": "must be a list, each item on a line that begins with '- ', or [in, brackets]",
    "list_type": "must be a list, each item on a line that begins with '- ', or [in, brackets]",
    "model_type": "must be settings, as in {key: value}",
    "dict_type": "must be settings, as in {key: value}",
    "string_type": "must be a text; put it in quotes",
    "int_type": "must be a whole number",
    "too_short": "has too few items",
    "too_long": "has too many items",
}


def suggest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` when a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def dotted(loc: Iterable[int | str]) -> str:
    """``("steps", 1, "ramp")`` as ``steps[1].ramp``."""
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def explain(
    error: ValidationError,
    source: str,
    model: type[BaseModel],
    lines: Mapping[tuple[int | str, ...], int] | None = None,
) -> str:
    """Every problem of a validation, one line each: ``FILE:LINE: KEY = VALUE: what; mend``."""
    return "\n".join(
        dict.fromkeys(
            f"{source}:{told.line}: {told.words}" if told.line else f"{source}: {told.words}"
            for told in each_told(error, model, lines)
        )
    )


@dataclass(frozen=True, slots=True)
class Told:
    """One problem of a validation."""

    path: tuple[int | str, ...]
    """Keys and positions in the file that lead to it."""
    line: int
    """From 1; 0 where none is known."""
    words: str


def each_told(
    error: ValidationError,
    model: type[BaseModel],
    lines: Mapping[tuple[int | str, ...], int] | None = None,
) -> list[Told]:
    """The problems of a validation by their places, each in words as of :func:`explain`."""
    items: list[dict[str, Any]] = [dict(item) for item in error.errors()]
    # of a choice between a word and settings, only what is wrong with the settings helps
    words = [i for i in items if "literal[" in dotted(i["loc"])]
    told = [i for i in items if i not in words] or items
    return list(dict.fromkeys(_tell(item, model, lines or {}) for item in told))


def _tell(
    item: dict[str, Any],
    model: type[BaseModel],
    lines: Mapping[tuple[int | str, ...], int],
) -> Told:
    loc = tuple(item["loc"])
    line = next((lines[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in lines), 0)
    path = tuple(
        part
        for end, part in enumerate(loc, start=1)
        if loc[:end] in lines or not _UNION_TAG.fullmatch(str(part))
    )
    return Told(path, line, _words(item, loc, dotted(path), model))


def _words(
    item: dict[str, Any], loc: tuple[int | str, ...], key: str, model: type[BaseModel]
) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        mend = suggest(str(loc[-1]), known)
        choices = f" Known here: {', '.join(sorted(known))}." if known else ""
        return f"unknown key {key!r}{mend or '.'}{choices}"
    if kind == "missing":
        return f"the key {key!r} is missing."
    message = _PLAIN.get(kind) or str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    value = item.get("input")
    if isinstance(value, str | int | float | bool):
        return f"{key} = {value!r}: {message}"
    return f"{key}: {message}" if key else message


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """Names allowed at a location, as far as the models tell."""
    current: Any = model
    for part in loc:
        if isinstance(part, int) or not _is_model(current):
            continue
        field = next(
            (
                f
                for name, f in current.model_fields.items()
                if part in (name, f.alias, getattr(f, "validation_alias", None))
            ),
            None,
        )
        if field is None:
            continue  # a union tag or a dict key: stay where we are
        models = _models_in(field.annotation)
        if len(models) != 1:
            return set()
        current = models[0]
    if not _is_model(current):
        return set()
    return {field.alias or name for name, field in current.model_fields.items()}


def _is_model(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if _is_model(annotation):
        return [annotation]
    found: list[type[BaseModel]] = []
    for part in getattr(annotation, "__args__", ()):
        found.extend(_models_in(part))
    return found
