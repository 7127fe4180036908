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
from acquire.store import RunWriter, open_run

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
    assert any("relative_thickness" in warning for warning in found.warnings)
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
