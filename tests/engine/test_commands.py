"""Pause, hold and abort do what they say wherever they meet a run, also while the disk is stuck."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.engine.status import EngineState
from acquire.errors import LinkError
from acquire.instruments import HolderState
from acquire.recipe import Plan, Recipe, hold, ramp
from acquire.store import MemorySink, RunWriter, open_run
from acquire.store.shards import ShardedArray
from acquire.stream import Note, RunHeader

LINE = """- line_scan: {from: [40 nm, 80 nm], to: [120 nm, 80 nm], points: 20,
    spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 2 s}}
"""
SLOW = "dwell_time: 0.001 s"
"""An image of 64 × 64 pixels takes 4.1 s."""


def _recipe(short: Recipe, where: str) -> Recipe:
    text = short.dump()
    if where == "exposure":
        text = text.replace("dwell_time: 1e-05 s", SLOW).replace("every: 1 s", "every: 0 s")
    if where == "line_scan":
        text = text.split("steps:")[0] + "steps:\n" + LINE
    return Recipe.parse(text)


PLACES = ["ramp", "exposure", "line_scan"]
AT_S = 22.0
"""In the ramp, in the sixth slow image, in the eleventh spectrum."""


@pytest.mark.parametrize("where", PLACES)
def test_an_abort_is_obeyed_at_once_everywhere(bench: Any, short: Recipe, where: str) -> None:
    report = bench.run(_recipe(short, where), {AT_S: lambda: bench.engine.abort("enough")})
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert report.steps[-1]["outcome"] == "interrupted"
    assert not [t for t, power in bench.column("power") if t > AT_S + 3.0 and power > 0]
    states = [(row.t_s, row.values["state"]) for row in bench.readings]
    assert not [t for t, state in states if state in ("ramping", "holding") and t > AT_S + 0.5]
    assert bench.station.scan.blanked()
    starts = [frame.t_start_s for frame in bench.sink.kept_frames]
    assert max(starts) <= AT_S, "nothing is exposed any more"


@pytest.mark.parametrize("where", PLACES)
def test_a_pause_stops_heat_and_beam_everywhere_and_nothing_is_lost(
    bench: Any, short: Recipe, where: str
) -> None:
    recipe, blanked = _recipe(short, where), []
    report = bench.run(
        recipe,
        {
            AT_S: bench.engine.pause,
            AT_S + 50: lambda: blanked.append(bench.station.scan.blanked()),
            AT_S + 100: bench.engine.resume,
        },
    )
    assert report.outcome == "completed", report.cause
    assert blanked == [True]
    spans = [(f.t_start_s, f.t_end_s) for f in bench.sink.kept_frames]
    under_way = [span for span in spans if span[0] <= AT_S < span[1]]
    begun = max([AT_S, *(end for _, end in under_way)])  # the exposure under way is finished
    assert not [start for start, _ in spans if begun < start < AT_S + 100]
    setpoints = [value for t, value in bench.column("setpoint") if AT_S + 0.5 < t < AT_S + 99]
    assert max(setpoints) - min(setpoints) < 1e-6
    stream = "line_scan" if where == "line_scan" else "overview"
    indexes = [frame.index for frame in bench.sink.kept_frames if frame.stream == stream]
    assert indexes == list(range(len(indexes)))
    if where == "line_scan":
        assert len(indexes) == 20
        places = [c.position_nm[0] for c in bench.sink.contexts[stream]]
        assert places == pytest.approx(np.linspace(40, 120, 20))
    assert not bench.sink.gaps


@pytest.mark.parametrize("where", PLACES)
def test_holding_freezes_the_temperature_everywhere(bench: Any, short: Recipe, where: str) -> None:
    recipe = _recipe(short, where)
    report = bench.run(recipe, {AT_S: bench.engine.hold, AT_S + 60: bench.engine.resume})
    assert report.outcome == "completed", report.cause
    setpoints = [value for t, value in bench.column("setpoint") if AT_S + 0.5 < t < AT_S + 59]
    assert max(setpoints) - min(setpoints) < 1e-6
    during = [f for f in bench.sink.kept_frames if AT_S + 5 < f.t_start_s < AT_S + 59]
    assert bool(during) == (where != "line_scan"), "recording goes on; a step waits"


# -------------------------------------------------------------------------------- mid-write


class StuckDisk:
    """Lets no chunk through while it is stuck, as a disk that does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.free.set()
        store = ShardedArray._store

        def waiting(array: Any, *arguments: Any) -> None:
            assert self.free.wait(30)
            store(array, *arguments)

        monkeypatch.setattr(ShardedArray, "_store", waiting)


class SmallStore(RunWriter):
    """A store with room for few records."""

    def open(self, header: RunHeader) -> None:
        super().open(header)
        assert self._pool is not None
        self._pool.most_bytes = 100_000


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckDisk]:
    disk = StuckDisk(monkeypatch)
    yield disk
    disk.free.set()


IMAGES = """- image: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 10 µs},
    frames: 300, every: 0.2 s}
"""


@pytest.fixture
def writing(
    wall_bench: Any,
    short: Recipe,
    tmp_path: Path,
    stuck: StuckDisk,
    request: Any,
    run_behind: Any,
    until: Any,
) -> Any:
    """A run whose recorder, or whose step, waits for room in the store."""
    text = short.dump().replace("every: 1 s", "every: 0.2 s")
    if request.param == "step":
        text = text.split("steps:")[0] + "steps:\n- ramp: {to: 60 °C, rate: 20 °C/s}\n" + IMAGES
    wall_bench.sink = SmallStore(tmp_path / "run")
    run = run_behind(wall_bench, Recipe.parse(text))
    until(lambda: wall_bench.engine.status.frames.get(_stream(request.param), 0) > 2)
    stuck.free.clear()
    until(lambda: wall_bench.sink._pool.waits > 0)
    return wall_bench, run


def _stream(where: str) -> str:
    return "image" if where == "step" else "overview"


def _safe(bench: Any) -> bool:
    state = bench.station.holder.read().state
    return state in (HolderState.MAKING_SAFE, HolderState.OFF) and bench.station.scan.blanked()


@pytest.mark.parametrize("writing", ["recorder", "step"], indirect=True)
def test_an_abort_makes_safe_while_the_disk_is_stuck(
    writing: Any, stuck: StuckDisk, tmp_path: Path, until: Any
) -> None:
    bench, run = writing
    began = time.monotonic()
    bench.engine.abort("enough")
    until(lambda: _safe(bench))
    assert time.monotonic() - began < 0.5
    assert bench.engine.status.state is EngineState.FINISHING
    assert bench.engine.status.store_fullness > 0.5
    stuck.free.set()
    report = run.end()
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert _safe(bench)
    stored = open_run(tmp_path / "run")
    for stream, count in report.frames.items():
        assert stored.images(stream).sizes["time"] == count, "what was taken is stored"
    assert any("disk is behind" in entry.text for entry in stored.journal())


@pytest.mark.parametrize("writing", ["recorder", "step"], indirect=True)
@pytest.mark.parametrize("command", ["pause", "hold"])
def test_a_pause_while_the_disk_is_stuck_loses_nothing(
    writing: Any, stuck: StuckDisk, tmp_path: Path, until: Any, command: str
) -> None:
    bench, run = writing
    ramping = bench.station.holder.read().state is HolderState.RAMPING
    getattr(bench.engine, command)()
    if ramping:  # the heat does not wait for the disk
        until(lambda: bench.station.holder.read().state is HolderState.HOLDING, 0.5)
    assert not stuck.free.is_set()
    stuck.free.set()
    until(lambda: bench.engine.status.state is EngineState.PAUSED)
    assert bench.station.scan.blanked() == (command == "pause" or "image" in _frames(bench))
    bench.engine.resume()
    until(lambda: bench.engine.status.state is EngineState.RUNNING)
    seen = sum(_frames(bench).values())
    until(lambda: sum(_frames(bench).values()) > seen + 3)
    bench.engine.abort("enough")
    report = run.end()
    stored = open_run(tmp_path / "run")
    assert not stored.gaps.sizes.get("row")
    for stream, count in report.frames.items():
        indexes = stored.images(stream).frame_index.values
        assert indexes.tolist() == list(range(count))


def _frames(bench: Any) -> dict[str, int]:
    return dict(bench.engine.status.frames)


def test_an_abort_makes_safe_while_a_script_is_busy_with_something_else(
    wall_bench: Any, short: Recipe, run_behind: Any, until: Any
) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def plan() -> Plan:
        yield ramp(to="60 °C", rate="20 °C/s")
        busy.set()
        go_on.wait(30)
        yield hold("60 s")

    run = run_behind(wall_bench, Recipe.parse(short.dump().split("steps:")[0]), plan=plan())
    try:
        assert busy.wait(10)
        began = time.monotonic()
        wall_bench.engine.abort("enough")
        until(lambda: _safe(wall_bench))
        assert time.monotonic() - began < 0.5
    finally:
        go_on.set()
    report = run.end()
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert _safe(wall_bench)


class StuckJournal(MemorySink):
    """A sink whose journal takes no line with certain words while it is stuck."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.reached, self.free = threading.Event(), threading.Event()

    def note(self, note: Note) -> None:
        if self._words in note.text:
            self.reached.set()
            assert self.free.wait(30)
        super().note(note)


@pytest.mark.parametrize("command", ["pause", "hold"])
def test_a_ramp_is_frozen_although_the_journal_is_stuck(
    wall_bench: Any, short: Recipe, run_behind: Any, until: Any, command: str
) -> None:
    wall_bench.sink = sink = StuckJournal("by the operator")
    run = run_behind(wall_bench, short)
    until(lambda: wall_bench.station.holder.read().state is HolderState.RAMPING)
    operator = threading.Thread(target=getattr(wall_bench.engine, command))
    operator.start()
    try:
        assert sink.reached.wait(10)
        until(lambda: wall_bench.station.holder.read().state is HolderState.HOLDING, 0.5)
    finally:
        sink.free.set()
        operator.join()
        wall_bench.engine.abort("enough")
    run.end()


def test_no_heat_is_asked_for_after_an_abort_that_the_journal_held_up(
    wall_bench: Any, short: Recipe, run_behind: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramps: list[float] = []
    monkeypatch.setattr(wall_bench.station.holder, "ramp", lambda to, rate: ramps.append(to))
    wall_bench.sink = sink = StuckJournal("begin step 1: ramp")
    run = run_behind(wall_bench, short)
    assert sink.reached.wait(10)
    wall_bench.engine.abort("enough")
    until(lambda: wall_bench.engine.status.state is EngineState.FINISHING)
    sink.free.set()
    assert run.end().outcome == "aborted"
    assert ramps == []


@pytest.mark.parametrize("away", [False, True])
def test_nothing_is_exposed_or_recorded_after_an_abort_while_the_run_is_held_up(
    wall_bench: Any,
    short: Recipe,
    run_behind: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
    away: bool,
) -> None:
    scan = wall_bench.station.scan
    arm, frames = scan.arm, scan.frames
    lost = threading.Event()

    def if_there(result: Any) -> Any:
        if lost.is_set():
            raise LinkError("no answer (a test says so)")
        return result

    monkeypatch.setattr(scan, "arm", lambda *arguments: if_there(arm(*arguments)))
    monkeypatch.setattr(scan, "frames", lambda stop: map(if_there, frames(stop)))
    wall_bench.sink = sink = StuckJournal("begin step 1: mark")
    text = short.dump().replace("steps:", "steps:\n- mark: here") + "on_link_loss: {retry_for: 1 h}"
    run = run_behind(wall_bench, Recipe.parse(text))
    assert sink.reached.wait(10)
    until(lambda: sink.frames.get("overview", 0) > 1)
    if away:
        lost.set()
        until(lambda: any(note.kind == "link" for note in sink.notes))
    wall_bench.engine.abort("enough")
    until(lambda: scan.blanked())
    seen, now_s = sink.frames["overview"], wall_bench.engine.status.t_s
    lost.clear()
    until(lambda: wall_bench.engine.status.t_s > now_s + 5.0)
    assert scan.blanked()
    assert sink.frames["overview"] == seen, "a frame a second, all black"
    sink.free.set()
    assert run.end().frames["overview"] == seen
