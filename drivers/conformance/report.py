"""`hotstage bench wires`: every driver on its wire under every disturbance, and how long everything took.

It runs the conformance suite, trial by trial, on the far ends of all installed stations.
"""

from __future__ import annotations

import json as json_module
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from acquire.errors import ConfigError
from acquire.station import Station
from drivers.conformance.proxy import Disturbance
from drivers.conformance.rig import Times
from drivers.conformance.stations import drivers_on_wires, subject
from drivers.conformance.suite import (
    ChannelSuite,
    HolderSuite,
    LinkSuite,
    ScanSuite,
    SpectrometerSuite,
)

_SUITES: dict[str, type[LinkSuite]] = {
    "holder": HolderSuite,
    "scan": ScanSuite,
    "spectrometer": SpectrometerSuite,
}
DISTURBED = "test_disturbed_replies_are_never_taken_for_others"
FASTEST = 5.0
"""Clock seconds per wall second; a control loop of 20 ms follows no faster."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one disturbance did to one driver; times in wall s."""

    driver: str
    what: str
    calls: int
    refused: int
    worst_call_s: float
    recovered_s: float
    safe_s: float
    took_s: float
    problem: str

    @property
    def good(self) -> bool:
        """Whether the driver did what it must."""
        return not self.problem


def main(only: str | None = None, json: Path | None = None, check: bool = False) -> int:
    """Print the table; returns 1 when ``check`` and a driver failed, else 0.

    Args:
        only: drivers, with commas.
        json: a file for all that is measured.
        check: whether a failure is told by the exit status.

    Raises:
        ConfigError: a driver that no station has on a wire.
    """
    console = Console()
    known = drivers_on_wires()
    wanted = sorted(known) if only is None else [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"--only {name}: no station has this driver on a wire; there are {', '.join(known)}."
            )
    trials: list[Trial] = []
    with _quiet(), Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(wanted))
        for name in wanted:
            station, role = known[name]
            for trial in trials_of(station, role):
                progress.update(task, description=f"{name}: {trial.what}")
                trials.append(trial)
            progress.advance(task)
    console.print(_table(trials))
    for trial in trials:
        if not trial.good:
            console.print(
                f"{trial.driver}, {trial.what}: {trial.problem}", style="red", markup=False
            )
    if json is not None:
        rows = [asdict(trial) | {"good": trial.good} for trial in trials]
        json.write_text(json_module.dumps({"trials": rows}, indent=1), encoding="utf-8")
    return int(check and not all(trial.good for trial in trials))


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged: the faults are meant."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)


def trials_of(station: Station, role: str) -> Iterator[Trial]:
    """Every trial of one driver of a station with wires."""
    rate = min(FASTEST, station.make_clock().rate)
    base = _SUITES.get(role, ChannelSuite)
    suite: type[LinkSuite] = type("Suite", (base,), {"subject": subject(station, role, rate)})
    suite.setup_class()
    try:
        for what, trial in _trials(suite):
            suite.rig.times = Times()
            yield _tried(suite, what, trial)
    finally:
        suite.teardown_class()


def _trials(suite: type[LinkSuite]) -> Iterator[tuple[str, Callable[[], None]]]:
    for name in dir(suite):
        if not name.startswith("test_"):
            continue
        if name != DISTURBED:
            yield re.sub("_", " ", name.removeprefix("test_")), getattr(suite(), name)
            continue
        for disturbance in Disturbance:
            yield f"a reply {disturbance}", partial(_disturb, suite, disturbance)


def _disturb(suite: type[LinkSuite], disturbance: Disturbance) -> None:
    one = type("Suite", (suite,), {"disturbances": (disturbance,)})
    getattr(one(), DISTURBED)()


def _tried(suite: type[LinkSuite], what: str, trial: Callable[[], None]) -> Trial:
    began, problem = time.monotonic(), ""
    try:
        trial()
    except Exception as error:  # noqa: BLE001  whatever a driver does is a row of the table
        problem = f"{type(error).__name__}: {error}"
    times = suite.rig.times
    return Trial(
        suite.subject.name,
        what,
        times.calls,
        times.refused,
        round(times.worst_s, 3),
        round(times.recovered_s, 3),
        round(times.safe_s, 3),
        round(time.monotonic() - began, 1),
        problem,
    )


def _table(trials: list[Trial]) -> Table:
    table = Table(title="Drivers on disturbed wires; worst times in wall seconds")
    table.add_column("what happened", no_wrap=True)
    for heading in ("calls", "a call", "works again", "device safe"):
        table.add_column(heading, justify="right")
    table.add_column("")
    last = ""
    for trial in trials:
        if trial.driver != last:
            table.add_section()
            table.add_row(f"[bold]{trial.driver}[/]")
        table.add_row(
            f"  {trial.what}",
            str(trial.calls or ""),
            *(
                f"{value:.2f}" if value else ""
                for value in (trial.worst_call_s, trial.recovered_s, trial.safe_s)
            ),
            "well" if trial.good else "WRONG",
        )
        last = trial.driver
    return table
