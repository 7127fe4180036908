"""What an engine does to heat, beam and data, in every way in which a run can go and end."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from acquire.errors import HotstageError, InstrumentError, StoreError
from acquire.instruments import Frame, HolderReading, HolderState
from acquire.recipe import Plan, Recipe, hold, ramp
from acquire.stream import Estimate, FrameContext, Note


def _with(recipe: Recipe, text: str, to: str) -> Recipe:
    dumped = recipe.dump()
    assert text in dumped
    return Recipe.parse(dumped.replace(text, to, 1))


def test_a_run_follows_its_plan_and_leaves_heater_off_and_beam_blanked(
    bench: Any, short: Recipe
) -> None:
    report = bench.run(short)
    assert report.outcome == "completed", report.cause
    assert [step["outcome"] for step in report.steps] == ["done", "done"]
    assert report.steps[0]["t_end_s"] == pytest.approx(47.5, abs=0.3)
    assert report.steps[1]["t_end_s"] == pytest.approx(77.5, abs=0.3)
    assert bench.states() == ["off", "ramping", "holding", "making_safe", "off"]
    assert bench.station.scan.blanked()
    assert report.frames["overview"] == pytest.approx(78, abs=2)
    setpoints = dict(bench.column("setpoint"))
    assert max(setpoints.values()) == pytest.approx(500.0)


def test_every_frame_lies_between_its_temperatures(bench: Any, short: Recipe) -> None:
    bench.run(short)
    contexts = bench.sink.contexts["overview"]
    measured = bench.column("measured")
    assert len(contexts) > 50
    for context in contexts:
        assert math.isfinite(context.temperature_before_celsius)
        assert math.isfinite(context.temperature_after_celsius)
        assert context.temperature_before_celsius in [value for _, value in measured]
    ramping = contexts[5:40]
    for context in ramping:
        gap = context.temperature_after_celsius - context.temperature_before_celsius
        assert 0 < gap < 10.0, "ten degrees per second, within a second"


def test_actions_are_in_the_journal_before_and_after(bench: Any, short: Recipe) -> None:
    bench.run(short)
    assert [text.split(":")[0] for text in bench.texts("action")] == [
        "begin step 1",
        "end step 1",
        "begin step 2",
        "end step 2",
    ]


def test_abort_in_a_ramp_cools_as_the_recipe_says(bench: Any, short: Recipe) -> None:
    report = bench.run(short, {20.0: lambda: bench.engine.abort("enough")})
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert report.steps[0]["outcome"] == "interrupted"
    assert bench.states()[-2:] == ["making_safe", "off"]
    # 225 °C down to 25 °C at 100 °C/s
    assert report.t_end_s == pytest.approx(22.0, abs=1.0)
    assert bench.station.scan.blanked()


def test_a_pause_freezes_heat_beam_and_recording_and_replays_nothing(
    bench: Any, short: Recipe
) -> None:
    report = bench.run(short, {20.0: bench.engine.pause, 120.0: bench.engine.resume})
    assert report.outcome == "completed", report.cause
    frozen = [value for t, value in bench.column("setpoint") if 22 < t < 119]
    assert max(frozen) - min(frozen) < 1e-6
    starts = [frame.t_start_s for frame in bench.sink.kept_frames]
    assert not [t for t in starts if 22 < t < 119]
    assert report.steps[-1]["t_end_s"] == pytest.approx(77.5 + 100.0, abs=3.0)
    assert sum("begin step" in text for text in bench.texts("action")) == 2


def test_holding_the_temperature_goes_on_recording(bench: Any, short: Recipe) -> None:
    bench.run(short, {20.0: bench.engine.hold, 60.0: bench.engine.resume})
    frozen = [value for t, value in bench.column("setpoint") if 21 < t < 59]
    assert max(frozen) - min(frozen) < 1e-6
    times = [frame.t_start_s for frame in bench.sink.kept_frames]
    assert len([t for t in times if 21 < t < 59]) > 30


def test_a_pause_may_let_the_ramp_go_on(bench: Any, short: Recipe) -> None:
    recipe = Recipe.parse(short.dump() + "pause: {temperature: continue, exposure: cut}\n")
    bench.run(recipe, {20.0: bench.engine.pause, 60.0: bench.engine.resume})
    at_50 = [value for t, value in bench.column("setpoint") if 49 < t < 51]
    assert min(at_50) == pytest.approx(500.0)


@pytest.mark.parametrize("command", ["pause", "resume", "abort", "mark", "confirm", "hold"])
def test_commands_without_a_run_are_refused(bench: Any, command: str) -> None:
    arguments = ("x",) if command in ("mark", "abort") else ()
    with pytest.raises(HotstageError, match="no run is on"):
        getattr(bench.engine, command)(*arguments)


def test_marks_and_confirmations_reach_the_journal(bench: Any, short: Recipe) -> None:
    recipe = _with(short, "- hold:", "- wait_for_operator: look at the film\n- hold:")
    report = bench.run(
        recipe,
        {
            30.0: lambda: bench.engine.mark("a bubble"),
            60.0: lambda: _expect_prompt(bench, "look at the film"),
            80.0: bench.engine.confirm,
        },
    )
    assert report.outcome == "completed", report.cause
    assert report.steps[1]["t_end_s"] == pytest.approx(80.0, abs=0.5)
    assert "a bubble" in bench.texts("mark")


def _expect_prompt(bench: Any, text: str) -> None:
    assert bench.engine.status.prompt == text


# ---------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("text", "to", "words"),
    [
        ("to: 500 °C", "to: 950 °C", "recipe allows 900 °C"),
        ("rate: 10 °C/s", "rate: 500 °C/s", "station allows 200 °C/s"),
        ("size: 64", "size: 100000", "overview"),
        ("run_time: 3600 s", "run_time: 3600 s, ramp_rate: 5 °C/s", "limits.ramp_rate"),
        ("detectors: [haadf]", "detectors: [bright]", "no detector 'bright'"),
    ],
)
def test_what_a_limit_forbids_fails_before_anything_moves(
    bench: Any, short: Recipe, text: str, to: str, words: str
) -> None:
    report = bench.run(_with(short, text, to))
    assert report.outcome == "failed"
    assert words in report.cause
    assert not bench.sink.table_rows
    assert bench.station.holder.read().state is HolderState.OFF


def test_a_dose_limit_ends_the_run_before_it_is_broken(bench: Any, short: Recipe) -> None:
    recipe = _with(short, "run_time: 3600 s", "run_time: 3600 s, dose: 5000 e/nm²")
    report = bench.run(recipe)
    assert report.outcome == "aborted"
    assert "limits.dose" in report.cause
    assert 0 < report.dose_e_per_nm2 <= 5000


def test_a_run_time_limit_ends_the_run(bench: Any, short: Recipe) -> None:
    report = bench.run(_with(short, "run_time: 3600 s", "run_time: 30 s"))
    assert report.outcome == "aborted"
    assert "limits.run_time" in report.cause
    assert bench.states()[-1] == "off"


def test_a_heater_fault_fails_the_run_and_stays_latched(bench: Any, short: Recipe) -> None:
    simulation = bench.station.simulation
    report = bench.run(
        short, {30.0: lambda: simulation.chip.fail(bench.clock.now_s(), "lost_sense")}
    )
    assert report.outcome == "failed"
    assert "tripped" in report.cause
    assert bench.states()[-1] == "tripped"
    again = bench.run(short)
    assert again.outcome == "failed"
    assert "Clear the fault" in again.cause or "tripped" in again.cause


def test_a_heater_that_cannot_be_told_to_go_off_fails_the_run_and_is_not_called_off(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = bench.station.holder
    plain = holder.read

    def stuck() -> HolderReading:
        return replace(plain(), state=HolderState.MAKING_SAFE, fault="Impulse is not in control")

    report = bench.run(short, {60.0: lambda: monkeypatch.setattr(holder, "read", stuck)})
    assert report.outcome == "failed"
    assert "not in control" in report.cause
    assert bench.states()[-1] == "making_safe"


# ------------------------------------------------------------------------- things that break


class _Breaking:
    """A sink that fails at the n-th frame."""

    def __init__(self, inner: Any, at: int) -> None:
        self._inner = inner
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        if frame.index == self._at:
            raise StoreError("the disk is full (a test says so)")
        self._inner.append_frame(frame, context)


def test_a_write_error_ends_the_run_at_once_and_safely(bench: Any, short: Recipe) -> None:
    bench.sink, whole = _Breaking(bench.sink, at=10), bench.sink
    report = bench.run(short)
    assert report.outcome == "failed"
    assert "disk is full" in report.cause
    assert whole.frames["overview"] == 10
    assert report.t_end_s < 15.0
    assert bench.station.holder.read().state is HolderState.OFF


class _Raising:
    """An estimator that fails on its third frame."""

    quantities = ()
    columns: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.seen = 0

    def update(self, frame: Frame) -> Estimate | None:
        self.seen += 1
        if self.seen == 3:
            raise ZeroDivisionError("a test says so")
        return Estimate("particles", frame.stream, frame.index, frame.t_end_s, {})


def test_a_failing_estimator_is_disabled_and_the_run_goes_on(bench: Any, short: Recipe) -> None:
    recipe = Recipe.parse(short.dump() + "estimate: {particles: {from: overview.haadf}}\n")
    with bench.clock.enrolled("test"):
        report = bench.engine.run(
            recipe, bench.sink, make=lambda recipe, specs: {"particles": _Raising()}
        )
    assert report.outcome == "completed", report.cause
    assert len(bench.sink.estimates) == 2
    assert "ZeroDivisionError" in bench.texts("warning")[0]
    assert report.frames["overview"] > 50


def test_a_lost_frame_is_a_gap_and_shifts_nothing(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.station.scan.frames

    def lossy(stop: Any) -> Any:
        for frame in whole(stop):
            if frame.index not in (4, 5):
                yield frame

    monkeypatch.setattr(bench.station.scan, "frames", lossy)
    report = bench.run(short)
    assert report.outcome == "completed", report.cause
    assert [(stream, index, count) for stream, index, _, count in bench.sink.gaps] == [
        ("overview", 4, 2)
    ]
    sources = [context.source_index for context in bench.sink.contexts["overview"]]
    assert sources == [frame.index for frame in bench.sink.kept_frames]


def test_a_holder_that_dies_is_noticed_and_ends_the_run(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        def read() -> Any:
            raise InstrumentError("no answer")

        monkeypatch.setattr(bench.station.holder, "read", read)

    report = bench.run(short, {20.0: die})
    assert report.outcome == "failed"
    assert "holder was lost" in report.cause


@pytest.mark.parametrize("paused", [False, True])
def test_a_holder_whose_driver_hangs_is_noticed_and_ends_the_run(
    wall_bench: Any,
    short: Recipe,
    run_behind: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
    paused: bool,
) -> None:
    monkeypatch.setattr("acquire.engine.monitor.SILENCE_WALL_S", 0.5)
    holder = wall_bench.station.holder
    read, made_safe, answers = holder.read, threading.Event(), threading.Event()

    def hangs() -> Any:
        assert answers.wait(30)
        return read()

    monkeypatch.setattr(holder, "make_safe", lambda reason: made_safe.set())
    run = run_behind(wall_bench, short)
    try:
        until(lambda: wall_bench.engine.status.state.value == "running")
        if paused:
            wall_bench.engine.pause()
            until(lambda: wall_bench.engine.status.state.value == "paused")
        assert not made_safe.is_set()
        monkeypatch.setattr(holder, "read", hangs)
        assert made_safe.wait(5.0)
        assert "has not been read for" in wall_bench.engine.status.cause
    finally:
        monkeypatch.undo()
        answers.set()
        holder.make_safe("the test is over")
    assert run.end().outcome == "failed"


def test_a_journal_that_cannot_be_written_does_not_keep_the_heater_on(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_journal() -> None:
        def note(note: Note) -> None:
            raise StoreError("journal gone")

        monkeypatch.setattr(bench.sink, "note", note)

    report = bench.run(short, {60.0: break_journal})
    assert report.outcome == "failed"
    assert "journal gone" in report.cause
    assert bench.station.holder.read().state is HolderState.OFF


# ----------------------------------------------------------------------------------- scripts


def test_a_script_sees_outcomes_and_branches(bench: Any, short: Recipe) -> None:
    seen: list[str] = []

    def plan() -> Plan:
        outcome = yield ramp(to="100 °C", rate="10 °C/s")
        seen.append(f"{outcome.result} after {outcome.t_end_s - outcome.t_start_s:.1f} s")
        if not outcome.met:
            yield hold("5 s")

    with bench.clock.enrolled("test"):
        report = bench.engine.run(Recipe.parse(short.dump().split("steps:")[0]), bench.sink, plan())
    assert report.outcome == "completed", report.cause
    assert seen == ["done after 7.5 s"]
    assert len(report.steps) == 2


def test_a_script_that_raises_fails_the_run_safely(bench: Any, short: Recipe) -> None:
    def plan() -> Plan:
        yield ramp(to="100 °C", rate="10 °C/s")
        raise KeyError("a mistake in the script")

    with bench.clock.enrolled("test"):
        report = bench.engine.run(short, bench.sink, plan())
    assert report.outcome == "failed"
    assert "KeyError" in report.cause
    assert bench.station.holder.read().state is HolderState.OFF
