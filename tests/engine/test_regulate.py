"""A regulate step steers by estimates that can be trusted, rests and says so otherwise, and ends safely."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from acquire.bench.particle_loop import closed_loop
from acquire.engine.history import PastStep, left_of, steps_of
from acquire.recipe import Regulate, regulate
from acquire.store import RunWriter, open_run
from acquire.stream import Row

STEER = """
  - ramp: {to: 700 °C, rate: 100 °C/s}
  - hold: {for: 12 s}
  - regulate: {quantity: growth_rate, window: 10 s, response_time: 60 s, target: 0.1 nm/min, between: [650 °C, 750 °C], for: 2 min, rate: 1 °C/s}
"""


def _growth(value: float, sigma: float = 0.005, *flags: str) -> Any:
    return {"growth_rate": (value, sigma)}, flags


def _setpoints(rows: list[Row]) -> list[float]:
    return [float(row.values["setpoint"]) for row in rows]


@pytest.fixture
def steer(bench: Any, scripted: Any) -> Callable[..., list[Row]]:
    """Runs steps, and gives what was decided."""

    def run(steps: str = STEER, meanwhile: Any = None) -> list[Row]:
        report = bench.run(scripted(steps), meanwhile)
        assert report.outcome == "completed", report.cause
        return [row for row in bench.sink.table_rows if row.table == "regulation"]

    return run


def test_growth_that_is_too_slow_heats_and_too_fast_cools(bench: Any, say: Any, steer: Any) -> None:
    say(lambda frame: _growth(0.05))
    rows = steer()
    points = _setpoints(rows)
    assert points[:2] == [700.0, 700.0], "the first estimates move nothing"
    assert points == sorted(points)
    assert points[-1] == 750.0, "and no further"
    assert {row.values["frozen"] for row in rows[3:]} == {""}
    measured = [v for t_s, v in bench.column("setpoint") if 25 < t_s < 125]
    steps = [b - a for a, b in pairwise(measured)]
    assert 0 < max(steps) <= 0.51, "1 °C/s, read twice a second"
    assert bench.texts("regulation")[0].startswith("waits at 700 °C")


def test_estimates_that_cannot_be_trusted_freeze_it_and_are_told_once(
    bench: Any, say: Any, steer: Any
) -> None:
    def script(frame: Any) -> Any:
        if 40 <= frame.index < 60:
            return _growth(0.05, 0.005, "few_tracked")
        if 80 <= frame.index < 90:
            return _growth(math.nan)
        if 100 <= frame.index < 110:
            return _growth(0.05, 0.5)
        return _growth(0.05)

    say(script)
    steps = STEER.replace("750 °C", "890 °C").replace("for: 2 min", "for: 130 s")
    rows = steer(steps)
    notes = bench.texts("regulation")[1:-1]
    assert [note.split(" ")[0] for note in notes] == ["regulates", "frozen"] * 3 + ["regulates"]
    assert "growth_rate of frame 40 is few_tracked" in notes[1]
    assert "growth_rate of frame 80 is not known" in notes[3]
    assert "0.05 ± 0.5 nm/min is too uncertain" in notes[5]
    resting = [row for row in rows if 41 <= row.values["frame"] < 60]
    assert len({row.values["setpoint"] for row in resting}) == 1
    assert all(row.values["frozen"] for row in resting)
    by_frame = {row.values["frame"]: float(row.values["setpoint"]) for row in rows}
    assert by_frame[75] > by_frame[59], "it goes on"
    assert by_frame[63] - by_frame[59] < 5, "without a jump"
    assert "frozen for 4" in bench.texts("regulation")[-1]


def test_an_estimator_that_falls_silent_freezes_it(bench: Any, say: Any, steer: Any) -> None:
    say(lambda frame: _growth(0.05) if frame.index < 30 else None)
    rows = steer(STEER.replace("rate: 1 °C/s", "rate: 1 °C/s, within: 10 s"))
    frozen = [text for text in bench.texts("regulation") if text.startswith("frozen")]
    assert len(frozen) == 1
    assert "no estimate has come for 10 s" in frozen[0]
    setpoints = [value for t_s, value in bench.column("setpoint") if 60 < t_s < 125]
    assert max(setpoints) - min(setpoints) < 1e-9
    assert len(rows) <= 30


def test_a_pause_holds_the_temperature_and_nothing_winds_up(
    bench: Any, say: Any, steer: Any
) -> None:
    say(lambda frame: _growth(0.09))
    engine = bench.engine
    steer(STEER, {50.0: engine.pause, 350.0: engine.resume})
    during = [value for t_s, value in bench.column("setpoint") if 52 < t_s < 350]
    assert max(during) - min(during) < 1e-9
    after = [value for t_s, value in bench.column("setpoint") if 350 < t_s < 355]
    assert abs(after[-1] - during[0]) < 5.0
    steps = bench.engine._conductor.progress.done
    assert steps[2]["t_end_s"] - steps[2]["t_start_s"] == pytest.approx(420, abs=1), (
        "2 min and 300 s"
    )


def test_an_abort_in_the_middle_leaves_all_safe(bench: Any, say: Any, scripted: Any) -> None:
    say(lambda frame: _growth(0.05))
    report = bench.run(scripted(STEER), {60.0: bench.engine.abort})
    assert report.outcome == "aborted"
    assert bench.states()[-1] == "off"
    assert bench.engine._conductor.actions.ramp_target is None


def test_a_size_is_brought_to_its_target_by_growth(bench: Any, say: Any, steer: Any) -> None:
    sizes = {"now": 3.0, "t_s": 0.0}

    def grow(frame: Any) -> Any:
        celsius = bench.station.holder.read().setpoint_celsius
        rate = 0.3 * math.exp(17400 * (1 / 973.15 - 1 / (celsius + 273.15))) if celsius > 400 else 0
        sizes["now"] += rate * (frame.t_end_s - sizes["t_s"]) / 60
        sizes["t_s"] = frame.t_end_s
        return {"mean_diameter": (sizes["now"], 0.02), "growth_rate": (rate, 0.01)}, ()

    say(grow)
    rows = steer(
        """
  - ramp: {to: 700 °C, rate: 100 °C/s}
  - regulate: {quantity: mean_diameter, from: 3.2 nm, target: 5.2 nm, over: 20 min, window: 1 s,
      between: [500 °C, 850 °C], for: 30 min, rate: 2 °C/s}
""",
    )
    off = [float(r.values["size"]) - float(r.values["target"]) for r in rows]
    assert max(map(abs, off[400:1150])) < 0.1
    assert abs(off[-1]) < 0.15
    assert rows[600].values["target"] == pytest.approx(4.2, abs=0.02)


def test_until_ends_it_and_a_setpoint_outside_is_brought_in(
    bench: Any, say: Any, steer: Any
) -> None:
    say(
        lambda frame: (
            {"growth_rate": (0.05, 0.005), "mean_diameter": (frame.index / 10, 0.01)},
            (),
        )
    )
    steps = """
  - ramp: {to: 640 °C, rate: 100 °C/s}
  - regulate: {quantity: growth_rate, target: 0.1 nm/min, between: [650 °C, 750 °C], for: 10 min, rate: 5 °C/s,
      until: mean_diameter >= 6 nm for 2 frames, else: abort}
"""
    steer(steps)
    assert bench.engine._conductor.progress.done[1]["outcome"] == "met"
    assert "ramps to 650 °C" in bench.texts("regulation")[0]
    assert "by frame 61" in bench.texts("condition")[0]


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        ("growth_rate", "ml_growth_rate", "'ml_growth_rate' is needed, and not estimated"),
        ("750 °C", "950 °C", "950 °C refused: the recipe allows 900 °C"),
        ("rate: 1 °C/s", "rate: 300 °C/s", "300 °C/s"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_moves(
    bench: Any, say: Any, scripted: Any, change: str, to: str, words: str
) -> None:
    report = bench.run(scripted(STEER.replace(change, to)))
    assert report.outcome == "failed"
    assert words in report.cause
    assert not bench.readings


def test_decisions_are_stored_with_their_frames_and_latency(
    bench: Any, say: Any, scripted: Any, tmp_path: Path
) -> None:
    say(lambda frame: _growth(0.05))
    bench.sink = RunWriter(tmp_path / "run")
    bench.run(scripted(STEER))
    run = open_run(tmp_path / "run")
    table = run.table("regulation")
    assert table["setpoint"].attrs["units"] in ("°C", "degC")
    assert table["frame"].values.tolist() == sorted(set(table["frame"].values.tolist()))
    assert 115 < table.sizes["time"] < 125
    assert float(table["latency"].max()) <= 1.1, "a frame period and 100 ms"
    last = [entry for entry in run.journal() if entry.kind == "regulation"][-1]
    assert last.details["latency_max_s"] <= 1.1


def test_what_is_left_of_it_has_the_target_where_it_was() -> None:
    step = regulate(
        "mean_diameter", "5 nm", ("650 °C", "850 °C"), "30 min", from_="3 nm", over="20 min"
    )
    past = PastStep(str(step), "regulate", {}, 0.0, 600.0, active_s=600.0)
    rest = left_of(step, past)
    assert isinstance(rest, Regulate)
    assert rest.for_ == 1200.0
    assert rest.target_at(0.0) == pytest.approx(4.0)
    assert rest.target_at(600.0) == pytest.approx(5.0)
    assert rest.slope_at(0.0) == pytest.approx(step.slope_at(0.0)) == pytest.approx(0.1)
    later = left_of(step, PastStep(str(step), "regulate", {}, 0.0, 1500.0, active_s=1500.0))
    assert isinstance(later, Regulate)
    assert later.target_at(0.0) == 5.0


def test_the_simulated_growth_is_held_for_ten_minutes() -> None:
    found = closed_loop(3, every_s=3.0, images=False)
    assert found.held, found
    assert found.frozen_s == 0
    assert 650 < found.lowest_celsius < found.highest_celsius < 850


def test_an_estimator_that_never_says_anything_is_told(bench: Any, say: Any, steer: Any) -> None:
    assert steer() == []
    notes = bench.texts("regulation")
    assert len(notes) == 3
    assert notes[1] == "frozen at 700 °C: no estimate has come for 30 s"
    assert notes[2].endswith("on 0 estimates, and frozen for 2 min 00 s of it")


def test_a_temperature_that_is_not_known_freezes_it(bench: Any, say: Any, steer: Any) -> None:
    say(lambda frame: _growth(0.1))
    real = bench.station.holder.read

    def blind() -> None:
        bench.station.holder.read = lambda: replace(real(), measured_celsius=math.nan)

    steer(STEER, {60.0: blind})
    assert max(value for _, value in bench.column("setpoint")) < 701
    assert any("the temperature during frame" in text for text in bench.texts("regulation"))


def test_the_frame_that_a_pause_finishes_is_not_taken_for_a_stale_one(
    bench: Any, say: Any, steer: Any
) -> None:
    say(lambda frame: _growth(0.09))
    engine = bench.engine
    rows = steer(STEER, {60.2: engine.pause, 360.0: engine.resume})
    assert not [text for text in bench.texts("regulation") if text.startswith("frozen")]
    assert max(float(row.values["latency"]) for row in rows) < 2.0


def test_the_way_to_where_it_may_regulate_does_not_count_as_regulated(
    bench: Any, say: Any, scripted: Any, tmp_path: Path
) -> None:
    say(lambda frame: _growth(0.1))
    bench.sink = RunWriter(tmp_path / "run")
    step = "{quantity: growth_rate, target: 0.1 nm/min, between: [525 °C, 750 °C], for: 10 min}"
    bench.run(scripted(f"  - regulate: {step}\n"), {1030.0: bench.engine.abort})
    (past,) = steps_of(open_run(tmp_path / "run"))
    assert past.t_end_s - past.t_start_s == pytest.approx(1030, abs=1)
    assert past.active_s == pytest.approx(30, abs=5), "it took 1000 s to get there"
    rest = left_of(Regulate.model_validate(past.settings), past)
    assert isinstance(rest, Regulate)
    assert rest.for_ == pytest.approx(570, abs=5)
