"""Curves, journal and steps of a stored run, as a window gets them of a live one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from acquire.engine.status import LiveNote, LiveSeries, PlannedStep, PlanView
from acquire.errors import StoreError
from acquire.store import JournalEntry, Run, read_later_notes, unit_for_people
from gui.replay.moments import Floats
from gui.words import tr

HOLDER = "holder"


def read_series(
    runs: Sequence[Run], offsets_s: Sequence[float], trouble: list[str]
) -> tuple[LiveSeries, dict[str, str]]:
    """Readings, estimates and notes of all segments, and the unit of each quantity.

    What cannot be read is left out, and named in ``trouble``.
    """
    readings: list[Floats] = []
    estimates: list[tuple[Floats, dict[str, Floats]]] = []
    notes: list[LiveNote] = []
    units: dict[str, str] = {}
    for run, offset_s in zip(runs, offsets_s, strict=True):
        try:
            readings += _readings(run, offset_s)
        except StoreError as error:
            trouble.append(str(error))
        for name in run.estimators:
            try:
                data = run.estimates(name)
                estimates.append(_estimates(data, offset_s))
            except StoreError as error:
                trouble.append(str(error))
                continue
            units |= _units(data)
        entries = _journal(run, trouble)
        notes += [LiveNote(e.t_s + offset_s, e.kind, e.text) for e in entries]
    columns = np.concatenate(readings, axis=1) if readings else np.empty((3, 0))
    t_s, values = _merged(estimates)
    series = LiveSeries((0, 0, 0), 0, columns[0], columns[1], columns[2], t_s, values, tuple(notes))
    return series, units


def read_added(run: Run, trouble: list[str]) -> list[LiveNote]:
    """Notes that were added to a run after its end, each saying so."""
    try:
        added = read_later_notes(run.path)
    except StoreError as error:
        trouble.append(str(error))
        return []
    words = tr("{text}   (added later, {when} UTC, by {who})")
    return [
        LiveNote(
            note.t_s if math.isfinite(note.t_s) else 0.0,
            "note",
            words.format(text=note.text, when=note.wall[:16].replace("T", " "), who=note.by),
        )
        for note in added
    ]


def read_steps(runs: Sequence[Run], offsets_s: Sequence[float], t_end_s: float) -> PlanView:
    """The steps as they were carried out; one that never ended lasts until ``t_end_s``."""
    steps: list[PlannedStep] = []
    open_since: float | None = None
    for run, offset_s in zip(runs, offsets_s, strict=True):
        for entry in _journal(run, []):
            head, _, text = entry.text.partition(": ")
            if entry.kind != "action" or not math.isfinite(entry.t_s):
                continue
            t_s = entry.t_s + offset_s
            if head.startswith("begin step"):
                open_since = t_s
                steps.append(PlannedStep(len(steps), text, t_s, max(0.0, t_end_s - t_s)))
            elif head.startswith("end step") and steps and open_since is not None:
                done = steps[-1]
                steps[-1] = PlannedStep(done.index, done.text, done.t_start_s, t_s - open_since)
                open_since = None
    return PlanView(runs[0].header.name, tuple(steps), (), ())


def step_starts_s(run: Run) -> list[float]:
    """When steps of a segment began, in its own time."""
    return [
        entry.t_s
        for entry in _journal(run, [])
        if entry.kind == "action" and entry.text.startswith("begin step")
    ]


def _readings(run: Run, offset_s: float) -> list[Floats]:
    if HOLDER not in run.tables:
        return []
    holder = run.holder
    missing = np.full(holder.sizes["time"], np.nan)
    columns = [holder[n].values if n in holder else missing for n in ("measured", "setpoint")]
    return [np.stack([holder.time.values + offset_s, *columns])]


def _estimates(data: xr.Dataset, offset_s: float) -> tuple[Floats, dict[str, Floats]]:
    values = {str(n): v.values for n, v in data.data_vars.items() if v.dtype.kind == "f"}
    return data.time.values + offset_s, values


def _units(data: xr.Dataset) -> dict[str, str]:
    return {
        str(name): unit_for_people(str(variable.attrs.get("units", "")))
        for name, variable in data.data_vars.items()
        if f"{name}_sigma" in data.data_vars
    }


def _merged(parts: Sequence[tuple[Floats, dict[str, Floats]]]) -> tuple[Floats, dict[str, Floats]]:
    """All estimates by time: a row per record, NaN for what another estimator told."""
    if not parts:
        return np.empty(0), {}
    t_s = np.concatenate([t for t, _ in parts])
    order = np.argsort(t_s, kind="stable")
    names = dict.fromkeys(name for _, values in parts for name in values)
    nothing = {len(t): np.full(len(t), np.nan) for t, _ in parts}
    columns = {
        name: np.concatenate([values.get(name, nothing[len(t)]) for t, values in parts])[order]
        for name in names
    }
    return t_s[order], columns


def _journal(run: Run, trouble: list[str]) -> list[JournalEntry]:
    try:
        return run.journal()
    except StoreError as error:
        trouble.append(str(error))
        return []
