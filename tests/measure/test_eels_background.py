"""The background under an edge is extrapolated at the limit, without bias, however few the counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels import background_limit, fit_power_law

Array = NDArray[np.float64]

FIT, WINDOW, STEP = (410.0, 450.0), (456.0, 480.0), 0.1
REFERENCE = np.sqrt(410.0 * 450.0)


def _background(
    rng: np.random.Generator, level: float, readout: float, n: int, exponent: float = 3.0
) -> tuple[Array, Array]:
    offset = 405 + rng.uniform(-1, 1, n)
    energy = offset[:, None] + STEP * np.arange(480)
    counts = rng.poisson(level * (energy / REFERENCE) ** -exponent)
    return counts + readout * rng.standard_normal(counts.shape), offset


@pytest.mark.parametrize(
    ("level", "readout"),
    [(0.3, 0.0), (1.0, 0.0), (3.0, 0.0), (10.0, 0.0), (100.0, 0.0), (3.0, 1.4), (10.0, 3.0)],
)
def test_extrapolation_into_the_ti_window_reaches_the_limit(level: float, readout: float) -> None:
    rng = np.random.default_rng(3)
    counts, offset = _background(rng, level, readout, 3000)
    law = fit_power_law(counts, offset, STEP, *FIT, readout**2)
    value, sigma = law.integral(*WINDOW)
    truth, limit = background_limit(level, 3.0, STEP, FIT, WINDOW, readout)
    # 3000 spectra tell the ratio to 1.3 %, the mean to 1/55 of the limit
    assert np.sqrt(np.mean((value - truth) ** 2)) < (1.06 + 0.013) * limit
    if level >= 3:
        assert abs(value.mean() / truth - 1) < 0.01
    assert np.std((value - truth) / sigma) == pytest.approx(1.0, abs=0.07)
    assert law.chi2.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("level", "readout"), [(0.3, 0.0), (0.3, 1.4), (0.02, 1.4), (1.0, 3.0)])
def test_few_counts_hold_the_exponent_and_stay_unbiased(level: float, readout: float) -> None:
    rng = np.random.default_rng(4)
    counts, offset = _background(rng, level, readout, 3000)
    law = fit_power_law(counts, offset, STEP, *FIT, readout**2)
    assert law.few_counts.all()
    value, sigma = law.integral(*WINDOW)
    truth, limit = background_limit(level, 3.0, STEP, FIT, WINDOW, readout)
    error = value - truth
    assert abs(error.mean()) < 0.015 * truth + 4 * error.std() / np.sqrt(len(error))
    assert error.std() < limit
    assert np.std(error / sigma) == pytest.approx(1.0, abs=0.12)
    assert (value < 0).any() == (level == 0.02)


def test_a_single_weak_spectrum_takes_the_usual_exponent() -> None:
    counts = np.random.default_rng(5).poisson(0.05, (1, 480)).astype(float)
    law = fit_power_law(counts, np.array([405.0]), STEP, *FIT)
    assert law.few_counts[0]
    assert 1.9 < law.exponent[0] < 3.8
    value, sigma = law.integral(*WINDOW)
    assert 0 < sigma[0] < value[0]


@given(st.floats(-1.5, 8.0), st.floats(-3.0, 8.0), st.floats(0.05, 1.0), st.floats(-0.5, 0.5))
@settings(max_examples=60, deadline=None)
def test_noiseless_power_laws_are_recovered(
    exponent: float, log_level: float, step: float, offset: float
) -> None:
    energy = 400 + offset + step * np.arange(int(60 / step))
    mean = 100 * np.exp(log_level) * step * (energy / REFERENCE) ** -exponent
    law = fit_power_law(mean[None], np.array([400 + offset]), step, *FIT)
    if not law.few_counts[0]:
        assert law.exponent[0] == pytest.approx(exponent, abs=2e-4)
        assert law.in_channels(energy[None], step)[0] == pytest.approx(mean, rel=1e-4)
        inside = np.linspace(*WINDOW, 20001)
        truth = np.trapezoid(100 * np.exp(log_level) * (inside / REFERENCE) ** -exponent, inside)
        value, sigma = law.integral(*WINDOW)
        assert value[0] == pytest.approx(truth, abs=sigma[0] ** 2 / truth + 1e-3 * truth)


def test_empty_windows_and_dead_spectra_give_no_number() -> None:
    counts = np.ones((4, 480))
    counts[1] = 0.0
    counts[2, 100] = np.nan
    law = fit_power_law(counts, np.array([405.0, 405.0, 405.0, 449.9]), STEP, *FIT)
    value, _ = law.integral(*WINDOW)
    assert np.isfinite(value).tolist() == [True, False, False, False]
    with pytest.raises(MeasureError, match="window"):
        fit_power_law(counts, np.full(4, 405.0), STEP, 450, 410)
    with pytest.raises(MeasureError, match="offsets"):
        fit_power_law(counts, np.zeros(3), STEP, *FIT)
