"""On drifting images: a feature stays in view, sums are stored, a line scan lies where it was meant to lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.experiment import run_experiment
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import MemorySink
from tests.engine.drift_parts import RECIPE, STATION, drifting_station


def test_a_feature_stays_in_view_from_25_to_800_degrees_at_5_nm_per_second() -> None:
    sink: Any = MemorySink(keep_frames=True)
    station = drifting_station()
    with station, station.clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(RECIPE), sink)
        assert report.outcome == "completed", report.cause
        simulation = station.simulation
        assert simulation is not None
        hot = [f for f in sink.kept_frames if f.stream == "overview" and f.t_start_s < 85.0]
        sources = [context.source_index for context in sink.contexts["overview"]]
        drift = np.array([simulation.truth("scan", sources[f.index])["drift_nm"] for f in hot])
    drift -= drift[0]
    shift = np.array([[f.meta.scalars[f"scan_shift_{axis}"] for axis in "xy"] for f in hot])
    assert np.hypot(*np.diff(drift, axis=0).T).max() > 5.0
    assert np.hypot(*drift[-1]) > 450
    assert np.hypot(*(drift - shift).T).max() < 0.05 * 160
    told = {estimate.frame_index: estimate for estimate in sink.estimates}
    errors, sigmas = [], []
    for frame, truth in zip(hot, drift, strict=True):
        values = told[frame.index].values
        errors += [values["drift_x"].value - truth[0], values["drift_y"].value - truth[1]]
        sigmas += [values["drift_x"].sigma, values["drift_y"].sigma]
    assert np.sqrt(np.mean(np.square(errors))) < 0.25 * 160 / 256
    assert np.sqrt(np.mean(np.square(np.divide(errors[2:], sigmas[2:])))) < 2.5
    sums = [frame for frame in sink.kept_frames if frame.stream == "overview_sum"]
    assert len(sums) >= len(hot) // 8
    assert sums[0].data["haadf"].dtype == np.float32
    assert sums[0].data["frames"].max() == 8


def test_shifts_and_sums_are_in_the_stored_run(tmp_path: Path) -> None:
    recipe = Recipe.parse(
        RECIPE.split("steps:")[0].replace("sum: 8", "sum: 4")
        + "steps:\n  - ramp: {to: 60 °C, rate: 5 °C/s}\n"
    )
    with drifting_station() as station:
        run = run_experiment(recipe, station, tmp_path / "run")
    images = run.images("overview")
    assert {"scan_shift_x", "scan_shift_y"} <= set(images.coords)
    assert float(np.abs(images.scan_shift_x.values).max()) > 1.0
    sums = run.images("overview_sum")
    assert sums["haadf"].shape[1:] == (256, 256)
    assert float(sums["haadf"].isel(time=0).mean()) == pytest.approx(
        float(images["haadf"].isel(time=slice(0, 4)).mean()), rel=0.02
    )
    assert float(sums.t_end[0]) == pytest.approx(float(images.t_end[3]))


LINE = """
hotstage: 1
name: line
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 160 nm, dwell_time: 4 µs}, every: 1 s}
estimate:
  drift: {from: overview.haadf, CORRECT}
steps:
  - ramp: {to: 150 °C, rate: 5 °C/s}
  - hold: {for: 20 s}
  - line_scan: {from: [10 nm, 80 nm], to: [150 nm, 80 nm], points: 8, spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 0.2 s}}
"""


def boundary_distances(correct: str, drift: str) -> np.ndarray:
    """How far the points of a line scan lay from the nearest boundary, which does not move."""
    sink = MemorySink()
    text = STATION.replace("[holder]", f"drift = {drift}\n[holder]")
    spectrometer = '[spectrometer]\ndriver = "simulated"\n'
    station = Station.parse(text + spectrometer).open(VirtualClock())
    with station, station.clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(LINE.replace("CORRECT", correct)), sink)
        assert report.outcome == "completed", report.cause
        simulation = station.simulation
        assert simulation is not None
        found = [
            simulation.truth("spectrometer", context.source_index)["distance_to_boundary_nm"]
            for context in sink.contexts["line_scan"]
        ]
    return np.array(found)


def test_a_line_scan_after_a_corrected_drift_lies_where_it_was_meant_to_lie() -> None:
    meant = boundary_distances("correct: none", "false")
    corrected = boundary_distances("correct: scan_shift", "true")
    left = boundary_distances("correct: none", "true")
    assert np.abs(corrected - meant).max() < 2.0
    assert np.abs(left - meant).max() > 5.0, "else there was nothing to correct"
