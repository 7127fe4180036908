"""Which frames of a run are missing, whatever its table of gaps says by now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from acquire.store.journal import JournalEntry
from acquire.store.keeping.accounts import frame_groups, frames_of_rows
from acquire.store.keeping.consistency import (
    Gap,
    Interval,
    declared,
    estimator_groups,
    gaps_of_journal,
    merged,
    read_gaps,
    referred,
    scan_frames,
    without,
)
from acquire.store.keeping.inspect import StoredArray, Tree, rows_of
from acquire.store.keeping.integrity import Checks
from acquire.store.layout import GAPS

LOST = "lost when the run was cut off"
DAMAGED = "damaged on the disk"
UNKNOWN = "nothing says why"


def all_gaps(
    tree: Tree,
    members: Mapping[str, Mapping[str, StoredArray]],
    extents: Mapping[str, int],
    checks: Checks,
    entries: Iterable[JournalEntry],
) -> list[Gap]:
    """The gaps of a run: those of its table first, as they are, then those that it lacks.

    Args:
        tree: the run's metadata.
        members: arrays of every group.
        extents: rows that the groups really have; frames of rows beyond are lost.
        checks: what came out for the bytes of all arrays.
        entries: the journal.
    """
    # a row beyond them may be there in some columns only, and would tell of frames that never were
    gaps = read_gaps(tree, extents.get(GAPS))
    streams = frame_groups(members)

    def add(stream: str, intervals: Iterable[Interval], reason: str) -> None:
        for first, last in without(intervals, declared(gaps, stream)):
            gaps.append(Gap(stream, first, last - first, reason))

    for gap in gaps_of_journal(entries):
        if gap.stream not in streams:
            continue
        if without([gap.interval], declared(gaps, gap.stream)) == [gap.interval]:
            gaps.append(gap)
        else:
            add(gap.stream, [gap.interval], gap.reason)
    for stream, group in streams.items():
        columns, rows = members[group], extents[group]
        if not {"frame_index", "time", "t_end"} <= columns.keys():
            continue
        scan = scan_frames(columns, rows)
        faults = [
            fault
            for name, array in columns.items()
            if array.shard_chunks
            for fault in checks[group, name].faults
            if fault.first < rows
        ]
        for fault in faults:
            add(stream, frames_of_rows(columns, fault), DAMAGED)
        add(stream, _taken_back(columns, rows, rows_of(columns), scan.end), LOST)
        ends = [scan.end, *(gap.interval[1] for gap in gaps if gap.stream == stream)]
        for path in members.keys() & set(estimator_groups(tree)):
            of_stream, frames = referred(tree, path, members[path], extents[path])
            if of_stream == stream and frames:
                ends.append(frames[-1][1])
        # whatever comes before a frame that anything tells of was taken, too
        add(stream, [(scan.end, max(ends))], LOST)
        add(stream, scan.jumps, UNKNOWN)
    return gaps


def _taken_back(
    columns: Mapping[str, StoredArray], rows: int, published: int, due: int
) -> list[Interval]:
    """Numbers of frames whose rows are not to be had; those that nobody knows follow on."""
    if published <= rows:
        return []
    numbers = columns["frame_index"].column(rows, published).astype(np.int64)
    risen = np.diff(np.concatenate([[due - 1], numbers])) > 0
    sure = len(numbers) if risen.all() else int(np.argmin(risen))
    found = [(int(n), int(n) + 1) for n in numbers[:sure]]
    due = found[-1][1] if found else due
    return merged([*found, (due, due + len(numbers) - sure)])
