"""`hotstage bench eels`: its spectra are what they say, its line scans tell the truth, its table is complete."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from acquire.bench import eels, eels_accuracy, eels_speed
from acquire.bench.eels_made import (
    EXPONENT,
    STEP_EV,
    backgrounds,
    low_loss,
    reference_ev,
    titanium,
    titanium_pair,
    zero_losses,
)
from acquire.bench.eels_simulated import TI3_BIAS
from acquire.bench.eels_speed import make_block
from acquire.bench.eels_station import microscope
from acquire.bench.work import Bench
from acquire.cli.app import main
from acquire.errors import ConfigError
from acquire.instruments import SpectrometerSetting, SpectrumExposure


def test_made_spectra_have_the_electrons_that_were_asked_for() -> None:
    rng = np.random.default_rng(1)
    counts, axis, position = zero_losses(rng, 400, 1e4, 0.25, 3.0)
    assert counts.sum(axis=1).mean() == pytest.approx(1e4, rel=0.02)
    energy = axis.offset + axis.step * np.arange(counts.shape[1])
    # Lorentzian wings have no mean: near the peak alone
    near = np.abs(energy - position[:, None]) < 1.0
    middle = (counts * energy * near).sum(axis=1) / (counts * near).sum(axis=1)
    assert np.abs(middle - position).mean() < 0.1
    counts, offset = backgrounds(rng, 2000, 3.0)
    at = np.argmin(np.abs(offset[:, None] + STEP_EV * np.arange(480) - reference_ev()), axis=1)
    assert counts[np.arange(2000), at].mean() == pytest.approx(3.0, rel=0.05)
    counts, offset, amount, level = titanium(titanium_pair(), rng, 50, 0.5, 100.0)
    energy = offset[:, None] + STEP_EV * np.arange(counts.shape[1])
    under = level * STEP_EV * (energy / reference_ev((410.0, 470.0))) ** -EXPONENT
    before = energy < 445
    assert counts[before].sum() == pytest.approx(under[before].sum(), rel=0.01)
    titan = np.where((energy > 452) & (energy < 475), counts - under, 0.0).sum(axis=1).mean()
    assert 0.5 * amount < titan < amount


@pytest.mark.parametrize("depth", [0.2, 1.5])
def test_a_made_low_loss_holds_its_depth_in_its_zero_loss_peak(depth: float) -> None:
    mean, energy = low_loss(depth, 8192)
    peak = mean[np.abs(energy) < 2.5].sum()
    # a part of the wings lies beyond
    assert peak == pytest.approx(math.exp(-depth), rel=0.015)
    assert mean.sum() == pytest.approx(1.0, abs=0.03)


def test_pairs_of_the_speed_rows_move_together() -> None:
    block = make_block(1, 200)
    peak = block.low_axis.offset + block.low_axis.step * block.low.argmax(axis=1)
    assert np.ptp(peak) > 0.8
    # where Ti-L rises, less is seen of an edge that has moved up
    energy = block.core_axis.offset + block.core_axis.step * np.arange(block.core.shape[1])
    rise = block.core[:, (energy > 454.5) & (energy < 457.0)].sum(axis=1)
    assert np.corrcoef(peak, rise)[0, 1] < -0.8
    before, oxygen = (
        np.median(block.core[:, (energy > low) & (energy < low + 10)]) / 5.3 for low in (518, 535)
    )
    assert oxygen > 1.2 * before > 60


def test_a_line_crosses_the_anti_phase_boundary_at_right_angles() -> None:
    with microscope(3, specimen="lsnt_nonstoichiometric") as at:
        at.tune(SpectrometerSetting(400.0, 0.5, 256))
        distance, places = at.line(4.0, 2.0)
        taken = at.take(SpectrumExposure(0.01, 1e-4, 3), places)
    true = taken.true("distance_to_boundary_nm")
    assert true == pytest.approx(np.abs(distance), abs=0.4)
    assert taken.core.shape == (5, 256)
    assert taken.low is not None
    assert taken.low.shape == (5, 3, 256)
    assert taken.read_spans_s.shape == (5, 3, 2)
    assert (taken.read_spans_s[:, 0, 0] >= taken.core_spans_s[:, 0] - 0.01).all()
    ti3 = taken.true("ti3_fraction")
    assert ti3[2] > 0.5 > 0.1 > ti3[0]


def test_a_line_crosses_the_grain_boundary() -> None:
    with microscope(4, specimen="lstz_grain_boundary", camera="counting") as at:
        at.tune(SpectrometerSetting(-0.256, 0.001, 256, dual=False))
        _, places = at.line(5.0, 5.0)
        taken = at.take(SpectrumExposure(0.01), places, 2)
    assert taken.low is None
    assert taken.camera.counts_per_electron == 1.0
    strontium = taken.true_per_nm2("Sr") / taken.true("thickness_nm")
    assert strontium[2:4].mean() / strontium[[0, -1]].mean() == pytest.approx(0.74, abs=0.01)


@pytest.mark.parametrize("part", ["zero-loss", "background", "valence", "thickness"])
def test_rows_beside_the_limit_reach_it(part: str) -> None:
    bench = Bench(11, 0.05)
    for measure in eels.PARTS[part]:
        measure(bench)
    assert bench.verdicts
    assert all(verdict.good for verdict in bench.verdicts), bench.verdicts


def test_boundaries_and_vibrations_are_found_in_simulated_line_scans() -> None:
    bench = Bench(12, 0.02)
    for measure in (*eels.PARTS["grain"], *eels.PARTS["anti-phase"]):
        measure(bench)
    rows = {verdict.what: verdict for verdict in bench.verdicts}
    judged = [verdict for verdict in rows.values() if verdict.good is not None]
    assert len(judged) == 3
    assert sum(name.endswith((": Sr", ": Ta", ": Zr", ": O")) for name in rows) == 4
    for numbers in bench.measured.values():
        assert np.abs(numbers["pulls"]).max() < 8
        assert len(numbers["scans"]) == 2


def test_the_command_prints_and_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    arguments = ["bench", "eels", "--quick", "--parts", "jitter,speed,burst", "--seed", "5"]
    assert main([*arguments, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "seed 5" in printed
    assert "A quick run" in printed
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["parts"] == ["jitter", "speed", "burst"]
    assert not document["failures"]
    rows = {row["what"]: row for row in document["verdicts"]}
    bias = [numbers["bias"] for what, numbers in document["measured"].items() if "Ti3+" in what]
    assert len(bias) == 3
    assert np.abs(bias).max() < 10 * TI3_BIAS
    stored = next(row["value"] for what, row in rows.items() if "read back" in what)
    assert stored.startswith("4000 stored, 0 wrong")
    by_recipe = next(row["value"] for what, row in rows.items() if "by a recipe" in what)
    assert by_recipe.startswith("4000 stored, in order, 0 empty")
    assert sum("HyperSpy" in what for what in rows) == 2


def test_peers_that_are_not_installed_are_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eels_speed, "PEERS", ("no_such_tool",))
    bench = Bench(1, 0.01)
    eels_speed.rows(bench)
    row = bench.verdicts[-1]
    assert "not installed" in row.value
    assert row.good is None


def test_the_exit_status_follows_the_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    def missed(bench: Bench) -> None:
        bench.add("section", "what", "2", "≤ 1", good=False)

    monkeypatch.setitem(eels.PARTS, "valence", (missed,))
    assert eels.main("valence", 1, check=True) == 1
    assert eels.main("valence", 1) == 0


@pytest.mark.parametrize(
    ("parts", "seed", "said"),
    [
        ("valence,nonsense", 1, "take some of zero-loss, background"),
        ("", 1, "take some of zero-loss, background"),
        ("background", -1, "--seed -1: take 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(parts: str, seed: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        eels.main(parts, seed)


def test_a_bias_or_a_spread_beyond_the_goal_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eels_accuracy, "BACKGROUND_RATIO", 0.2)
    bench = Bench(1, 0.02)
    eels_accuracy.background(bench)
    assert not any(verdict.good for verdict in bench.verdicts)
