"""Thickness by the log ratio, on spectra of plural scattering that are made here from Poisson's law."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import MeasureError
from acquire.measure.eels.series_kernel import logarithm
from acquire.measure.eels.thickness import log_ratio, mean_free_path_nm, thickness_nm
from acquire.measure.eels.windows import bin_sums, running_sum, window_sum

Array = NDArray[np.float64]
OFFSET, SHIFT = -20.0, 0.03


def _low_loss(depth: float, channels: int = 2048, step: float = 0.1, wings: float = 0.1) -> Array:
    """One electron: a peak of 0.6 eV with tails, and a Drude plasmon at 23 eV of all Poisson orders."""
    fine = 0.05 * np.arange(20000)
    single = fine / ((fine**2 - 23.0**2) ** 2 + (8.0 * fine) ** 2) * (fine > 3)
    transform = np.fft.rfft(single / single.sum(), 2 * fine.size)
    plural = np.fft.irfft(np.exp(depth * (transform - 1)), 2 * fine.size)[: fine.size]
    plural[0] -= np.exp(-depth)
    edges = OFFSET + step * (np.arange(channels + 1) - 0.5) - SHIFT
    peak = (1 - wings) * ndtr(edges / 0.2548) + wings * (0.5 + np.arctan(edges / 0.3) / np.pi)
    below = np.interp(
        edges, np.append(fine - 0.025, fine[-1] + 0.025), np.append(0, plural.cumsum())
    )
    return np.asarray(np.exp(-depth) * np.diff(peak) + np.diff(below))


@pytest.mark.parametrize("depth", [0.05, 0.2, 0.7, 1.5])
@pytest.mark.parametrize(("channels", "step"), [(2048, 0.1), (1024, 0.1), (1024, 0.25)])
def test_noiseless_depths_are_right_wherever_the_axis_ends(
    depth: float, channels: int, step: float
) -> None:
    """At 82 eV and t/λ = 1.5 the ratio of the sums would be 0.10 too small."""
    mean = 1e7 * _low_loss(depth, channels, step)[None]
    found = log_ratio(mean, np.array([OFFSET - SHIFT]), step, fwhm_ev=0.7)
    assert found.t_over_lambda[0] == pytest.approx(depth, abs=0.002)
    assert found.zero_loss[0] == pytest.approx(1e7 * np.exp(-depth), rel=0.002)
    assert not any(mask.any() for mask in found.flags.values())


@pytest.mark.parametrize("depth", [0.2, 1.5])
def test_noisy_depths_have_no_bias_and_a_true_sigma(depth: float) -> None:
    rng = np.random.default_rng(8)
    mean = np.tile(1e5 * _low_loss(depth), (100, 1))
    counts = rng.poisson(mean) + rng.normal(0, 1.4, mean.shape)
    offset = np.full(100, OFFSET - SHIFT)
    found = log_ratio(counts, offset, 0.1, fwhm_ev=0.7, readout_variance=1.96)
    assert found.t_over_lambda.mean() == pytest.approx(depth, abs=0.005)
    pull = (found.t_over_lambda - found.t_over_lambda.mean()) / found.sigma
    assert 0.75 < pull.std() < 1.25


def test_heavy_or_light_tails_of_the_peak_do_not_matter() -> None:
    offset = np.array([OFFSET - SHIFT])
    for wings in (0.0, 0.2):
        mean = 1e7 * _low_loss(0.5, wings=wings)[None]
        found = log_ratio(mean, offset, 0.1, fwhm_ev=0.6)
        assert found.t_over_lambda[0] == pytest.approx(0.5, abs=0.006)


def test_a_range_that_ends_early_is_flagged_and_one_without_losses_tells_nothing() -> None:
    offset = np.array([OFFSET - SHIFT])
    short = log_ratio(1e7 * _low_loss(1.0, 700)[None], offset, 0.1, fwhm_ev=0.6)
    assert short.flags["truncated_range"][0]
    assert short.t_over_lambda[0] == pytest.approx(1.0, abs=0.02)
    assert short.beyond[0] > 0.01
    tiny = log_ratio(1e7 * _low_loss(1.0, 240)[None], offset, 0.1, fwhm_ev=0.6)
    assert tiny.flags["truncated_range"][0]
    assert np.isnan(tiny.t_over_lambda[0])


def test_what_has_no_zero_loss_is_flagged() -> None:
    mean = np.tile(1e6 * _low_loss(0.5), (4, 1))
    mean[1, 7] = np.nan
    mean[2] = 0.0
    offset = np.array([OFFSET - SHIFT, OFFSET, OFFSET, np.nan])
    found = log_ratio(mean, offset, 0.1, fwhm_ev=0.6)
    assert np.isfinite(found.t_over_lambda).tolist() == [True, False, False, False]
    assert found.flags["nonfinite"].tolist() == [False, True, False, False]
    assert found.flags["no_zero_loss"].tolist() == [False, False, True, True]
    nothing = log_ratio(mean[2:3], np.array([np.nan]), 0.1, fwhm_ev=0.6)
    assert nothing.flags["no_zero_loss"].all()
    with pytest.raises(MeasureError, match="do not belong"):
        log_ratio(mean, offset[:2], 0.1, fwhm_ev=0.6)


def test_vacuum_is_no_thickness() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.tile(1e5 * _low_loss(0.0), (50, 1))).astype(float)
    found = log_ratio(counts, np.full(50, OFFSET - SHIFT), 0.1, fwhm_ev=0.6)
    assert abs(found.t_over_lambda.mean()) < 0.002
    assert (np.abs(found.t_over_lambda) < 5 * found.sigma).all()


def test_mean_free_paths_are_those_of_the_sheet_and_grow_with_the_beam_between() -> None:
    for kev, srtio3, nickel in ((60, 60, 53), (200, 123, 107), (300, 147, 128)):
        assert mean_free_path_nm("srtio3", kev) == pytest.approx(srtio3)
        assert mean_free_path_nm("ni", kev) == pytest.approx(nickel)
    # halfway in (v/c)² is nearer to 60 kV than halfway in energy
    assert 70 < mean_free_path_nm("srtio3", 80.0) < 73
    for material, kev, message in (
        ("srtio3", 30.0, "from 60 to 300 kV"),
        ("srtio3", float("nan"), "from 60 to 300 kV"),
        ("gold", 200.0, "no mean free path of 'gold'"),
    ):
        with pytest.raises(MeasureError, match=message):
            mean_free_path_nm(material, kev)


def test_thickness_carries_both_errors() -> None:
    nm, sigma = thickness_nm([0.5, 1.0], [0.01, 0.02], 123.0, 12.3)
    assert nm == pytest.approx([61.5, 123.0])
    assert sigma == pytest.approx([np.hypot(1.23, 6.15), np.hypot(2.46, 12.3)])
    with pytest.raises(MeasureError, match="must be positive"):
        thickness_nm(0.5, 0.0, 0.0)


def test_bins_are_windows_side_by_side() -> None:
    rng = np.random.default_rng(9)
    sums, offset = running_sum(rng.uniform(0, 1, (5, 100))), rng.uniform(-3, 3, 5)
    edges = np.linspace(10.0, 99.0, 12)
    bins = bin_sums(sums, offset, 1.0, edges)
    for k in range(11):
        window = window_sum(sums, offset, 1.0, edges[k], edges[k + 1])
        np.testing.assert_allclose(bins[:, k], window, rtol=1e-12)
    assert np.isnan(bins[offset < -1.5, -1]).all()


def test_the_logarithm_of_a_series_is_its_inverse() -> None:
    single = np.random.default_rng(10).uniform(0, 0.2, (3, 20))
    whole = np.zeros((3, 21))
    whole[:, 0] = 1.0
    for row in range(3):
        term = np.eye(1, 21)[0]
        for order in range(1, 21):
            term = np.convolve(term, np.append(0.0, single[row]))[:21] / order
            whole[row] += term
    found, inverse = logarithm(whole[:, 1:])
    np.testing.assert_allclose(found, single, atol=1e-12)
    for row in range(3):
        unit = np.convolve(whole[row], inverse[row])[:21]
        np.testing.assert_allclose(unit, np.eye(1, 21)[0], atol=1e-12)
