"""Vibrations beside a monochromated peak: contrast of their bands, and the temperature that they tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import MeasureError
from acquire.measure.eels.peak import measure_peak, peak_of_vacuum
from acquire.measure.eels.phonons import phonon_windows
from acquire.measure.eels.temperature import BOLTZMANN_EV_PER_K, gain_loss_temperature
from acquire.measure.eels.zlp_shape import ZeroLossShape
from simulators.spectra import POINTS, Band, LowLoss, Optics

Array = NDArray[np.float64]
BAND = Band(-0.25, 0.0005, 1024)
STEP = 0.0005


def _mean(point: str, celsius: float, electrons: float, off_axis_mrad: float = 0.0) -> Array:
    optics = Optics(fwhm_ev=0.009, beam_kev=60.0, off_axis_mrad=off_axis_mrad)
    return LowLoss(BAND, optics).mean(replace(POINTS[point](), celsius=celsius), electrons, 0.0)


@pytest.mark.parametrize("off_axis_mrad", [0.0, 60.0])
def test_bands_of_heavy_cations_dip_at_the_boundary_and_those_of_lithium_do_not(
    off_axis_mrad: float,
) -> None:
    rows = [_mean(p, 25.0, 1e8, off_axis_mrad) for p in ("lstz_grain", "lstz_boundary")]
    counts = np.random.default_rng(1).poisson(np.repeat(rows, 20, axis=0)).astype(float)
    found = phonon_windows(counts, np.full(40, BAND.offset_ev), STEP, fwhm_ev=0.01)
    for name, change in (("10-50 meV", -0.149), ("50-100 meV", 0.0)):
        band = found.windows[name]
        grain, boundary = band.electrons[:20], band.electrons[20:]
        error = np.hypot(grain.std(), boundary.std()) / np.sqrt(20) / grain.mean()
        assert boundary.mean() / grain.mean() - 1 == pytest.approx(change, abs=3 * error + 0.005)
        assert grain.std() / band.sigma[:20].mean() == pytest.approx(1.0, abs=0.4)
    assert not found.flags["no_zero_loss"].any()


def test_areas_above_the_peak_are_those_of_the_bands() -> None:
    """A peak with tails, and one band at 60 meV that is known."""
    energy = BAND.offset_ev + STEP * np.arange(BAND.channels)
    shape = ZeroLossShape(0.009, 0.1)
    peak = 1e8 * (shape.below(energy + STEP / 2) - shape.below(energy - STEP / 2))
    edges = np.append(energy - STEP / 2, energy[-1] + STEP / 2)
    band = 2e5 * np.diff(ndtr((edges - 0.060) / 0.006))
    rows = np.stack([peak, peak + band])
    offset = np.full(2, BAND.offset_ev)
    windows = {"empty": (0.110, 0.130), "band": (0.030, 0.090)}
    found = phonon_windows(rows, offset, STEP, fwhm_ev=0.01, windows=windows)
    assert found.windows["band"].electrons == pytest.approx([0.0, 2e5], abs=400)
    assert np.abs(found.windows["empty"].electrons).max() < 100
    assert found.zero_loss == pytest.approx([1e8, 1e8], rel=1e-3)
    # the tail of a Lorentzian is a power law of 2, which two spans on either side of the band fit
    law = phonon_windows(
        rows,
        offset,
        STEP,
        fwhm_ev=0.01,
        windows=windows,
        background="power_law",
        fit_ev=((0.022, 0.030), (0.095, 0.200)),
    )
    assert law.windows["band"].electrons == pytest.approx([0.0, 2e5], abs=8000)
    flat = phonon_windows(
        np.tile(1e3 * np.exp(-energy / 0.05), (1, 1)),
        offset[:1],
        STEP,
        fwhm_ev=0.01,
        windows={"band": (0.05, 0.1)},
        background="exponential",
        fit_ev=((0.02, 0.04), (0.12, 0.2)),
    )
    assert abs(flat.windows["band"].electrons[0]) < 1.0


def test_what_spoils_a_window_is_flagged() -> None:
    rows = np.tile(_mean("lstz_grain", 25.0, 1e8), (4, 1))
    rows[1, 0] = np.nan
    offset = np.full(4, BAND.offset_ev)
    offset[2], offset[3] = np.nan, -0.45
    found = phonon_windows(rows, offset, STEP, fwhm_ev=0.009, peak=ZeroLossShape(0.009, 0.1))
    assert found.flags["nonfinite"].tolist() == [False, True, False, False]
    assert found.flags["no_zero_loss"].tolist() == [False, False, True, False]
    assert found.flags["out_of_range"].tolist() == [False, False, False, True]
    assert np.isfinite(found.windows["10-50 meV"].electrons).tolist() == [True, False, False, True]
    far = phonon_windows(
        rows[:1],
        offset[:1],
        STEP,
        fwhm_ev=0.009,
        windows={"far": (0.2, 0.3)},
        peak=ZeroLossShape(0.009, 0.1),
    )
    assert far.flags["out_of_range"][0]
    inside = phonon_windows(
        rows[:1], offset[:1], STEP, fwhm_ev=0.009, windows={"near": (0.003, 0.03)}
    )
    assert inside.flags["coarse"][0]
    wrong = phonon_windows(
        rows[:1], offset[:1], STEP, fwhm_ev=0.009, peak=ZeroLossShape(0.009, 0.3)
    )
    assert wrong.flags["poor_fit"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": "spline"}, "'peak', 'power_law' or 'exponential'"),
        ({"windows": {"x": (0.05, 0.05)}}, "has no width"),
        ({"windows": {}}, "need windows"),
        ({"background": "power_law"}, "no value at -0.24"),
        ({"offset_ev": np.zeros(3)}, "do not belong"),
    ],
)
def test_windows_that_mean_nothing_are_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "electrons": np.ones((2, 1024)),
        "offset_ev": np.full(2, -0.25),
        "step_ev": STEP,
        "fwhm_ev": 0.009,
    }
    with pytest.raises(MeasureError, match=message):
        phonon_windows(**(given | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("celsius", [25.0, 800.0])
def test_gains_and_losses_tell_the_temperature_of_the_specimen(celsius: float) -> None:
    """Tails of the peak that are no Gaussian leave 2 % of it."""
    mean = _mean("lstz_grain", celsius, 1e8)
    counts = np.random.default_rng(2).poisson(np.tile(mean, (60, 1))).astype(float)
    offset = np.full(60, BAND.offset_ev)
    peak = phonon_windows(counts, offset, STEP, fwhm_ev=0.009).peak
    assert peak is not None
    found = gain_loss_temperature(counts, offset, STEP, peak, (0.012, 0.095))
    assert found.celsius.mean() == pytest.approx(celsius, abs=0.02 * (celsius + 273))
    assert found.celsius.std() / found.sigma_kelvin.mean() == pytest.approx(1.0, abs=0.25)
    assert not any(mask.any() for mask in found.flags.values())


def test_few_electrons_leave_no_bias_and_a_true_sigma() -> None:
    """Pure detailed balance of a band at 40 meV, 500 K, some 300 gains."""
    rng = np.random.default_rng(3)
    energy = BAND.offset_ev + STEP * np.arange(BAND.channels)
    size = np.abs(energy)
    cold = 1.2 * np.exp(-0.5 * ((size - 0.04) / 0.004) ** 2)
    kt = BOLTZMANN_EV_PER_K * 500.0
    bose = 1 / np.expm1(np.maximum(size, 1e-9) / kt)
    counts = rng.poisson(np.tile(10 * cold * np.where(energy > 0, 1 + bose, bose), (300, 1)))
    found = gain_loss_temperature(
        counts.astype(float),
        np.full(300, BAND.offset_ev),
        STEP,
        ZeroLossShape(1e-4, 0.0),
        (0.02, 0.06),
        background=False,
    )
    inverse = 1 / found.kelvin  # nearly Gaussian, unlike the temperature
    assert inverse.mean() * 500 == pytest.approx(1.0, abs=0.02)
    pull = (inverse - 1 / 500) / (found.sigma_kelvin / found.kelvin**2)
    assert pull.std() == pytest.approx(1.0, abs=0.15)


def test_a_gain_side_that_does_not_show_tells_no_temperature() -> None:
    rng = np.random.default_rng(4)
    energy = BAND.offset_ev + STEP * np.arange(BAND.channels)
    shape = ZeroLossShape(0.009, 0.1)
    peak = 1e5 * (shape.below(energy + STEP / 2) - shape.below(energy - STEP / 2))
    band = 40 * np.exp(-0.5 * ((energy - 0.08) / 0.006) ** 2)
    mirrored = 120 * np.exp(-0.5 * ((energy + 0.08) / 0.006) ** 2)
    counts = rng.poisson(np.stack([peak + band, peak, peak + band + mirrored])).astype(float)
    offset = np.full(3, BAND.offset_ev)
    found = gain_loss_temperature(counts, offset, STEP, shape, (0.06, 0.1))
    assert found.flags["no_gain"].tolist() == [True, True, False]
    assert found.flags["no_loss"].tolist() == [False, True, False]
    assert found.flags["gain_exceeds_loss"].tolist() == [False, False, True]
    assert np.isnan(found.kelvin).all()
    outside = gain_loss_temperature(counts, offset, STEP, shape, (0.2, 0.3))
    assert outside.flags["out_of_range"].all()
    with pytest.raises(MeasureError, match="above 0"):
        gain_loss_temperature(counts, offset, STEP, shape, (-0.02, 0.1))


def test_the_peak_of_vacuum_is_taken_as_it_is() -> None:
    energy = BAND.offset_ev + STEP * np.arange(BAND.channels)
    shape = ZeroLossShape(0.009, 0.1)
    rows = np.tile(1e8 * (shape.below(energy + STEP / 2) - shape.below(energy - STEP / 2)), (3, 1))
    offset = np.full(3, BAND.offset_ev)
    taken = peak_of_vacuum(rows, offset, STEP, np.zeros(3))
    at = np.array([-0.05, -0.01, 0.0, 0.004, 0.05])
    np.testing.assert_allclose(taken.below(at), shape.below(at), atol=2e-3)
    assert taken.fwhm_ev == pytest.approx(0.009, rel=0.02)
    fitted = measure_peak(rows, offset, STEP, fwhm_ev=0.012, regions_ev=((-0.2, 0.2),))
    assert fitted.shape.fwhm_ev == pytest.approx(0.009, rel=1e-3)
    assert fitted.shape.wings == pytest.approx(0.1, abs=1e-3)
    with pytest.raises(MeasureError, match="end of the axis"):
        peak_of_vacuum(rows, offset, STEP, np.full(3, -0.25))
