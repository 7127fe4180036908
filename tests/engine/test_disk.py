"""A run ends by itself, in order and safe, when the disk fails, fills up, or has taken what it may."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from acquire.clock import VirtualClock
from acquire.engine import disk, preflight
from acquire.engine.disk import Demand, disk_bytes_per_s
from acquire.engine.experiment import run_experiment
from acquire.errors import HotstageError, RunAborted, StoreError
from acquire.instruments import HolderState
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, open_run

Usage = namedtuple("Usage", "total used free")


def _changed(recipe: Recipe, text: str, to: str) -> Recipe:
    dumped = recipe.dump()
    assert text in dumped
    return Recipe.parse(dumped.replace(text, to, 1))


# --------------------------------------------------------------------------- write failures


def test_a_run_whose_folder_vanishes_fails_safely_at_once(
    wall_bench: Any, short: Recipe, tmp_path: Path, run_behind: Any, until: Any
) -> None:
    folder = tmp_path / "run"
    wall_bench.sink = RunWriter(folder)
    # so seldom that no frame comes meanwhile: the store itself must tell
    run = run_behind(wall_bench, _changed(short, "every: 1 s", "every: 600 s"))
    until(lambda: wall_bench.engine.status.frames.get("overview", 0) > 0)
    folder.rename(tmp_path / "moved away")
    began = time.monotonic()
    until(lambda: wall_bench.station.holder.read().state is not HolderState.RAMPING)
    assert time.monotonic() - began < 1.0, "the next publication, and the way from there"
    report = run.end()
    assert report.outcome == "failed"
    assert "could not be written" in report.cause
    assert "still exists" in report.cause
    assert wall_bench.station.holder.read().state is HolderState.OFF
    assert wall_bench.station.scan.blanked()


FULL_DISK = """
import resource, sys, time
from acquire.clock import WallClock
from acquire.engine import Engine
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, StoreSettings

class Timed(RunWriter):
    def on_failure(self, tell):
        def told(error):
            self.failed_at = time.monotonic()
            tell(error)
        super().on_failure(told)

with Station.load("simulated").open(WallClock(10.0), draft=True) as station:
    recipe = Recipe.parse(sys.stdin.read())
    sink = Timed(sys.argv[1], StoreSettings(codec="none"))
    make_safe = station.holder.make_safe
    safe_at = []
    def timed(reason):
        make_safe(reason)
        safe_at.append(time.monotonic())
    station.holder.make_safe = timed
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
    report = Engine(station).run(recipe, sink)
    print(report.outcome, safe_at[0] - sink.failed_at, report.frames["overview"])
    print(station.holder.read().state.value, station.scan.blanked())
    print(report.cause)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_full_disk_ends_the_run_within_a_frame(short: Recipe, tmp_path: Path) -> None:
    recipe = _changed(short, "every: 1 s", "every: 0.2 s")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")],
        input=recipe.dump(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, cause = done.stdout.strip().split("\n", 2)
    outcome, until_safe_s, frames = first.split()
    assert outcome == "failed"
    assert float(until_safe_s) < 0.5
    # 8192 bytes each, behind the index; those that came while it failed are few
    whole = (700_000 - 4004) // 8196
    assert whole <= int(frames) <= whole + 10
    assert second == "off True"
    assert "disk is full" in cause
    stored = open_run(tmp_path / "run")
    assert stored.images("overview").sizes["time"] == whole
    assert stored.report is not None
    assert stored.report.outcome == "failed"


def test_a_store_that_fails_behind_the_records_backs_ends_the_run(
    bench: Any, short: Recipe
) -> None:
    told: list[Any] = []
    bench.sink.on_failure = told.append
    report = bench.run(short, {20.0: lambda: told[0](StoreError("the disk is gone"))})
    assert (report.outcome, report.cause) == ("failed", "the disk is gone")
    assert report.steps[0]["t_end_s"] == pytest.approx(20.0)
    assert report.frames["overview"] in (20, 21)
    assert bench.station.holder.read().state is HolderState.OFF


# ------------------------------------------------------------------------------------ limits


def test_a_disk_limit_ends_the_run_in_order(
    wall_bench: Any, short: Recipe, tmp_path: Path, run_behind: Any
) -> None:
    recipe = _changed(short, "run_time: 3600 s", "run_time: 3600 s, disk: 100 kB")
    recipe = Recipe.parse(recipe.dump() + "store: {codec: none}\n")
    wall_bench.sink = RunWriter(tmp_path / "run", recipe.store.settings())
    report = run_behind(wall_bench, recipe).end()
    assert report.outcome == "aborted"
    assert "limits.disk" in report.cause
    assert "limit of 100 kB" in report.cause
    assert 12 < report.frames["overview"] < 24, "8192 bytes each"
    stored = open_run(tmp_path / "run")
    assert stored.images("overview").sizes["time"] == report.frames["overview"]
    assert wall_bench.station.holder.read().state is HolderState.OFF


def test_a_run_ends_before_the_disk_is_full(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10**10, *[10**9 - 10**8 * n for n in range(1000)]])
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 0, next(free)))
        with pytest.raises(RunAborted, match="disk is almost full"):
            run_experiment(short, station, tmp_path / "run")
        assert station.holder.read().state is HolderState.OFF
    monkeypatch.undo()
    report = open_run(tmp_path / "run").report
    assert report is not None
    assert report.outcome == "aborted"
    assert 5 < report.frames["overview"] < 20


def test_a_disk_that_does_not_answer_holds_up_neither_the_holders_readings_nor_the_status(
    wall_bench: Any,
    short: Recipe,
    tmp_path: Path,
    run_behind: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked = threading.Event(), threading.Event()

    def usage(place: Path) -> Usage:
        asked.set()
        assert answers.wait(30)
        return Usage(10**12, 0, 10**10)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    run = run_behind(wall_bench, short, folder=tmp_path)
    try:
        assert asked.wait(10)
        began = time.monotonic()
        assert wall_bench.engine.status.disk_free_bytes == 0
        assert time.monotonic() - began < 1.0
        since_s = wall_bench.sink.table_rows[-1].t_s
        until(lambda: wall_bench.sink.table_rows[-1].t_s > since_s + 5.0)
        wall_bench.engine.abort("enough")
        assert run.end().outcome == "aborted"
    finally:
        answers.set()


def test_a_disk_limit_that_will_be_broken_is_told_in_advance(short: Recipe) -> None:
    recipe = _changed(short, "run_time: 3600 s", "run_time: 3600 s, disk: 100 kB")
    found = preflight(recipe, Station.load("simulated"))
    assert any("limits.disk" in problem for problem in found.problems)
    roomy = _changed(short, "run_time: 3600 s", "run_time: 3600 s, disk: 1 GB")
    assert preflight(roomy, Station.load("simulated")).good


# ------------------------------------------------------------------------------------- speed

FAST = ("every: 1 s", "every: 0 s"), ("size: 64", "size: 1024"), ("1e-05 s", "1e-07 s")


@pytest.fixture
def fast(short: Recipe) -> Recipe:
    """1024² images of 2 MB, each in 0.125 s of run time, ten times as fast on the wall."""
    for change in FAST:
        short = _changed(short, *change)
    return short


NEEDED = 2 * 1024**2 / (1024**2 * 1e-7 + 1024 * 20e-6) / 2.1 * 10


@pytest.mark.parametrize(
    ("share", "when_behind", "problems", "warnings"),
    [
        (3.0, "fail", 0, 0),
        (1.5, "wait", 0, 1),
        (1.5, "fail", 0, 1),
        (0.5, "wait", 0, 1),
        (0.5, "fail", 1, 0),
    ],
)
def test_a_disk_that_is_too_slow_is_told_before_the_run(
    fast: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    when_behind: str,
    problems: int,
    warnings: int,
) -> None:
    asked: list[Path] = []

    def measured(folder: Path) -> float:
        asked.append(folder)
        return share * NEEDED

    monkeypatch.setattr("acquire.engine.rehearsal.disk_bytes_per_s", measured)
    recipe = Recipe.parse(fast.dump() + f"store: {{when_behind: {when_behind}}}\n")
    found = preflight(recipe, Station.load("simulated"), folder=tmp_path / "run")
    assert asked == [tmp_path / "run"]
    assert found.needed_bytes_per_s == pytest.approx(NEEDED, rel=0.15)
    assert found.disk_bytes_per_s == share * NEEDED
    told = [text for text in (*found.problems, *found.warnings) if "per second" in text]
    assert len(told) == problems + warnings
    assert found.good == (not problems)
    assert len(found.warnings) == warnings


def test_data_that_are_not_compressed_need_a_faster_disk(short: Recipe, fast: Recipe) -> None:
    raw = Recipe.parse(fast.dump() + "store: {codec: none}\n")
    packed, unpacked = (preflight(r, Station.load("simulated")) for r in (fast, raw))
    assert unpacked.needed_bytes_per_s == pytest.approx(2.1 * packed.needed_bytes_per_s)
    assert unpacked.expected_bytes == pytest.approx(2.1 * packed.expected_bytes, rel=0.01)


def test_a_slow_plan_has_no_disk_measured(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(folder: Path) -> float:
        raise AssertionError

    monkeypatch.setattr("acquire.engine.rehearsal.disk_bytes_per_s", never)
    assert preflight(short, Station.load("simulated"), folder=tmp_path / "run").good


def test_a_disk_without_room_is_not_filled_to_measure_it(
    fast: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(folder: Path) -> float:
        raise AssertionError

    monkeypatch.setattr("acquire.engine.rehearsal.disk_bytes_per_s", never)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 0, 3 * 10**8))
    found = preflight(fast, Station.load("simulated"), folder=tmp_path / "run")
    assert any("Free some space" in problem for problem in found.problems)


def test_the_disk_is_measured_in_half_a_second_and_left_as_it_was(tmp_path: Path) -> None:
    began = time.monotonic()
    speed = disk_bytes_per_s(tmp_path / "not" / "there" / "yet")
    assert time.monotonic() - began < 3.0
    assert 1e5 < speed < 1e11
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(HotstageError, match="cannot be measured"):
        disk_bytes_per_s(tmp_path / "file")


def test_a_burst_that_memory_can_hold_needs_no_fast_disk() -> None:
    steady, burst = Demand(), Demand()
    for n in range(300):
        steady.add(n * 0.1, 10_000_000)
    assert steady.bytes_per_s == pytest.approx(100e6, rel=0.05)
    for n in range(20):
        burst.add(n * 30.0, 20_000_000)
    assert burst.bytes_per_s == 0


def test_a_disk_that_falls_behind_is_told_once(bench: Any, short: Recipe) -> None:
    full = iter([0.1, 0.6, 0.4, 0.7])
    inner = bench.sink

    class Filling(type(inner)):  # type: ignore[misc]
        fullness = property(lambda sink: next(full, 0.0))

    bench.sink = Filling()
    recipe = Recipe.parse(short.dump() + "store: {when_behind: fail}\n")
    assert bench.run(recipe).outcome == "completed"
    (warning,) = bench.texts("warning")
    assert "the disk is behind" in warning
    assert "store.when_behind: fail" in warning
    assert disk.BEHIND == 0.5
