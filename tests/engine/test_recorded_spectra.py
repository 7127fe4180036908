"""Spectra that are recorded beside the steps come when they are due, between images, and give way to all else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from acquire.engine import preflight
from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.errors import RecipeError
from acquire.recipe import ConditionsWatch, Recipe, parse_condition
from acquire.station import Station
from acquire.stream import Estimate, Quantity, Value
from tests.engine.drift_parts import scripted, small, wanted

RECIPE = """
hotstage: 1
name: watched
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 100 µs}, every: 2 s}
  edge: {spectrum: {at: [60 nm, 50 nm], spectra: {range: [400 eV, 600 eV], dispersion: 0.2 eV,
    dwell_time: 500 ms, low_loss_dwell_time: 0.5 ms}}, every: 10 s}
  other: {spectrum: {at: [80 nm, 50 nm], spectra: {range: [400 eV, 600 eV], dispersion: 0.2 eV,
    dwell_time: 500 ms, low_loss_dwell_time: 0.5 ms}}, every: 7 s}
  chip: {holder: {every: 500 ms}}
steps:
  - ramp: {to: 500 °C, rate: 50 °C/s}
  - hold: {for: 40 s}
"""
"""An image takes 0.41 s, a spectrum 0.5 s."""
IMAGES = """  - image: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 100 µs}, frames: 20, every: 1 s}
  - hold: {for: 20 s}
"""


def _spans(bench: Any, *streams: str) -> list[tuple[float, float]]:
    return [(f.t_start_s, f.t_end_s) for f in bench.sink.kept_frames if f.stream in streams]


def _starts(bench: Any, stream: str) -> list[float]:
    return [start_s for start_s, _ in _spans(bench, stream)]


def test_they_come_when_due_between_images_and_not_inside_steps_that_have_the_beam(
    bench: Any,
) -> None:
    scan = bench.station.scan
    report = bench.run(Recipe.parse(RECIPE + IMAGES))
    assert report.outcome == "completed", report.cause
    edge = _starts(bench, "edge")
    # the first one comes after the first image, and the first after a step, too, which began at 49.5 s
    # and ends 19.41 s later; none is made up for
    assert edge[0] == pytest.approx(0.41, abs=0.02)
    assert edge[1:] == pytest.approx([10, 20, 30, 40, 69.33, 79.33], abs=0.45)
    assert len(_starts(bench, "other")) == 11
    everything = sorted(_spans(bench, "edge", "other", "overview", "image"))
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(everything)), "one thing at a time"
    images = [t_s for t_s in _starts(bench, "overview") if t_s < 49]
    assert all(1.99 < b - a < 2.6 for a, b in pairwise(images)), "the images keep their time"
    assert len(images) >= 23
    assert bench.sink.specs["edge"][0] == "spectra"
    [context, *_] = bench.sink.contexts["edge"]
    assert context.position_nm == (60.0, 50.0)
    one = spot_dose(probe_current_pa(scan.describe()), 0.5005, 1.0)
    assert context.dose_e_per_nm2 == pytest.approx(one, rel=1e-3)
    worst = max(report.frames["edge"], report.frames["other"]) * one
    assert report.dose_e_per_nm2 == pytest.approx(worst, rel=0.02)
    # as far as they are taken in the same way, neither camera is tuned or written of again and again
    assert len(bench.texts("tuned")) == 2
    assert len(bench.texts("armed")) == 1 + 2 + 2 + 1
    found = preflight(Recipe.parse(RECIPE + IMAGES), Station.load("simulated"))
    assert found.good, found.problems
    assert dict(found.frames) == dict(report.frames)
    assert found.dose_e_per_nm2 == pytest.approx(report.dose_e_per_nm2)


@pytest.mark.parametrize("exposure", ["finish", "cut"])
def test_a_pause_finishes_or_cuts_them_and_a_held_temperature_does_neither(
    bench: Any, exposure: str
) -> None:
    text = RECIPE.replace("500 ms, low", "3 s, low") + f"pause: {{exposure: {exposure}}}\n"
    engine = bench.engine
    meanwhile = {21.8: engine.pause, 33.0: engine.resume, 36.0: engine.hold, 52.0: engine.resume}
    report = bench.run(Recipe.parse(text), meanwhile)
    assert report.outcome == "completed", report.cause
    spans = _spans(bench, "edge", "other")
    assert not [span for span in spans if 25 < span[0] < 33], "none in the pause"
    under_way = [span for span in spans if span[0] < 21.8 < span[1]]
    assert len(under_way) == (1 if exposure == "finish" else 0)
    assert len([span for span in spans if 33 < span[0] < 40.5]) >= 2, "both are due after it"
    assert len([span for span in spans if 40.5 < span[0] < 52]) >= 2, "they go on at a held one"
    assert not bench.sink.gaps
    images = _starts(bench, "overview")
    assert not [t_s for t_s in images if 25.5 < t_s < 33]
    assert [t_s for t_s in images if t_s > 52]


def test_without_a_scan_the_beam_is_on_for_them_alone_and_an_abort_cuts_them(bench: Any) -> None:
    text = RECIPE.replace("  overview:", "  #").replace("500 ms, low", "4 s, low")
    seen: list[bool] = []
    look = [lambda: seen.append(bench.station.scan.blanked())] * 2
    times = [9.9, 12.0]
    meanwhile = dict(zip(times, look, strict=True))
    report = bench.run(Recipe.parse(text), {**meanwhile, 22.0: bench.engine.abort})
    assert report.outcome == "aborted"
    assert seen == [True, False]
    assert _starts(bench, "edge") == pytest.approx([0, 10], abs=2)
    assert report.t_end_s < 22.5
    assert bench.station.scan.blanked()
    assert bench.states()[-1] == "off"


def test_the_field_follows_the_drift_though_every_image_is_followed_by_a_spectrum(
    bench: Any,
) -> None:
    made: list[float] = []
    shift = bench.station.scan.shift

    def watched(dx_nm: float, dy_nm: float) -> None:
        made.append(bench.clock.now_s())
        shift(dx_nm, dy_nm)

    bench.station.scan.shift = watched
    edge = RECIPE.split("  edge: ")[1].split("  other")[0].replace("every: 10 s", "every: 1 s")
    recipe = small().replace("estimate:", f"  edge: {edge}estimate:")
    report, _ = scripted(bench, recipe, lambda t_s: wanted(2.0 * t_s, 0.0, t_s))
    assert report.outcome == "completed", report.cause
    assert report.frames["edge"] == 20
    assert made
    assert not [t_s for t_s in made for a, b in _spans(bench, "edge") if a < t_s < b]
    frames = [frame for frame in bench.sink.kept_frames if frame.stream == "overview"]
    lag = [2.0 * f.t_start_s - f.meta.scalars["scan_shift_x"] for f in frames]
    assert max(lag[3:]) < 2.0 * 3
    beside = [f.meta.scalars for f in bench.sink.kept_frames if f.stream == "edge"]
    assert all(scalars["scan_shifted"] == 0 for scalars in beside)
    assert beside[-1]["scan_shift_x"] > 30


def _refused(change: str, to: str, words: str) -> None:
    assert change in RECIPE
    with pytest.raises(RecipeError, match=words):
        Recipe.parse(RECIPE.replace(change, to, 1))


def test_what_cannot_be_is_refused_with_its_mend() -> None:
    _refused(", every: 10 s}", "}", r"recipe:7.*say how often a spectrum is taken")
    _refused("every: 10 s", "every: 0.3 s", "a spectrum takes 0.5 s, longer than 'every' = 0.3 s")
    _refused(
        "every: 10 s", "every: 1 s", "edge, other and an image of overview after each take 104 %"
    )
    _refused(
        "dwell_time: 100 µs}", "dwell_time: 5 ms}", "other and an image of overview after each"
    )
    _refused("spectrum: {at", "holder: {every: 1 s}, spectrum: {at", "say one of 'scan' and 'spec")
    outside = Recipe.parse(RECIPE.replace("[60 nm, 50 nm]", "[60 nm, 161 nm]"))
    (problem,) = preflight(outside, Station.load("simulated")).problems
    assert "record.edge: the point [60 nm, 161 nm] is outside the field" in problem
    fine = Recipe.parse(RECIPE.replace("range: [400 eV", "range: [-300 eV", 1))
    assert any(
        problem.startswith("record.edge: ")
        for problem in preflight(fine, Station.load("simulated")).problems
    )
    bright = RECIPE.replace("low_loss_dwell_time: 0.5 ms", "low_loss_dwell_time: 300 ms", 1)
    found = preflight(Recipe.parse(bright), Station.load("simulated"))
    assert any(text.startswith("record.edge: the zero-loss peak") for text in found.warnings)


WAIT = (
    RECIPE.replace("  - hold: {for: 40 s}", "")
    + """
  - hold: {for: 2 min, until: ti3_fraction >= 0.11 for 2 frames}
estimate: {eels: {from: edge.core_loss}}
"""
)


def test_conditions_may_rest_on_them_and_not_on_those_of_steps_alone(examples: Path) -> None:
    station = Station.load("simulated")
    found = preflight(Recipe.load(examples / "recipes" / "reduction_watched.yaml"), station)
    assert found.good, found.problems
    assert found.results == ("done", "met", "done", "done")
    assert 60 < found.plan.steps[1].duration_s < 200
    assert not found.warnings
    unknown = preflight(
        Recipe.parse(
            WAIT.replace("ti3_fraction >= 0.11", "o_k_ratio >= 2").replace("2 min", "9 s")
        ),
        station,
    )
    assert "o_k_ratio, of which the simulation says nothing" in unknown.warnings[0]
    (problem,) = preflight(
        Recipe.parse(WAIT.replace("for 2 frames", "within 5 s")), station
    ).problems
    assert "come every 10 s, so that the newest is older than 5 s most of the time" in problem
    taken = WAIT.replace("from: edge", "from: line").replace(
        "  - hold",
        "  - spectrum: {at: [9 nm, 9 nm], name: line, spectra: {range: [400 eV, 600 eV],"
        " dispersion: 0.2 eV, dwell_time: 1 s}}\n  - hold",
    )
    (problem,) = preflight(Recipe.parse(taken), station).problems
    assert "'line', and none are taken during a hold" in problem
    assert "Record them beside the steps" in problem


def test_an_estimate_that_comes_rarely_counts_until_the_next_is_due() -> None:
    known = {"share": Quantity("share", "1", "share"), "size": Quantity("size", "nm", "size")}
    both = parse_condition("share >= 0.3 and size >= 4 nm")
    watch = ConditionsWatch(both, known, 0.0, {"share": 60.0})
    watch.judge(Estimate("eels", "edge", 0, 10.0, {"share": Value(0.4, 0.0)}), 9.0, 10.0)
    assert watch.verdict(99.0) is None, "the size is not known"
    watch.judge(Estimate("particles", "overview", 0, 99.0, {"size": Value(5.0, 0.0)}), 98.0, 99.0)
    assert watch.met, "the spectrum is 89 s old, and one comes a minute"
    rare = ConditionsWatch(both, known, 0.0)
    rare.judge(Estimate("eels", "edge", 0, 10.0, {"share": Value(0.4, 0.0)}), 9.0, 10.0)
    rare.judge(Estimate("particles", "overview", 0, 99.0, {"size": Value(5.0, 0.0)}), 98.0, 99.0)
    assert not rare.met
