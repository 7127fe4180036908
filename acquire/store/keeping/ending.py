"""What can be told of the end of a run whose writer did not live to tell it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from acquire.store.journal import JournalEntry
from acquire.store.keeping.accounts import frame_groups
from acquire.store.keeping.inspect import StoredArray
from acquire.store.layout import GAPS, IMAGES, SPECTRA
from acquire.stream.sink import RunReport

Members = Mapping[str, Mapping[str, StoredArray]]


def report_of(
    members: Members,
    extents: Mapping[str, int],
    entries: Iterable[JournalEntry],
    cause: str,
    dose_before: float = 0.0,
) -> RunReport:
    """The report of a run that was cut off.

    Args:
        members: arrays of every group.
        extents: rows of every group.
        entries: the journal.
        cause: what cut it off.
        dose_before: e/nm² that the specimen had seen before, in the run that this one continues.
    """
    streams = frame_groups(members)
    known = list(entries)
    return RunReport(
        "failed",
        cause,
        _last_time_s(members, extents, known),
        {stream: extents[group] for stream, group in streams.items()},
        tuple(_steps(known)),
        dose_before + _dose_e_per_nm2(members, extents, streams.values()),
    )


def _last_time_s(
    members: Members, extents: Mapping[str, int], entries: Iterable[JournalEntry]
) -> float:
    times = [entry.t_s for entry in entries]
    for group, columns in members.items():
        rows = extents.get(group, 0)
        times += [
            float(columns[name].column(rows - 1, rows)[0])
            for name in ("time", "t_end")
            if rows and group != GAPS and name in columns
        ]
    return max((t for t in times if math.isfinite(t)), default=0.0)


def _steps(entries: Iterable[JournalEntry]) -> list[dict[str, object]]:
    """The steps that the journal tells of, as a report has them."""
    found: list[dict[str, object]] = []
    for entry in entries:
        head, _, text = entry.text.partition(": ")
        if entry.kind != "action":
            continue
        if head.startswith("begin step"):
            step: dict[str, object] = {"index": len(found), "text": text, "t_start_s": entry.t_s}
            found.append({**step, "t_end_s": math.nan, "outcome": "interrupted"})
        elif head.startswith("end step") and found:
            found[-1] |= {"t_end_s": entry.t_s, "outcome": text}
    return found


def _dose_e_per_nm2(members: Members, extents: Mapping[str, int], groups: Iterable[str]) -> float:
    """What the images gave the field, and on top of it the spectra their worst point."""
    field = 0.0
    spots: dict[tuple[float, float], float] = {}
    for group in groups:
        columns, rows = members[group], extents[group]
        if rows and group.startswith(f"{IMAGES}/") and "dose_total" in columns:
            field += float(np.nan_to_num(columns["dose_total"].column(rows - 1, rows)[0]))
        elif group.startswith(f"{SPECTRA}/") and {"dose", "position_x"} <= columns.keys():
            for first, doses in columns["dose"].parts(0, rows):
                last = first + len(doses)
                places = np.column_stack(
                    [columns[f"position_{axis}"].column(first, last) for axis in "xy"]
                )
                # those without a place count as one: infinity, unlike NaN, equals itself
                unique, where = np.unique(
                    np.nan_to_num(places, nan=np.inf), axis=0, return_inverse=True
                )
                sums = np.bincount(where.ravel(), np.nan_to_num(doses), len(unique))
                for (x, y), dose in zip(unique.tolist(), sums.tolist(), strict=True):
                    spots[x, y] = spots.get((x, y), 0.0) + dose
    return field + max(spots.values(), default=0.0)


def timed_ome(attributes: Mapping[str, Any], time: StoredArray, rows: int) -> dict[str, Any]:
    """OME-NGFF attributes of a stream of images with start and spacing of so many frames."""
    found = copy.deepcopy(dict(attributes))
    if rows == 0:
        return found
    first, last = (float(time.column(row, row + 1)[0]) for row in (0, rows - 1))
    period = (last - first) / (rows - 1) if rows > 1 and last > first else 1.0
    for image in dict(found.get("ome") or {}).get("multiscales", ()):
        for level in image["datasets"]:
            for change in level["coordinateTransformations"]:
                if change["type"] == "scale":
                    change["scale"][0] = period
                elif change["type"] == "translation":
                    change["translation"][0] = first
    return found
