"""A block of DualEELS pairs is measured in one call, as well as each number is by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import MeasureError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.eels import Camera, Pairs, PairSettings, line_profile, measure_pairs
from acquire.measure.eels.estimator import EelsEstimator
from acquire.measure.eels.pair_core import shift_slopes
from acquire.measure.eels.pairs import measure_shapes
from acquire.measure.eels.reference_shapes import oxygen_reference, ti3_reference, ti4_reference
from acquire.measure.eels.thickness import log_ratio
from simulators.spectra import POINTS, Band, CoreLoss, LowLoss

Array = NDArray[np.float64]
STEP, CHANNELS = 0.3, 1700
CORE, LOW = Axis(400.0, STEP, "eV"), Axis(-20.0, STEP, "eV")
CAMERA = Camera(counts_per_electron=2.0, readout_electrons=1.0, dark_counts=10.0)
FRACTION, TI, OXYGEN, THICKNESS = 0.2, 4e4, 3e4, 0.5


def _low(shift: Array, electrons: float = 2e5, thickness: float = THICKNESS) -> Array:
    """Zero-loss peak of 0.7 eV, and plasmons that are scattered up to five times."""
    energy = LOW.offset - shift[:, None] + STEP * np.arange(CHANNELS)

    def part(at: float, fwhm: float) -> Array:
        sigma = fwhm / 2.3548
        high, low = energy + STEP / 2 - at, energy - STEP / 2 - at
        return np.asarray(ndtr(high / sigma) - ndtr(low / sigma))

    shares = part(0.0, 0.7)
    for k in range(1, 6):
        shares = shares + thickness**k / math.factorial(k) * part(25.0 * k, 6.0 * math.sqrt(k))
    return np.asarray(electrons * shares)


def _core(shift: Array, fraction: float = FRACTION, ti: float = TI) -> Array:
    offset = CORE.offset - shift
    energy = offset[:, None] + STEP * np.arange(CHANNELS)
    four, three, oxygen = (
        np.nan_to_num(r.on(offset, STEP, CHANNELS))
        for r in (ti4_reference(0.7), ti3_reference(0.7), oxygen_reference(0.7))
    )
    edges = ti * ((1 - fraction) * four + fraction * three) + OXYGEN * oxygen
    nickel = 300 * STEP * np.where(energy > 855, (energy / 855) ** -3.0, 0.0)
    return np.asarray(3e3 * (energy / 400) ** -3.0 + edges + nickel)


def _counts(rng: np.random.Generator, mean: Array) -> Array:
    electrons = rng.poisson(mean) + rng.normal(0, CAMERA.readout_electrons, mean.shape)
    return np.asarray(np.round(electrons * CAMERA.counts_per_electron + CAMERA.dark_counts))


@pytest.fixture(scope="module")
def shift() -> Array:
    return np.random.default_rng(3).normal(0.0, 0.08, 200)


@pytest.fixture(scope="module")
def counts(shift: Array) -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return _counts(rng, _core(shift)), _counts(rng, _low(shift))


@pytest.fixture(scope="module")
def pairs(counts: tuple[Array, Array]) -> Pairs:
    return measure_pairs(counts[0], CORE, counts[1], LOW, camera=CAMERA)


def test_every_number_of_a_block_is_told_with_the_sigma_that_it_has(
    pairs: Pairs, shift: Array
) -> None:
    truths = {"energy_shift": shift, "ti3_fraction": FRACTION, "zero_loss_counts": 2e5}
    for name, truth in truths.items():
        value, sigma = pairs.values[name]
        pull = (value - truth) / sigma
        assert np.std(pull) == pytest.approx(1.0, abs=0.2), name
        assert (
            abs(np.mean(value - truth))
            < 5 * sigma.mean() / np.sqrt(200) + 2e-3 * np.abs(truth).max()
        ), name
    for name, (value, sigma) in pairs.values.items():
        assert np.isfinite(value).all(), name
        if name not in ("energy_shift", "zero_loss_position"):
            # where a peak of two channels' width lies between them adds 0.0014 to the thickness
            share = 1.6 if name == "relative_thickness" else 1.25
            assert sigma.mean() / 1.25 < np.std(value) < share * sigma.mean(), name
    assert pairs.values["relative_thickness"][0].mean() == pytest.approx(THICKNESS, abs=0.01)


def test_edges_are_those_of_a_line_profile(counts: tuple[Array, Array], pairs: Pairs) -> None:
    by_line = line_profile(*(counts[0], CORE, counts[1], LOW), camera=CAMERA)
    for name in ("ti_l", "o_k"):
        value, sigma = pairs.values[f"{name}_counts"]
        # the zero-loss shape alone was measured otherwise: positions differ by a meV or two
        assert np.abs(value - by_line.edges[name].electrons).max() < 0.05 * sigma.min()
        assert sigma == pytest.approx(by_line.edges[name].sigma, rel=1e-3)


def test_thickness_needs_only_the_first_part_of_a_low_loss(
    counts: tuple[Array, Array], pairs: Pairs
) -> None:
    whole = log_ratio(
        CAMERA.electrons(counts[1]),
        LOW.offset - pairs.values["zero_loss_position"][0],
        STEP,
        fwhm_ev=0.7,
        readout_variance=CAMERA.readout_variance,
    )
    found = pairs.values["relative_thickness"][0]
    assert np.abs(found - whole.t_over_lambda).max() < 0.01


def test_a_block_says_of_each_pair_what_single_calls_say(counts: tuple[Array, Array]) -> None:
    core, low = counts
    shapes = measure_shapes(low[:5], LOW, camera=CAMERA)
    settings = PairSettings().on(CORE, CHANNELS)
    block = measure_pairs(
        core[:6], CORE, low[:6], LOW, camera=CAMERA, settings=settings, shapes=shapes
    )
    for k in range(6):
        one = measure_pairs(
            core[k], CORE, low[k], LOW, camera=CAMERA, settings=settings, shapes=shapes
        )
        for name, (value, _) in one.values.items():
            if name != "relative_thickness":  # the tail behind its axis is judged from all
                assert value[0] == pytest.approx(block.values[name][0][k], rel=1e-6, abs=1e-9)


def test_several_reads_make_one_pair(counts: tuple[Array, Array]) -> None:
    core, low = counts
    reads = np.stack([low[:40], low[40:80], low[80:120]], axis=1)
    found = measure_pairs(core[:40], CORE, reads, LOW, camera=CAMERA)
    each = [measure_pairs(core[:40], CORE, reads[:, k], LOW, camera=CAMERA) for k in range(3)]
    mean = np.mean([one.values["zero_loss_position"][0] for one in each], axis=0)
    assert found.values["zero_loss_position"][0] == pytest.approx(mean, abs=1e-3)
    total = np.sum([one.values["zero_loss_counts"][0] for one in each], axis=0)
    assert found.values["zero_loss_counts"][0] == pytest.approx(total, rel=5e-3)


def test_faults_are_flagged_in_their_own_pairs_only(counts: tuple[Array, Array]) -> None:
    core, low = counts[0][:12].copy(), counts[1][:12].copy()
    core[0, 700] += 4e4
    core[1, 10] = np.nan
    core[2] = CAMERA.dark_counts + np.round(np.random.default_rng(5).normal(0, 2, CHANNELS))
    core[3, 100] = 2.0**18
    low[4] = CAMERA.dark_counts + np.round(np.random.default_rng(6).normal(0, 2, CHANNELS))
    low[5] = np.minimum(low[5], 4e4)
    low[6] = np.nan
    found = measure_pairs(
        core, CORE, low, LOW, camera=CAMERA, settings=PairSettings(full_scale_counts=2.0**18)
    )
    flags = [set(own) for own in found.flagged]
    assert "spikes" in flags[0]
    assert "nonfinite" in flags[1]
    assert np.isnan(found.values["ti3_fraction"][0][1])
    assert "no_counts" in flags[2]
    assert np.isnan(found.values["ti3_fraction"][0][2])
    assert "saturated" in flags[3]
    assert "no_zero_loss" in flags[4]
    assert "low_loss_saturated" in flags[5]
    assert {"low_loss_faulty", "no_zero_loss"} <= flags[6]
    assert not any(flags[7:])
    assert np.isfinite(found.values["ti_l_counts"][0][[0, 3, 4, 5, 6]]).all()


def test_without_low_losses_the_shift_is_unknown_and_said_to_be(
    counts: tuple[Array, Array],
) -> None:
    found = measure_pairs(counts[0][:5], CORE, camera=CAMERA)
    assert found.flags["no_low_loss"].all()
    assert "energy_shift" not in found.values
    assert np.isfinite(found.values["ti3_fraction"][0]).all()


def test_an_axis_without_an_edge_has_no_number_of_it() -> None:
    settings = PairSettings().on(Axis(400.0, 0.1, "eV"), 1500)
    assert list(settings.edges) == ["ti_l", "o_k"]
    assert settings.valence
    assert settings.oxygen
    assert not PairSettings().on(Axis(800.0, 0.1, "eV"), 1500).valence


def test_the_slope_of_valence_with_the_axis_is_what_a_moved_axis_costs() -> None:
    pair = ti4_reference(0.7), ti3_reference(0.7)
    mean = _core(np.zeros(1))
    moved = [
        measure_pairs(mean, Axis(CORE.offset + by, STEP, "eV")).values["ti3_fraction"][0][0]
        for by in (-0.05, 0.05)
    ]
    at_0, at_1 = shift_slopes(pair, STEP)
    slope = (moved[1] - moved[0]) / 0.1
    assert slope == pytest.approx(at_0 + FRACTION * (at_1 - at_0), rel=0.35)


def test_what_does_not_belong_together_is_refused(counts: tuple[Array, Array]) -> None:
    core, low = counts
    with pytest.raises(MeasureError, match="do not belong to 3 core losses"):
        measure_pairs(core[:3], CORE, low[:2], LOW, camera=CAMERA)
    with pytest.raises(MeasureError, match="low_axis"):
        measure_pairs(core[:3], CORE, low[:3], camera=CAMERA)
    with pytest.raises(MeasureError, match="no low loss shows"):
        measure_pairs(core[:3], CORE, np.full((3, CHANNELS), 10.0), LOW, camera=CAMERA)


@pytest.mark.parametrize("name", ["lsnt_matrix", "lsnt_particle"])
def test_nickel_is_told_beside_lanthanum_of_which_nobody_spoke(name: str) -> None:
    """The live estimator on the simulator's LSNT, whose line shapes are not those of the fit."""
    band, low_band = Band(700.0, 0.5, 512), Band(-20.0, 0.5, 512)
    core_axis, low_axis = Axis(700.0, 0.5, "eV"), Axis(-20.0, 0.5, "eV")
    point, beam = POINTS[name](), 3e9
    bare = replace(point, per_nm2={k: v for k, v in point.per_nm2.items() if k != "Ni"})
    mean, low = CoreLoss(band).mean(point, beam, 0.0), LowLoss(low_band).mean(point, 3e6, 0.0)
    energy = band.energy_ev()
    inside = (energy >= 853.0) & (energy <= 880.0)
    truth = float((mean - CoreLoss(band).mean(bare, beam, 0.0))[inside].sum())
    axes = {"core_loss": core_axis, "low_loss": low_axis}
    spec = StreamSpec(
        "s",
        {
            c: ChannelSpec("uint32", (512,), ("energy_loss",), {"energy_loss": axis})
            for c, axis in axes.items()
        },
    )
    estimator, rng, told = (
        EelsEstimator("eels", spec, "core_loss", {}),
        np.random.default_rng(7),
        [],
    )
    for k in range(24):
        data = {
            "core_loss": rng.poisson(mean).astype(np.uint32),
            "low_loss": rng.poisson(low).astype(np.uint32),
        }
        estimate = estimator.update(Frame("s", k, data, float(k), k + 0.5))
        assert estimate is not None
        assert not any(flag.startswith("ni_l") for flag in estimate.flags)
        told.append(estimate.values["ni_l_counts"])
    late = told[8:]
    pulls = [(value.value - truth) / value.sigma for value in late]
    assert abs(np.mean(pulls)) < 2.0 / math.sqrt(len(pulls)) + 0.5, "a bias of half of one σ"
    assert 0.5 < np.std(pulls) < 1.6

    told_alone = measure_pairs(
        np.stack([mean]), core_axis, np.stack([low]), low_axis, settings=PairSettings()
    )
    wrong = float(told_alone.values["ni_l_counts"][0][0])
    assert abs(wrong - truth) > 3.0 * late[0].sigma, "without lanthanum it would be wrong"
