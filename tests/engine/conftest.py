"""Short recipes, and a run in virtual time with whatever a test wants to do in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from acquire import plugins
from acquire.clock import Clock, VirtualClock, WallClock
from acquire.engine import Engine
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.store import MemorySink
from acquire.stream import Estimate, Quantity, Row, RunReport, Value

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
    """An engine on the simulated station, in virtual time unless another clock is given."""

    def __init__(self, clock: Clock | None = None, *, draft: bool = True) -> None:
        self.clock = clock or VirtualClock()
        self.station: OpenStation = Station.load("simulated").open(self.clock, draft=draft)
        self.engine = Engine(self.station)
        self.sink: Any = MemorySink(keep_frames=True)

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

    @property
    def readings(self) -> list[Row]:
        """Rows of the holder log."""
        return [row for row in self.sink.table_rows if row.table == "holder"]

    def column(self, name: str) -> list[tuple[float, float]]:
        """Time and one column of the holder log."""
        return [(row.t_s, float(row.values[name])) for row in self.readings]

    def states(self) -> list[str]:
        """States of the holder as they followed each other."""
        found: list[str] = []
        for row in self.readings:
            if not found or found[-1] != row.values["state"]:
                found.append(str(row.values["state"]))
        return found

    def texts(self, kind: str) -> list[str]:
        """Texts of journal notes of one kind."""
        return [note.text for note in self.sink.notes if note.kind == kind]


class Background:
    """A run in a thread of its own, on a wall clock."""

    def __init__(self, bench: Bench, recipe: Recipe, **options: Any) -> None:
        self._bench = bench
        self._report: RunReport | None = None
        self._thread = threading.Thread(target=self._run, args=(recipe, options))
        self._thread.start()

    def _run(self, recipe: Recipe, options: dict[str, Any]) -> None:
        self._report = self._bench.engine.run(recipe, self._bench.sink, **options)

    def end(self, timeout_s: float = 20.0) -> RunReport:
        """Wait for the end of the run."""
        self._thread.join(timeout_s)
        assert self._report is not None, "the run did not end"
        return self._report


Until = Callable[..., None]


@pytest.fixture
def until() -> Until:
    """Looks again and again until something is so."""

    def look(reached: Callable[[], bool], timeout_s: float = 10.0) -> None:
        pause = threading.Event()
        for _ in range(int(timeout_s / 0.005)):
            if reached():
                return
            pause.wait(0.005)
        pytest.fail("not reached in time")

    return look


@pytest.fixture
def run_behind() -> Callable[..., Background]:
    """Starts a run that goes on while the test does."""
    return Background


@pytest.fixture
def wall_bench() -> Iterator[Bench]:
    """On the wall clock, ten times as fast."""
    made = Bench(WallClock(10.0))
    yield made
    made.station.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.station.close()


SCRIPTED = """
hotstage: 1
name: steered
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf], size: 32, field_of_view: 160 nm, dwell_time: 10 µs}, every: 1 s}
  chip: {holder: {every: 500 ms}}
estimate: {scripted: {from: overview.haadf}}
steps:
"""


class Scripted:
    """An estimator that says what a test wants: values with σ by quantity, and flags."""

    quantities = (
        Quantity("mean_diameter", "nm", "mean diameter", ("few_particles",)),
        Quantity("growth_rate", "nm/min", "growth of tracked particles", ("few_tracked",)),
        Quantity("count", "1", "number of particles"),
    )
    columns: Mapping[str, str] = MappingProxyType({})
    says: Callable[[Frame], Any] = staticmethod(lambda frame: None)

    def __init__(self, name: str, *_: Any) -> None:
        self._name = name

    def update(self, frame: Frame) -> Estimate | None:
        said = type(self).says(frame)
        if said is None:
            return None
        values = {name: Value(*pair) for name, pair in said[0].items()}
        return Estimate(self._name, frame.stream, frame.index, frame.t_end_s, values, said[1])


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Frame], Any]], None]:
    """Makes the estimator ``scripted`` known, and sets what it says of a frame."""
    found = plugins.find

    def find(group: str, name: str) -> Any:
        return Scripted if (group, name) == (plugins.ESTIMATORS, "scripted") else found(group, name)

    monkeypatch.setattr(plugins, "find", find)
    monkeypatch.setattr(Scripted, "says", staticmethod(lambda frame: None))
    return lambda says: monkeypatch.setattr(Scripted, "says", staticmethod(says))


@pytest.fixture
def scripted() -> Callable[[str], Recipe]:
    """Makes a recipe of steps, as YAML, with that estimator."""
    return lambda steps: Recipe.parse(SCRIPTED + steps)
