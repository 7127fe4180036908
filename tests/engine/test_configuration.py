"""The journal says how every instrument was really set, whenever it was set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from acquire.instruments import ScanExposure, SpectrometerSetting, SpectrumExposure
from acquire.recipe import Recipe
from acquire.store import MemorySink, RunWriter, open_run

STEPS = """steps:
- ramp: {to: 100 °C, rate: 10 °C/s}
- image: {scan: {detectors: [abf], size: [32, 64], field_of_view: 80 nm, dwell_time: 2 µs}, frames: 2}
- line_scan: {from: [40 nm, 80 nm], to: [120 nm, 80 nm], points: 5,
    spectra: {range: [400.02 eV, 600.02 eV], dispersion: 0.1 eV, dwell_time: 0.5 s}}
- hold: {for: 5 s}
"""


def test_every_arming_and_tuning_is_in_the_journal_as_it_really_was(
    bench: Any, short: Recipe, tmp_path: Path
) -> None:
    recipe = Recipe.parse(short.dump().split("steps:")[0] + STEPS)
    bench.sink = RunWriter(tmp_path / "run", recipe.store.settings())
    report = bench.run(recipe, {4.0: bench.engine.pause, 8.0: bench.engine.resume})
    assert report.outcome == "completed", report.cause
    journal = open_run(tmp_path / "run").journal()
    armed = [e for e in journal if e.kind == "armed"]
    overview = asdict(recipe.record["overview"].scan.exposure(1.0))  # type: ignore[union-attr]
    image = asdict(ScanExposure(("abf",), (32, 64), 80.0, 2e-6))
    spectrum = asdict(SpectrumExposure(0.5))
    told = [(e.text, e.details.get("exposure")) for e in armed]
    assert [(text, _like(of)) for text, of in told] == [
        ("safe state of the holder", None),
        ("scan armed for overview", _like(overview)),
        ("scan armed for overview", _like(overview)),  # after the pause
        ("scan armed for image", _like(image)),
        ("spectrometer armed for line_scan", _like(spectrum)),  # once for all of its points
        ("scan armed for overview", _like(overview)),
    ]
    assert armed[0].details["state"] == {
        "cool_rate_celsius_per_s": 100.0,
        "cool_to_celsius": 25.0,
    }
    beam = [e.text for e in journal if e.kind == "beam"]
    assert beam == ["on", "blanked", "on"]  # blanked while it was paused
    (tuned,) = [e for e in journal if e.kind == "tuned"]
    asked, taken = tuned.details["asked"], tuned.details["taken"]
    assert asked == asdict(SpectrometerSetting(400.02, 0.1, 2000, True))
    assert taken["energy_offset_ev"] == pytest.approx(400.0)  # type: ignore[index]
    (spectra,) = [e for e in armed if e.text.startswith("spectrometer")]
    channels = spectra.details["taken"]["channels"]  # type: ignore[index]
    assert channels["core_loss"]["axes"]["energy_loss"] == {
        "offset": 400.0,
        "step": 0.1,
        "unit": "eV",
    }
    ramp = next(e for e in journal if e.text.startswith("begin step 1"))
    assert ramp.details["settings"] == {"to": "100 °C", "rate": "10 °C/s", "until": None}


def _like(details: Any) -> Any:
    """As JSON gives it back: lists for tuples."""
    if isinstance(details, dict):
        return {key: _like(value) for key, value in details.items()}
    return [_like(item) for item in details] if isinstance(details, list | tuple) else details


def test_streams_say_how_often_their_frames_come(bench: Any, short: Recipe) -> None:
    recipe = Recipe.parse(short.dump().split("steps:")[0] + STEPS)
    bench.run(recipe)
    sink: MemorySink = bench.sink
    periods = {name: spec.frame_period_s for name, (_, spec) in sink.specs.items()}
    for name, period_s in periods.items():
        frames = [f for f in sink.kept_frames if f.stream == name]
        if name == "overview":
            assert period_s == 1.0
        else:
            taken = [f.t_end_s - f.t_start_s for f in frames]
            assert taken == pytest.approx([period_s] * len(frames))
    assert set(periods) == {"overview", "image", "line_scan"}
