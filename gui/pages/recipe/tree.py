"""The parts of a recipe as a tree: header, streams, estimates, steps with what is inside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.checked import CheckReport, Place
from acquire.units import show_duration
from gui import text, theme
from gui.recipes.reading import Reading
from gui.recipes.writing import inline
from gui.words import tr

_PATH = QtCore.Qt.ItemDataRole.UserRole
Qt = QtCore.Qt


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree."""

    path: Place
    words: str
    below: tuple[Branch, ...] = ()

    def all(self) -> Iterator[Branch]:
        """Itself and all below."""
        yield self
        for inner in self.below:
            yield from inner.all()


def branches_of(reading: Reading) -> tuple[Branch, ...]:
    """The lines for a reading."""
    words = reading.words
    named = []
    for key, title in (("record", tr("Recorded streams")), ("estimate", tr("Live estimates"))):
        held = reading.mapping.get(key)
        entries = held if isinstance(held, Mapping) else {}
        inside = tuple(
            Branch((key, name), f"{name}  {_about(entry)}") for name, entry in entries.items()
        )
        named.append(Branch((key,), title, inside))
    steps = reading.mapping.get("steps")
    return (
        Branch((), tr("Recipe: {0}").format(reading.mapping.get("name", "")), ()),
        *named,
        Branch(("steps",), tr("Steps"), _steps(steps, ("steps",), words)),
    )


def _steps(steps: Any, at: Place, words: Mapping[Place, str]) -> tuple[Branch, ...]:
    found = []
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        here = (*at, index)
        kind, body = next(iter(step.items())) if isinstance(step, dict) and step else ("?", step)
        inside: tuple[Branch, ...] = ()
        if isinstance(body, dict) and kind == "repeat":
            inside = _steps(body.get("steps"), (*here, kind, "steps"), words)
        elif isinstance(body, dict) and kind == "when":
            inside = tuple(
                Branch((*here, kind, key), key, _steps(body.get(key), (*here, kind, key), words))
                for key in ("then", "else")
            )
        said = words.get(here) or f"{kind} {inline(body)[:80]}"
        found.append(Branch(here, said, inside))
    return tuple(found)


def _about(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return ""
    return str(entry.get("from", "")) or ", ".join(str(key) for key in entry if key != "every")


class Tree(QtWidgets.QTreeWidget):
    """Emits which place was chosen, and which step a hand dropped where."""

    chosen = QtCore.Signal(tuple)
    dropped = QtCore.Signal(tuple, tuple, int)
    """The path of a step, the list that it shall be in, and before what there."""

    def __init__(self) -> None:
        super().__init__()
        self.setHeaderLabels(["", tr("At"), tr("For")])
        self.setAccessibleName(tr("Parts of the recipe"))
        self.setRootIsDecorated(True)
        self.setIndentation(14)
        self.setUniformRowHeights(True)
        self.setDragDropMode(QtWidgets.QAbstractItemView.DragDropMode.InternalMove)
        self.setExpandsOnDoubleClick(True)
        header = self.header()
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(20)
        modes = QtWidgets.QHeaderView.ResizeMode
        header.setSectionResizeMode(0, modes.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, modes.Fixed)
            header.resizeSection(column, 74)
        self._items: dict[Place, QtWidgets.QTreeWidgetItem] = {}
        self._times: dict[Place, tuple[float, float]] = {}
        self._shape: tuple[Place, ...] = ()
        self._quiet = False
        self.currentItemChanged.connect(self._choose)
        theme.follow(self, self._paint)

    @property
    def place(self) -> Place:
        """What is chosen; the header if nothing is."""
        item = self.currentItem()
        return tuple(item.data(0, _PATH)) if item is not None else ()

    def glyph(self, place: Place) -> str:
        """The mark in front of a line: ✕ what would stop the run, ⚠ a warning, else nothing."""
        first = self._items[place].text(0)[:1]
        return first if first in "✕⚠" else ""

    def times(self, place: Place) -> tuple[str, str]:
        """What stands beside a step: when it begins, how long it takes."""
        item = self._items[place]
        return item.text(1), item.text(2)

    def span(self, place: Place) -> tuple[float, float] | None:
        """When a step begins first and when it has ended so long after, in run seconds."""
        known = self._times.get(place)
        return (known[0], known[0] + known[1]) if known is not None else None

    def select(self, place: Place) -> None:
        """Choose a place, or the nearest around it that has a line."""
        while place not in self._items and place:
            place = place[:-1]
        if place in self._items:
            self.setCurrentItem(self._items[place])
            self.scrollToItem(self._items[place])

    def show_reading(self, reading: Reading, report: CheckReport | None) -> None:
        """Show a recipe, with what is known of its times and its faults."""
        branches = branches_of(reading)
        shape = tuple(branch.path for top in branches for branch in top.all())
        if shape != self._shape:
            self._rebuild(branches, shape)
        times = self._times = _times(reading, report)
        for top in branches:
            for branch in top.all():
                self._fill(branch, times.get(branch.path), _worst(branch.path, reading, report))

    def _rebuild(self, branches: tuple[Branch, ...], shape: tuple[Place, ...]) -> None:
        place, closed = self.place, {p for p, item in self._items.items() if not item.isExpanded()}
        self._quiet = True
        self.clear()
        self._items = {}
        self._shape = shape

        def add(branch: Branch, parent: Any) -> None:
            item = QtWidgets.QTreeWidgetItem(parent)
            item.setData(0, _PATH, branch.path)
            flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            if branch.path and isinstance(branch.path[-1], int):
                flags |= Qt.ItemFlag.ItemIsDragEnabled
            if branch.path[:1] == ("steps",):
                flags |= Qt.ItemFlag.ItemIsDropEnabled
            item.setFlags(flags)
            for column in (1, 2):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            self._items[branch.path] = item
            for inner in branch.below:
                add(inner, item)

        for branch in branches:
            add(branch, self)
        for path, item in self._items.items():
            item.setExpanded(path not in closed or not item.childCount())
        self._quiet = False
        self.select(place)

    def _fill(self, branch: Branch, times: tuple[float, float] | None, worst: str) -> None:
        item = self._items[branch.path]
        words = f"{worst} {branch.words}" if worst else branch.words
        begin, takes = times if times is not None else (float("nan"), float("nan"))
        at = text.clock(begin) if times is not None else ""
        short = show_duration(takes) if takes < 60 else text.clock(takes)
        for_ = short if times is not None else ""
        for column, said in enumerate((words, at, for_)):
            if item.text(column) != said:
                item.setText(column, said)
        item.setToolTip(0, branch.words)
        self._colour(item)

    def _colour(self, item: QtWidgets.QTreeWidgetItem) -> None:
        now = theme.now()
        colour = {"✕": now.error_text, "⚠": now.orange}.get(item.text(0)[:1], now.text)
        for column, name in enumerate((colour, now.muted, now.muted)):
            item.setForeground(column, QtGui.QBrush(QtGui.QColor(name)))

    def _paint(self) -> None:
        for item in self._items.values():
            self._colour(item)

    def _choose(self) -> None:
        if not self._quiet:
            self.chosen.emit(self.place)

    # ------------------------------------------------------------------ dragging

    def dropEvent(self, event: QtGui.QDropEvent) -> None:  # noqa: N802 - Qt's name
        """Tell where the dragged step was let go; the text moves it, and the tree follows the text."""
        source = self.place
        event.setDropAction(Qt.DropAction.IgnoreAction)
        event.accept()
        if not source or not isinstance(source[-1], int):
            return
        found = self._target(event.position().toPoint())
        if found is not None:
            self.dropped.emit(source, *found)

    def _target(self, point: QtCore.QPoint) -> tuple[Place, int] | None:
        item = self.itemAt(point)
        if item is None:
            return ("steps",), self._items[("steps",)].childCount()
        path: Place = tuple(item.data(0, _PATH))
        if path[:1] != ("steps",):
            return None
        if not isinstance(path[-1], int):  # a list: at its end
            return path, item.childCount()
        box = self.visualItemRect(item)
        lower = point.y() > box.center().y()
        below = (*path, "repeat", "steps")
        if lower and item.childCount() and (*below, 0) in self._items:
            return below, 0
        return path[:-1], path[-1] + lower


def _times(reading: Reading, report: CheckReport | None) -> dict[Place, tuple[float, float]]:
    """First begin and whole duration of every step, as checked or else as the recipe's own figures say."""
    found: dict[Place, tuple[float, float]] = {}
    rows: Iterator[tuple[Place, float, float]]
    if report is not None and report.places:
        steps = zip(report.places, report.plan.steps, strict=False)
        rows = ((place, step.t_start_s, step.duration_s) for place, step in steps)
    else:
        rows = ((part.place, part.t_start_s, part.duration_s) for part in reading.course.parts)
    for place, begin, takes in rows:
        first, whole = found.get(place, (begin, 0.0))
        found[place] = first, whole + takes
    return found


def _worst(place: Place, reading: Reading, report: CheckReport | None) -> str:
    """The glyph of the gravest objection at a place or, of a line that holds others, inside it."""
    if reading.below(place):
        return "✕"
    findings = report.findings if report is not None else ()
    here = [
        finding.kind
        for finding in findings
        for at in finding.places or ((),)
        if (
            at[: len(place)] == place
            if place
            else at[:1] not in (("record",), ("estimate",), ("steps",))
        )
    ]
    return "✕" if "problem" in here else "⚠" if here else ""
