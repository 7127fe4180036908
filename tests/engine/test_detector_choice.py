"""``from: overview.auto``: the run finds out which detector shows particles, says so and holds to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire import open_run
from acquire.clock import VirtualClock
from acquire.engine import Engine, preflight
from acquire.engine.continuation import continue_experiment
from acquire.engine.experiment import run_experiment
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.store import MemorySink, Run, flags_of
from acquire.stream import RunReport

RECIPE = """
hotstage: 1
name: which detector
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf, abf], size: 128, field_of_view: 80 nm, dwell_time: 10 µs}, every: 1 s}
estimate:
  particles: {from: overview.auto, expected_diameter: 8 nm}
steps:
  - hold: {for: 30 s, until: count >= 1 for 2 frames}
  - hold: {for: 4 s}
"""
OUT = 10.0
"""From then on the chosen detector is out."""


@pytest.fixture
def station() -> Iterator[OpenStation]:
    """Domes of known sizes, on images as they are."""
    text = Station.load("simulated").text
    made = Station.parse(text.replace('"lsnt_nonstoichiometric"', '"reference_domes"'))
    with made.open(VirtualClock()) as opened:
        yield opened


def darken(station: OpenStation, detector: str, since_s: float = 0.0) -> None:
    """Let a detector of the simulated scan give one value only."""
    real = station.scan.frames

    def frames(*arguments: Any) -> Iterator[Frame]:
        for frame in real(*arguments):
            if frame.t_start_s < since_s:
                yield frame
                continue
            flat = np.full_like(frame.data[detector], 3)
            yield replace(frame, data={**frame.data, detector: flat})

    station.scan.frames = frames  # type: ignore[method-assign]


def conduct(station: OpenStation, recipe: str) -> tuple[RunReport, MemorySink]:
    sink = MemorySink()
    with station.clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(recipe), sink)
    assert report.outcome == "completed", report.cause
    return report, sink


@pytest.mark.parametrize(
    ("dark", "detector", "polarity"), [("haadf", "abf", "dark"), ("abf", "haadf", "bright")]
)
def test_the_detector_that_works_is_chosen_and_the_run_acts_on_it(
    station: OpenStation, dark: str, detector: str, polarity: str
) -> None:
    darken(station, dark)
    named = f"  named: {{use: particles, from: overview.{detector}, prefix: n_, expected_diameter: 8 nm}}"
    report, sink = conduct(station, RECIPE.replace("steps:", f"{named}\nsteps:"))
    assert report.steps[0]["outcome"] == "met"
    beside = {e.frame_index: e for e in sink.estimates if e.estimator == "named"}
    estimates = [estimate for estimate in sink.estimates if estimate.estimator == "particles"]
    assert not any(estimate.choice for estimate in beside.values())
    chosen = [estimate.choice for estimate in estimates if estimate.choice is not None]
    assert {(choice.detector, choice.facts["polarity"]) for choice in chosen} == {
        (detector, polarity)
    }
    (note,) = [note for note in sink.notes if note.kind == "estimator"]
    assert f"particles looks at {detector} (polarity {polarity}, score" in note.text
    assert note.details["detector"] == detector
    first = next(n for n, estimate in enumerate(estimates) if estimate.choice is not None)
    assert first >= 2
    assert all("choosing" in estimate.flags for estimate in estimates[:first])
    assert not any("choosing" in estimate.flags for estimate in estimates[first:])
    for estimate in estimates[first:]:
        own = beside[estimate.frame_index].values["n_mean_diameter"].value
        assert estimate.values["mean_diameter"].value == pytest.approx(own, rel=0.02)


def test_a_chosen_detector_that_goes_out_is_flagged_and_not_left(station: OpenStation) -> None:
    darken(station, "haadf")
    darken(station, "abf", OUT)
    _, sink = conduct(station, RECIPE.replace("for: 4 s", "for: 15 s"))
    late = [estimate for estimate in sink.estimates if estimate.t_s > OUT + 2]
    assert len(late) > 3
    for estimate in late:
        assert estimate.choice is not None
        assert estimate.choice.detector == "abf"
        assert "constant" in estimate.flags
        assert np.isnan(estimate.values["mean_diameter"].value)


def test_while_nothing_shows_no_condition_is_met(station: OpenStation) -> None:
    darken(station, "haadf")
    darken(station, "abf")
    report, sink = conduct(station, RECIPE.replace("count >= 1", "count <= 100"))
    assert report.steps[0]["outcome"] == "time_up"
    assert all(estimate.flags[0] == "choosing" for estimate in sink.estimates)
    assert not [note for note in sink.notes if note.kind == "estimator"]


def test_a_preflight_expects_what_a_named_detector_would_say() -> None:
    text = RECIPE.replace("count >= 1 for 2 frames", "mean_diameter >= 3 nm for 2 frames")
    text = text.replace(
        "hold: {for: 30 s", "ramp: {to: 700 °C, rate: 50 °C/s}\n  - hold: {for: 15 min"
    )
    text = text.replace("every: 1 s", "every: 4 s")
    station = Station.load("simulated")
    auto = preflight(Recipe.parse(text), station)
    named = preflight(Recipe.parse(text.replace("overview.auto", "overview.haadf")), station)
    assert auto.good, auto.problems
    assert "met" in auto.results
    assert (auto.results, auto.duration_s) == (named.results, named.duration_s)


@pytest.mark.parametrize("entry", ["drift: {", "drift: {correct: scan_shift, "])
def test_an_estimator_that_cannot_choose_is_refused_before_anything_moves(entry: str) -> None:
    text = RECIPE.replace("particles: {", entry).replace(", expected_diameter: 8 nm", "")
    text = text.replace(", until: count >= 1 for 2 frames", "")
    found = preflight(Recipe.parse(text), Station.load("simulated")).problems
    assert found == (
        "estimate.drift.from = 'overview.auto': the estimator 'drift' cannot choose its detector. "
        "Name one in 'from', in place of 'auto'.",
    )


def attributes(run: Run) -> dict[str, Any]:
    found = run.estimates("particles").attrs
    return {key: value for key, value in found.items() if key.startswith("detector")}


def test_the_choice_is_stored_and_a_continuation_holds_to_it(
    station: OpenStation, tmp_path: Path
) -> None:
    darken(station, "haadf")
    script = RECIPE.split("steps:")[0] + "steps: [{hold: {for: 6 s}}]\n"
    run = run_experiment(Recipe.parse(script), station, tmp_path / "run")
    first = attributes(run)
    assert (first["detector"], first["detector_polarity"]) == ("abf", "dark")
    estimates = run.estimates("particles")
    row = list(estimates.frame_index.values).index(first["detector_frame_index"])
    assert float(estimates.time[row]) == first["detector_time_s"]
    flags = flags_of(estimates.flags)
    assert "choosing" in flags[row - 1]
    assert "choosing" not in flags[row]
    # now haadf is back, and clearer; the sizes would jump
    del station.scan.frames
    more = continue_experiment(tmp_path / "run", station, Recipe.parse(script))
    assert attributes(more) == {**first, "detector_segment": "run"}
    assert not any("choosing" in each for each in flags_of(more.estimates("particles").flags))
    assert attributes(open_run(tmp_path / "run")) == first
