"""The share of Ti3+ reaches the statistical limit; what a shifted axis or a wrong shape costs is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.oxygen import oxygen_ratio, window_ratio
from acquire.measure.eels.reference_shapes import oxygen_reference, ti3_reference, ti4_reference
from acquire.measure.eels.references import Reference, measured_reference
from acquire.measure.eels.valence import (
    PER_ATOM_EV,
    TI_WINDOWS_EV,
    reference_shift,
    ti3_fraction,
    ti3_limit,
)

Array = NDArray[np.float64]
STEP, CHANNELS = 0.1, 950
EXPONENT = 3.0
MIDDLE_EV = float(np.sqrt(410.0 * 470.0))
# other shapes than the built-in ones, as another titanate has: Gaussians over smooth steps, no wings
OTHER4 = ((457.5, 0.36, 0.42), (459.68, 0.58, 0.85), (462.85, 0.62, 0.50), (465.15, 0.85, 0.68))
OTHER3 = ((456.6, 1.15, 1.15), (462.0, 1.35, 0.95))


def _other(name: str, lines: tuple[tuple[float, float, float], ...], moved: float) -> Reference:
    energy = np.arange(440.0, 520.0, 0.02)
    shape = np.zeros_like(energy)
    for at, sigma, area in lines:
        shape += area / (sigma * 2.5066) * np.exp(-0.5 * ((energy - at) / sigma) ** 2)
    for at, level in ((458.4 + moved, 0.038), (463.8 + moved, 0.022)):
        shape += level / (1 + np.exp(-(energy - at) / 0.6)) * (energy / at) ** -3.0
    made = Reference(name, energy, shape, "made", onset_ev=440.0).blurred(0.6)
    return made.normalised(*PER_ATOM_EV)


def _built_in() -> tuple[Reference, Reference]:
    return (
        ti4_reference(0.6).normalised(*PER_ATOM_EV),
        ti3_reference(0.6).normalised(*PER_ATOM_EV),
    )


def _mean(
    pair: tuple[Reference, Reference], fraction: float, peak: float, offset: Array
) -> tuple[Array, float, float]:
    """Mean electrons (n, channels), electrons of titanium, and background per eV in the middle."""
    four, three = (reference.on(offset, STEP, CHANNELS) for reference in pair)
    amount = peak / float(four[0].max())
    level = peak / 3 / STEP
    energy = offset[:, None] + STEP * np.arange(CHANNELS)
    under = level * STEP * (energy / MIDDLE_EV) ** -EXPONENT
    return amount * ((1 - fraction) * four + fraction * three) + under, amount, level


@pytest.mark.parametrize(("peak", "sd"), [(10.0, 0.059), (100.0, 0.018), (1000.0, 0.006)])
@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_ti3_fraction_reaches_the_limit_without_bias(
    peak: float, sd: float, fraction: float
) -> None:
    rng = np.random.default_rng(int(peak) + int(100 * fraction))
    n = 1000
    offset = 400.0 + rng.uniform(-1, 1, n)
    pair = _built_in()
    mean, amount, level = _mean(pair, fraction, peak, offset)
    found = ti3_fraction(rng.poisson(mean).astype(float), offset, STEP, references=pair)
    limit = ti3_limit(fraction, amount, STEP, references=pair, background=(level, EXPONENT))
    assert limit == pytest.approx(sd, rel=0.1)  # of the earlier prototype
    error = found.fraction - fraction
    assert np.sqrt(np.mean(error**2)) < 1.1 * limit
    together = ti3_fraction(
        rng.poisson(mean).astype(float), offset, STEP, references=pair, background="power_law"
    )
    assert np.std(together.fraction) < 1.06 * limit
    assert abs(error.mean()) < max(0.005 if peak > 10 else 0.0, 4 * limit / np.sqrt(n))
    assert np.std(error / found.sigma) == pytest.approx(1.0, abs=0.08)
    assert not found.flags["poor_fit"].any()
    assert not found.flags["wrong_references"].any()
    assert found.electrons.mean() == pytest.approx(amount, rel=0.01)
    beyond = found.flags["fraction_beyond"].mean()
    assert beyond < (0.15 if fraction < 0.1 else 0.005)


def test_readout_noise_is_carried() -> None:
    rng = np.random.default_rng(11)
    n, readout = 800, 1.4
    offset = 400.0 + rng.uniform(-1, 1, n)
    pair = _built_in()
    mean, amount, level = _mean(pair, 0.3, 15.0, offset)
    counts = rng.poisson(mean) + rng.normal(0, readout, mean.shape)
    found = ti3_fraction(counts, offset, STEP, references=pair, readout_variance=readout**2)
    limit = ti3_limit(
        0.3, amount, STEP, references=pair, background=(level, EXPONENT),
        readout_variance=readout**2,
    )  # fmt: skip
    assert np.nanstd(found.fraction) < 1.1 * limit
    assert abs(np.nanmean(found.fraction) - 0.3) < 4 * limit / np.sqrt(n)
    assert np.std((found.fraction - 0.3) / found.sigma) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("wrong_ev", [-0.1, 0.1])
def test_an_axis_off_by_100_mev_biases_by_a_hundredth(wrong_ev: float) -> None:
    offset = np.array([400.0])
    pair = _built_in()
    mean, *_ = _mean(pair, 0.3, 1000.0, offset)
    found = ti3_fraction(mean, offset + wrong_ev, STEP, references=pair)
    # measured with other references: -0.010
    assert 0.002 < abs(found.fraction[0] - 0.3) < 0.03


def test_a_common_shift_of_the_references_is_found_and_undone() -> None:
    rng = np.random.default_rng(12)
    offset = 400.0 + rng.uniform(-1, 1, 60)
    pair = _built_in()
    mean, *_ = _mean(pair, 0.3, 100.0, offset)
    counts = rng.poisson(mean).astype(float)
    counts[3] = np.nan
    wrong = [reference.shifted(0.62) for reference in pair]
    shift, sigma = reference_shift(counts, offset, STEP, wrong)
    assert 0.001 < sigma < 0.006
    assert abs(shift + 0.62) < 4 * sigma
    right = (wrong[0].shifted(shift), wrong[1].shifted(shift))
    found = ti3_fraction(counts, offset, STEP, references=right)
    assert np.nanmean(found.fraction) == pytest.approx(0.3, abs=0.008)
    with pytest.raises(MeasureError, match="Check the energy axis"):
        reference_shift(counts, offset, STEP, [r.shifted(6.0) for r in pair])


def test_a_wrong_shape_costs_five_hundredths_of_the_share_and_hardly_of_its_change() -> None:
    """Built-in references against another titanate: no single χ² tells, those of many spectra do."""
    offset = np.array([400.0])
    other = (_other("other4", OTHER4, 0.0), _other("other3", OTHER3, -2.0))
    true = np.array([0.0, 0.05, 0.3, 0.6, 1.0])
    told = np.array(
        [ti3_fraction(_mean(other, f, 1000.0, offset)[0], offset, STEP).fraction[0] for f in true]
    )
    bias = told - true
    assert np.abs(bias).max() < 0.1
    assert np.abs(bias).max() > 0.03  # it would be no honest test otherwise
    assert (told[3] - told[1]) == pytest.approx(0.55, rel=0.06)
    mean = _mean(other, 0.3, 400.0, offset)[0]
    many = np.random.default_rng(16).poisson(np.repeat(mean, 300, axis=0))
    found = ti3_fraction(many.astype(float), 400.0, STEP)
    assert found.flags["wrong_references"].all()
    assert not found.flags["poor_fit"].any()
    exact = np.array(
        [
            ti3_fraction(
                _mean(other, f, 1000.0, offset)[0], offset, STEP, references=other
            ).fraction[0]
            for f in true
        ]
    )
    assert np.abs(exact - true).max() < 1e-3


def test_references_measured_on_specimens_of_known_valence_leave_no_bias() -> None:
    rng = np.random.default_rng(13)
    n = 400
    offset = 400.0 + rng.uniform(-1, 1, n)
    other = (_other("other4", OTHER4, 0.0), _other("other3", OTHER3, -2.0))
    measured = []
    for fraction in (0.0, 1.0):
        counts = rng.poisson(_mean(other, fraction, 1000.0, offset)[0]).astype(float)
        measured.append(
            measured_reference(
                f"ti {fraction}", counts, offset, STEP, background_ev=TI_WINDOWS_EV[0]
            )
        )
    pair = (measured[0], measured[1])
    for fraction in (0.05, 0.6):
        counts = rng.poisson(_mean(other, fraction, 200.0, offset)[0]).astype(float)
        found = ti3_fraction(counts, offset, STEP, references=pair, per_atom_ev=(452.0, 492.0))
        assert abs(found.fraction.mean() - fraction) < 0.005
        assert not found.flags["noisy_reference"].any()


def test_spectra_that_tell_nothing_are_flagged() -> None:
    rng = np.random.default_rng(14)
    offset = np.full(4, 400.0)
    pair = _built_in()
    mean, amount, _ = _mean(pair, 0.3, 100.0, offset)
    under = mean - amount * (0.7 * pair[0].on(offset, STEP, CHANNELS))
    under -= amount * 0.3 * pair[1].on(offset, STEP, CHANNELS)
    counts = rng.poisson(mean).astype(float)
    counts[0] = rng.poisson(np.maximum(under[0], 0))  # no titanium at all
    counts[1] += 60 * np.exp(-0.5 * ((400 + STEP * np.arange(CHANNELS) - 455.0) / 0.8) ** 2)
    offset[2] = 455.0
    found = ti3_fraction(counts, offset, STEP, references=pair)
    assert found.flags["few_counts"][0]
    assert not found.flags["few_counts"][1]
    assert found.flags["out_of_range"][2]
    assert np.isnan(found.fraction[2])
    assert np.isfinite(found.fraction[3])
    assert not any(flag[3] for flag in found.flags.values())
    less = mean - amount * 0.5 * pair[1].on(np.full(4, 400.0), STEP, CHANNELS)
    beyond = ti3_fraction(less[3:], 400.0, STEP, references=pair)
    assert beyond.fraction[0] == pytest.approx(-0.2 / 0.5, abs=0.05)
    assert beyond.flags["fraction_beyond"][0]
    with pytest.raises(MeasureError, match="cannot be told"):
        ti3_fraction(counts, offset, STEP, references=(pair[0], pair[0].scaled(2.0)))


@pytest.mark.parametrize("level", [100.0, 1000.0])
def test_oxygen_ratio_is_unbiased_and_its_sigma_right(level: float) -> None:
    rng = np.random.default_rng(15)
    n = 800
    offset = 480.0 + rng.uniform(-1, 1, n)
    energy = offset[:, None] + STEP * np.arange(800)
    edge = 40 * level * oxygen_reference(0.6).on(offset, STEP, 800)
    counts = rng.poisson(level * (energy / 520) ** -2.5 + edge).astype(float)
    found = oxygen_ratio(counts, offset, STEP)
    reference = oxygen_reference(0.6)
    true = reference.area(530.5, 533.5) / reference.area(535.8, 538.8)
    pull = (found.ratio - true) / found.sigma
    assert np.std(pull) == pytest.approx(1.0, abs=0.08)
    assert abs(pull.mean()) < 0.2
    assert found.first.mean() == pytest.approx(40 * level * reference.area(530.5, 533.5), rel=0.02)


def test_oxygen_ratio_rises_where_b_fades_and_tells_what_it_cannot() -> None:
    offset = np.full(5, 480.0)
    energy = 480.0 + STEP * np.arange(800)
    reference = oxygen_reference(0.6)
    faded = np.exp(-0.5 * ((energy - 537.3) / 1.4) ** 2)
    edge = reference.on(offset, STEP, 800) * 4e4
    counts = 300 * (energy / 520) ** -2.5 + edge
    counts[1] -= 0.4 * edge[1] * faded
    counts[2] = 300 * (energy / 520) ** -2.5  # no oxygen
    counts[3, 300] = np.inf
    offset[4] = 510.0
    found = oxygen_ratio(counts, offset, STEP)
    assert found.ratio[1] > 1.2 * found.ratio[0]
    assert np.isnan(found.ratio[2:]).all()
    assert list(found.flags["few_counts"]) == [False, False, True, False, False]
    assert list(found.flags["nonfinite"]) == [False, False, False, True, False]
    assert list(found.flags["out_of_range"]) == [False, False, False, False, True]
    with pytest.raises(MeasureError, match="overlap"):
        window_ratio(counts, 480.0, STEP, (530, 536), (535, 539), (500, 527))
    with pytest.raises(MeasureError, match="End it before"):
        window_ratio(counts, 480.0, STEP, (530, 533), (535, 539), (500, 531))
