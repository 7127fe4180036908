"""Whether the frames, gaps and estimates of a run account for each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.journal import read_journal
from acquire.store.keeping.consistency import (
    Frames,
    Gap,
    declared,
    estimator_groups,
    frames_text,
    gaps_of_journal,
    read_gaps,
    referred,
    scan_frames,
    without,
)
from acquire.store.keeping.inspect import Finding, Severity, StoredArray, Tree, rows_of
from acquire.store.keeping.integrity import ArrayCheck, Checks, Fault
from acquire.store.layout import FULL, GAPS, IMAGES, JOURNAL_NAME, SPECTRA, ZARR_NAME

_MOST_TOLD = 20
"""Findings of one kind and place; more are counted."""


def frame_groups(members: Iterable[str]) -> dict[str, str]:
    """Path of the group of frames of every stream, by the stream's name."""
    found: dict[str, str] = {}
    for path in members:
        kind, _, rest = path.partition("/")
        if kind == IMAGES and rest.endswith(f"/{FULL}"):
            found[rest.removesuffix(f"/{FULL}")] = path
        elif kind == SPECTRA and rest and "/" not in rest:
            found[rest] = path
    return found


def check_records(
    run: Path,
    tree: Tree,
    members: Mapping[str, Mapping[str, StoredArray]],
    checks: Checks,
    *,
    settled: bool,
) -> list[Finding]:
    """Check the coordinates of all streams, the gaps and the estimates against each other.

    Args:
        run: the run folder.
        tree: its metadata.
        members: arrays of every group.
        checks: what came out for their bytes.
        settled: whether the run has ended; else some of these may lag behind others.
    """
    gaps = read_gaps(tree)
    try:
        in_journal = gaps_of_journal(read_journal(run / JOURNAL_NAME))
    except StoreError:
        in_journal = []  # told where the journal is checked
    findings: list[Finding] = []
    scans: dict[str, Frames] = {}
    streams = frame_groups(members)
    for stream, path in streams.items():
        columns = members[path]
        if not {"frame_index", "time", "t_end"} <= columns.keys():
            findings.append(Finding("damage", f"{ZARR_NAME}/{path}", "coordinates are missing"))
            continue
        scans[stream] = scan = scan_frames(columns, rows_of(columns))
        findings += _check_stream(tree, stream, path, scan, gaps, in_journal, settled=settled)
    by_group = {path: stream for stream, path in streams.items()}
    for (group, name), check in checks.items():
        stream = by_group.get(group, "")
        findings += _tell_faults(members[group], group, name, check, declared(gaps, stream))
    unknown = {gap.stream for gap in gaps} - streams.keys()
    if unknown:
        text = f"names streams that do not exist: {', '.join(sorted(unknown))}"
        findings.append(Finding("damage" if settled else "note", f"{ZARR_NAME}/{GAPS}", text))
    findings += _check_estimates(tree, members, scans, gaps, settled=settled)
    return findings


def _check_stream(
    tree: Tree,
    stream: str,
    path: str,
    scan: Frames,
    gaps: list[Gap],
    in_journal: list[Gap],
    *,
    settled: bool,
) -> list[Finding]:
    where = f"{ZARR_NAME}/{path}"
    findings = [Finding("damage", f"{where}/{column}", text) for column, text in scan.problems]
    said = declared(gaps, stream)
    # while a run is written, its gaps may be ahead of its frames
    end = said[-1][1] if said and settled else 0
    silent = without([*scan.jumps, (scan.end, end)], said)
    told_only = without(silent, without(silent, declared(in_journal, stream)))
    findings += [
        Finding("damage", where, f"{frames_text(i)} of {stream} missing, and no gap says so")
        for i in _few(without(silent, told_only))
    ]
    findings += [
        Finding(
            "damage" if settled else "note",
            where,
            f"{frames_text(i)} of {stream} missing; only the journal says so",
        )
        for i in _few(told_only)
    ]
    own = [gap for gap in gaps if gap.stream == stream]
    for gap in own[:_MOST_TOLD]:
        text = f"{frames_text(gap.interval)} of {stream} missing: {gap.reason}"
        findings.append(Finding("loss", where, text))
    if len(own) > _MOST_TOLD:
        more = sum(gap.frames for gap in own[_MOST_TOLD:])
        text = f"{more} more frames of {stream} missing, in {len(own) - _MOST_TOLD} gaps"
        findings.append(Finding("loss", where, text))
    missing = int(tree.attributes(path).get("missing_frames", 0))
    counted = sum(gap.frames for gap in own)
    if missing != counted:
        text = f"missing_frames = {missing}, but the gaps count {counted}"
        findings.append(Finding("damage" if settled else "note", where, text))
    return findings


def _few(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(intervals) <= _MOST_TOLD:
        return intervals
    return [*intervals[: _MOST_TOLD - 1], (intervals[_MOST_TOLD - 1][0], intervals[-1][1])]


def _tell_faults(
    columns: Mapping[str, StoredArray],
    group: str,
    name: str,
    check: ArrayCheck,
    said: list[tuple[int, int]],
) -> list[Finding]:
    """Faults of an array; those of frames that are said to be missing are losses."""
    findings: list[Finding] = []
    for fault in check.faults[:_MOST_TOLD]:
        frames = frames_of_rows(columns, fault) if columns[name].shard_chunks else []
        lost = bool(frames) and not without(frames, said)
        rows = (
            f"row {fault.first}"
            if fault.last == fault.first + 1
            else (f"rows {fault.first} to {fault.last - 1}")
        )
        findings.append(
            Finding(
                "loss" if lost else "damage", f"{ZARR_NAME}/{fault.where}", f"{rows}: {fault.text}"
            )
        )
    if len(check.faults) > _MOST_TOLD:
        rest = len(check.faults) - _MOST_TOLD
        findings.append(Finding("damage", f"{ZARR_NAME}/{group}/{name}", f"{rest} more like these"))
    return findings


def frames_of_rows(columns: Mapping[str, StoredArray], fault: Fault) -> list[tuple[int, int]]:
    """Numbers of the frames in rows; none where the group has no frame numbers."""
    if "frame_index" not in columns:
        return []
    numbers = columns["frame_index"].column(fault.first, fault.last)
    return [(int(n), int(n) + 1) for n in numbers]


def _check_estimates(
    tree: Tree,
    members: Mapping[str, Mapping[str, StoredArray]],
    scans: Mapping[str, Frames],
    gaps: list[Gap],
    *,
    settled: bool,
) -> list[Finding]:
    findings: list[Finding] = []
    for path in estimator_groups(tree):
        columns = members.get(path, {})
        if not rows_of(columns):
            continue
        stream, frames = referred(tree, path, columns, rows_of(columns))
        where = f"{ZARR_NAME}/{path}"
        scan = scans.get(stream)
        if scan is None and tree.attributes("").get("analysis_of"):
            continue  # its frames lie in the run that was measured again
        if scan is None:
            text = f"refers to frames of {stream!r}, and there is no such stream"
            findings.append(Finding("damage" if settled else "note", where, text))
            continue
        there = without([(0, scan.end)], scan.jumps)
        absent = without(frames, there)
        if not absent:
            continue
        silent = without(absent, declared(gaps, stream))
        severity: Severity = "damage" if settled else "note"
        severity = severity if silent else "loss"
        text = f"refers to {frames_text((silent or absent)[0])} of {stream}, which is not there"
        findings.append(Finding(severity, where, text))
    return findings
