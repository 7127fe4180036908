"""Reads, angle and brightness of spectra are checked before anything is heated, and stored as they were taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from acquire.engine import preflight
from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.engine.saturating import saturated
from acquire.errors import LimitError
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from acquire.recipe import Recipe
from acquire.station import Station

RECIPE = """
hotstage: 1
name: spectra
limits: {temperature: 900 °C}
steps:
  - ramp: {to: 300 °C, rate: 50 °C/s}
  - spectrum: {at: [80 nm, 80 nm], frames: 2, spectra: {range: [400 eV, 450 eV], dispersion: 0.5 eV, %s}}
"""
STATION = """
hotstage = 1
name = "bright"
[simulation]
simulator = "exsolution"
seed = 7
[simulation.options]
specimen = "vacuum"
probe_current = "1 nA"
[holder]
driver = "simulated"
limits = { temperature = "1000 °C", ramp_rate = "100 °C/s" }
[scan]
driver = "simulated"
[spectrometer]
driver = "simulated"
"""


def _recipe(spectra: str) -> Recipe:
    return Recipe.parse(RECIPE % spectra)


@pytest.fixture
def bright() -> Station:
    return Station.parse(STATION, "bright.toml")


def test_low_loss_reads_are_stored_and_shown_and_count_as_dose(bench) -> None:
    recipe = _recipe("dwell_time: 0.4 s, low_loss_reads: 4, low_loss_dwell_time: 50 ms")
    assert bench.run(recipe).outcome == "completed"
    frames = [frame for frame in bench.sink.kept_frames if frame.stream == "spectrum"]
    assert [frame.data["low_loss"].shape for frame in frames] == [(4, 100)] * 2
    assert frames[0].data["low_loss_time"].shape == (4, 2)
    shown = bench.engine.live.spectrum(-1, 0.0)
    assert set(shown.counts) == {"core_loss", "low_loss"}
    assert shown.counts["low_loss"].shape == shown.energy_ev["low_loss"].shape == (100,)
    current_pa = probe_current_pa(bench.station.scan.describe())
    least = spot_dose(current_pa, 2 * (0.4 + 4 * 0.05), 1.0)
    assert bench.engine.status.dose_e_per_nm2 >= least * (1 - 1e-9)


@pytest.mark.parametrize(
    ("spectra", "words"),
    [
        ("dwell_time: 0.4 s, low_loss_reads: 2000", "low loss reads 2000 refused"),
        ("dwell_time: 0.4 s, off_axis: 0.2 rad", "off axis 200 mrad refused"),
        ("dwell_time: 1 µs", "dwell time 1e-06 s refused"),
    ],
)
def test_what_the_spectrometer_would_refuse_to_expose_is_told_before_anything_is_heated(
    bench, spectra: str, words: str
) -> None:
    recipe = _recipe(spectra)
    (problem,) = preflight(recipe, Station.load("simulated")).problems
    assert words in problem
    report = bench.run(recipe)
    assert report.outcome == "failed"
    assert words in report.cause
    assert "ramping" not in bench.states()


def test_a_spectrometer_that_cannot_tell_beforehand_is_only_asked_for_its_setting(
    bench,
) -> None:
    inner = bench.station.spectrometer
    names = ("describe", "check", "tune", "arm", "frames", "disarm", "make_safe")
    bench.station.spectrometer = SimpleNamespace(**{name: getattr(inner, name) for name in names})
    report = bench.run(_recipe("dwell_time: 0.4 s, low_loss_reads: 2000"))
    assert report.outcome == "failed"
    assert "low loss reads 2000 refused" in report.cause
    assert "ramping" in bench.states()


def test_a_dual_spectrum_is_not_asked_for_reads_that_it_does_not_take(bench) -> None:
    check = bench.station.spectrometer.check_exposure
    setting, exposure = SpectrometerSetting(400.0, 0.5, 100), SpectrumExposure(0.4, 10.0)
    with pytest.raises(LimitError, match="low loss dwell time"):
        check(setting, exposure)
    check(SpectrometerSetting(400.0, 0.5, 100, dual=False), exposure)


@pytest.mark.parametrize(
    ("spectra", "key", "fits"),
    [
        ("dwell_time: 0.4 s", "low_loss_dwell_time", "44 µs"),
        ("dwell_time: 0.4 s, low_loss_reads: 4", "low_loss_dwell_time", "44 µs"),
    ],
)
def test_a_zero_loss_peak_that_fills_the_camera_is_told_with_the_dwell_that_fits(
    bright: Station, spectra: str, key: str, fits: str
) -> None:
    found = preflight(_recipe(spectra), bright)
    assert found.good, found.problems
    (warning,) = found.warnings
    assert "2 spectra" in warning
    assert f"A {key} of {fits} fits" in warning
    mended = _recipe(f"{spectra}, low_loss_dwell_time: {fits}")
    assert preflight(mended, bright).warnings == ()


def test_a_core_loss_that_holds_the_zero_loss_peak_is_looked_at_too(bright: Station) -> None:
    recipe = _recipe("dwell_time: 0.4 s, dual: false").dump().replace("400 eV", "-10 eV")
    (warning,) = preflight(Recipe.parse(recipe), bright).warnings
    assert "A dwell_time of 44 µs fits" in warning


@pytest.mark.parametrize("spectra", ["dual: false", "off_axis: 60 mrad"])
def test_nothing_is_said_where_no_zero_loss_peak_is_to_be_expected(
    bright: Station, spectra: str
) -> None:
    assert preflight(_recipe(f"dwell_time: 0.4 s, {spectra}"), bright).warnings == ()


def test_a_run_says_it_once_before_it_heats(bright: Station, bench) -> None:
    with bright.open(bench.clock, draft=True) as station:
        bench.engine = type(bench.engine)(station)
        assert bench.run(_recipe("dwell_time: 0.1 s")).outcome == "completed"
    texts = [note.text for note in bench.sink.notes]
    (told,) = [text for text in bench.texts("warning") if "fill the camera" in text]
    assert texts.index(told) < texts.index(next(t for t in texts if t.startswith("begin step 1")))


def test_nothing_is_foreseen_of_a_camera_that_does_not_tell_what_it_holds(
    bright: Station, bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe("dwell_time: 0.4 s")
    with bright.open(bench.clock, draft=True) as station:
        assert saturated(recipe.steps, station)
        described = station.spectrometer.describe()
        described.details.pop("full_scale_counts")
        monkeypatch.setattr(station.spectrometer, "describe", lambda: described)
        assert saturated(recipe.steps, station) == []


def test_what_is_foreseen_is_what_the_camera_sees(bright: Station, bench) -> None:
    """A hole in the specimen, where nothing is scattered; the point spread takes a fifth of the brightest channel."""
    recipe = _recipe("dwell_time: 1 ms, low_loss_dwell_time: 44 µs")
    with bright.open(bench.clock) as station, bench.clock.enrolled("test"):
        step = recipe.steps[1]
        spectrometer = station.spectrometer
        station.scan.blank(False)
        spectrometer.tune(step.spectra.setting())
        highest = []
        for dwell_s in (44e-6, 70e-6):
            spectrometer.arm(SpectrumExposure(1e-3, dwell_s), 20)
            frames = list(spectrometer.frames(bench.clock.signal()))
            spectrometer.disarm()
            highest.append(max(int(np.max(frame.data["low_loss"])) for frame in frames))
        full = spectrometer.describe().details["full_scale_counts"]
    assert 0.7 * full < highest[0] < full
    assert highest[1] == full
