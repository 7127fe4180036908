"""What a form asks for a part of a recipe: made from the models, so that a new step has a form by itself."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import WithJsonSchema

from acquire.recipe import Recipe, Step
from acquire.recipe.amounts import Amount
from acquire.recipe.conditions import EXAMPLE as CONDITION_EXAMPLE
from acquire.recipe.conditions import Condition, Conditions
from acquire.recipe.steps import KINDS
from gui.words import tr


class Shape(Enum):
    """How a field is asked for."""

    WORDS = "words"
    """Any text."""
    VALUE = "value"
    """One number, quantity or name."""
    LIST = "list"
    """Several, with commas between."""
    CHOICE = "choice"
    GROUP = "group"
    """Fields of its own."""
    EITHER = "either"
    """A word, or a group."""
    NAMED = "named"
    """Groups with a name each."""
    STEPS = "steps"


_EXAMPLES = {
    "at": "60 nm, 60 nm",
    "between": "650 °C, 850 °C",
    "detectors": "haadf, abf",
    "dwell_time": "3 µs",
    "every": "1 s",
    "from": "40 nm, 60 nm",
    "low_loss_dwell_time": "1 ms",
    "points": "50",
    "range": "400 eV, 600 eV",
    "shape": "20, 30",
    "size": "512",
    "times": "3",
    "to": "80 nm, 60 nm",
    "wait": "30 s",
    "within": "30 s",
}
"""Of fields whose unit alone gives an example that nobody would write."""


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a part of a recipe."""

    key: str
    shape: Shape
    required: bool
    default: str = ""
    """What holds if it is left out, as one writes it; empty if that is nothing."""
    about: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    single: bool = False
    """Whether one value of a list is written without brackets."""
    model: type[BaseModel] | None = None
    """Of a group, of what is named, or of the group that may stand in place of a word."""


@lru_cache(maxsize=256)
def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a model, in its order."""
    texts = _attribute_texts(model)
    return tuple(_field(name, info, texts) for name, info in model.model_fields.items())


def step_model(kind: str) -> type[Step] | None:
    """The model of a kind of step; None of an unknown one."""
    return KINDS.get(kind)


def short_key(kind: str) -> str:
    """The only field of a step that may be written without its name: ``- mark: text``; else empty."""
    model = KINDS.get(kind)
    own = list(model.model_fields) if model is not None else []
    return own[0] if kind in ("mark", "wait_for_operator") and len(own) == 1 else ""


def about(model: type[BaseModel]) -> str:
    """What a model says of itself, as one paragraph."""
    return tr(_plain_words(inspect.getdoc(model) or ""))


def header_fields() -> tuple[Field, ...]:
    """The fields of a recipe but its version and what the tree has places of its own for."""
    apart = ("hotstage", "record", "estimate", "steps")
    return tuple(field for field in fields_of(Recipe) if field.key not in apart)


def named_model(key: str) -> type[BaseModel]:
    """The model of the entries of ``record`` or ``estimate``."""
    (found,) = (field.model for field in fields_of(Recipe) if field.key == key)
    assert found is not None
    return found


def _field(name: str, info: FieldInfo, texts: dict[str, str]) -> Field:
    shape, model, choices = _shape(info.annotation)
    required = info.is_required()
    return Field(
        info.alias or name,
        shape,
        required,
        "" if required else _default(info),
        texts.get(name, ""),
        _example(info.alias or name, [info.annotation, *info.metadata]),
        choices,
        int in _options(info.annotation),
        model,
    )


def _shape(annotation: Any) -> tuple[Shape, type[BaseModel] | None, tuple[str, ...]]:
    options = [a for a in _options(annotation) if a is not type(None)]
    words = [w for option in options if get_origin(option) is Literal for w in get_args(option)]
    models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    if models:
        shape = Shape.EITHER if words else Shape.GROUP
        return shape, models[0], tuple(map(str, words))
    if words:
        return Shape.CHOICE, None, tuple(map(str, words))
    if bool in options:
        return Shape.CHOICE, None, ("true", "false")
    for option in options:
        if get_origin(option) is dict:
            value = _options(get_args(option)[1])[0]
            return Shape.NAMED, value, ()
        if get_origin(option) is tuple:
            inner = _options(get_args(option)[0])
            if any(isinstance(o, type) and issubclass(o, Step) for o in inner):
                return Shape.STEPS, None, ()
            return Shape.LIST, None, ()
    if options and all(option in (Condition, Conditions) for option in options):
        return Shape.WORDS, None, ()
    return (Shape.WORDS if options == [str] else Shape.VALUE), None, ()


def _options(annotation: Any) -> list[Any]:
    """The members of a union, without what is annotated to them."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in _options(part)]
    return [annotation]


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default in (None, (), ""):
        return ""
    if isinstance(info.default, bool):
        return "true" if info.default else "false"
    if isinstance(info.default, BaseModel):
        return ""
    unit = _unit([info.annotation, *info.metadata])
    return (
        f"{info.default:.12g} {unit}"
        if unit and isinstance(info.default, float)
        else str(info.default)
    )


def _schemas(parts: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, WithJsonSchema):
            found.append(dict(part.json_schema or {}))
        elif get_origin(part) is not None and get_origin(part) is not Literal:
            found += _schemas(get_args(part))
    return found


def _unit(parts: Any) -> str:
    return next((str(found["unit"]) for found in _schemas(parts) if "unit" in found), "")


def _example(key: str, parts: Any) -> str:
    listed = any(get_origin(option) is tuple for option in _options(parts[0]))
    example = next((str(found["examples"][0]) for found in _schemas(parts) if "unit" in found), "")
    if key in _EXAMPLES and listed == ("," in _EXAMPLES[key] or key == "size"):
        return _EXAMPLES[key]
    if key in _EXAMPLES and "," not in _EXAMPLES[key] and example in ("", "20 min"):
        return _EXAMPLES[key]
    if example:
        return f"{example}, {example}" if listed else example
    options = _options(parts[0])
    if Condition in options:
        return CONDITION_EXAMPLE
    return "0.2 nm/min" if Amount in options else ""


@lru_cache(maxsize=256)
def _attribute_texts(model: type[BaseModel]) -> dict[str, str]:
    """The sentences that stand below the fields of a model and of those that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for node, follower in pairwise(body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(follower, ast.Expr)
                and isinstance(follower.value, ast.Constant)
                and isinstance(follower.value.value, str)
            ):
                found[node.target.id] = _plain_words(follower.value.value)
    return found


def _plain_words(text: str) -> str:
    """A docstring as a person reads it, without its markup."""
    text = re.sub(r":\w+:`~?([^`<]*)(?:<[^`]*)?`", lambda m: m[1].rsplit(".", 1)[-1], text)
    return " ".join(text.replace("``", "").split())
