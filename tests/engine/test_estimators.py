"""An estimator that hangs or leaks is switched off and told of, and the run goes on without it."""

from __future__ import annotations

import gc
import mmap
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from acquire.engine import estimating, preparing
from acquire.engine.context import RunContext
from acquire.engine.memory import MemoryAccount
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.store import RunWriter, open_run
from acquire.stream import Estimate, Quantity, Value

COUNT = Quantity("count", "1", "number of particles")


class Estimating:
    """Says the frame's number, after having done something."""

    quantities = (COUNT,)
    columns: Mapping[str, str] = MappingProxyType({})

    def __init__(self, also: Callable[[Frame], None]) -> None:
        self._also = also

    def update(self, frame: Frame) -> Estimate:
        self._also(frame)
        values = {"count": Value(float(frame.index), 0.0)}
        return Estimate("particles", frame.stream, frame.index, frame.t_end_s, values)


@pytest.fixture
def watched(short: Recipe) -> Recipe:
    return Recipe.parse(short.dump() + "estimate: {particles: {from: overview.haadf}}\n")


def _make(also: Callable[[Frame], None]) -> Any:
    return lambda recipe, specs: {"particles": Estimating(also)}


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_hanging_estimator_is_switched_off_and_what_it_said_before_is_kept(
    wall_bench: Any,
    watched: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    let_go: threading.Event,
    run_behind: Any,
    until: Any,
) -> None:
    monkeypatch.setattr(preparing, "HANG_WALL_S", 1.0)
    stuck = threading.Event()

    def hang(frame: Frame) -> None:
        if frame.index >= 5:
            stuck.set()
            let_go.wait(60)

    wall_bench.sink = RunWriter(tmp_path / "run")
    engine = wall_bench.engine
    brief = Recipe.parse(watched.dump().replace("to: 500 °C", "to: 100 °C"))
    run = run_behind(wall_bench, brief, make=_make(hang))
    assert stuck.wait(10)
    until(lambda: engine.status.estimators_off == ("particles",))
    assert "hangs" in engine.status.warnings[0]
    frames = engine.status.frames["overview"]
    until(lambda: engine.status.frames["overview"] > frames + 10)
    report = run.end()
    assert report.outcome == "completed", report.cause
    let_go.set()  # what it says now comes too late for anybody
    until(lambda: not [t for t in threading.enumerate() if t.name == "estimator-particles"])
    assert (engine.state.value, engine.status.cause) == ("completed", "")
    stored = open_run(tmp_path / "run").estimates("particles")["count"].values
    assert stored.tolist() == sorted(set(stored.tolist())), "each once"
    assert len(stored) >= 1
    assert max(stored) < frames


def test_an_end_does_not_wait_for_an_estimator_that_was_switched_off(
    wall_bench: Any,
    watched: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    let_go: threading.Event,
    run_behind: Any,
    until: Any,
) -> None:
    monkeypatch.setattr(preparing, "HANG_WALL_S", 0.2)
    monkeypatch.setattr(estimating, "PATIENCE_S", 60.0)
    run = run_behind(wall_bench, watched, make=_make(lambda frame: bool(let_go.wait(60))))
    until(lambda: wall_bench.engine.status.estimators_off == ("particles",))
    wall_bench.engine.abort("enough")
    report = run.end(5.0)
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert not wall_bench.sink.estimates


def test_a_leaking_estimator_is_switched_off_and_dropped(
    bench: Any, watched: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "LEAK_BYTES", 40 * 2**20)
    kept: list[mmap.mmap] = []
    gc.collect()  # what earlier tests left must not be given back while this one counts

    def leak(frame: Frame) -> None:
        # from the system, as malloc may serve it from pages that the process has in use already
        kept.append(mmap.mmap(-1, 8 * 2**20))
        np.frombuffer(kept[-1], np.uint8)[:] = 1  # touched

    made: list[weakref.ref[Estimating]] = []

    def make(recipe: Recipe, specs: Any) -> dict[str, Estimating]:
        estimator = Estimating(leak)
        made.append(weakref.ref(estimator))
        return {"particles": estimator}

    with bench.clock.enrolled("test"):
        report = bench.engine.run(watched, bench.sink, make=make)
    assert report.outcome == "completed", report.cause
    assert made[0]() is None, "dropped, with all that it holds"
    assert 5 <= len(kept) <= 9
    assert bench.engine.status.estimators_off == ("particles",)
    assert "leaks" in bench.texts("warning")[0]
    assert len(bench.sink.estimates) == len(kept), "what it said is kept"
    assert report.frames["overview"] > 50


def test_an_estimator_is_not_blamed_for_what_others_take(
    bench: Any, watched: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "LEAK_BYTES", 40 * 2**20)
    kept: list[Any] = []
    bench.sink.append_row = lambda row: kept.append(np.ones(2**15))  # at every reading
    with bench.clock.enrolled("test"):
        report = bench.engine.run(
            watched, bench.sink, make=_make(lambda frame: np.ones(2**20).sum())
        )
    assert report.outcome == "completed", report.cause
    assert len(kept) > 100
    assert bench.engine.status.estimators_off == ()


def test_what_grows_while_two_work_is_put_down_to_neither() -> None:
    used = [0]
    account = MemoryAccount(100, lambda: used[0])
    with account.working("slow"):
        for _ in range(10):
            with account.working("leaking"):
                used[0] += 30
    assert account.leaked_by("slow") == account.leaked_by("leaking") == 0
    for _ in range(11):
        with account.working("slow"):
            used[0] += 1
        with account.working("leaking"):
            used[0] += 30
    assert account.leaked_by("slow") == 0
    assert account.leaked_by("leaking") == 330
    assert account.leaked_by("leaking") == 0, "judged anew"


def test_one_that_never_came_back_hides_nobody_who_leaks() -> None:
    used = [0]
    account = MemoryAccount(100, lambda: used[0])
    with account.working("hanging"):
        account.forget("hanging")
        with account.working("leaking"):
            used[0] += 200
    assert account.leaked_by("leaking") == 200


def test_a_first_estimate_that_comes_while_a_step_ends_harms_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates: dict[str, Estimate] = {}

    class Values(dict[str, Value]):
        """While these are looked at, another estimator says something for the first time."""

        def items(self) -> Any:
            estimates.setdefault("late", Estimate("late", "overview", 0, 0.0, {}))
            return super().items()

    estimates["early"] = Estimate("early", "overview", 0, 0.0, Values(count=Value(1.0, 0.1)))
    real = RunContext.__post_init__

    def begin(run: RunContext) -> None:
        real(run)
        run.estimates = estimates

    monkeypatch.setattr(RunContext, "__post_init__", begin)
    report = bench.run(Recipe.parse("hotstage: 1\nname: n\nsteps: [{mark: a}, {mark: b}]\n"))
    assert report.outcome == "completed", report.cause
    assert set(estimates) == {"early", "late"}


class _Preparing(Estimating):
    """Gets ready when it is let go."""

    def __init__(self, begun: threading.Event, let_go: threading.Event) -> None:
        super().__init__(lambda frame: None)
        self._begun, self._let_go = begun, let_go

    def prepare(self) -> None:
        self._begun.set()
        self._let_go.wait(60)


def test_nothing_is_heated_and_nothing_recorded_before_estimators_are_ready(
    wall_bench: Any, watched: Recipe, let_go: threading.Event, run_behind: Any, until: Any
) -> None:
    begun = threading.Event()
    made = _Preparing(begun, let_go)
    brief = Recipe.parse(watched.dump().replace("to: 500 °C", "to: 100 °C"))
    run = run_behind(wall_bench, brief, make=lambda recipe, specs: {"particles": made})
    assert begun.wait(10)
    seen = len(wall_bench.readings)
    until(lambda: len(wall_bench.readings) > seen + 3)
    assert wall_bench.states() == ["off"]
    assert not wall_bench.engine.status.frames.get("overview")
    let_go.set()
    report = run.end()
    assert report.outcome == "completed", report.cause
    assert "ramping" in wall_bench.states()


def test_an_abort_does_not_wait_until_estimators_are_ready(
    wall_bench: Any, watched: Recipe, let_go: threading.Event, run_behind: Any
) -> None:
    begun = threading.Event()
    made = _Preparing(begun, let_go)
    run = run_behind(wall_bench, watched, make=lambda recipe, specs: {"particles": made})
    assert begun.wait(10)
    wall_bench.engine.abort("enough")
    report = run.end(5.0)
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert not let_go.is_set()
