"""The rows of the form for a place in a recipe: what is asked there, and what stands there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from acquire.engine.checked import Place
from acquire.recipe import Record
from gui.recipes import templates
from gui.recipes.fields import (
    Field,
    Shape,
    about,
    fields_of,
    header_fields,
    named_model,
    short_key,
    step_model,
)
from gui.recipes.reading import Reading
from gui.recipes.writing import inline, read_value
from gui.words import tr

RowKind = Literal["title", "hint", "text", "choice", "name", "option", "add"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the form."""

    kind: RowKind
    path: Place
    label: str
    depth: int = 0
    about: str = ""
    value: str = ""
    """What stands there, as one writes it; empty where nothing does."""
    required: bool = False
    default: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    adds: Any = None
    """What the button of an ``add`` row writes."""
    removable: bool = False
    shape: Shape = Shape.VALUE
    single: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """Tells rows apart whose widgets differ."""
        return self.kind, self.path, self.label, self.depth, self.choices, self.removable


def rows_of(reading: Reading, path: Place) -> tuple[Row, ...]:
    """What the form shows for a place of the tree."""
    return tuple(_rows(reading, path))


def meaning(row: Row, text: str) -> Any:
    """What a text in a row stands for in the recipe; the model says what is wrong with it."""
    words = text.strip()
    if row.shape is Shape.WORDS:
        return words
    if row.shape is not Shape.LIST:
        return read_value(words)
    parts = [read_value(part) for part in words.strip("[]").split(",") if part.strip()]
    return parts[0] if row.single and len(parts) == 1 else parts


def _rows(reading: Reading, path: Place) -> Iterator[Row]:
    if not path:
        yield Row("title", (), tr("Recipe"))
        yield Row("hint", (), tr("What holds for all of the run. A star marks what must be said."))
        for field in header_fields():
            yield from _field_rows(reading, field, (), 0)
    elif path == ("record",):
        yield Row("hint", path, tr("Streams that are recorded throughout, beside the steps."))
        yield Row("hint", path, tr("The holder is read once a second even if nothing is said."))
    elif path == ("estimate",):
        yield Row("hint", path, tr("What is measured live, and on which recorded detector."))
    elif path[0] in ("record", "estimate") and len(path) == 2:
        yield Row("name", path, tr("name"), value=str(path[-1]), required=True)
        yield from _model_rows(reading, named_model(str(path[0])), path, 0)
    elif isinstance(path[-1], int):
        yield from _step_rows(reading, path)
    else:
        yield Row("hint", path, tr("Steps, one after the other. Add one, or drag one here."))


def _step_rows(reading: Reading, path: Place) -> Iterator[Row]:
    step = reading.value(path)
    if not isinstance(step, dict) or len(step) != 1:
        yield Row("hint", path, tr("This is no step; mend it in the text."))
        return
    ((kind, body),) = step.items()
    model = step_model(kind)
    yield Row("title", path, str(kind))
    if model is not None:
        yield Row("hint", path, about(model))
    if model is None:
        yield Row("hint", path, tr("No such step is known; mend it in the text."))
        return
    short = short_key(kind)
    if short and not isinstance(body, dict):
        (field,) = fields_of(model)
        value = "" if body is None else str(body)
        yield _text_row(field, (*path, kind), value, 0)
        return
    yield from _model_rows(reading, model, (*path, kind), 0)


def _model_rows(reading: Reading, model: type[BaseModel], path: Place, depth: int) -> Iterator[Row]:
    held = reading.value(path)
    present = held if isinstance(held, dict) else {}
    fields = fields_of(model)
    if model is Record:  # one of four
        chosen = [f for f in fields if f.key in present and f.shape is Shape.GROUP]
        if chosen:
            timed = ["every"] if chosen[0].key in ("scan", "spectrum") else []
            kept = {chosen[0].key, *present, *timed}
            fields = tuple(field for field in fields if field.key in kept)
    for field in fields:
        yield from _field_rows(reading, field, path, depth)
    if model.model_config.get("extra") == "allow":
        known = {field.key for field in fields}
        for key, value in present.items():
            if key not in known:
                yield Row("text", (*path, key), str(key), depth, value=_written(value))
        yield Row("option", path, tr("option"), depth, example="growth_window: 1 min")


def _field_rows(reading: Reading, field: Field, path: Place, depth: int) -> Iterator[Row]:
    here = (*path, field.key)
    held = reading.value(here)
    if field.shape in (Shape.NAMED, Shape.STEPS):
        return  # they have places of their own in the tree
    if field.shape in (Shape.GROUP, Shape.EITHER) and field.model is not None:
        yield from _group_rows(reading, field, here, depth)
    elif field.shape is Shape.CHOICE:
        value = "" if held is None else inline(held)
        yield _choice_row(field, here, value, depth)
    else:
        yield _text_row(field, here, _written(held), depth)


def _group_rows(reading: Reading, field: Field, here: Place, depth: int) -> Iterator[Row]:
    assert field.model is not None
    held = reading.value(here)
    if field.shape is Shape.EITHER:
        words = (*field.choices, *(f.key for f in fields_of(field.model)))
        value = next(iter(held), "") if isinstance(held, dict) else str(held or "")
        yield _choice_row(field, here, value, depth, words)
        if isinstance(held, dict):
            yield from _model_rows(reading, field.model, here, depth + 1)
        return
    needs = any(inner.required for inner in fields_of(field.model))
    if held is None and needs and not field.required:
        yield Row(
            "add",
            here,
            field.key,
            depth,
            field.about,
            adds=templates.example_of(field),
        )
        return
    yield Row(
        "title",
        here,
        field.key,
        depth,
        field.about,
        removable=held is not None and needs and not field.required,
    )
    yield from _model_rows(reading, field.model, here, depth + 1)


def _text_row(field: Field, here: Place, value: str, depth: int) -> Row:
    return Row(
        "text",
        here,
        field.key,
        depth,
        field.about,
        value,
        field.required,
        field.default,
        field.example,
        shape=field.shape,
        single=field.single,
    )


def _choice_row(
    field: Field, here: Place, value: str, depth: int, choices: tuple[str, ...] = ()
) -> Row:
    return Row(
        "choice",
        here,
        field.key,
        depth,
        field.about,
        value,
        field.required,
        field.default,
        choices=choices or field.choices,
        adds=templates.example_of(field) if field.shape is Shape.EITHER else None,
        shape=field.shape,
    )


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(inline, value))
    if isinstance(value, Mapping):
        return inline(value)
    return value if isinstance(value, str) else inline(value)
