"""What recorded spectra tell is steered by the temperature, by the line through the newest of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine, preflight
from acquire.engine.slopes import Slope
from acquire.errors import RecipeError
from acquire.recipe import Recipe, Regulate, regulate
from acquire.report.series import spectral_series
from acquire.station import Station
from acquire.store import RunWriter, open_run, words_of
from acquire.stream import Value

RECIPE = """
hotstage: 1
name: steered by valence
limits: {temperature: 900 °C}
record:
  edge: {spectrum: {at: [0 nm, 0 nm], spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV,
    dwell_time: 0.5 s, low_loss_dwell_time: 0.1 ms}}, every: 15 s}
estimate: {eels: {from: edge.core_loss}}
steps:
  - ramp: {to: 740 °C, rate: 50 °C/s}
  - regulate: {quantity: ti3_fraction, target: 0.05, between: [600 °C, 890 °C], for: 20 min}
"""


def _station(seed: int) -> Station:
    """The simulated one, on which nothing drifts: there is no image here by which to follow."""
    station = Station.load("simulated")
    settings = station.file.simulation
    assert settings is not None
    still = settings.model_copy(
        update={"seed": seed, "options": {**settings.options, "drift": False}}
    )
    return replace(station, file=station.file.model_copy(update={"simulation": still}))


def test_the_simulated_valence_is_brought_to_its_target_and_kept(tmp_path: Path) -> None:
    clock = VirtualClock()
    opened = _station(3).open(clock)
    with clock.enrolled("test"):
        report = Engine(opened).run(Recipe.parse(RECIPE), RunWriter(tmp_path / "run"))
    opened.close()
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    table = run.table("regulation_ti3_fraction")
    assert (table["size"].units, table["growth"].units) == ("1", "1/min")
    level, setpoint = table["size"].values, table["setpoint"].values
    steered = np.array([not word for word in words_of(table["frozen"])])
    assert steered.mean() > 0.6, "but for the first minutes, in which the line is too short"
    late = table.time.values > table.time.values[-1] - 300
    # of one spectrum σ is 0.012, of the line's end 0.005
    assert np.abs(level[late] - 0.05).max() < 0.03
    assert setpoint[late].max() < 720 < setpoint.max()
    rate, wanted = table["growth"].values, table["wanted"].values
    assert np.nanmax(wanted) > 0.002
    assert rate[-1] < np.nanmax(rate) / 2, "what heat does cannot be undone: it comes from below"
    assert any(entry.text.startswith("regulates from") for entry in run.journal())
    (series,) = spectral_series(run)
    assert (series.stream, series.quantity) == ("edge", "ti3_fraction")
    assert len(series.trusted) == report.frames["edge"]
    assert 0.7 < series.trusted.mean() < 1.0
    assert (run.spectra("edge").position_x.values == 0.0).all()


def test_a_preflight_goes_through_it_and_says_what_it_cannot_foresee() -> None:
    hot = RECIPE.replace("every: 15 s", "every: 30 s").replace("for: 20 min", "for: 1 min")
    found = preflight(Recipe.parse(hot), Station.load("simulated"))
    assert found.good, found.problems
    assert found.frames["edge"] == 3
    assert "not expected to regulate anything: the rate of ti3_fraction is not" in found.warnings[0]
    counts = hot.replace("ti3_fraction, target: 0.05", "ni_l_counts, target: 5000")
    counts = counts.replace("[400 eV, 600 eV]", "[780 eV, 980 eV]")
    found = preflight(Recipe.parse(counts), Station.load("simulated"))
    assert found.good, found.problems
    assert "rests on ni_l_counts, of which the simulation says nothing" in found.warnings[0]
    assert "nothing keeps that on the specimen" in found.warnings[1]
    late = preflight(
        Recipe.parse(hot.replace("for: 1 min", "for: 1 min, within: 20 s")),
        Station.load("simulated"),
    )
    assert "come every 30 s, so that the newest is older than 20 s" in late.problems[0]


def test_a_level_has_no_unit_and_what_is_left_of_a_step_its_target() -> None:
    step = regulate(
        "ti3_fraction", "0.3", ("650 °C", "850 °C"), "30 min", from_="0.1", over="20 min"
    )
    assert step.target_at(600.0) == pytest.approx(0.2)
    assert step.slope_at(0.0) == pytest.approx(0.01)
    assert Regulate.model_validate(step.model_dump(mode="json", by_alias=True)) == step
    assert step.within_s(60.0) == 180.0
    rest = step.rest(600.0)
    assert rest.target_at(0.0) == pytest.approx(0.2)
    with pytest.raises(RecipeError, match="heat does not undo this"):
        regulate("ti3_fraction", "0.1", ("650 °C", "850 °C"), "9 min", from_="0.3", over="5 min")
    with pytest.raises(RecipeError, match="'target' of ti3_fraction: 3 nm cannot be read in"):
        regulate("ti3_fraction", "3 nm", ("650 °C", "850 °C"), "9 min")


def test_a_line_has_the_slope_and_the_uncertainty_of_its_points() -> None:
    random = np.random.default_rng(5)
    pulls = []
    for _ in range(400):
        slope = Slope(300.0)
        for t_s in np.arange(0.0, 700.0, 15.0):
            level = 0.1 + 0.02 * t_s / 60 + random.normal(0.0, 0.01)
            slope.add(float(t_s), Value(level, 0.01))
        now, rate = slope.fitted()
        pulls.append(
            ((now.value - 0.1 - 0.02 * 690 / 60) / now.sigma, (rate.value - 0.02) / rate.sigma)
        )
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.2
    # σ is made larger by a χ² that is above 1 by chance, never smaller by one below
    assert np.std(pulls, axis=0) == pytest.approx(0.95, abs=0.12)
    short = Slope(300.0)
    for t_s in (0.0, 40.0, 80.0, 120.0):
        short.add(t_s, Value(0.1, math.nan))
    assert math.isnan(short.fitted()[1].value), "half of the window is needed"
    short.add(160.0, Value(0.1, math.nan))
    assert short.fitted()[1].value == pytest.approx(0.0, abs=1e-12)
