"""`hotstage bench faults`: what kills, frozen programs, lost disks and odd clocks do to a run."""

from __future__ import annotations

import json as json_module
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from acquire.bench import faults_disk as disk
from acquire.bench import faults_kill as kill
from acquire.bench import faults_station as station
from acquire.bench.faults_canary import Canary
from acquire.bench.faults_check import WINDOW_S, Outcome, add
from acquire.bench.faults_disk import NotHere
from acquire.bench.faults_streams import many_streams
from acquire.errors import ConfigError, HotstageError

SEED = 1
SIGNALS = os.name != "nt"
"""SIGSTOP and its like are POSIX; kills are everywhere."""
AT_ONCE = 2
"""Cases under way at the same time: they mostly wait."""

_COLUMNS = (
    "times",
    "readable",
    "lost",
    "wrong",
    "oldest lost",
    "machine stalled",
    "heater safe after",
)
Make = Callable[[Path, Random], Outcome]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table: what is done, how often, and by what."""

    name: str
    """How it is chosen by ``only``."""
    what: str
    times: int
    make: Make
    at_once: int = AT_ONCE


@dataclass
class Line:
    """What a row of the table found."""

    what: str
    times: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    skipped: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.outcome.good

    def verdict(self) -> str:
        """In a few words."""
        if self.skipped:
            return f"not tried: {self.skipped}"
        return "well" if self.good else "WRONG"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        found = self.outcome
        return {
            "what": self.what,
            "times": self.times,
            "readable": found.readable,
            "lost": found.lost,
            "lost_beyond_window": found.late,
            "wrong": found.wrong,
            "worst_lost_ms": round(1e3 * found.worst_s, 1),
            "machine_stalled_ms": round(1e3 * found.stalled_s, 1),
            "heater_safe_after_ms": round(1e3 * found.safe_s, 1) if found.safe_s else None,
            "verdict": self.verdict(),
            "problems": found.problems,
        }


def all_faults(kills: int) -> list[Fault]:
    """Every row of the table, with ``kills`` times ``kill -9`` in all."""
    engines, servers = round(0.1 * kills), round(0.06 * kills)
    few, more = max(1, min(4, kills // 10)), max(1, min(10, kills // 5))
    stops = (few + more) // 2 if SIGNALS else 0
    return [
        Fault("writer", "kill -9: writer", kills - engines - servers, kill.kill_writer, 3),
        Fault("engine", "kill -9: engine, or its host", engines, station.kill_engine, 3),
        Fault("server", "kill -9: instrument server; the run fails", servers, station.kill_server),
        Fault("stop", "SIGSTOP, SIGCONT: writer", stops, kill.freeze_writer),
        Fault("stop", "SIGSTOP, SIGKILL: writer", stops, kill.freeze_and_kill_writer),
        Fault("stop", "SIGSTOP: engine", few if SIGNALS else 0, station.freeze_engine),
        Fault("disk", "disk full at any write", more, disk.fill_disk),
        Fault("disk", "file size limit", more, disk.limit_files),
        Fault("disk", "read-only disk, from the start", 1, disk.refuse_from_the_start),
        Fault("disk", "read-only disk, later", few, disk.make_read_only),
        Fault("disk", "permission lost", few, disk.take_permission),
        Fault("disk", "folder deleted", few, disk.delete_folder),
        Fault("disk", "folder moved away", few, disk.move_folder),
        Fault("clock", "wall clock an hour back: writer", few, disk.set_clock_back),
        Fault("clock", "wall clock an hour back: run", few, station.set_clock_back),
        Fault("streams", "1000 streams in a run, no more", 1, _one_large_run, 1),
        Fault("streams", "1000 streams in 50 runs", 9, _many_small_runs),
    ]


def _one_large_run(folder: Path, random: Random) -> Outcome:
    return many_streams(folder, 1, 1000)


def _many_small_runs(folder: Path, random: Random) -> Outcome:
    return many_streams(folder, 50, 20)


def try_fault(fault: Fault, place: Path, done: Callable[[], None] = lambda: None) -> Line:
    """Carry out a row; folders of cases where something is wrong stay for an autopsy.

    A record may be lost that is older than the window by as much as the machine itself stood still.
    """
    line = Line(fault.what)

    def one(number: int) -> Outcome | None:
        folder = place / f"{fault.what.replace(' ', '-').replace(':', '')}-{number}"
        try:
            found = fault.make(folder, Random(f"{SEED} {fault.what} {number}"))
        except NotHere as reason:
            line.skipped = str(reason)
            return None
        except (HotstageError, OSError) as error:
            found = Outcome(problems=[f"{type(error).__name__}: {error}"])
        finally:
            done()
        found.stalled_s = canary.stalled_s(found.ended_unix_s)
        if found.late:
            found.problems.append(f"{found.late} lost records were older than {WINDOW_S} s")
        if found.good:
            for left in place.glob(f"{folder.name}*"):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        else:
            found.problems = [f"{folder.name}: {problem}" for problem in found.problems]
        return found

    with Canary(place) as canary, ThreadPoolExecutor(fault.at_once, "fault") as pool:
        found = [outcome for outcome in pool.map(one, range(fault.times)) if outcome is not None]
    line.times = len(found)
    line.outcome = add(found)
    return line


def main(kills: int = 200, json: Path | None = None, only: str | None = None) -> int:
    """Try every fault, print the table, and say whether all is well: 0, or 1.

    Args:
        kills: how often something is killed, in all; the other rows shrink with it below 50.
        json: where the table is written as JSON, too.
        only: a part of the table: writer, engine, server, stop, disk, clock or streams.

    Raises:
        ConfigError: there is nothing to try.
    """
    faults = [fault for fault in all_faults(kills) if fault.times > 0]
    names = list(dict.fromkeys(fault.name for fault in faults))
    if only is not None:
        faults = [fault for fault in faults if fault.name == only]
    if kills < 1 or not faults:
        raise ConfigError(
            f"there is nothing to try with {kills} kills and only = {only!r}: choose one kill or "
            f"more, and one of {', '.join(names)}."
        )
    console, began = Console(), time.monotonic()
    if not console.is_terminal:
        console = Console(width=120)  # a file takes whole words
    place = Path(tempfile.mkdtemp(prefix="hotstage-faults-"))
    place.chmod(0o755)  # one case writes as another user
    lines: list[Line] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("faults", total=sum(fault.times for fault in faults))
        for fault in faults:
            progress.update(task, description=fault.what)
            lines.append(try_fault(fault, place, lambda: progress.advance(task)))
    took_s = time.monotonic() - began
    good = all(line.good for line in lines)
    console.print(table_of(lines))
    for line in lines:
        for problem in line.outcome.problems:
            console.print(Text(f"{line.what}: {problem}", style="red"), soft_wrap=True)
    console.print(
        Text(f"{sum(line.times for line in lines)} faults in {took_s:.0f} s, seed {SEED}.")
        + Text("" if good else f" What is wrong lies in {place}.")
    )
    if json is not None:
        document = {
            "good": good,
            "kills": kills,
            "seed": SEED,
            "window_ms": 1e3 * WINDOW_S,
            "took_s": round(took_s, 1),
            "rows": [line.document() for line in lines],
        }
        json.write_text(json_module.dumps(document, indent=1), encoding="utf-8")
    if good:
        shutil.rmtree(place)
    return 0 if good else 1


def table_of(lines: Sequence[Line]) -> Table:
    """The table as a person reads it."""
    table = Table(title=f"Faults; all older than {1e3 * WINDOW_S:.0f} ms must be readable")
    table.add_column("what")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for line in lines:
        found = line.outcome
        counts = (line.times, found.readable, found.lost, found.wrong)
        table.add_row(
            line.what,
            *map(str, counts),
            f"{1e3 * found.worst_s:.0f} ms",
            f"{1e3 * found.stalled_s:.0f} ms" if found.stalled_s else "",
            f"{found.safe_s:.2f} s" if found.safe_s else "",
            Text(line.verdict(), style="" if line.skipped else "green" if line.good else "red"),
        )
    return table
