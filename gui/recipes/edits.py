"""Small changes of a recipe's text: only what is meant changes, and every comment stays where it is.

The text is cut and sewn at the places that :class:`gui.recipes.layout.Layout` finds. Every result is
read again and compared with what it should mean; what would come out differently is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from acquire.engine.checked import Place
from acquire.errors import RecipeError
from acquire.recipe import Recipe
from acquire.recipe.reading import read_yaml
from gui.recipes.layout import Layout, Spot, layout_of
from gui.recipes.writing import inline, step_lines
from gui.words import tr

ORDER = tuple(Recipe.model_fields)
"""Of the keys of a recipe."""
_NAMED = ("record", "estimate")
"""Keys whose entries stand on lines of their own."""


def put(text: str, path: Place, value: Any) -> str:
    """Write a value, with what must be there to hold it; raises RecipeError."""
    new = _verified(_put(_ended(text), path, value), _put_plain(_plain(text), path, value))
    return _commented(text, new)


def remove(text: str, path: Place) -> str:
    """Take out a key or a step with the comment lines right above it; raises RecipeError."""
    plain = _plain(text)
    del _inside(plain, path[:-1])[path[-1]]
    return _verified(_cut(_ended(text), path), plain)


def rename(text: str, path: Place, name: str) -> str:
    """Give a key another name; raises RecipeError, also where the name is taken."""
    plain, layout = _plain(text), layout_of(text)
    holder, key = _inside(plain, path[:-1]), layout[path].key
    if name in holder and name != path[-1]:
        raise RecipeError(tr("{name!r} is there already; choose another name.").format(name=name))
    if key is None:
        raise RecipeError(tr("A step has no name to change."))
    renamed = {name if k == path[-1] else k: v for k, v in holder.items()}
    expected = _put_plain(plain, path[:-1], renamed)
    new = _verified(text[: key[0]] + inline(name) + text[key[1] :], expected)
    return _commented(text, new)


def insert(text: str, steps: Place, index: int, step: Mapping[str, Any]) -> str:
    """Put a step into a list of steps, which is made if it is not there; raises RecipeError."""
    expected = _insert_plain(_plain(text), steps, index, step)
    new = _verified(_insert_lines(_ended(text), steps, index, step_lines(step)), expected)
    return _commented(text, new)


def duplicate(text: str, path: Place) -> str:
    """Put a copy of a step behind it; raises RecipeError."""
    plain = _plain(text)
    steps, index = path[:-1], int(path[-1]) + 1
    expected = _insert_plain(plain, steps, index, copy.deepcopy(_inside(plain, path)))
    whole = _ended(text)
    return _verified(
        _insert_lines(whole, steps, index, _lines_of(layout_of(whole), path)), expected
    )


def move(text: str, path: Place, steps: Place, index: int) -> tuple[str, Place]:
    """Put a step elsewhere, before what is at ``index`` of a list now; its new path is returned, too.

    Raises:
        RecipeError: it would be put into itself.
    """
    if steps[: len(path)] == path:
        raise RecipeError(tr("A step cannot be put into itself."))
    whole, plain = _ended(text), _plain(text)
    lines, step = _lines_of(layout_of(whole), path), _inside(plain, path)
    del _inside(plain, path[:-1])[path[-1]]
    steps, index = _without(path, steps, index)
    new = _insert_lines(_cut(whole, path), steps, index, lines)
    new = _verified(new, _insert_plain(plain, steps, index, step))
    return _commented(text, new), (*steps, index)


# --------------------------------------------------------------------------- what it should mean


def _plain(text: str) -> Any:
    return read_yaml(text, "recipe")[0]


def _inside(plain: Any, path: Place) -> Any:
    for part in path:
        plain = plain[part]
    return plain


def _put_plain(plain: Any, path: Place, value: Any) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(plain, list) and isinstance(first, int):
        return [*plain[:first], _put_plain(plain[first], rest, value), *plain[first + 1 :]]
    held = plain if isinstance(plain, dict) else {}
    return {**held, first: _put_plain(held.get(first), rest, value)}


def _insert_plain(plain: Any, steps: Place, index: int, step: Any) -> Any:
    held: Any = plain
    for part in steps:
        held = (held or {}).get(part) if not isinstance(held, list) else held[int(part)]
    return _put_plain(plain, steps, [*(held or [])[:index], step, *(held or [])[index:]])


def _without(path: Place, steps: Place, index: int) -> tuple[Place, int]:
    """A place in a list after the step at ``path`` was taken out."""
    at = len(path) - 1
    position = int(path[-1])
    if steps == path[:-1]:
        return steps, index - (index > position)
    if steps[:at] == path[:-1] and int(steps[at]) > position:
        return (*steps[:at], int(steps[at]) - 1, *steps[at + 1 :]), index
    return steps, index


def _verified(text: str, expected: Any) -> str:
    try:
        same = _plain(text) == expected
    except RecipeError:
        same = False
    if not same:
        raise _unsafe()
    return text


def _commented(before: str, after: str) -> str:
    """The text after a change that takes nothing out, if every comment is still there."""
    if layout_of(before).comments() - layout_of(after).comments():
        raise _unsafe()
    return after


def _unsafe() -> RecipeError:
    return RecipeError(
        tr("This is written in a way that the form cannot change safely; change it in the text.")
    )


# --------------------------------------------------------------------------- the text


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _put(text: str, path: Place, value: Any) -> str:
    layout = layout_of(text)
    if path in layout:
        spot = layout[path]
        if spot.kind == "scalar" or spot.flow or spot.key is None:
            space = " " if spot.start == spot.end else ""
            return text[: spot.start] + space + inline(value) + text[spot.end :]
        return f"{text[: spot.key[1]]}: {inline(value)}{text[spot.end :]}"
    parent = layout.nearest(path)
    key, rest = path[len(parent)], path[len(parent) + 1 :]
    for part in reversed(rest):
        value = {part: value}
    if parent not in layout:  # nothing is written yet
        return text + _indented(_entry(str(key), value, top=True), 0)
    if layout[parent].kind != "mapping":
        return _put(text, parent, {key: value})
    return _add_entry(layout, layout[parent], str(key), value)


def _add_entry(layout: Layout, parent: Spot, key: str, value: Any) -> str:
    text = layout.text
    if parent.flow:
        entry = f"{inline(key)}: {inline(value)}"
        if not parent.children:
            return f"{text[: parent.start]}{{{entry}}}{text[parent.end :]}"
        end = layout[parent.children[-1]].end
        return f"{text[:end]}, {entry}{text[end:]}"
    return _add_lines(layout, parent, key, _entry(key, value, top=not parent.path))


def _add_lines(layout: Layout, parent: Spot, key: str, lines: Sequence[str]) -> str:
    """Put the lines of an entry into a block, a recipe's own keys in their order, others last."""
    after = parent.children[-1]
    if not parent.path and key in ORDER:
        before = ORDER[: ORDER.index(key)]
        earlier = [path for path in parent.children if path[0] in before]
        after = earlier[-1] if earlier else after
    at = layout.line_end(layout[after].end)
    return layout.text[:at] + _indented(lines, parent.column) + layout.text[at:]


def _entry(key: str, value: Any, *, top: bool) -> list[str]:
    if top and key in _NAMED and isinstance(value, Mapping) and value:
        return [f"{key}:", *(f"  {inline(name)}: {inline(one)}" for name, one in value.items())]
    if top and key == "steps" and isinstance(value, Sequence) and value:
        return ["steps:", *("  " + line for step in value for line in step_lines(step))]
    return [f"{inline(key)}: {inline(value)}"]


def _cut(text: str, path: Place) -> str:
    layout = layout_of(text)
    spot, parent = layout[path], layout[path[:-1]]
    begin = spot.key[0] if spot.key is not None else spot.start
    siblings = parent.children
    index = siblings.index(path)
    if len(siblings) == 1:
        return _emptied(layout, parent)
    if parent.flow:
        if index + 1 < len(siblings):
            follower = layout[siblings[index + 1]]
            return text[:begin] + text[follower.key[0] if follower.key else follower.start :]
        return text[: layout[siblings[index - 1]].end] + text[spot.end :]
    start, end = _extent(layout, path)
    if text[start:begin].strip(" -") == "" and index == 0 and spot.key is not None:
        follower = layout[siblings[1]]  # the first key stands behind the dash of a list
        if "-" in text[start:begin] and follower.key is not None:
            return text[:begin] + text[follower.key[0] :]
    return text[:start] + text[end:]


def _emptied(layout: Layout, parent: Spot) -> str:
    text, empty = layout.text, "{}" if parent.kind == "mapping" else "[]"
    if parent.flow or parent.key is None:
        return text[: parent.start] + empty + text[parent.end :]
    named = text[parent.key[1] : layout.line_end(parent.key[1])]
    comment = named[named.index("#") - 1 :] if " #" in named else "\n"
    return f"{text[: parent.key[1]]}: {empty}{comment}{text[layout.line_end(parent.end) :]}"


def _extent(layout: Layout, path: Place) -> tuple[int, int]:
    """The whole lines of an entry of a block, with the comment lines right above."""
    spot, parent = layout[path], layout[path[:-1]]
    text = layout.text
    first = spot.key[0] if spot.key is not None else text.rindex("-", 0, spot.start)
    start = layout.line_start(first)
    while start:
        above = layout.line_start(start - 1)
        line = text[above:start]
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) != parent.column:
            break
        start = above
    return start, layout.line_end(spot.end)


def _lines_of(layout: Layout, path: Place) -> list[str]:
    """The lines of a step, its comments with it, as if its dash stood at the left."""
    parent = layout[path[:-1]]
    if parent.flow:
        return ("- " + layout.source(path)).replace("\n", "\n    ").split("\n")
    start, end = _extent(layout, path)
    margin = " " * parent.column
    return [line.removeprefix(margin) for line in layout.text[start:end].rstrip("\n").split("\n")]


def _insert_lines(text: str, steps: Place, index: int, lines: Sequence[str]) -> str:
    text = _unfolded(text, steps[:-1])
    layout = layout_of(text)
    holder = layout.spots.get(steps[:-1])
    below = [f"{steps[-1]}:", *("  " + line for line in lines)]
    if holder is None:
        return text + _indented(below, 0)
    if steps not in layout:
        if holder.kind != "mapping" or not holder.children:
            return _replaced(layout, holder, below)
        return _add_lines(layout, holder, str(steps[-1]), below)
    if not layout[steps].children:
        return _replaced(layout, layout[steps], lines)
    text = _unfolded(text, steps)
    layout = layout_of(text)
    spot = layout[steps]
    if index < len(spot.children):
        at = _extent(layout, spot.children[index])[0]
    else:
        at = _extent(layout, spot.children[-1])[1]
    return text[:at] + _indented(lines, spot.column) + text[at:]


def _unfolded(text: str, path: Place) -> str:
    """The text with all brackets around and at ``path`` written as lines; empty ones stay."""
    for depth in range(len(path) + 1):
        layout = layout_of(text)
        spot = layout.spots.get(path[:depth])
        if spot is None or spot.kind == "scalar":
            return text
        if not spot.flow or not spot.children:
            continue
        lines = []
        for child in spot.children:
            name = "-" if spot.kind == "sequence" else f"{inline(str(child[-1]))}:"
            lines.append(f"{name} {layout.source(child)}")
        text = _replaced(layout, spot, lines)
    return text


def _replaced(layout: Layout, spot: Spot, lines: Sequence[str]) -> str:
    """The text with a value written as lines below its key, or behind its dash."""
    text = layout.text
    if spot.key is None:
        margin = "\n" + " " * spot.column
        return text[: spot.start] + margin.join(lines) + text[spot.end :]
    column = layout[spot.path[:-1]].column + 2
    margin = "\n" + " " * column
    return f"{text[: spot.key[1]]}:{margin}{margin.join(lines)}{text[spot.end :]}"


def _indented(lines: Sequence[str], column: int) -> str:
    return "".join(f"{' ' * column}{line}".rstrip() + "\n" for line in lines)
