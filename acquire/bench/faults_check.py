"""What a reader finds in a run that met a fault: how much, whether it is right, and what is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from acquire.bench.faults_records import BLOCK, IMAGES, PLACES, SPECTRA, Records
from acquire.errors import HotstageError
from acquire.instruments import AnyArray
from acquire.store import JOURNAL_NAME, ZARR_NAME, read_journal, recover_run, verify_run

WINDOW_S = 0.7
"""What was taken longer ago than this must be readable, whatever happens."""

Acks = Mapping[str, Sequence[tuple[int, float]]]


@dataclass
class Outcome:
    """What became of one case."""

    readable: int = 0
    """Records that a plain reader gets."""
    lost: int = 0
    """Records that were taken and that it does not get."""
    old: list[tuple[float, int]] = field(default_factory=list)
    """Age, and number, of those that were older than :data:`WINDOW_S`."""
    ended_unix_s: float = 0.0
    """When the writer came to its end."""
    stalled_s: float = 0.0
    """How long the machine itself stood still shortly before: so much older a lost record may be."""
    wrong: int = 0
    """Records that it gets and that are not what was taken."""
    worst_s: float = 0.0
    """Age of the oldest lost record."""
    safe_s: float = 0.0
    """Wall time until the heater was safe, where there is one."""
    problems: list[str] = field(default_factory=list)
    """Everything that is not as it must be."""

    @property
    def late(self) -> int:
        """Lost records that were older than they may be."""
        return sum(number for age_s, number in self.old if age_s > WINDOW_S + self.stalled_s)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.late or self.wrong or self.problems)


def look(
    folder: Path, records: Records, acks: Acks, ended_unix_s: float, *, recovered: bool = False
) -> Outcome:
    """Read a run with plain zarr-python and compare it with what was acknowledged.

    Args:
        folder: of the run.
        records: what was written to it.
        acks: number and wall time of every record that was taken, by kind.
        ended_unix_s: when the writer came to its end, on the wall.
        recovered: whether images that were lost may be recorded as gaps.
    """
    found = Outcome(ended_unix_s=ended_unix_s)
    try:
        root = zarr.open_group(folder / ZARR_NAME, mode="r")
        present = _check_kinds(root, records, found)
        _check_gaps(root, records, present.get(IMAGES, []), found, recovered)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        found.problems.append(f"unreadable: {type(error).__name__}: {error}")
        present = {}
    for kind, taken in acks.items():
        newest = max(present.get(kind, []), default=-1)
        step = BLOCK if kind == SPECTRA else 1
        for number, wall_s in taken:
            if (lost := min(number - newest, step)) > 0:
                age_s = ended_unix_s - wall_s
                found.lost += lost
                found.old += [(age_s, lost)] if age_s > WINDOW_S else []
                found.worst_s = max(found.worst_s, age_s)
    try:
        entries = read_journal(folder / JOURNAL_NAME)
    except HotstageError as error:
        found.problems.append(str(error))
    else:
        if [e.seq for e in entries] != list(range(len(entries))):
            found.problems.append("the journal has holes or torn lines")
    return found


def _check_kinds(root: zarr.Group, records: Records, found: Outcome) -> dict[str, list[int]]:
    """The numbers of the records of each kind that are there."""
    present: dict[str, list[int]] = {}
    for kind, place in PLACES.items():
        if place not in root:
            continue
        columns = _columns(root[place], found, place)
        if not columns:
            continue
        numbers = columns["number" if kind == "holder" else "frame_index"].astype(np.int64)
        present[kind] = numbers.tolist()
        found.readable += len(numbers)
        if not len(numbers):
            continue
        wrong = records.wrong(kind, columns | {"frame_index": numbers})
        expected = list(takewhile(numbers[-1].__ge__, records.expected(kind)))
        if present[kind] != expected:
            absent = sorted(set(expected) - set(present[kind]))
            found.problems.append(f"{place} lacks {absent[:5]} or holds what never came")
            found.wrong += len(absent)
        if wrong.any():
            rows = np.flatnonzero(wrong)
            found.wrong += len(rows)
            found.problems.append(f"{place}: rows {rows[:5].tolist()} … are not what was written")
    return present


def _columns(group: Any, found: Outcome, place: str) -> dict[str, AnyArray]:
    """Everything in a group that grows with time; all must be equally long."""
    arrays = {
        name: array
        for name, array in group.arrays()
        if array.metadata.dimension_names and array.metadata.dimension_names[0] == "time"
    }
    lengths = {array.shape[0] for array in arrays.values()}
    if len(lengths) > 1:
        found.problems.append(f"the arrays of {place} have different lengths: {sorted(lengths)}")
        return {}
    return {name: np.asarray(array[:]) for name, array in arrays.items()}


def _check_gaps(
    root: zarr.Group, records: Records, present: list[int], found: Outcome, recovered: bool
) -> None:
    """Every frame that is not there must be said to be missing, and no other."""
    said = frames_in_gaps(root)
    holes = set(range(max(present, default=-1) + 1)) - set(present)
    if unsaid := sorted(holes - said):
        found.problems.append(f"images {unsaid[:5]} are missing without a recorded gap")
        found.wrong += len(unsaid)
    there = said & set(present)
    if untrue := sorted(there if recovered else {n for n in said if not records.missing(n)}):
        found.problems.append(f"gaps {untrue[:5]} are recorded for images that came")
        found.wrong += len(untrue)


def frames_in_gaps(root: zarr.Group) -> set[int]:
    """The numbers of the frames that are recorded as missing, of a run with one stream of images."""
    if "gaps" not in root:
        return set()
    group: Any = root["gaps"]
    said: set[int] = set()
    for first, count in zip(group["frame_index"][:], group["frames"][:], strict=True):
        said.update(range(int(first), int(first) + int(count)))
    return said


def keep(
    folder: Path, records: Records | None, found: Outcome, acks: Acks, ended_unix_s: float
) -> None:
    """Recover and verify a run; what is wrong then is added to ``found``."""
    try:
        recover_run(folder)
        again = recover_run(folder)
        verified = verify_run(folder)
    except HotstageError as error:
        found.problems.append(f"not recovered: {error}")
        return
    if again.changes:
        found.problems.append(f"recovered twice, changed twice: {again.changes[0]}")
    if not verified.good:
        found.problems += [f"verify: {f.where}: {f.text}" for f in verified.findings[:3]]
    if records is not None:
        after = look(folder, records, acks, ended_unix_s, recovered=True)
        found.problems += [f"after recover: {problem}" for problem in after.problems]
        if after.readable < found.readable:
            found.problems.append("recover has lost records")
        found.wrong += after.wrong


def add(outcomes: Iterable[Outcome]) -> Outcome:
    """The sum of outcomes, and the worst of what is not counted; only what is too old stays old."""
    total = Outcome()
    for one in outcomes:
        total.readable += one.readable
        total.lost += one.lost
        total.old += [(math.inf, one.late)] if one.late else []
        total.stalled_s = max(total.stalled_s, one.stalled_s)
        total.wrong += one.wrong
        total.worst_s = max(total.worst_s, one.worst_s)
        total.safe_s = max(total.safe_s, one.safe_s)
        total.problems += one.problems
    return total
