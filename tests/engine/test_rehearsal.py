"""Preflight tells times, dose and data, and lists everything that would stop a run, moving nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from acquire.clock import VirtualClock
from acquire.engine import preflight
from acquire.engine.experiment import run_experiment
from acquire.errors import StoreError
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import open_run


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
    def full(run: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acquire.engine.experiment.plot_run", full)
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        with pytest.raises(StoreError, match=r"complete and stored.*No space left"):
            run_experiment(short, station, tmp_path / "run")
    report = open_run(tmp_path / "run").report
    assert report is not None
    assert report.outcome == "completed"
