"""What hands do to the parts of a recipe: add, delete, copy, move, fill in; each becomes an edit of the text."""

from __future__ import annotations

from PySide6 import QtCore

from acquire.engine.checked import Place
from gui.pages.recipe.editing import Editing
from gui.pages.recipe.tree import Tree
from gui.recipes import edits, templates
from gui.recipes.writing import read_value
from gui.words import tr

_HELD_BY = {"repeat": "steps", "when": "then"}
"""Where steps of a block lie, by its kind."""
_BESIDE = {("then", 1): "else", ("else", -1): "then"}
"""What lies beyond the end of a list, by where one goes."""
_WITHIN = 5
"""So long is the place of a step inside a block: steps, 0, repeat, steps, 0."""


class Changes(QtCore.QObject):
    """Acts on the place that is chosen in the tree."""

    complained = QtCore.Signal(str)

    def __init__(self, editing: Editing, tree: Tree) -> None:
        super().__init__()
        self._editing, self._tree = editing, tree

    def add_step(self, kind: str) -> None:
        """Put a new step behind the one that is chosen, or into the list that is."""
        steps, index = self._behind()
        step = templates.new_step(kind)
        self._editing.edit(
            lambda text: edits.insert(text, steps, index, step),
            f"add {kind}",
            lambda: (*steps, index),
        )

    def add_entry(self, key: str, name: str, entry: object) -> None:
        """Add a recorded stream or an estimate under a name that is free."""
        held = self._editing.reading.mapping.get(key)
        taken = held if isinstance(held, dict) else {}
        free = next(n for n in (name, *(f"{name}_{i}" for i in range(2, 100))) if n not in taken)
        self.put((key, free), entry, (key, free))

    def delete(self) -> None:
        """Take out the chosen step, stream or estimate."""
        place = self._tree.place
        if len(place) < 2 or place[-1] in ("then", "else"):
            self.complained.emit(tr("Choose a step, a stream or an estimate to delete it."))
            return
        self._editing.edit(lambda text: edits.remove(text, place), "delete", lambda: place)

    def duplicate(self) -> None:
        """Put a copy behind the chosen step."""
        place = self._tree.place
        if not self._is_step(place):
            self.complained.emit(tr("Choose a step to duplicate it."))
            return
        behind = (*place[:-1], int(place[-1]) + 1)
        self._editing.edit(lambda text: edits.duplicate(text, place), "duplicate", lambda: behind)

    def move_by(self, by: int) -> None:
        """Put the chosen step before or behind its neighbour."""
        place = self._tree.place
        if not self._is_step(place):
            self.complained.emit(tr("Choose a step to move it."))
            return None
        index = int(place[-1]) + by
        count = len(self._editing.reading.value(place[:-1]))
        if not 0 <= index < count:
            other = _BESIDE.get((str(place[-2]), by))
            if other is not None:
                there = self._editing.reading.value((*place[:-2], other))
                end = len(there) if by < 0 and isinstance(there, list) else 0
                return self.move_step(place, (*place[:-2], other), end)
            self.complained.emit(
                tr(
                    "The step is at the end of its list; Alt+Right and Alt+Left lead into a block and out of it."
                )
            )
            return None
        return self.move_step(place, place[:-1], index + (by > 0))

    def move_in(self) -> None:
        """Put the chosen step into the block before it, at its end."""
        place = self._tree.place
        if not self._is_step(place):
            self.complained.emit(tr("Choose a step to move it."))
            return
        index = int(place[-1]) - 1
        before = (*place[:-1], index)
        step = self._editing.reading.value(before) if index >= 0 else None
        kind, body = next(iter(step.items())) if isinstance(step, dict) and step else ("", None)
        key = _HELD_BY.get(kind)
        if key is None or not isinstance(body, dict):
            self.complained.emit(tr("There is no block right before this step to move it into."))
            return
        held = body.get(key)
        inside = (*before, kind, key)
        self.move_step(place, inside, len(held) if isinstance(held, list) else 0)

    def move_out(self) -> None:
        """Put the chosen step behind the block that it is in."""
        place = self._tree.place
        if not self._is_step(place) or len(place) < _WITHIN:
            self.complained.emit(tr("Choose a step inside a block to move it out."))
            return
        block = place[:-3]
        self.move_step(place, block[:-1], int(block[-1]) + 1)

    def move_step(self, place: Place, steps: Place, index: int) -> None:
        """Put a step elsewhere."""
        found: list[Place] = [place]

        def change(text: str) -> str:
            new, found[0] = edits.move(text, place, steps, index)
            return new

        self._editing.edit(change, "move", lambda: found[0])

    def _behind(self) -> tuple[Place, int]:
        place = self._tree.place
        while place and place[:1] == ("steps",):
            if self._is_step(place):
                return place[:-1], int(place[-1]) + 1
            held = self._editing.reading.value(place)
            return place, len(held) if isinstance(held, list) else 0
        held = self._editing.reading.value(("steps",))
        return ("steps",), len(held) if isinstance(held, list) else 0

    @staticmethod
    def _is_step(place: Place) -> bool:
        return place[:1] == ("steps",) and isinstance(place[-1], int)

    # ------------------------------------------------------------------ fields

    def put(self, path: Place, value: object, chosen: Place | None = None) -> None:
        """Write a field."""
        self._editing.edit(
            lambda text: edits.put(text, path, value),
            f"field {path}",
            (lambda: chosen) if chosen is not None else None,
        )

    def take_out(self, path: Place) -> None:
        """Leave a field out."""
        self._editing.edit(lambda text: edits.remove(text, path), f"field {path}")

    def rename(self, path: Place, name: str) -> None:
        """Give a stream or an estimate another name."""
        new = (*path[:-1], name)
        self._editing.edit(lambda text: edits.rename(text, path, name), "rename", lambda: new)

    def add_option(self, path: Place, words: str) -> None:
        """Write an option of an estimator, given as ``name: value``."""
        key, colon, value = words.partition(":")
        if not colon or not key.strip().isidentifier():
            self.complained.emit(tr("Write an option as name: value, not {0!r}.").format(words))
            return
        self.put((*path, key.strip()), read_value(value))
