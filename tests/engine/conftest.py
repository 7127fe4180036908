"""Short recipes, and a run in virtual time with whatever a test wants to do in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.store import MemorySink
from acquire.stream import RunReport

SHORT = """
hotstage: 1
name: short
limits: {temperature: 900 °C, run_time: 1 h}
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}}
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 10 µs}, every: 1 s}
  chip: {holder: {every: 200 ms}}
steps:
  - ramp: {to: 500 °C, rate: 10 °C/s}
  - hold: {for: 30 s}
"""


@pytest.fixture
def short() -> Recipe:
    return Recipe.parse(SHORT)


class Bench:
    """An engine on the simulated station in virtual time."""

    def __init__(self, *, draft: bool = True) -> None:
        self.clock = VirtualClock()
        self.station: OpenStation = Station.load("simulated").open(self.clock, draft=draft)
        self.engine = Engine(self.station)
        self.sink = MemorySink(keep_frames=True)

    def run(
        self, recipe: Recipe, meanwhile: dict[float, Callable[[], object]] | None = None
    ) -> RunReport:
        """Run a recipe and call things at given run times."""
        with self.clock.enrolled("test"):
            zero_s = self.clock.now_s()
            pending = sorted((meanwhile or {}).items())

            def interfere() -> None:
                for at_s, act in pending:
                    self.clock.sleep(zero_s + at_s - self.clock.now_s())
                    act()

            task = self.clock.spawn(interfere, "operator")
            report = self.engine.run(recipe, self.sink)
            task.join()
        return report

    def column(self, name: str) -> list[tuple[float, float]]:
        """Time and one column of the holder log."""
        return [(row.t_s, float(row.values[name])) for row in self.sink.table_rows]

    def states(self) -> list[str]:
        """States of the holder as they followed each other."""
        found: list[str] = []
        for row in self.sink.table_rows:
            if not found or found[-1] != row.values["state"]:
                found.append(str(row.values["state"]))
        return found

    def texts(self, kind: str) -> list[str]:
        """Texts of journal notes of one kind."""
        return [note.text for note in self.sink.notes if note.kind == kind]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.station.close()
