"""Preflight tells times, dose and data, and lists everything that would stop a run, moving nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine, preflight
from acquire.engine.experiment import run_experiment
from acquire.engine.foreseeing import judge_regulation
from acquire.engine.status import PlannedStep
from acquire.errors import StoreError
from acquire.recipe import Recipe, regulate
from acquire.station import Station
from acquire.store import CountingSink, open_run
from acquire.stream import Row


def test_the_example_is_expected_to_meet_its_condition(examples: Path) -> None:
    recipe = Recipe.load(examples / "recipes" / "first_light.yaml")
    found = preflight(recipe, Station.load("simulated"))
    assert found.good, found.problems
    assert found.results == ("done", "done", "met", "done", "done", "done")
    assert found.plan.steps[1].duration_s == pytest.approx(135.0, abs=0.5)
    assert found.frames["line_scan"] == 50
    assert found.frames["overview"] > 200
    assert max(found.plan.profile_celsius) == pytest.approx(700.0)
    assert found.wall_s == pytest.approx(found.duration_s / 10)
    images = found.frames["overview"] * 2 * 512 * 512 * 2
    assert images / 4 < found.expected_bytes < images


def test_all_problems_are_listed_at_once(short: Recipe) -> None:
    text = short.dump().replace("to: 500 °C", "to: 1450 °C").replace("size: 64", "size: 100000")
    found = preflight(Recipe.parse(text), Station.load("simulated"))
    assert len(found.problems) == 2
    assert "record.overview" in found.problems[0]
    assert "step 'ramp to 1450 °C" in found.problems[1]


def test_broken_budgets_are_told_in_advance(short: Recipe) -> None:
    text = short.dump().replace("run_time: 3600 s", "run_time: 60 s, dose: 5000 e/nm²")
    found = preflight(Recipe.parse(text), Station.load("simulated"))
    assert any("limits.dose" in problem for problem in found.problems)
    assert any("limits.run_time" in problem for problem in found.problems)


def test_a_condition_that_will_not_be_met_is_a_warning(short: Recipe) -> None:
    text = short.dump().replace("size: 64", "size: 512")
    text = text.replace("dwell_time: 1e-05 s", "dwell_time: 1e-06 s")
    text = text.replace("for: 30 s", "for: 30 s, until: mean_diameter >= 50 nm")
    recipe = Recipe.parse(text + "estimate: {particles: {from: overview.haadf}}\n")
    found = preflight(recipe, Station.load("simulated"))
    assert found.good
    assert found.results[1] == "time_up"
    assert "not expected to meet its condition" in found.warnings[0]


def test_a_disk_that_is_too_small_is_told_before_the_run(
    short: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Usage:
        free = 100_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage)
    found = preflight(short, Station.load("simulated"), folder=tmp_path / "run")
    assert "the disk has 100 MB free" in found.problems[0]


def test_a_station_of_real_drivers_is_stood_in_for_under_its_own_limits(short: Recipe) -> None:
    station = Station.parse(
        """
hotstage = 1
name = "real"
[holder]
driver = "some_driver"
options = { address = "COM3" }
limits = { temperature = "400 °C", ramp_rate = "50 °C/s" }
[scan]
driver = "another_driver"
""",
        "real.toml",
    )
    found = preflight(short, station)
    assert found.twin
    assert any("station allows 400 °C (real.toml" in problem for problem in found.problems)


def test_a_summary_that_cannot_be_written_is_told_and_costs_no_data(
    short: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(run: object, path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acquire.report.plot_run", full)
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        with pytest.raises(StoreError, match=r"complete and stored.*No space left"):
            run_experiment(short, station, tmp_path / "run")
    report = open_run(tmp_path / "run").report
    assert report is not None
    assert report.outcome == "completed"


STEERED = """
estimate: {particles: {from: overview.haadf, growth_window: 1 min}}
steps:
  - ramp: {to: 700 °C, rate: 20 °C/s}
  - hold: {for: 4 min}
  - regulate: {quantity: growth_rate, target: 0.1 nm/min, between: [650 °C, 850 °C], for: 12 min}
"""


def _steered(short: Recipe, change: str = "", to: str = "") -> Recipe:
    head = short.dump().replace("size: 64", "size: 512").replace("every: 1 s", "every: 4 s")
    head = head.replace("dwell_time: 1e-05 s", "dwell_time: 1e-06 s")
    return Recipe.parse(head[: head.index("steps:")] + STEERED.replace(change, to))


def test_a_regulated_temperature_is_foreseen(short: Recipe) -> None:
    found = preflight(_steered(short), Station.load("simulated"))
    assert found.good, found.problems
    assert found.warnings == ()
    step = found.plan.steps[2]
    course = [
        celsius
        for t_s, celsius in zip(found.plan.profile_t_s, found.plan.profile_celsius, strict=True)
        if step.t_start_s + 300 < t_s < step.t_start_s + step.duration_s
    ]
    assert len(course) > 20
    assert 700 < min(course) < max(course) < 800


def test_a_target_out_of_reach_is_told_with_the_bound_that_stops_it(short: Recipe) -> None:
    recipe = _steered(short, "850 °C", "705 °C")
    (warning,) = preflight(recipe, Station.load("simulated")).warnings
    assert "is not expected to reach its target" in warning
    assert "at 705 °C, the highest that it allows" in warning


def test_a_regulation_that_never_gets_an_estimate_is_told() -> None:
    step = regulate("growth_rate", "0.1 nm/min", ("650 °C", "850 °C"), "15 min")
    rows = [Row("regulation", 5.0, {"frozen": "growth_rate of frame 2 is not known"})]
    for seen, why in ((rows, "growth_rate of frame 2 is not known"), ([], "no estimate comes")):
        (warning,) = judge_regulation(PlannedStep(2, str(step), 0.0, 900.0), step, seen)
        assert warning.startswith("step 3 (regulate growth_rate at 0.1 nm/min")
        assert f"is not expected to regulate anything: {why}." in warning


@pytest.mark.parametrize(
    ("swing", "lasting", "expected"), [(40, 1.0, True), (40, 0.5, False), (4, 1.0, False)]
)
def test_a_setpoint_that_swings_for_ever_is_told(
    swing: float, lasting: float, expected: bool
) -> None:
    t_s = np.arange(0.0, 900.0, 2.0)
    fading = lasting ** (t_s / 180)
    setpoint = 740 + swing / 2 * fading * np.sin(2 * np.pi * t_s / 180)
    rows = [
        Row("regulation", t, {"frozen": "", "growth": 0.1, "wanted": 0.1, "setpoint": celsius})
        for t, celsius in zip(t_s.tolist(), setpoint.tolist(), strict=True)
    ]
    step = regulate("growth_rate", "0.1 nm/min", ("650 °C", "850 °C"), "15 min")
    found = judge_regulation(PlannedStep(2, str(step), 0.0, 900.0), step, rows)
    assert any("oscillate" in text for text in found) == expected
    assert len(found) == expected


def test_the_longer_branch_of_a_decision_counts_at_worst(short: Recipe) -> None:
    head = short.dump()
    head = head[: head.index("steps:")].replace("run_time: 3600 s", "run_time: 300 s")
    recipe = Recipe.parse(
        head
        + """
estimate: {particles: {from: overview.haadf, smallest_diameter: 6 nm, expected_diameter: 8 nm}}
steps:
  - hold: {for: 20 s, until: count <= 0}
  - when:
      condition: count <= 3
      then: [{hold: {for: 10 s}}]
      else: [{ramp: {to: 125 °C, rate: 1 °C/s}}, {hold: {for: 200 s}}]
  - hold: {for: 5 s}
"""
    )
    found = preflight(recipe, Station.load("simulated"))
    assert found.good, found.problems
    assert found.duration_s < 40
    assert found.worst_s == pytest.approx(20 + 30 + 100 + 200 + 5, abs=3)
    (warning,) = found.warnings
    assert "at worst" in warning
    assert "limits.run_time" in warning


def test_the_steered_example_is_expected_to_go_well(examples: Path) -> None:
    recipe = Recipe.load(examples / "recipes" / "steered_growth.yaml")
    found = preflight(recipe, Station.load("simulated"))
    assert found.good, found.problems
    assert found.warnings == ()
    assert found.results == ("done", "met", "met", "met", "done", "done")
    assert found.worst_s > found.duration_s


@pytest.mark.parametrize(
    "step",
    [
        "when: {condition: drift_rate <= 0.1 nm/s, wait: 20 s, then: [{mark: still}]}",
        "hold: {for: 20 s, until: ml_drift_rate <= 0.1 nm/s, else: abort}",
    ],
)
def test_what_no_simulation_foresees_does_not_stop_a_run(short: Recipe, step: str) -> None:
    prefix = ", use: drift, prefix: ml_" if "ml_" in step else ""
    text = short.dump().replace("steps:", f"steps:\n- {step}", 1)
    recipe = Recipe.parse(text + f"estimate: {{drift: {{from: overview.haadf{prefix}}}}}\n")
    found = preflight(recipe, Station.load("simulated"))
    assert found.good, found.problems
    assert found.results[0] in ("unknown", "time_up")
    assert "drift_rate, of which the simulation says nothing" in found.warnings[0]


def test_what_it_does_foresee_still_stops_a_run_that_would_abort(short: Recipe) -> None:
    step = "hold: {for: 20 s, until: count >= 5000, else: abort}"
    text = _measurable(short).replace("steps:", f"steps:\n- {step}", 1)
    recipe = Recipe.parse(text + "estimate: {particles: {from: overview.haadf}}\n")
    found = preflight(recipe, Station.load("simulated"))
    assert "the recipe says to abort then" in found.problems[0]


def test_the_way_to_where_it_may_regulate_counts_at_worst(short: Recipe) -> None:
    text = _measurable(short).replace("steps:", f"steps:\n- {REGULATED}", 1)
    text = text.replace("every: 1 s", "every: 5 s").replace("every: 0.2 s", "every: 2 s")
    recipe = Recipe.parse(text + "estimate: {particles: {from: overview.haadf}}\n")
    found = preflight(recipe, Station.load("simulated"))
    assert found.worst_s > 1200 + 60 + 10


def _measurable(short: Recipe) -> str:
    """The short recipe with images that are fine enough for particles."""
    text = short.dump().replace("size: 64", "size: 512")
    return text.replace("dwell_time: 1e-05 s", "dwell_time: 1e-06 s")


REGULATED = (
    "when: {condition: count >= 1, wait: 10 s, then: [{mark: go}], else: [{regulate: {quantity: "
    "growth_rate, target: 0.1 nm/min, between: [625 °C, 850 °C], for: 1 min}}]}"
)


SUMMED = """
hotstage: 1
name: summed
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 4 µs}, every: 1 s}
estimate: {drift: {from: overview.haadf, sum: 4, store_sum: true}}
steps:
  - hold: {for: 40 s}
  - image: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 4 µs}}
"""


def test_sums_that_will_be_stored_are_counted_in_advance() -> None:
    recipe = Recipe.parse(SUMMED)
    expected = preflight(recipe, Station.load("simulated"))
    sink = CountingSink()
    with Station.load("simulated").open(VirtualClock()) as station:
        report = Engine(station).run(recipe, sink)
    assert report.frames["overview_sum"] >= 9
    assert abs(expected.frames["overview_sum"] - report.frames["overview_sum"]) <= 1
    assert expected.expected_bytes == pytest.approx(sink.expected_bytes, rel=0.1)


def test_a_step_named_like_the_stored_sums_is_refused_in_advance() -> None:
    recipe = Recipe.parse(SUMMED.replace("4 µs}}\n", "4 µs}, name: overview_sum}\n"))
    found = preflight(recipe, Station.load("simulated"))
    assert "'overview_sum', which is the name of another stream" in found.problems[0]
