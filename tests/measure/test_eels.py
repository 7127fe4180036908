"""EELS numbers reach the statistical limit on spectra of other shapes than the analysis assumes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import (
    Camera,
    find_zero_loss,
    fit_power_law,
    line_profile,
    running_sum,
    window_sum,
)

Array = NDArray[np.float64]


def _zero_loss(position: Array, axis: Axis, channels: int, electrons: float) -> Array:
    """A Gaussian of 0.6 eV with a tenth of a Lorentzian, integrated over channels."""
    centre = axis.offset + axis.step * np.arange(channels) - position[:, None]

    def below(x: Array) -> Array:
        return 0.9 * ndtr(x / 0.2548) + 0.1 * np.arctan(x / 0.3) / np.pi

    return electrons * (below(centre + axis.step / 2) - below(centre - axis.step / 2))


@pytest.mark.parametrize(("step", "electrons"), [(0.1, 1e3), (0.5, 1e3), (0.2, 100.0)])
def test_zero_loss_position_reaches_the_cramer_rao_limit(step: float, electrons: float) -> None:
    rng = np.random.default_rng(1)
    axis = Axis(-20 * step, step, "eV")
    position = rng.uniform(-1, 1, 1500) * 3 * step
    mean = _zero_loss(position, axis, 120, electrons)
    slope = (
        _zero_loss(position + 1e-4, axis, 120, electrons)
        - _zero_loss(position - 1e-4, axis, 120, electrons)
    ) / 2e-4
    limit = np.sqrt(1 / (slope**2 / mean).sum(axis=1)).mean()
    found = find_zero_loss(rng.poisson(mean), axis)
    error = found.position_ev - position
    assert np.sqrt(np.mean(error**2)) < 1.1 * limit
    assert abs(error.mean()) < 4 * limit / np.sqrt(len(error))
    assert np.std(error / found.sigma_ev) == pytest.approx(1.0, abs=0.15)


def test_zero_loss_survives_camera_noise_and_tells_what_it_cannot_find() -> None:
    rng = np.random.default_rng(2)
    axis = Axis(-5.0, 0.1, "eV")
    position = np.linspace(-2, 2, 400)
    camera = Camera(counts_per_electron=5.3, readout_electrons=1.4)
    electrons = rng.poisson(_zero_loss(position, axis, 200, 2e3)) + rng.normal(0, 1.4, (400, 200))
    counts = np.round(5.3 * electrons)
    found = find_zero_loss(counts, axis, camera)
    pull = (found.position_ev - position) / found.sigma_ev
    assert np.std(pull) == pytest.approx(1.0, abs=0.15)
    counts[0] = 0
    bad = counts.copy()
    bad[1, 5] = np.nan
    bad[2] = np.round(5.3 * rng.poisson(_zero_loss(np.array([-5.0]), axis, 200, 2e3)[0]))
    lost = find_zero_loss(bad, axis, camera).position_ev
    assert np.isnan(lost[:3]).all()
    assert np.isfinite(lost[3:]).all()


@pytest.mark.parametrize("level", [3.0, 10.0, 100.0])
def test_background_reaches_the_limit_without_bias(level: float) -> None:
    rng = np.random.default_rng(3)
    exponent, step, n = 3.0, 0.1, 1500
    offset = 400 + rng.uniform(-1, 1, n)
    energy = offset[:, None] + step * np.arange(1000)
    counts = rng.poisson(level * (energy / 430) ** -exponent).astype(float)
    law = fit_power_law(counts, offset, step, 410, 450)
    value, sigma = law.integral(456.0, 480.0)
    power = 1 - exponent
    truth = level / step * 430**exponent * (480**power - 456**power) / power
    fitted = np.arange(410, 450, step)
    mean = level * (fitted / 430) ** -exponent
    rows = np.stack([mean, -mean * np.log(fitted / 430)])
    inside = np.arange(456, 480, 0.01) + 0.005
    part = level / step * (inside / 430) ** -exponent * 0.01
    gradient = np.array([part.sum(), -(part * np.log(inside / 430)).sum()])
    limit = np.sqrt(gradient @ np.linalg.inv(rows / mean @ rows.T) @ gradient)
    assert np.sqrt(np.mean((value - truth) ** 2)) < 1.1 * limit
    assert abs(value.mean() / truth - 1) < 0.01
    assert np.std((value - truth) / sigma) == pytest.approx(1.0, abs=0.1)


def test_windows_cut_channels_by_their_share() -> None:
    values = np.array([[1.0, 2.0, 4.0, 8.0]])
    sums, offset = running_sum(values), np.array([10.0])
    assert window_sum(sums, offset, 1.0, 9.5, 13.5)[0] == pytest.approx(15.0)
    assert window_sum(sums, offset, 1.0, 10.0, 12.0)[0] == pytest.approx(0.5 + 2 + 2)
    assert np.isnan(window_sum(sums, offset, 1.0, 9.0, 12.0)[0])
    halves = [window_sum(sums, offset, 1.0, a, b)[0] for a, b in ((9.5, 11.23), (11.23, 13.5))]
    assert sum(halves) == pytest.approx(15.0)


TI_LINES = ((458.0, 0.8, 0.3), (460.3, 0.9, 0.35), (463.3, 1.0, 0.15), (465.6, 1.2, 0.2))


def _line_scan(
    rng: np.random.Generator, ti: Array, ti_shift: Array, oxygen: Array, jitter: Array
) -> tuple[Array, Array]:
    """Electrons of core and low loss; edges are arctangent steps with Gaussian white lines."""
    energy = 395 + 0.1 * np.arange(2048) - jitter[:, None]
    mean = 40 * (energy / 450) ** -3.0
    for at, width, share in TI_LINES:
        line = np.exp(-0.5 * ((energy - at - ti_shift[:, None]) / width) ** 2) / (width * 2.5066)
        mean = mean + 0.1 * share * ti[:, None] * line
    onset = 0.5 + np.arctan((energy - 535) / 1.0) / np.pi
    near = np.where(energy > 531, onset * np.exp(-np.clip(energy - 535, 0, None) / 30), 0.0)
    mean = mean + 0.1 * oxygen[:, None] / 14.5 * near
    low = _zero_loss(jitter, Axis(-20.0, 0.1, "eV"), 1000, 5e4)
    return rng.poisson(np.maximum(mean, 0)).astype(float), rng.poisson(low).astype(float)


CORE, LOW = Axis(395.0, 0.1, "eV"), Axis(-20.0, 0.1, "eV")


def test_line_profile_recovers_edges_shift_and_valence_through_jitter() -> None:
    rng = np.random.default_rng(4)
    n = 300
    step = (np.arange(n) >= n // 2).astype(float)
    ti, oxygen = 4000 - 1000 * step, 6000 + 0 * step
    jitter = rng.normal(0.2, 0.3, n)
    core, low = _line_scan(rng, ti, -1.0 * step, oxygen, jitter)
    camera = Camera(counts_per_electron=5.3, readout_electrons=1.4)
    noisy = [
        np.round(5.3 * (a + rng.normal(0, 1.4, a.shape))).astype(np.int32) for a in (core, low)
    ]
    found = line_profile(noisy[0], CORE, noisy[1], LOW, camera=camera)
    assert np.std((found.shift_ev - jitter) / found.shift_sigma_ev) == pytest.approx(1, abs=0.15)
    edge = found.edges["ti_l"]
    first, second = step == 0, step == 1
    for part, total, moved_ev in ((first, 4000.0, 0.0), (second, 3000.0, -1.0)):
        inside = sum(
            share * (ndtr((480 - at - moved_ev) / width) - ndtr((456 - at - moved_ev) / width))
            for at, width, share in TI_LINES
        )
        pull = (edge.electrons[part] - total * inside) / edge.sigma[part]
        assert np.std(pull) == pytest.approx(1.0, abs=0.2)
        assert abs(pull.mean()) < 4 / np.sqrt(len(pull)) + 0.1
    moved = found.ti_l_centroid_ev[second].mean() - found.ti_l_centroid_ev[first].mean()
    error = found.ti_l_centroid_sigma_ev.mean() * np.sqrt(4 / n)
    assert moved == pytest.approx(-1.0, abs=4 * error + 0.02)
    oxygen_sd = found.edges["o_k"].electrons.std() / found.edges["o_k"].sigma.mean()
    assert oxygen_sd == pytest.approx(1.0, abs=0.15)
    assert not any(flag.any() for flag in found.flags.values())


def test_line_profile_flags_what_it_lacks() -> None:
    rng = np.random.default_rng(5)
    flat = np.ones(4)
    core, low = _line_scan(rng, 4000 * flat, 0 * flat, 6000 * flat, 0 * flat)
    alone = line_profile(core, CORE)
    assert alone.flags["no_zero_loss"].all()
    assert np.isfinite(alone.edges["ti_l"].electrons).all()
    core[0, 3] = np.nan
    core[1] = 0
    low[2] = 0
    found = line_profile(core, CORE, low, LOW, full_scale_counts=1e9)
    assert found.flags["nonfinite"].tolist() == [True, False, False, False]
    assert found.flags["no_zero_loss"].tolist() == [False, False, True, False]
    assert np.isnan(found.edges["ti_l"].electrons[:2]).all()
    assert np.isnan(found.ti_l_centroid_ev[:2]).all()
    outside = line_profile(core, Axis(470.0, 0.1, "eV"), low, LOW)
    assert outside.flags["out_of_range"][1:].all()
    assert np.isnan(outside.edges["ti_l"].electrons).all()
    assert line_profile(core, CORE, low, LOW, full_scale_counts=1.0).flags["saturated"][3]


def test_line_profile_refuses_what_does_not_belong_together() -> None:
    core, low = np.ones((4, 2048)), np.ones((3, 1000))
    with pytest.raises(MeasureError, match="do not belong"):
        line_profile(core, CORE, low, LOW)
    with pytest.raises(MeasureError, match="low_axis"):
        line_profile(core, CORE, low)
    with pytest.raises(MeasureError, match="positive step"):
        line_profile(core, Axis(395.0, 0.0, "eV"))
    with pytest.raises(MeasureError, match="cannot be measured"):
        line_profile(np.ones((2, 3, 2048)), CORE)
    with pytest.raises(MeasureError, match="counts_per_electron"):
        Camera(counts_per_electron=0.0)


def test_plasmon_of_a_low_loss_without_its_zero_is_not_taken_for_it() -> None:
    axis = Axis(5.0, 0.1, "eV")
    energy = 5.0 + 0.1 * np.arange(1024)
    plasmon = 50.0 / (1 + ((energy - 22.0) / 5.0) ** 2)
    low_loss = np.random.default_rng(3).poisson(np.tile(plasmon, (10, 1)))
    assert np.isnan(find_zero_loss(low_loss, axis).position_ev).all()
    core = np.full((10, 2048), 50)
    profile = line_profile(core, Axis(400.0, 0.1, "eV"), low_loss, axis)
    assert profile.flags["no_zero_loss"].all()
    assert not profile.shift_ev.any()


def test_axis_in_pixels_is_refused() -> None:
    with pytest.raises(MeasureError, match="not an energy"):
        line_profile(np.ones((3, 64)), Axis(0.0, 1.0, "px"))


@pytest.mark.parametrize("step", [0.005, 0.01, 0.02])
def test_zero_loss_sigma_is_true_at_fine_dispersions(step: float) -> None:
    rng = np.random.default_rng(5)
    axis, channels = Axis(-10.0, step, "eV"), round(30.0 / step)
    edges = -10.0 + step * (np.arange(channels + 1) - 0.5)
    truth = rng.uniform(-1.0, 1.0, 100)
    share = np.diff(ndtr((edges - truth[:, None]) / (0.8 / 2.3548)), axis=1)
    found = find_zero_loss(rng.poisson(3000.0 * share), axis)
    assert found.fwhm_ev == pytest.approx(0.8, rel=0.1)
    assert 0.8 < ((found.position_ev - truth) / found.sigma_ev).std() < 1.25
