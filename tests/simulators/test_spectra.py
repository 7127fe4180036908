"""Simulated spectra: energies, areas, jitter, camera noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators import edges
from simulators.noise import generator
from simulators.spectra import (
    COUNTS_PER_ELECTRON,
    READOUT_ELECTRONS,
    Band,
    CoreLoss,
    EnergyShift,
    LowLoss,
    Point,
    detect,
)

BULK = Point(60.0, 0.05, 100.0)
BOUNDARY = Point(60.0, 0.6, 100.0)
CORE = Band(400.0, 0.1, 2000)
LOW = Band(-20.0, 0.1, 2000)


def _axis(band: Band) -> NDArray[np.float64]:
    return np.asarray(band.offset_ev + band.dispersion_ev * np.arange(band.channels))


@pytest.fixture(scope="module")
def core() -> CoreLoss:
    return CoreLoss(CORE)


@pytest.mark.parametrize("dispersion", [0.05, 0.1, 0.5])
def test_zero_loss_peak_is_where_the_shift_puts_it_and_06_ev_wide(dispersion: float) -> None:
    band = Band(-20.0, dispersion, 2000)
    axis = _axis(band)
    mean = LowLoss(band).mean(BULK, 1e6, 0.37)
    near = np.abs(axis - 0.37) < 2
    weights = mean[near] / mean[near].sum()
    assert float(axis[near] @ weights) == pytest.approx(0.37, abs=0.02)
    if dispersion <= 0.1:
        above = axis[mean > mean.max() / 2]
        assert above[-1] - above[0] == pytest.approx(0.6, abs=2 * dispersion)


def test_low_loss_keeps_every_electron_and_thins_by_the_mean_free_path() -> None:
    axis = _axis(LOW)
    for thickness in (30.0, 60.0):
        mean = LowLoss(LOW).mean(Point(thickness, 0.0, 0.0), 1e6, 0.0)
        assert mean.sum() == pytest.approx(1e6, rel=0.01)
        elastic = mean[np.abs(axis) < 3].sum() / mean.sum()
        assert elastic == pytest.approx(math.exp(-thickness / 147), rel=0.03)


def test_edge_areas_are_cross_sections() -> None:
    energy = np.arange(400.0, 700.0, 0.01)
    ti = edges.titanium(energy, reduced=False)
    window = (energy > 454.5) & (energy < 504.5)
    assert ti[window].sum() * 0.01 == pytest.approx(4038e-10, rel=0.01)
    ox = edges.oxygen(energy, boundary=False)
    window = (energy > 529) & (energy < 579)
    assert ox[window].sum() * 0.01 == pytest.approx(1166e-10, rel=0.01)


def test_titanium_at_a_boundary_moves_down_and_loses_its_splitting(core: CoreLoss) -> None:
    axis = _axis(CORE)
    bulk, boundary = (core.mean(p, 1e8, 0.0) for p in (BULK, BOUNDARY))
    valley = np.abs(axis - 458.45) < 0.2
    peak = np.abs(axis - 459.7) < 0.3
    contrast = {
        name: float(s[peak].mean() / s[valley].mean())
        for name, s in (("bulk", bulk), ("boundary", boundary))
    }
    assert contrast["bulk"] > 2
    assert contrast["boundary"] - 1 < 0.4 * (contrast["bulk"] - 1)
    edge = (axis > 452) & (axis < 467)

    def centre(spectrum: NDArray[np.float64]) -> float:
        net = spectrum[edge] - spectrum[np.abs(axis - 452) < 1].mean()
        return float(axis[edge] @ net / net.sum())

    # 55 % more Ti3+, which lies some 2 eV lower
    assert -1.5 < centre(boundary) - centre(bulk) < -0.6


def test_oxygens_second_peak_is_suppressed_at_a_boundary(core: CoreLoss) -> None:
    axis = _axis(CORE)

    def b_over_a(point: Point) -> float:
        spectrum = core.mean(point, 1e8, 0.0)
        base = spectrum[np.abs(axis - 527) < 1].mean()
        a, b = (spectrum[np.abs(axis - e) < 0.3].mean() - base for e in (532.0, 537.3))
        return float(b / a)

    assert b_over_a(BOUNDARY) < 0.85 * b_over_a(BULK)


def test_background_before_the_edges_is_a_power_law(core: CoreLoss) -> None:
    axis = _axis(CORE)
    before = axis < 450
    spectrum = core.mean(BULK, 1e8, 0.0)[before]
    slope, _ = np.polyfit(np.log(axis[before]), np.log(spectrum), 1)
    assert slope == pytest.approx(-3.0, abs=0.2)


def test_shift_moves_core_and_low_loss_alike(core: CoreLoss) -> None:
    axis = _axis(CORE)
    still, moved = (core.mean(BULK, 1e8, s) for s in (0.0, 1.0))
    assert np.allclose(moved[20:-20], np.roll(still, 10)[20:-20], rtol=1e-6)
    assert axis[np.argmax(moved)] - axis[np.argmax(still)] == pytest.approx(1.0)


def test_zero_loss_jitter_and_walk_have_the_figures_of_a_real_filter() -> None:
    shift = EnergyShift(3)
    jitter = [shift.at(5.0, k) - shift.slow_at(5.0) for k in range(2000)]
    assert np.std(jitter) == pytest.approx(0.06, rel=0.1)
    walk = np.array([shift.slow_at(10.0 * k) for k in range(2000)])
    assert 0.06 <= np.std(np.diff(walk)) <= 0.09
    assert EnergyShift(3).slow_at(15_000.0) == shift.slow_at(15_000.0)


def test_camera_counts_have_poisson_and_readout_noise() -> None:
    for mean in (0.0, 20.0, 500.0):
        counts = detect(np.full(200_000, mean), generator(1, "camera")).astype(float)
        electrons = counts / COUNTS_PER_ELECTRON
        assert counts.dtype == np.float64
        assert electrons.mean() == pytest.approx(mean, abs=0.01 + 4 * math.sqrt((mean + 2) / 2e5))
        expected = mean + READOUT_ELECTRONS**2 + (0.0027 * mean) ** 2
        assert electrons.var() == pytest.approx(expected, rel=0.02)
    assert detect(np.zeros(4), generator(1, "camera")).dtype == np.int32
