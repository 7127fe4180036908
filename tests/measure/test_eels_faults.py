"""Spectra that went wrong are flagged, clean ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.instruments import Axis
from acquire.measure.eels import (
    Camera,
    ZeroLossShape,
    find_faults,
    find_zero_loss,
    fit_power_law,
    residual_core_shift,
    running_sum,
    window_sum,
)

Array = NDArray[np.float64]


def _core(rng: np.random.Generator, n: int, level: float) -> Array:
    """White lines and an edge as sharp as a resolution of 0.6 eV allows, with jitter."""
    energy = 400 + 0.1 * np.arange(2048) + rng.normal(0, 0.1, (n, 1))
    mean = (energy / 500) ** -3 + 0.8 * ndtr((energy - 532) / 0.255)
    for at, height in ((458.0, 5.0), (534.0, 3.0)):
        mean = mean + height * np.exp(-0.5 * ((energy - at) / 0.255) ** 2)
    return np.asarray(rng.poisson(level * mean).astype(float))


@pytest.mark.parametrize("level", [0.02, 1.0, 100.0, 1e5])
@pytest.mark.parametrize("readout", [0.0, 1.4])
def test_clean_spectra_are_not_flagged(level: float, readout: float) -> None:
    rng = np.random.default_rng(1)
    counts = _core(rng, 1000, level)
    counts += readout * rng.standard_normal(counts.shape)
    found = find_faults(counts, camera=Camera(readout_electrons=readout), resolution_channels=6.0)
    # the stated rate is 1e-5 for spikes: one in a thousand has a chance of 1 %
    assert found.flags["spikes"].sum() <= 1
    expected = {"spikes"} | ({"no_counts"} if level == 0.02 else set())
    assert {name for name, flag in found.flags.items() if flag.any()} <= expected
    assert len(found.hot_channels) == len(found.dead_channels) == 0


def test_clean_zero_loss_peaks_are_not_flagged_nor_are_sharp_ones() -> None:
    rng = np.random.default_rng(2)
    for step, electrons in ((0.1, 1e3), (0.5, 1e3), (0.5, 1e6)):
        axis = Axis(-20.0, step, "eV")
        energy = -20.0 + step * np.arange(300) - rng.uniform(-1, 1, (500, 1))
        counts = rng.poisson(electrons * ZeroLossShape(0.6, 0.1).in_channels(energy, step)[0])
        found = find_faults(
            counts, resolution_channels=0.6 / step, zero_loss=find_zero_loss(counts, axis)
        )
        assert not found.any.any()


@pytest.mark.parametrize("level", [0.1, 10.0, 1000.0])
def test_cosmic_spikes_are_found_on_edges_as_well(level: float) -> None:
    rng = np.random.default_rng(3)
    counts = _core(rng, 200, level)
    where = np.where(np.arange(200) % 2, 580 + rng.integers(-5, 6, 200), rng.integers(3, 2000, 200))
    rows = np.arange(200)
    height = 30 + 12 * np.sqrt(7 * level) + 1.0 * 7 * level
    counts[rows, where] += height
    counts[rows[:100], where[:100] + 1] += 0.5 * height
    found = find_faults(counts, resolution_channels=6.0)
    assert found.flags["spikes"].mean() > 0.99
    marks = {(int(i), int(c)) for i, c in found.spikes}
    assert np.mean([(int(i), int(c)) in marks for i, c in zip(rows, where, strict=True)]) > 0.99
    assert all(abs(c - where[i]) <= 1 for i, c in marks)


def test_hot_and_dead_channels_are_told_from_spikes() -> None:
    rng = np.random.default_rng(4)
    counts = _core(rng, 200, 30.0)
    counts[:, 300] += 300  # very hot
    counts[:, 700] *= 1.5  # shows in the sum alone
    counts[:, 900] = 0.0
    counts[:, 1800] = 33.0
    counts[5, 1500] += 1e5
    found = find_faults(counts, resolution_channels=6.0)
    assert found.hot_channels.tolist() == [300, 700]
    assert found.dead_channels.tolist() == [900, 1800]
    assert found.spikes.tolist() == [[5, 1500]]
    assert found.flags["spikes"].nonzero()[0].tolist() == [5]


def test_every_fault_of_a_row_has_its_flag() -> None:
    rng = np.random.default_rng(5)
    counts = _core(rng, 10, 20.0)
    counts[1] = 0.0
    counts[2] = 7.0
    counts[3] = counts[4] = counts[5]
    counts[6, 9] = np.inf
    counts[7] -= 40.0
    counts[8, 100] = 4095.0
    found = find_faults(counts, full_scale_counts=4095, resolution_channels=6.0)

    def rows(name: str) -> list[int]:
        return [int(i) for i in found.flags[name].nonzero()[0]]

    assert rows("no_counts") == [1]
    assert rows("dead_row") == [1, 2, 4, 5]
    assert rows("nonfinite") == [6]
    assert rows("negative_counts") == [7]
    assert rows("saturated") == [8]
    assert rows("spikes") == [8]
    assert found.any.tolist() == [False] + [True] * 2 + [False] + [True] * 5 + [False]


def test_clipped_and_missing_zero_loss_is_flagged() -> None:
    rng = np.random.default_rng(6)
    axis = Axis(-8.0, 0.1, "eV")
    position = rng.uniform(-1, 1, 12)
    position[3] = -8.1
    energy = -8.0 + 0.1 * np.arange(300) - position[:, None]
    counts = rng.poisson(1e5 * ZeroLossShape(0.6, 0.1).in_channels(energy, 0.1)[0])
    counts[0] = np.minimum(counts[0], 9000)
    zero_loss = find_zero_loss(counts, axis, fwhm_ev=0.6)
    found = find_faults(counts, resolution_channels=6.0, zero_loss=zero_loss)
    assert found.flags["clipped_zero_loss"].nonzero()[0].tolist() == [0]
    assert found.flags["zero_loss_out_of_range"].nonzero()[0].tolist() == [3]
    told = find_faults(
        np.minimum(counts, 14000),
        full_scale_counts=14000,
        resolution_channels=6.0,
        zero_loss=zero_loss,
    )
    assert (told.flags["clipped_zero_loss"] == told.flags["saturated"]).tolist().count(False) <= 1


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(8, 90)),
        elements=st.floats(-5, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1e9, 1e9]),
    ),
    st.floats(0.0, 5.0),
)
@settings(max_examples=150, deadline=None)
def test_no_counts_whatever_break_a_measurement(counts: Array, readout: float) -> None:
    axis = Axis(-3.0, 0.1, "eV")
    camera = Camera(readout_electrons=readout)
    n = len(counts)
    zero_loss = find_zero_loss(counts, axis, camera)
    known = np.isfinite(zero_loss.position_ev)
    assert (known == np.isfinite(zero_loss.sigma_ev)).all()
    excused = np.logical_or.reduce(list(zero_loss.flags.values()))
    assert (known | excused).all()
    faults = find_faults(counts, camera=camera, zero_loss=zero_loss)
    assert (faults.flags["nonfinite"] == ~np.isfinite(counts).all(axis=1)).all()
    offsets = np.full(n, 3.0)
    offsets[0] = np.nan
    fit_power_law(counts, offsets, 0.1, 3.5, 5.0, readout**2).integral(6.0, 7.0)
    window_sum(running_sum(np.where(np.isfinite(counts), counts, 0.0)), offsets, 0.1, 3.3, 3.6)
    if counts.shape[1] > 20:
        residual_core_shift(counts, np.full(n, 3.0), 0.1, (3.2, 4.5))
