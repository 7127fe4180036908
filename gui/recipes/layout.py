"""Where everything stands in a recipe's text: from keys and positions to characters, and back."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from acquire.engine.checked import Place
from acquire.errors import RecipeError

_COMMENT = re.compile(r"(?<!\S)#")


@dataclass(slots=True)
class Spot:
    """One value in the text; characters count from 0, an end is behind the last one."""

    path: Place
    start: int
    end: int
    """Without the blank space and the comments that follow."""
    kind: str
    """``mapping``, ``sequence`` or ``scalar``."""
    flow: bool
    """Whether it is written in brackets."""
    column: int
    """Of its first character; of a block sequence the one of its dashes."""
    key: tuple[int, int] | None = None
    """The characters of its key, of a value in a mapping."""
    children: list[Place] = field(default_factory=list)


class Layout:
    """All values of a YAML text by their paths; raises RecipeError where it is not YAML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spots: dict[Place, Spot] = {}
        self._line_starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
        try:
            node = YAML(typ="rt").compose(text)
        except (YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"not valid YAML: {error}") from error
        if node is not None:
            self._add(node, (), None)

    def __contains__(self, path: Place) -> bool:
        return path in self.spots

    def __getitem__(self, path: Place) -> Spot:
        return self.spots[path]

    def source(self, path: Place) -> str:
        """How a value is written."""
        spot = self.spots[path]
        return self.text[spot.start : spot.end]

    def nearest(self, path: Place) -> Place:
        """The longest beginning of a path that is written."""
        while path and path not in self.spots:
            path = path[:-1]
        return path

    def line_of(self, path: Place) -> int:
        """The line, from 1, of the nearest that is written; of a value in a mapping that of its key."""
        spot = self.spots.get(self.nearest(path))
        if spot is None or not spot.path:
            return 1
        return self.line_at(spot.key[0] if spot.key is not None else spot.start)

    def line_at(self, position: int) -> int:
        """The line, from 1, of a character."""
        return bisect_right(self._line_starts, position)

    def line_start(self, position: int) -> int:
        """The first character of the line of a character."""
        return self._line_starts[self.line_at(position) - 1]

    def line_end(self, position: int) -> int:
        """Behind the line of a character, its newline included."""
        line = self.line_at(position)
        return self._line_starts[line] if line < len(self._line_starts) else len(self.text)

    def at(self, position: int) -> Place:
        """What stands at a character: the innermost value whose key or text holds it, or begins its line."""
        found: Place = ()
        line = self.line_at(position)
        for path, spot in self.spots.items():
            begin = spot.key[0] if spot.key is not None else spot.start
            first, last = self.line_at(begin), self.line_at(max(begin, spot.end - 1))
            inside = begin <= position <= spot.end or (first <= line <= last and not spot.flow)
            if inside and len(path) >= len(found):
                found = path
        return found

    def below(self, path: Place) -> Iterator[Spot]:
        """The values directly in a mapping or sequence, in order."""
        for child in self.spots[path].children:
            yield self.spots[child]

    def comments(self) -> Counter[str]:
        """Every comment, and how often it stands there."""
        scalars = sorted((s.start, s.end) for s in self.spots.values() if s.kind == "scalar")
        keys = sorted(s.key for s in self.spots.values() if s.key is not None)
        words = sorted([*scalars, *keys])
        starts = [start for start, _ in words]
        found: Counter[str] = Counter()
        for line_start in self._line_starts:
            line = self.text[line_start : self.line_end(line_start)]
            for sign in _COMMENT.finditer(line):
                at = line_start + sign.start()
                last = bisect_right(starts, at) - 1
                if last < 0 or at >= words[last][1]:
                    found[line[sign.start() :].strip()] += 1
                    break
        return found

    def _add(self, node: Any, path: Place, key: tuple[int, int] | None) -> int:
        start = int(node.start_mark.index)
        kind = {MappingNode: "mapping", SequenceNode: "sequence"}.get(type(node), "scalar")
        spot = Spot(path, start, start, kind, bool(getattr(node, "flow_style", False)), 0, key)
        spot.column = start - self.line_start(start)
        self.spots[path] = spot
        last = start
        if kind == "mapping":
            for name, value in node.value:
                inner = (*path, str(name.value))
                named = (name.start_mark.index, self._trimmed(name.end_mark.index))
                spot.children.append(inner)
                last = max(last, named[1], self._add(value, inner, named))
        elif kind == "sequence":
            for index, value in enumerate(node.value):
                inner = (*path, index)
                spot.children.append(inner)
                last = max(last, self._add(value, inner, None))
        if kind == "scalar" or spot.flow or not node.value:
            last = self._trimmed(node.end_mark.index, start)
        spot.end = last
        return last

    def _trimmed(self, end: int, start: int = 0) -> int:
        return start + len(self.text[start:end].rstrip())


@lru_cache(maxsize=8)
def layout_of(text: str) -> Layout:
    """The layout of a text, found once: an edit looks at the same text several times."""
    return Layout(text)
