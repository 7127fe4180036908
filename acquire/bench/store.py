"""`hotstage bench store`: how fast the store is, beside others, and whether it meets its goals."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from acquire.bench.concluding import machine, write_document
from acquire.bench.store_goals import Rounds, judge
from acquire.bench.store_jobs import APPENDER, RAW, WHOLE, Job, measure
from acquire.bench.store_pace import Measured
from acquire.bench.store_peers import PEERS, installed
from acquire.bench.store_work import LARGE, LITTLE, MIDDLE, SMALL, SPECTRUM, WORKS
from acquire.bench.verdicts import table_of
from acquire.errors import ConfigError, HotstageError
from acquire.units import show_bytes

PARTS = ("speed", "peers", "pace", "growth", "sustained", "memory", "reader")
LEAST_FREE_BYTES = 20 * 10**9
"""A minute of the fastest images, compressed, and as much again."""
_QUICK = 0.05
"""Part of the work that a quick run does."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured in every round, and what only once because it takes long."""

    rounds: list[tuple[str, Job]]
    once: list[tuple[str, Job]]
    notes: list[str]
    """What is left out."""


def make_plan(parts: tuple[str, ...], seconds: float, *, quick: bool) -> Plan:
    """All measurements of these parts; each is named by its writer or its kind."""
    scale = _QUICK if quick else 1.0
    works = (SMALL,) if quick else (SMALL, LARGE, SPECTRUM)
    rounds: list[tuple[str, Job]] = []
    once: list[tuple[str, Job]] = []
    notes: list[str] = []
    writers = [RAW, APPENDER, WHOLE] if {"speed", "peers"} & set(parts) else []
    if "peers" in parts:
        for peer in PEERS:
            if installed(peer):
                writers.append(peer)
            else:
                notes.append(f'{peer} is not installed and left out: pip install "hotstage[bench]"')
    for work in works:
        rounds += [(w, Job("write", work.name, "", w, scale=scale)) for w in writers]
    short_s = min(seconds, 0.5 if quick else 10.0)
    if "pace" in parts:
        rounds += [("pace", Job("pace", w.name, "", seconds=short_s / 2)) for w in works]
    if "memory" in parts:
        rounds += [("memory", Job("memory", w.name, "", scale=scale)) for w in works]
    if "reader" in parts:
        count = 1000 if quick else 100_000
        reader = Job("visible", SPECTRUM.name, "", seconds=short_s, count=count, per_s=1000.0)
        rounds.append(("visible", reader))
    if "growth" in parts:
        growth = Job("grow", LITTLE.name, "", count=1000 if quick else 100_000)
        once.append(("grow", growth))
    if "sustained" in parts:
        sustained = (SMALL,) if quick else (MIDDLE, LARGE, SPECTRUM)
        once += [("sustain", Job("sustain", w.name, "", seconds=seconds)) for w in sustained]
    return Plan(rounds, once, notes)


def main(
    repeats: int = 5,
    seconds: float = 60.0,
    json: Path | None = None,
    only: str | None = None,
    folder: Path | None = None,
    *,
    check: bool = False,
    quick: bool = False,
) -> int:
    """Measure, print the table, and say whether all goals are met: 0, or with ``check`` also 1.

    Args:
        repeats: rounds; each does everything once in turn, so that a busy time hits all alike.
        seconds: how long the sustained runs last.
        json: where everything that was measured is written, too.
        only: some of :data:`PARTS`, with commas between them.
        folder: on the disk that is to be measured; default the system's for temporary files.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: a part of each, once, to see that it works: its figures mean nothing.

    Raises:
        ConfigError: an argument makes no sense, or there is not enough space.
    """
    parts = PARTS if only is None else tuple(part.strip() for part in only.split(","))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or repeats < 1 or not seconds > 0:
        raise ConfigError(
            f"repeats = {repeats}, seconds = {seconds:g}, only = {only!r}: take one repeat or more, "
            f"some seconds, and parts out of {', '.join(PARTS)}."
        )
    plan = make_plan(parts, min(seconds, 1.0) if quick else seconds, quick=quick)
    console = Console()
    began = time.monotonic()
    place = _place(folder, quick=quick)
    try:
        found, failures = _measure_all(plan, 1 if quick else repeats, place, console)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    verdicts = judge(found)
    good = not failures and all(verdict.good is not False for verdict in verdicts)
    console.print(table_of("The store: median, and range over the rounds", verdicts))
    for text in (*plan.notes, *failures):
        console.print(Text(text, "red" if text in failures else ""), soft_wrap=True)
    missed = sum(verdict.good is False for verdict in verdicts)
    console.print(
        f"{repeats if not quick else 1} rounds in {time.monotonic() - began:.0f} s, "
        f"{os.cpu_count()} cores, mean load {os.getloadavg()[0]:.1f}; {missed} goals missed."
        if hasattr(os, "getloadavg")
        else f"{missed} goals missed."
    )
    if json is not None:
        document = {
            "good": good,
            "repeats": repeats,
            "quick": quick,
            "machine": machine(),
            "notes": plan.notes,
            "failures": failures,
            "verdicts": [verdict.document() for verdict in verdicts],
            "measured": [
                {"what": what, "work": work, "rounds": rounds}
                for (what, work), rounds in found.items()
            ],
        }
        write_document(json, document)
    return 1 if check and not good else 0


def _place(folder: Path | None, *, quick: bool) -> Path:
    try:
        place = Path(tempfile.mkdtemp(prefix="hotstage-store-", dir=folder))
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise ConfigError(f"nothing can be written in {folder}: {error.strerror}.") from error
    if free < LEAST_FREE_BYTES and not quick:
        place.rmdir()
        raise ConfigError(
            f"{show_bytes(free)} are free in {place.parent}, and this needs "
            f"{show_bytes(LEAST_FREE_BYTES)}. Name a folder on another disk (--folder)."
        )
    return place


def _measure_all(
    plan: Plan, repeats: int, place: Path, console: Console
) -> tuple[Rounds, list[str]]:
    jobs = [(n, what, job) for n in range(repeats) for what, job in plan.rounds]
    jobs += [(0, what, job) for what, job in plan.once]
    sources = {job.work: "" for _, _, job in jobs}
    found: dict[tuple[str, str], list[Measured]] = {}
    failures: list[str] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("data", total=len(jobs))
        for name in sources:
            sources[name] = str(WORKS[name].make_source(place))
        for number, what, job in jobs:
            progress.update(task, description=f"{what}, {job.work}")
            # the first time all is read back, later a sample
            job = replace(job, source=sources[job.work], check_every=1 if number == 0 else 16)
            try:
                measured = measure(job, place)
            except HotstageError as error:
                failures.append(f"{what}, {job.work}: {error}")
                measured = {}
            found.setdefault((what, job.work), []).append(measured)
            progress.advance(task)
    return found, failures
