"""Spectra that steps take are measured while they are taken, and decide what follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acquire import plugins
from acquire.analysis import analyse
from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.rehearsal import preflight
from acquire.errors import RecipeError
from acquire.instruments import Axis
from acquire.measure.eels import EelsEstimator
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, flags_of, open_run

RECIPE = """
hotstage: 1
name: spectra
limits: {temperature: 900 °C, run_time: 1 h}
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
  chip: {holder: {every: 500 ms}}
estimate: {eels: {from: line_scan.core_loss}}
steps:
  - line_scan:
      from: [40 nm, 80 nm]
      to: [60 nm, 80 nm]
      points: 6
      spectra: {range: [400 eV, 600 eV], dispersion: 0.2 eV, dwell_time: 0.5 s, dual: true, low_loss_dwell_time: 0.3 ms}
  - when:
      condition: relative_thickness > 0.001
      frames: any
      unknown: abort
      then: [{mark: thick enough}]
"""


@pytest.fixture(autouse=True)
def eels(monkeypatch: pytest.MonkeyPatch) -> None:
    find = plugins.find

    def found(group: str, name: str) -> Any:
        return EelsEstimator if (group, name) == (plugins.ESTIMATORS, "eels") else find(group, name)

    monkeypatch.setattr(plugins, "find", found)


def test_every_spectrum_of_a_line_scan_is_measured_and_a_decision_rests_on_the_newest(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    station = Station.load("simulated").open(clock)
    with clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(RECIPE), RunWriter(tmp_path / "run"))
    station.close()
    assert report.outcome == "completed", report.cause
    assert report.frames["line_scan"] == 6
    run = open_run(tmp_path / "run")
    estimates = run.estimates("eels")
    assert estimates.sizes["time"] == 6
    for name in ("relative_thickness", "energy_shift", "ti_l_counts", "ti3_fraction"):
        assert name in estimates
    assert (estimates["relative_thickness"] > 0.001).all()
    assert estimates["zero_loss_counts"].values.min() > 1e3
    assert any("thick enough" in note.text for note in run.journal())
    [analysis] = analyse([tmp_path / "run"])
    again = open_run(analysis.folder).estimates("eels")
    for name, values in estimates.data_vars.items():
        if name != "flags":
            assert again[name].values == pytest.approx(values.values, nan_ok=True), name


def test_a_preflight_knows_the_stream_and_says_what_it_cannot_foresee() -> None:
    found = preflight(Recipe.parse(RECIPE), Station.load("simulated"))
    assert found.good, found.problems
    assert found.frames["line_scan"] == 6
    assert found.results[1] == "met", "the thickness is known of the simulated specimen"
    beyond = Recipe.parse(RECIPE.replace("relative_thickness > 0.001", "o_k_ratio > 0.001"))
    warnings = preflight(beyond, Station.load("simulated")).warnings
    assert any("o_k_ratio, of which the simulation says nothing" in text for text in warnings)
    refused = preflight(
        Recipe.parse(RECIPE.replace("core_loss}", "core_loss, edges: [zr_l]}")),
        Station.load("simulated"),
    )
    assert any("Move the range" in problem for problem in refused.problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("line_scan.core_loss", "line_scan.haadf"), "core_loss and low_loss"),
        (("line_scan.core_loss", "other.core_loss"), "spectra are taken as: line_scan"),
        (
            (
                "steps:",
                "steps:\n  - spectrum: {at: [5 nm, 5 nm], name: line_scan, "
                "spectra: {range: [400 eV, 500 eV], dispersion: 0.2 eV, dwell_time: 1 s}}",
            ),
            "2 different ways",
        ),
    ],
)
def test_a_stream_that_cannot_be_looked_at_is_refused_with_the_recipe(
    change: tuple[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(RECIPE.replace(*change))


def test_spectra_on_another_axis_than_foreseen_are_recorded_but_not_measured(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectrometer = bench.station.spectrometer
    arm: Callable[..., Any] = type(spectrometer).arm
    armed = []

    def drifting(self: Any, *arguments: Any) -> Any:
        spec = arm(self, *arguments)
        armed.append(spec)
        if len(armed) == 1:
            return spec
        core = spec.channels["core_loss"]
        axes = {"energy_loss": Axis(500.0, core.axes["energy_loss"].step, "eV")}
        return replace(spec, channels={**spec.channels, "core_loss": replace(core, axes=axes)})

    monkeypatch.setattr(type(spectrometer), "arm", drifting)
    recipe = Recipe.parse(RECIPE.replace("unknown: abort", "unknown: continue"))
    with bench.clock.enrolled("test"):
        report = bench.engine.run(recipe, bench.sink)
    assert report.outcome == "completed", report.cause
    assert report.frames["line_scan"] == 6
    assert not bench.sink.estimates
    assert sum("not measured" in text for text in bench.texts("warning")) == 1
    assert math.isfinite(report.t_end_s)


@pytest.mark.parametrize(
    "waiting",
    [
        "hold: {for: 1 min, until: ti3_fraction > 0.1}",
        "ramp: {to: 700 °C, rate: 10 °C/s, until: ni_l_counts > 100}",
    ],
)
def test_nobody_waits_for_what_only_spectra_tell_that_are_not_taken_meanwhile(waiting: str) -> None:
    recipe = Recipe.parse(RECIPE.replace("steps:\n", f"steps:\n  - {waiting}\n"))
    refused = preflight(recipe, Station.load("simulated"))
    assert any("it would wait in vain" in problem for problem in refused.problems)


def test_nickel_and_valence_decide_what_follows(tmp_path: Path) -> None:
    """Each on its own range, between short holds, as a recipe steers by them."""
    text = """
hotstage: 1
name: decided
estimate:
  nickel: {use: eels, from: nickel.core_loss, prefix: n_}
  titanium: {use: eels, from: titanium.core_loss, prefix: t_}
steps:
  - repeat:
      times: 2
      steps:
        - hold: {for: 1 s}
        - spectrum: {at: [40 nm, 80 nm], name: nickel, spectra: {range: [700 eV, 956 eV], dispersion: 0.5 eV, dwell_time: 2 s, low_loss_dwell_time: 0.3 ms}}
        - spectrum: {at: [40 nm, 80 nm], name: titanium, spectra: {range: [400 eV, 600 eV], dispersion: 0.2 eV, dwell_time: 0.5 s, low_loss_dwell_time: 0.3 ms}}
        - when: {condition: n_ni_l_counts > -1e9, frames: any, then: [{mark: nickel told}]}
        - when: {condition: t_ti3_fraction < 0.9, frames: any, then: [{mark: valence told}]}
"""
    clock = VirtualClock()
    station = Station.load("simulated").open(clock)
    with clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(text), RunWriter(tmp_path / "run"))
    station.close()
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    marks = [entry.text for entry in run.journal() if entry.kind == "mark"]
    assert marks == ["nickel told", "valence told"] * 2
    counts = run.estimates("nickel")["n_ni_l_counts"]
    assert counts.sizes["time"] == 2
    # lanthanum lies beside it, of which the recipe says nothing
    assert not any(
        "ni_l_overlapped" in flags for flags in flags_of(run.estimates("nickel")["flags"])
    )
