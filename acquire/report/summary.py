"""Gathers what a person wants to know of a run: how it went, what was recorded, what came out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.instruments import HolderState
from acquire.report.maps import MapSummary, summarise_maps
from acquire.report.profile import RunProfile, run_profiles
from acquire.store import (
    JournalEntry,
    LaterNote,
    Run,
    flags_of,
    read_later_notes,
    unit_for_people,
    words_of,
)
from acquire.stream import Value

UNKNOWN = Value(math.nan, math.nan)
HOLDER = "holder"


@dataclass(frozen=True, slots=True)
class StepSummary:
    """A step that was begun; ``t_end_s`` is NaN if it never ended."""

    number: int
    text: str
    t_start_s: float
    t_end_s: float
    outcome: str


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """One value of a recorded channel; NaN where it was never read."""

    unit: str
    first: float
    last: float
    low: float
    high: float
    readings: int
    failed: int
    """Readings that told no value."""


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """A line scan of spectra, as it was measured for this summary."""

    edges: tuple[str, ...]
    points: int
    flags: Mapping[str, int] = field(default_factory=dict)
    """How many points carry each flag; those of an edge are followed by its name."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in numbers and words; NaN and empty where the run does not tell."""

    path: Path
    name: str
    specimen: Mapping[str, str]
    station: str
    simulated: bool
    clock_rate: float
    """Run seconds per second on the wall."""
    epoch_unix_s: float
    outcome: str
    """``completed``, ``aborted``, ``failed``, or ``not closed``."""
    cause: str
    duration_s: float
    steps: tuple[StepSummary, ...]
    images: Mapping[str, int]
    """Frames recorded, by stream."""
    spectra: Mapping[str, int]
    missing_frames: int
    temperature_celsius: tuple[float, float]
    """Lowest and highest measured."""
    hold_deviation_celsius: float
    """Largest difference between setpoint and measured while holding."""
    first: Mapping[str, Value] = field(default_factory=dict)
    """First estimates, by quantity."""
    final: Mapping[str, Value] = field(default_factory=dict)
    """Last ones that could be told."""
    channels: Mapping[str, ChannelSummary] = field(default_factory=dict)
    """By record and value: ``film.resistance``."""
    dose_e_per_nm2: float = math.nan
    bytes_on_disk: int = 0
    marks: tuple[tuple[float, str], ...] = ()
    """Time and text of what people marked."""
    later: tuple[LaterNote, ...] = ()
    """What they added after the end."""
    faults: tuple[str, ...] = ()
    flags: Mapping[str, int] = field(default_factory=dict)
    """How many estimates carried each flag."""
    estimates: int = 0
    line_scans: Mapping[str, ScanSummary] = field(default_factory=dict)
    """By stream."""
    maps: Mapping[str, MapSummary] = field(default_factory=dict)
    """By stream."""


def summarise(run: Run, profiles: Sequence[RunProfile] | None = None) -> RunSummary:
    """Summarise a run, finished, killed or still being written; its line scans are measured unless given."""
    if profiles is None:
        profiles = run_profiles(run)
    header, report = run.header, run.report
    try:
        journal = run.journal()
    except StoreError:
        journal = []  # a run whose journal was lost still has its data
    try:
        later = read_later_notes(run.path)
    except StoreError:
        later = []
    low, high, deviation = _temperatures(run)
    first, final, flags, estimates = _estimates(run)
    faults = [f"{e.text}" for e in journal if e.kind == "fault"] + _holder_faults(run)
    return RunSummary(
        path=run.path,
        name=header.name,
        specimen=header.specimen,
        station=header.station,
        simulated=bool(header.simulation) or any(i.simulated for i in header.instruments.values()),
        clock_rate=header.clock_rate,
        epoch_unix_s=header.epoch_unix_s,
        outcome="not closed" if report is None else report.outcome,
        cause=(
            "still running, or its process was killed; what is below was on disk by then"
            if report is None
            else report.cause
        ),
        duration_s=_last_time_s(run) if report is None else report.t_end_s,
        steps=run_steps(run, journal),
        images={s: run.images(s).sizes["time"] for s, k in run.streams.items() if k == "images"},
        spectra={s: run.spectra(s).sizes["time"] for s, k in run.streams.items() if k == "spectra"},
        missing_frames=int(run.gaps["frames"].sum()) if run.gaps.sizes else 0,
        temperature_celsius=(low, high),
        hold_deviation_celsius=deviation,
        first=first,
        final=final,
        channels=_channels(run),
        dose_e_per_nm2=_dose(run) if report is None else report.dose_e_per_nm2,
        bytes_on_disk=_bytes_below(run.path),
        marks=tuple(
            (e.t_s, " / ".join(e.text.splitlines())) for e in journal if e.kind in ("mark", "note")
        ),
        later=tuple(later),
        faults=tuple(dict.fromkeys(faults)),
        flags=flags,
        estimates=estimates,
        line_scans={p.stream: _scan(p) for p in profiles},
        maps=summarise_maps(run),
    )


def run_steps(run: Run, journal: list[JournalEntry]) -> tuple[StepSummary, ...]:
    """The steps of a run: from its report or, if it was killed, from its journal."""
    if run.report is not None:
        return tuple(
            StepSummary(
                int(float(str(step.get("index", number)))) + 1,
                str(step.get("text", "")),
                float(str(step.get("t_start_s", "nan"))),
                float(str(step.get("t_end_s", "nan"))),
                str(step.get("outcome", "")),
            )
            for number, step in enumerate(run.report.steps)
        )
    steps: list[StepSummary] = []
    for entry in journal:
        if entry.kind != "action":
            continue
        head, _, text = entry.text.partition(": ")
        if head.startswith("begin step"):
            steps.append(StepSummary(len(steps) + 1, text, entry.t_s, math.nan, "interrupted"))
        elif head.startswith("end step") and steps:
            begun = steps.pop()
            steps.append(StepSummary(begun.number, begun.text, begun.t_start_s, entry.t_s, text))
    return tuple(steps)


def size_estimates(run: Run) -> tuple[str, xr.Dataset] | None:
    """Name and estimates of the first estimator that told a mean diameter; None if none did."""
    for name in run.estimators:
        estimates = run.estimates(name)
        if "mean_diameter" in estimates and np.isfinite(estimates.mean_diameter.values).any():
            return name, estimates
    return None


def _scan(profile: RunProfile) -> ScanSummary:
    flags = profile.profile.counted_flags()
    return ScanSummary(profile.edges, len(profile.distance_nm), flags)


def _channels(run: Run) -> dict[str, ChannelSummary]:
    found = {}
    for name in run.channels:
        data = run.channel(name)
        for value in run.channel_values(name):
            numbers = data[value].values
            unit = unit_for_people(str(data[value].attrs.get("units", "")))
            found[f"{name}.{value}"] = _channel(numbers, unit)
    return found


def _channel(numbers: NDArray[np.float64], unit: str) -> ChannelSummary:
    known = numbers[np.isfinite(numbers)].tolist()
    first, last = (known[0], known[-1]) if known else (math.nan, math.nan)
    low, high = (min(known), max(known)) if known else (math.nan, math.nan)
    failed = len(numbers) - len(known)
    return ChannelSummary(unit, first, last, low, high, len(numbers), failed)


def _temperatures(run: Run) -> tuple[float, float, float]:
    """Lowest and highest measured temperature, and the largest deviation while holding."""
    nothing = (math.nan, math.nan, math.nan)
    if HOLDER not in run.tables or "measured" not in run.holder:
        return nothing
    holder = run.holder
    measured = holder.measured.values
    if not np.isfinite(measured).any():
        return nothing
    deviation = math.nan
    if "setpoint" in holder and "state" in holder:
        holding = words_of(holder.state) == HolderState.HOLDING.value
        away = np.abs(measured - holder.setpoint.values)[holding]
        if np.isfinite(away).any():
            deviation = float(np.nanmax(away))
    return float(np.nanmin(measured)), float(np.nanmax(measured)), deviation


def _holder_faults(run: Run) -> list[str]:
    if HOLDER not in run.tables or "fault" not in run.holder:
        return []
    return [str(word) for word in dict.fromkeys(words_of(run.holder.fault)) if word]


def _estimates(
    run: Run,
) -> tuple[dict[str, Value], dict[str, Value], dict[str, int], int]:
    """First and final values by quantity, flags and their number, and how many estimates."""
    first: dict[str, Value] = {}
    final: dict[str, Value] = {}
    flags: Counter[str] = Counter()
    total = 0
    for name in run.estimators:
        estimates = run.estimates(name)
        total += estimates.sizes["time"]
        flags.update(word for words in flags_of(estimates.flags) for word in words)
        for quantity in estimates.data_vars:
            sigma = f"{quantity}_sigma"
            if sigma not in estimates or str(quantity) in final:
                continue
            values = estimates[quantity].values
            known = np.flatnonzero(np.isfinite(values))
            if len(known):
                sigmas = estimates[sigma].values
                first[str(quantity)] = Value(float(values[known[0]]), float(sigmas[known[0]]))
                final[str(quantity)] = Value(float(values[known[-1]]), float(sigmas[known[-1]]))
    return first, final, dict(flags.most_common()), total


def _last_time_s(run: Run) -> float:
    """The latest time on anything that was recorded; NaN for an empty run."""
    datasets = [run.table(name) for name in run.tables]
    datasets += [run.channel(name) for name in run.channels]
    datasets += [run.images(s) if k == "images" else run.spectra(s) for s, k in run.streams.items()]
    return max((float(d.time[-1]) for d in datasets if d.sizes["time"]), default=math.nan)


def _dose(run: Run) -> float:
    """The largest dose that any stream of images counted."""
    doses = [run.images(s).dose_total for s, kind in run.streams.items() if kind == "images"]
    return max((float(d[-1]) for d in doses if len(d)), default=math.nan)


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except FileNotFoundError:
                continue  # a file that was replaced while we looked
    return total
