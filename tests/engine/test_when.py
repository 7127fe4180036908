"""A recipe decides by what was measured, and by nothing else; what it then does is a plan like any."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acquire.engine import preflight
from acquire.engine.continuation import plan_continuation, prepare_continuation, take_up
from acquire.engine.experiment import carry_out
from acquire.engine.history import PastStep, left_of
from acquire.recipe import Plan, When, mark, when
from acquire.station import Station
from acquire.store import RunWriter, open_run

DECIDE = """
  - hold: {for: 2 s}
  - when: {condition: count >= 5, wait: 10 s, then: [{mark: many}, {hold: {for: 3 s}}], else: [{mark: few}]}
  - mark: on
"""


def _texts(report: Any) -> list[str]:
    return [str(step["text"]) for step in report.steps]


def _count(value: float, *flags: str) -> Any:
    return {"count": (value, 0.1)}, flags


@pytest.mark.parametrize(("count", "branch"), [(7.0, ["many", "hold"]), (3.0, ["few"])])
def test_the_branch_that_was_decided_for_is_taken(
    bench: Any, say: Any, scripted: Any, count: float, branch: list[str]
) -> None:
    say(lambda frame: _count(count))
    report = bench.run(scripted(DECIDE))
    assert report.outcome == "completed", report.cause
    words = ["hold", "when count >= 5", *branch, "on"]
    assert len(report.steps) == len(words)
    assert all(word in text for word, text in zip(words, _texts(report), strict=True))
    assert report.steps[1]["outcome"] == ("met" if count > 5 else "not_met")
    note = next(note for note in bench.sink.notes if note.kind == "decision")
    assert note.details["value"] == count
    assert note.details["latency_s"] <= 1.1


def test_doubtful_and_old_frames_decide_nothing(bench: Any, say: Any, scripted: Any) -> None:
    def script(frame: Any) -> Any:
        if frame.t_start_s < 2.0:
            return {"mean_diameter": (9.0, 0.1)}, ()
        if frame.t_start_s < 6.0:
            return {"mean_diameter": (9.0, 0.1)}, ("few_particles",)
        return {"mean_diameter": (2.0, 0.1)}, ()

    say(script)
    report = bench.run(scripted(DECIDE.replace("count >= 5", "mean_diameter >= 5 nm")))
    assert report.steps[1]["outcome"] == "not_met"
    assert report.steps[1]["t_end_s"] > 6.0
    any_frame = DECIDE.replace("wait: 10 s", "wait: 10 s, frames: any")
    report = bench.run(scripted(any_frame.replace("count >= 5", "mean_diameter >= 5 nm")))
    assert report.steps[1]["outcome"] == "met"
    assert report.steps[1]["t_end_s"] < 2.5, "by the frame before it"


@pytest.mark.parametrize(
    ("unknown", "outcome", "texts"),
    [
        ("abort", "aborted", ["hold for 2 s", "when count >= 5"]),
        ("continue", "completed", ["hold for 2 s", "when count >= 5", "mark: on"]),
        ("else", "completed", ["hold for 2 s", "when count >= 5", "mark: few", "mark: on"]),
    ],
)
def test_what_follows_when_nothing_can_be_told_is_said(
    bench: Any, say: Any, scripted: Any, unknown: str, outcome: str, texts: list[str]
) -> None:
    report = bench.run(scripted(DECIDE.replace("wait: 10 s", f"wait: 10 s, unknown: {unknown}")))
    assert report.outcome == outcome
    assert _texts(report) == texts
    assert "no estimate told within 10 s" in bench.texts("decision")[0]
    assert report.steps[1]["t_end_s"] - report.steps[1]["t_start_s"] == pytest.approx(10, abs=0.1)


def test_an_unknown_can_wait_for_a_person(bench: Any, say: Any, scripted: Any) -> None:
    asking = DECIDE.replace("wait: 10 s", "wait: 10 s, unknown: pause")
    report = bench.run(scripted(asking), {20.0: bench.engine.resume})
    assert _texts(report) == ["hold for 2 s", "when count >= 5", "mark: on"]
    assert report.steps[1]["t_end_s"] == pytest.approx(20, abs=0.5)


def test_a_repeat_decides_anew_every_time(bench: Any, say: Any, scripted: Any) -> None:
    say(lambda frame: _count(float(frame.index)))
    report = bench.run(
        scripted("""
  - repeat:
      times: 3
      steps:
        - when: {condition: count >= 4 and count <= 8, then: [{mark: now}], else: [{mark: not}]}
        - hold: {for: 4 s}
""")
    )
    assert [text for text in _texts(report) if text.startswith("mark")] == [
        "mark: not",
        "mark: now",
        "mark: not",
    ]


def test_a_script_is_sent_the_decision(bench: Any, say: Any, scripted: Any) -> None:
    say(lambda frame: _count(7.0))
    seen = []

    def plan() -> Plan:
        decided = yield when("count >= 5")
        seen.append((decided.result, decided.met))
        decided = yield when("count >= 50 or count <= 1", unknown="continue")
        seen.append((decided.result, decided.met))
        yield mark("end")

    with bench.clock.enrolled("test"):
        report = bench.engine.run(scripted("  - mark: head\n"), bench.sink, plan())
    assert report.outcome == "completed", report.cause
    assert seen == [("met", True), ("not_met", False)]


def test_a_ramp_stops_where_its_condition_is_met(bench: Any, say: Any, scripted: Any) -> None:
    say(lambda frame: _count(float(frame.index)))
    steps = "  - ramp: {to: 500 °C, rate: 10 °C/s, until: count >= 12}\n  - hold: {for: 5 s}\n"
    report = bench.run(scripted(steps))
    assert report.steps[0]["outcome"] == "met"
    at = [value for _, value in bench.column("setpoint")]
    assert max(at) < 200
    held = [
        v
        for t, v in bench.column("setpoint")
        if report.steps[1]["t_start_s"] < t < report.t_end_s - 1
    ]
    assert max(held) - min(held) < 1e-9


def test_a_run_that_left_its_plan_finds_back_to_it(bench: Any, say: Any, scripted: Any) -> None:
    recipe = scripted(DECIDE.replace("wait: 10 s", "wait: 10 s, unknown: else"))
    planned = preflight(recipe, Station.load("simulated")).plan
    assert [step.text for step in planned.steps][2] == "mark: few", "nothing grows in the cold"
    say(lambda frame: _count(7.0))
    seen: list[Any] = []
    bench.engine.events.step_started.connect(
        lambda index, text: seen.append((text, bench.engine.status.step_count))
    )
    with bench.clock.enrolled("test"):
        bench.engine.run(recipe, bench.sink, planned=planned)
    assert [text for text, _ in seen][-1] == "mark: on"
    assert bench.engine.status.step_count == 5


@pytest.fixture
def cut(bench: Any, tmp_path: Path) -> Callable[[Any, float], Path]:
    """A run as its program left it when it died."""

    def kill(recipe: Any, at_s: float) -> Path:
        folder, dead = tmp_path / "lived", tmp_path / "run"
        bench.sink = RunWriter(folder)

        def die() -> None:
            bench.sink.publish()
            shutil.copytree(folder, dead)
            bench.engine.abort("the rest is not looked at")

        bench.run(recipe, {at_s: die})
        return dead

    return kill


@pytest.mark.parametrize(("at_s", "count"), [(4.5, 7.0), (4.5, 3.0)])
def test_a_continuation_follows_the_branch_that_was_taken(
    bench: Any, say: Any, scripted: Any, cut: Any, at_s: float, count: float
) -> None:
    say(lambda frame: _count(count))
    longer = DECIDE.replace("{mark: few}", "{mark: few}, {hold: {for: 7 s}}")
    run = cut(scripted(longer), at_s)
    say(lambda frame: _count(10.0 - count))  # it would decide otherwise now
    continuation = plan_continuation(take_up(run, bench.station.station), bench.station)
    assert [str(step).split(" ")[0] for step in continuation.remaining] == ["hold", "mark:"]
    report = carry_out(bench.engine, prepare_continuation(bench.engine, continuation))
    assert report.outcome == "completed", report.cause
    assert _texts(report)[-1] == "mark: on"
    assert open_run(continuation.folder).report is not None


def test_a_decision_that_was_not_made_is_made_by_the_continuation(
    bench: Any, say: Any, scripted: Any, cut: Any
) -> None:
    run = cut(scripted(DECIDE), 5.0)
    say(lambda frame: _count(7.0))
    continuation = plan_continuation(take_up(run, bench.station.station), bench.station)
    kinds = [str(step).split(" ")[0] for step in continuation.remaining]
    assert kinds == ["when", "mark:", "hold", "mark:", "mark:"], "both branches may come"
    report = carry_out(bench.engine, prepare_continuation(bench.engine, continuation))
    assert _texts(report) == ["when count >= 5", "mark: many", "hold for 3 s", "mark: on"]


def test_only_a_decision_that_was_made_counts_as_made() -> None:
    step = when("count >= 5")
    past = PastStep(str(step), "when", {}, 0.0, 1.0)
    assert isinstance(left_of(step, past), When)
    for verdict, left in (("met", False), ("not_met", False), ("unknown", True)):
        decided = PastStep(str(step), "when", {}, 0.0, 1.0, verdict=verdict)
        assert (left_of(step, decided) is not None) == left
