"""An energy axis that is off is measured within a run, told, and carried by every spectrum that follows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.analysis import AnalysisSettings, analyse
from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.continuation import plan_continuation, prepare_continuation, take_up
from acquire.engine.experiment import carry_out
from acquire.engine.rehearsal import preflight
from acquire.errors import RecipeError
from acquire.instruments import Axis, StreamSpec
from acquire.measure.eels.true_axis import true_axis
from acquire.recipe import Plan, Recipe, Step
from acquire.station import Station
from acquire.store import MemorySink, RunWriter, open_run, segments

LIE_EV = 1.5
RECIPE = """
hotstage: 1
name: calibrated
estimate: {eels: {from: line_scan.core_loss}}
steps:
  - calibrate_energy:
      at: [40 nm, 80 nm]
      frames: 4
      spectra: &as {range: [400 eV, 600 eV], dispersion: 0.2 eV, dwell_time: 0.2 s, low_loss_dwell_time: 0.3 ms}
  - line_scan: {from: [40 nm, 80 nm], to: [44 nm, 80 nm], points: 3, spectra: *as}
  - spectrum: {at: [40 nm, 80 nm], name: other, spectra: {range: [400 eV, 600 eV], dispersion: 0.5 eV, dwell_time: 0.2 s}}
  - spectrum: {at: [40 nm, 80 nm], name: series, energy_offsets: [380 eV, 400 eV], spectra: *as}
  - spectrum: {at: [40 nm, 80 nm], name: burst, frames: 20, spectra: {range: [420 eV, 620 eV], dispersion: 0.2 eV, dwell_time: 1 ms, low_loss_dwell_time: 0.1 ms}}
"""


def lying(spec: StreamSpec) -> StreamSpec:
    """What a spectrometer says whose axes are off."""
    channels = {}
    for name, channel in spec.channels.items():
        axes = {
            dim: Axis(axis.offset + LIE_EV, axis.step, axis.unit)
            for dim, axis in channel.axes.items()
        }
        channels[name] = replace(channel, axes=axes)
    return replace(spec, channels=channels)


def carried_out(text: str, sink: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = VirtualClock()
    station = Station.load("simulated").open(clock)
    assert station.spectrometer is not None
    arm = station.spectrometer.arm
    monkeypatch.setattr(station.spectrometer, "arm", lambda *a: lying(arm(*a)))
    with clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(text), sink)
    station.close()
    return report


def test_what_was_off_is_told_and_goes_along_with_the_spectra_of_its_dispersion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = carried_out(RECIPE, RunWriter(tmp_path / "run"), monkeypatch)
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    [note] = [entry for entry in run.journal() if entry.kind == "calibration"]
    # the axis of the simulated spectrometer itself is off by some tenths of an eV, and walks
    assert note.details["core_ev"] == pytest.approx(-LIE_EV, abs=1.3)
    assert 0 < note.details["core_sigma_ev"] < 0.1
    assert "off" in note.text
    before, line, other, burst = (
        run.spectra(name) for name in ("calibration", "line_scan", "other", "burst")
    )
    # what the instrument said stays as it was
    assert float(line.energy_loss[0]) == pytest.approx(400.0 + LIE_EV, abs=0.06)
    for name in ("core_loss_correction", "low_loss_correction"):
        assert np.isnan(before[name]).all()
        np.testing.assert_allclose(line[name], note.details["core_ev"])
        assert np.isnan(other[name]).all(), "another dispersion is another axis"
        np.testing.assert_allclose(burst[name], note.details["core_ev"])
    np.testing.assert_allclose(line["dispersion_scale"], 1.0)
    found = run.estimates("eels")
    assert np.abs(found["zero_loss_position"]).max() < 0.3, "on the calibrated axis"
    [analysis] = analyse([tmp_path / "run"])
    again = open_run(analysis.folder).estimates("eels")
    np.testing.assert_allclose(again["zero_loss_position"], found["zero_loss_position"])
    # each spectrum of a series on the axis that it was tuned to
    [analysis] = analyse(
        [tmp_path / "run"],
        AnalysisSettings.of({"eels": {"from": "series.core_loss"}}),
        name="series",
    )
    titanium = open_run(analysis.folder).estimates("eels")["ti_l_counts"].values
    assert titanium[0] == pytest.approx(titanium[1], rel=0.1)


def test_a_calibration_counts_in_the_segment_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, folder = VirtualClock(), tmp_path / "run"
    station = Station.load("simulated").open(clock)
    engine, calm = (
        Engine(station),
        RECIPE.replace("estimate: {eels: {from: line_scan.core_loss}}", ""),
    )
    with clock.enrolled("test"):
        stop = clock.spawn(lambda: (clock.sleep(1.1), engine.abort("enough")), "operator")
        engine.run(Recipe.parse(calm), RunWriter(folder))
        stop.join()
        continuation = plan_continuation(take_up(folder, station.station), station)
        report = carry_out(engine, prepare_continuation(engine, continuation))
    station.close()
    assert report.outcome == "completed", report.cause
    first, rest = (run.spectra("line_scan") for run in segments(folder))
    assert (first.sizes["time"], rest.sizes["time"]) == (1, 2)
    for name in ("core_loss_correction", "low_loss_correction", "dispersion_scale"):
        assert np.isfinite(first[name].values).all()
        np.testing.assert_array_equal(rest[name], float(first[name][0]))


def test_a_stream_that_a_script_began_before_is_said_to_lack_the_calibration() -> None:
    recipe = Recipe.parse(RECIPE.replace("estimate: {eels: {from: line_scan.core_loss}}", ""))
    calibrate, _, other, *_ = recipe.flat_steps()
    clock, sink = VirtualClock(), MemorySink()
    header = Recipe.parse("hotstage: 1\nname: script\n")
    with Station.load("simulated").open(clock) as station, clock.enrolled("test"):
        report = Engine(station).run(header, sink, script(other, calibrate, other))
    assert report.outcome == "completed", report.cause
    warnings = [note.text for note in sink.notes if note.kind == "warning"]
    assert [text for text in warnings if "'other' were begun before the first" in text]


def script(*steps: Step) -> Plan:
    """Of these steps."""
    plan = iter(steps)
    while (step := next(plan, None)) is not None:
        yield step


def test_without_a_correction_of_its_own_the_low_loss_is_off_as_the_core_loss_is() -> None:
    core, low = Axis(400.0, 0.2, "eV"), Axis(-10.0, 0.2, "eV")
    numbers = {"core_loss_correction": -1.5, "low_loss_correction": math.nan}
    assert true_axis(core, "core_loss", numbers) == Axis(398.5, 0.2, "eV")
    assert true_axis(low, "low_loss", numbers) == Axis(-11.5, 0.2, "eV")
    assert true_axis(core, "core_loss", {"energy_offset": 450.0}) == Axis(450.0, 0.2, "eV")


@pytest.mark.parametrize(
    ("otherwise", "outcome"), [("abort", "aborted"), ("continue", "completed")]
)
def test_a_calibration_that_cannot_be_trusted_is_refused_with_its_reason(
    otherwise: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = RECIPE.replace("frames: 4", f"frames: 2\n      within: 0.1 meV\n      else: {otherwise}")
    sink = MemorySink()
    report = carried_out(text, sink, monkeypatch)
    assert report.outcome == outcome, report.cause
    [note] = [note for note in sink.notes if note.kind == "calibration"]
    assert "not calibrated" in note.text
    assert "Take more spectra" in note.text
    if outcome == "aborted":
        assert "Take more spectra" in report.cause


def test_a_preflight_knows_what_a_calibration_takes() -> None:
    found = preflight(Recipe.parse(RECIPE), Station.load("simulated"))
    assert found.good, found.problems
    assert found.frames["calibration"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("frames: 4", "features: [{energy: 532 eV}]"), "name two"),
        (("frames: 4", "features: [{energy: 532 eV}, {energy: 855 eV}]"), "855 eV does not lie"),
        (
            ("dwell_time: 0.2 s, low_loss_dwell_time: 0.3 ms}", "dwell_time: 0.2 s, dual: false}"),
            "no zero-loss",
        ),
    ],
)
def test_what_cannot_calibrate_is_refused_with_the_recipe(
    change: tuple[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(RECIPE.replace(*change, 1))
