"""The zero-loss peak is found at the Cramér-Rao limit with a shape that is measured and held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import (
    Camera,
    ZeroLossShape,
    find_zero_loss,
    measure_zero_loss_shape,
    zero_loss_limit,
)

Array = NDArray[np.float64]

TRUE = ZeroLossShape(0.6, wings=0.1)


def _spectra(
    rng: np.random.Generator,
    position: Array,
    axis: Axis,
    electrons: float,
    shape: ZeroLossShape = TRUE,
    readout: float = 0.0,
) -> Array:
    energy = axis.offset + axis.step * np.arange(160) - position[:, None]
    counts = rng.poisson(electrons * shape.in_channels(energy, axis.step)[0])
    return np.asarray(counts + readout * rng.standard_normal(counts.shape))


@pytest.mark.parametrize(
    ("electrons", "step", "readout"),
    [
        (1e2, 0.1, 0.0),
        (1e2, 0.1, 3.0),
        (1e2, 0.5, 1.4),
        (1e3, 0.25, 3.0),
        (1e6, 0.1, 3.0),
        (1e6, 0.5, 0.0),
    ],
)
def test_position_reaches_the_limit_with_a_measured_shape(
    electrons: float, step: float, readout: float
) -> None:
    rng = np.random.default_rng(1)
    axis = Axis(-50 * step, step, "eV")
    position = rng.uniform(-1, 1, 1200)
    counts = _spectra(rng, position, axis, electrons, readout=readout)
    found = find_zero_loss(counts, axis, Camera(readout_electrons=readout))
    error = found.position_ev - position
    limit = zero_loss_limit(electrons, step, TRUE, readout)
    # 1200 spectra tell the ratio to 2 %
    assert np.sqrt(np.nanmean(error**2)) / limit < 1.05 + 0.02
    assert abs(np.nanmean(error)) < 4 * limit / np.sqrt(len(error))
    assert np.nanstd(error / found.sigma_ev) == pytest.approx(1.0, abs=0.08)
    assert np.isnan(error).sum() <= 2
    assert not found.flags["poor_fit"].any()


def test_limit_is_that_of_a_gaussian_where_channels_are_fine() -> None:
    sigma = 0.6 / np.sqrt(8 * np.log(2))
    fine = zero_loss_limit([100.0, 1e4], 0.02, ZeroLossShape(0.6, wings=0.0))
    assert fine == pytest.approx([sigma / 10, sigma / 100], rel=2e-3)
    # readout alone: noise over the slope of the whole peak
    slope2 = 1 / (4 * np.sqrt(np.pi) * sigma**3) * 0.02
    loud = zero_loss_limit(100.0, 0.02, ZeroLossShape(0.6, wings=0.0), 1e3)
    assert loud == pytest.approx(1e3 / 100 / np.sqrt(slope2), rel=0.02)


@pytest.mark.parametrize(("factor", "worst"), [(1.25, 1.03), (0.75, 1.07)])
def test_a_width_a_quarter_off_costs_little(factor: float, worst: float) -> None:
    rng = np.random.default_rng(2)
    axis = Axis(-5.0, 0.1, "eV")
    position = rng.uniform(-1, 1, 2000)
    counts = _spectra(rng, position, axis, 1e3)
    right, wrong = (
        find_zero_loss(counts, axis, fwhm_ev=fwhm).position_ev - position
        for fwhm in (0.6, 0.6 * factor)
    )
    assert wrong.std() / right.std() < worst


def test_shape_is_measured_with_its_wings_and_its_lean() -> None:
    rng = np.random.default_rng(3)
    axis = Axis(-5.0, 0.1, "eV")
    position = rng.uniform(-0.5, 0.5, 100)
    leaning = ZeroLossShape(0.58, wings=0.12, wings_fwhm_ev=0.8, asymmetry=0.25)
    counts = _spectra(rng, position, axis, 2e4, leaning)
    found = measure_zero_loss_shape(counts, axis, asymmetric=True)
    assert found.fwhm_ev == pytest.approx(0.58, abs=0.01)
    assert found.wings == pytest.approx(0.12, abs=0.03)
    assert found.wings_fwhm_ev == pytest.approx(0.8, abs=0.2)
    assert found.asymmetry == pytest.approx(0.25, abs=0.03)
    held = find_zero_loss(counts, axis, shape=found)
    assert held.shape is found
    assert abs((held.position_ev - position).mean()) < 0.01
    symmetric = measure_zero_loss_shape(counts, axis)
    assert symmetric.asymmetry == 0.0
    steady = find_zero_loss(counts, axis, shape=symmetric).position_ev - position
    assert steady.std() < 1.1 * zero_loss_limit(2e4, 0.1, leaning)


def test_what_is_no_whole_peak_is_flagged() -> None:
    rng = np.random.default_rng(4)
    axis = Axis(-8.0, 0.1, "eV")
    counts = _spectra(rng, np.zeros(6), axis, 1e4)
    counts[0] = 0.0
    counts[1, 5] = np.nan
    counts[2] = _spectra(rng, np.array([-8.0]), axis, 1e4)[0]
    counts[3] = np.minimum(counts[3], 200.0)
    counts[4, 120] = 1e6
    found = find_zero_loss(counts, axis, fwhm_ev=0.6)
    assert found.flags["few_counts"].tolist() == [True] + 5 * [False]
    assert found.flags["nonfinite"].tolist() == [False, True] + 4 * [False]
    assert found.flags["zero_loss_out_of_range"].tolist() == 2 * [False] + [True] + 3 * [False]
    assert found.flags["poor_fit"].tolist() == 3 * [False] + [True, True, False]
    assert np.isfinite(found.position_ev).tolist() == 3 * [False] + [True, False, True]


def test_same_spectra_give_the_same_bits_alone_and_together() -> None:
    rng = np.random.default_rng(5)
    axis = Axis(-8.0, 0.1, "eV")
    counts = _spectra(rng, rng.uniform(-1, 1, 20), axis, 1e3, readout=1.0)
    camera = Camera(readout_electrons=1.0)
    together = find_zero_loss(counts, axis, camera, shape=TRUE)
    again = find_zero_loss(counts, axis, camera, shape=TRUE)
    alone = [find_zero_loss(row, axis, camera, shape=TRUE).position_ev[0] for row in counts]
    assert (together.position_ev == again.position_ev).all()
    assert (together.position_ev == alone).all()


@given(st.floats(0.05, 3.0), st.floats(0.0, 0.6), st.floats(0.3, 3.0), st.floats(-0.8, 0.8))
@settings(max_examples=50, deadline=None)
def test_a_shape_is_a_density(fwhm: float, wings: float, ratio: float, lean: float) -> None:
    shape = ZeroLossShape(fwhm, wings, ratio * fwhm, lean)
    energy = np.linspace(-3 * fwhm, 3 * fwhm, 301)
    share, slope = shape.in_channels(energy, 0.3 * fwhm)
    assert (share >= 0).all()
    assert share[150] > 0.1
    assert shape.below(1e9) == pytest.approx(1.0)
    assert shape.below(-1e9) == pytest.approx(0.0, abs=1e-6)
    h = 1e-4 * fwhm
    rise = (
        shape.in_channels(energy + h, 0.3 * fwhm)[0] - shape.in_channels(energy - h, 0.3 * fwhm)[0]
    ) / (2 * h)
    # the second derivative jumps at the maximum of a leaning peak
    assert slope == pytest.approx(rise, abs=2e-3 * np.abs(slope).max())


def test_shapes_that_cannot_be_are_refused() -> None:
    for bad in (
        {"fwhm_ev": 0.0},
        {"fwhm_ev": 0.6, "wings": 0.7},
        {"fwhm_ev": 0.6, "asymmetry": 0.9},
    ):
        with pytest.raises(MeasureError):
            ZeroLossShape(**bad)
    with pytest.raises(MeasureError, match="width"):
        find_zero_loss(np.ones(100), Axis(-5.0, 0.1, "eV"), fwhm_ev=-1.0)
