"""`hotstage bench soak`: a day's recipe in virtual time into a real store, watched for memory that grows."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.errors import ConfigError, HotstageError
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, open_run
from acquire.stream import RunReport
from acquire.units import show_duration

MOST_GROWTH_MB = 50.0
"""The most that a run may grow after its first hour."""
HOUR_S = 3600.0

_RECIPE = """
hotstage: 1
name: soak
limits: {{temperature: 900 °C}}
record:
  overview: {{scan: {{detectors: [haadf], size: 64, field_of_view: 80 nm, dwell_time: 5 µs}}, every: 30 s}}
  chip: {{holder: {{every: 1 s}}}}
estimate:
  particles: {{from: overview.haadf}}
steps:
  - ramp: {{to: 650 °C, rate: 5 °C/s}}
  - repeat:
      times: {times}
      steps:
        - mark: ten minutes more
        - hold: {{for: 10 min}}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment of a run."""

    run_s: float
    wall_s: float
    rss_mb: float


def main(hours: float = 24.0, *, check: bool = False) -> int:
    """Run the recipe, print memory for every simulated hour, and say whether it stayed flat.

    Args:
        hours: how long it lasts in run time, more than one hour.
        check: whether too much growth is an error.

    Returns:
        0; 1 if ``check`` is asked for and the memory grew by more than :data:`MOST_GROWTH_MB`
        after the first hour.

    Raises:
        ConfigError: it would be too short to tell.
        HotstageError: the run did not complete.
    """
    if not hours > 1:
        raise ConfigError(f"--hours {hours:g}: growth is told after the first hour; take more.")
    console = Console()
    console.print("   run        wall      memory")
    with tempfile.TemporaryDirectory(prefix="hotstage-soak-") as place:
        samples, report = soak(hours, Path(place) / "run", lambda s: console.print(_line(s)))
        run = open_run(Path(place) / "run")
        rows = run.holder.sizes["time"], run.estimates("particles").sizes["time"]
    grown_mb = growth_mb(samples)
    good = grown_mb <= MOST_GROWTH_MB
    console.print(
        f"{report.frames['overview']} frames, {rows[0]} readings and {rows[1]} estimates in "
        f"{show_duration(samples[-1].wall_s)}: memory grew by {grown_mb:.1f} MB after the first hour "
        f"(goal ≤ {MOST_GROWTH_MB:g} MB{'' if good else ': missed'}).",
        style="green" if good else "red",
    )
    return 0 if good or not check else 1


def soak(
    hours: float, folder: Path, tell: Callable[[Sample], None], every_s: float = HOUR_S
) -> tuple[list[Sample], RunReport]:
    """The run itself, into a new folder; takes and tells a sample every hour of run time.

    Raises:
        HotstageError: it did not complete.
    """
    clock, process = VirtualClock(), psutil.Process()
    recipe = Recipe.parse(_RECIPE.format(times=round(6 * hours)))
    samples: list[Sample] = []
    began = time.monotonic()
    over = clock.signal()

    def watch() -> None:
        while not over.wait(every_s):
            gc.collect()  # what only waits to be collected has not leaked
            rss_mb = process.memory_info().rss / 1e6
            samples.append(Sample(clock.now_s(), time.monotonic() - began, rss_mb))
            tell(samples[-1])

    with (
        Station.load("simulated").open(clock) as station,
        clock.enrolled("soak"),
    ):
        watcher = clock.spawn(watch, "memory")
        try:
            report = Engine(station, "hotstage bench").run(recipe, RunWriter(folder), folder=folder)
        finally:
            over.set()
            watcher.join()
    if report.outcome != "completed":
        raise HotstageError(f"the soak did not complete: {report.cause}")
    return samples, report


def growth_mb(samples: list[Sample]) -> float:
    """By how much the memory exceeded, at its most, what it was after the first hour."""
    first = next(s for s in samples if s.run_s >= HOUR_S)
    return max(s.rss_mb - first.rss_mb for s in samples if s.run_s >= HOUR_S)


def _line(sample: Sample) -> str:
    return (
        f"{sample.run_s / HOUR_S:6.1f} h {show_duration(sample.wall_s):>12} {sample.rss_mb:8.1f} MB"
    )
