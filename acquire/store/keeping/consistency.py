"""Whether the records of a run agree with each other: times, frame numbers, gaps, estimates, journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acquire.store.columns import Cell
from acquire.store.journal import TORN, JournalEntry, read_journal
from acquire.store.keeping.inspect import Finding, StoredArray, Tree
from acquire.store.layout import ESTIMATES, GAPS, JOURNAL_NAME, PARTICLES

Interval = tuple[int, int]
"""Numbers from the first up to and without the second."""


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same numbers as rising intervals that do not touch."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        if first >= last:
            continue
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def without(intervals: Iterable[Interval], taken: Iterable[Interval]) -> list[Interval]:
    """What is in the first and not in the second."""
    holes = merged(taken)
    found: list[Interval] = []
    at = 0
    for first, last in merged(intervals):
        while at < len(holes) and holes[at][1] <= first:
            at += 1
        hole = at
        while first < last and hole < len(holes) and holes[hole][0] < last:
            if holes[hole][0] > first:
                found.append((first, holes[hole][0]))
            first = max(first, holes[hole][1])
            hole += 1
        if first < last:
            found.append((first, last))
    return found


def frames_text(interval: Interval) -> str:
    """``frame 3`` or ``frames 3 to 5``."""
    first, last = interval
    return f"frame {first}" if last == first + 1 else f"frames {first} to {last - 1}"


# ---------------------------------------------------------------------------------- gaps


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames that are missing."""

    stream: str
    first: int
    frames: int
    reason: str
    span_s: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def interval(self) -> Interval:
        """Numbers of the frames."""
        return self.first, self.first + self.frames

    def cells(self) -> dict[str, Cell]:
        """A row of the table of gaps."""
        return {
            "stream": self.stream,
            "frame_index": self.first,
            "frames": self.frames,
            "t_start": self.span_s[0],
            "t_end": self.span_s[1],
            "reason": self.reason,
        }


def read_gaps(tree: Tree, at_most: int | None = None) -> list[Gap]:
    """The table of gaps, or its first ``at_most`` rows; rows that cannot be one are left out."""
    if GAPS not in tree.documents:
        return []
    columns = tree.members(GAPS)
    if not {"stream", "frame_index", "frames", "t_start", "t_end", "reason"} <= columns.keys():
        return []
    rows = columns["stream"].length if at_most is None else at_most
    values = {name: array.column(0, rows) for name, array in columns.items()}
    streams, reasons = columns["stream"].words or [], columns["reason"].words or []
    found: list[Gap] = []
    for row in range(rows):
        stream, reason = int(values["stream"][row]), int(values["reason"][row])
        frames = int(values["frames"][row])
        if 0 < stream < len(streams) and 0 <= reason < len(reasons) and frames > 0:
            span = float(values["t_start"][row]), float(values["t_end"][row])
            first = int(values["frame_index"][row])
            found.append(Gap(streams[stream], first, frames, reasons[reason], span))
    return found


def gaps_of_journal(entries: Iterable[JournalEntry]) -> list[Gap]:
    """Gaps that the journal tells of."""
    found: list[Gap] = []
    for entry in entries:
        details = entry.details
        try:
            if entry.kind == "gap":
                span = float(str(details["t_start"])), float(str(details["t_end"]))
                first, frames = int(str(details["frame_index"])), int(str(details["frames"]))
                stream, reason = str(details["stream"]), str(details["reason"])
                found.append(Gap(stream, first, frames, reason, span))
        except (KeyError, ValueError):
            continue  # a note about a gap that is none of ours
    return found


def declared(gaps: Iterable[Gap], stream: str) -> list[Interval]:
    """Frames of a stream that are said to be missing."""
    return merged(gap.interval for gap in gaps if gap.stream == stream)


# -------------------------------------------------------------------------------- frames


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of a stream are there."""

    jumps: tuple[Interval, ...]
    """Frames that are missing before one that is there."""
    end: int
    """One more than the last frame's number."""
    problems: tuple[tuple[str, str], ...]
    """Column, and what is wrong with its numbers."""


def scan_frames(columns: Mapping[str, StoredArray], rows: int) -> Frames:
    """Read the coordinates of a stream, one chunk in memory at a time."""
    jumps: list[Interval] = []
    problems: dict[str, str] = {}
    due = 0
    for first, indexes in columns["frame_index"].parts(0, rows):
        before = np.concatenate([[due - 1], indexes[:-1]]).astype(np.int64)
        steps = indexes.astype(np.int64) - before
        for at in np.flatnonzero(steps < 1):
            problems.setdefault(
                "frame_index", f"row {first + at}: frame {indexes[at]} after frame {before[at]}"
            )
        jumps += [(int(before[at]) + 1, int(indexes[at])) for at in np.flatnonzero(steps > 1)]
        due = max(due, int(indexes.max()) + 1)
    last = -np.inf
    for first, starts in columns["time"].parts(0, rows):
        stop = first + len(starts)
        ends = columns["t_end"].column(first, stop)
        bad = np.flatnonzero(~np.isfinite(starts))
        if len(bad):
            problems.setdefault("time", f"row {first + bad[0]}: no time")
        falls = np.flatnonzero(np.diff(np.concatenate([[last], starts])) < 0)
        if len(falls):
            problems.setdefault("time", f"row {first + falls[0]}: earlier than the row before")
        early = np.flatnonzero(~(ends >= starts) & np.isfinite(starts))
        if len(early):
            problems.setdefault("t_end", f"row {first + early[0]}: not after the frame's start")
        last = float(starts[-1])
    return Frames(tuple(merged(jumps)), due, tuple(problems.items()))


def stream_of(tree: Tree, path: str) -> str:
    """The stream that an estimator's group refers to; "" if it does not say."""
    name = path.partition("/")[2]
    return str(tree.attributes(f"{ESTIMATES}/{name}").get("stream", ""))


def referred(
    tree: Tree, path: str, columns: Mapping[str, StoredArray], rows: int
) -> tuple[str, list[Interval]]:
    """The stream that rows of an estimator's group refer to ("" if none), and frames they name."""
    stream = stream_of(tree, path)
    if "frame_index" not in columns:
        return stream, []
    found: list[Interval] = []
    for _, values in columns["frame_index"].parts(0, rows):
        numbers = np.unique(values.astype(np.int64))
        breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
        runs = np.split(numbers, breaks)
        found = merged([*found, *((int(run[0]), int(run[-1]) + 1) for run in runs if len(run))])
    return stream, found


def estimator_groups(tree: Tree) -> Iterator[str]:
    """Paths of all groups that hold estimates, or tables of them."""
    for path in tree.groups():
        if path.startswith((f"{ESTIMATES}/", f"{PARTICLES}/")) and path.count("/") == 1:
            yield path


# -------------------------------------------------------------------------------- journal


def end_of(entries: Sequence[JournalEntry]) -> JournalEntry | None:
    """The entry by which the store closed the journal; None if it did not."""
    for entry in reversed(entries):
        if entry.kind == "run" and "outcome" in entry.details:
            return entry
    return None


def check_journal(run: Path, *, closed: bool, live: bool, outcome: str) -> list[Finding]:
    """What is wrong with the journal of a run.

    Args:
        run: the run folder.
        closed: whether the run's metadata say how it ended.
        live: whether it is being written now.
        outcome: how it ended.
    """
    path = run / JOURNAL_NAME

    def found(severity: str, text: str) -> Finding:
        return Finding("damage" if severity == "damage" else "note", JOURNAL_NAME, text)

    try:
        data = path.read_bytes()
    except OSError as error:
        return [found("damage", f"cannot be read: {error.strerror or error}")]
    findings: list[Finding] = []
    if data and not data.endswith(b"\n"):
        torn = "note" if live or not closed else "damage"
        findings.append(found(torn, "the last line has no end: it was torn by a crash"))
    entries = read_journal(path)
    due = 0
    for number, entry in enumerate(entries, 1):
        if entry.kind == TORN:
            findings.append(found("damage", f"line {number} cannot be read: {_short(entry.text)}"))
            due += 1
        elif entry.seq != due:
            lost = f"after number {due - 1} comes {entry.seq}"
            findings.append(found("damage", f"line {number}: {lost}: lines are missing"))
            due = entry.seq + 1
        else:
            due += 1
    ended = end_of(entries)
    if closed and ended is None and not live:
        findings.append(found("damage", "it does not tell how the run ended, as its metadata do"))
    elif not closed and ended is not None and not live:
        findings.append(found("damage", "it tells how the run ended; the metadata do not"))
    for step in _open_steps(entries):
        complete = closed and outcome == "completed"
        findings.append(found("damage" if complete else "note", f"{step!r} has no end"))
    return findings


def _open_steps(entries: Iterable[JournalEntry]) -> list[str]:
    begun: dict[str, str] = {}
    for entry in entries:
        head, _, _ = entry.text.partition(":")
        if entry.kind == "action" and head.startswith("begin step "):
            begun[head.removeprefix("begin step ")] = entry.text
        elif entry.kind == "action" and head.startswith("end step "):
            begun.pop(head.removeprefix("end step "), None)
    return list(begun.values())


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False)
