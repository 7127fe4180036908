"""The energy axis is followed through walk and jitter, with a σ that is true."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels import (
    ShiftFilter,
    ShiftNoise,
    core_shifts,
    estimate_shift_noise,
    filter_shifts,
    residual_core_shift,
)

Array = NDArray[np.float64]

NOISE = ShiftNoise(walk_ev_per_root_s=0.024, jitter_ev=0.06, jitter_time_s=0.0)


def _walk(rng: np.random.Generator, times: Array) -> Array:
    steps = rng.standard_normal(len(times)) * 0.024 * np.sqrt(np.diff(times, prepend=times[0]))
    return np.asarray(0.3 + np.cumsum(steps))


def test_filter_reaches_its_own_sigma_and_later_positions_help() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.3, 0.7, 3000))
    walk = _walk(rng, times)
    seen = walk + 0.06 * rng.standard_normal(3000) + 0.02 * rng.standard_normal(3000)
    rms = []
    for lag in (0, 1, 5, None):
        found = filter_shifts(times, seen, 0.02, NOISE, lag)
        error = (found.shift_ev - walk)[50:-50]
        assert np.std(error / found.sigma_ev[50:-50]) == pytest.approx(1.0, abs=0.1)
        rms.append(error.std())
    assert rms[0] < 0.5 * np.std(seen - walk)
    # steady state: P² + q P = q r for the variance of the prediction less q
    q, r = 0.024**2 * 0.5, 0.06**2 + 0.02**2
    steady = 0.5 * (np.sqrt(q * q + 4 * q * r) - q)
    assert rms[0] == pytest.approx(np.sqrt(steady), rel=0.1)
    assert rms[0] > rms[1] > rms[2] > rms[3]
    assert rms[3] < 0.8 * rms[0]


def test_live_filter_gives_what_the_stored_one_gives_and_bridges_gaps() -> None:
    rng = np.random.default_rng(2)
    times = np.arange(100) * 0.5
    seen = _walk(rng, times) + 0.06 * rng.standard_normal(100)
    seen[0] = seen[20:30] = np.nan
    stored = filter_shifts(times, seen, 0.01, NOISE)
    live = ShiftFilter(NOISE)
    each = np.array([live.update(t, x, 0.01) for t, x in zip(times, seen, strict=True)])
    assert each[:, 0] == pytest.approx(stored.shift_ev, rel=1e-12, nan_ok=True)
    assert each[:, 1] == pytest.approx(stored.sigma_ev, rel=1e-12, nan_ok=True)
    assert np.isnan(stored.shift_ev).tolist() == [True] + 99 * [False]
    assert (np.diff(stored.sigma_ev[19:30]) > 0).all()
    assert stored.sigma_ev[30] < stored.sigma_ev[29]
    assert np.isfinite(filter_shifts(times, seen, 0.01, NOISE, lag=1).shift_ev).all()
    # a later position must not change what was causal
    other = seen.copy()
    other[50:] += 1.0
    assert (filter_shifts(times, other, 0.01, NOISE).shift_ev[1:50] == stored.shift_ev[1:50]).all()


def test_walk_and_jitter_are_told_apart_by_the_positions() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(600) * 0.5
    seen = _walk(rng, times) + 0.1 * rng.standard_normal(600)
    found = estimate_shift_noise(times, seen, np.zeros(600))
    assert found.jitter_ev == pytest.approx(0.1, rel=0.1)
    assert found.walk_ev_per_root_s == pytest.approx(0.024, rel=0.4)
    assert estimate_shift_noise(times[:5], seen[:5], np.zeros(5)) == ShiftNoise()


@pytest.mark.parametrize("reads", [1, 10])
def test_many_low_loss_reads_beat_one_and_sigma_knows_what_jitter_remains(reads: int) -> None:
    rng = np.random.default_rng(4)
    n, parts, dwell = 400, 100, 0.5
    # jitter of 5 ms parts, independent: an exposure keeps a tenth of it, a read all
    start = np.arange(n) * dwell
    fine = start[:, None] + (np.arange(parts) + 0.5) * dwell / parts
    axis = _walk(rng, fine.ravel()).reshape(n, parts) + 0.06 * rng.standard_normal((n, parts))
    at = np.arange(reads) * (parts // reads)
    seen = axis[:, at] + 0.005 * rng.standard_normal((n, reads))
    spans = np.stack([fine[:, at] - 5e-4, fine[:, at] + 5e-4], axis=2)
    core = np.stack([start, start + dwell], axis=1)
    noise = ShiftNoise(0.024, 0.06, jitter_time_s=0.0025)
    found = core_shifts(seen, 0.005, spans, core, noise)
    error = found.shift_ev - axis.mean(axis=1)
    assert np.sqrt(np.mean((error / found.sigma_ev) ** 2)) == pytest.approx(1.0, abs=0.12)
    assert error.std() < (0.035 if reads == 1 else 0.016)
    assert error.std() < 0.95 * np.std(seen.mean(axis=1) - axis.mean(axis=1))
    some = seen.copy()
    some[:, 1:] = np.nan
    some[7] = np.nan
    assert np.isfinite(core_shifts(some, 0.005, spans, core, noise).shift_ev).all()


def test_long_exposures_average_the_jitter_out() -> None:
    noise = ShiftNoise(0.0, 0.06, jitter_time_s=0.01)
    left = noise.left_in([0.0, 1e-5, 0.01, 1.0, 100.0])
    assert left[:2] == pytest.approx([0.06, 0.06], rel=1e-3)
    assert left[2] == pytest.approx(0.06 * np.sqrt(2 / np.e), rel=1e-9)
    assert left[4] == pytest.approx(0.06 * np.sqrt(2e-4), rel=1e-3)


def _edges(rng: np.random.Generator, shift: Array, level: float) -> tuple[Array, Array]:
    offset = 510 + rng.uniform(-0.5, 0.5, len(shift))
    energy = (offset - shift)[:, None] + 0.1 * np.arange(600)
    mean = (energy / 500) ** -3 + 0.5 + 0.5 * np.tanh((energy - 532) / 0.7)
    mean += 0.6 * np.exp(-0.5 * ((energy - 534) / 0.8) ** 2)
    thickness = rng.uniform(0.7, 1.3, len(shift))[:, None]
    return rng.poisson(level * thickness * mean).astype(float), offset


@pytest.mark.parametrize("running", [False, True])
def test_residual_shift_of_an_edge_is_found_with_its_sigma(running: bool) -> None:
    rng = np.random.default_rng(5)
    true = np.where(np.arange(120) % 6 == 5, 0.2, 0.0)
    counts, offset = _edges(rng, true, 300.0)
    found = residual_core_shift(counts, offset, 0.1, (525, 550), running=running)
    before = np.cumsum(true) - true
    mean = before / np.maximum(np.arange(120), 1) if running else (true.sum() - true) / 119
    pull = ((found.shift_ev - (true - mean)) / found.sigma_ev)[3:]
    assert pull.std() == pytest.approx(1.0, abs=0.15)
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull))
    halves = (found.odd_ev - found.even_ev)[3:] / found.sigma_ev[3:] / 2
    assert halves.std() == pytest.approx(1.0, abs=0.2)
    assert (found.applied_ev[true > 0] != 0).mean() > 0.8
    assert (found.applied_ev[true == 0][3:] != 0).mean() < 0.1  # they lie 1 σ off the mean


def test_residual_shift_is_not_applied_to_noise_nor_to_another_shape() -> None:
    rng = np.random.default_rng(6)
    counts, offset = _edges(rng, np.zeros(60), 100.0)
    energy = offset[30] + 0.1 * np.arange(600)
    counts[30] += rng.poisson(200 * np.exp(-0.5 * ((energy - 536.5) / 0.8) ** 2))
    counts[31] = 0.0
    counts[32, 100] = np.nan
    offset[33] = np.nan
    found = residual_core_shift(counts, offset, 0.1, (525, 550))
    assert found.flags["poor_fit"].nonzero()[0].tolist() == [30]
    assert found.flags["no_shift"].nonzero()[0].tolist() == [31, 32, 33]
    assert (found.applied_ev != 0).sum() <= 1
    assert found.applied_ev[30] == found.applied_ev[31] == 0
    given = residual_core_shift(
        counts, offset, 0.1, (525, 550), reference=(counts[0], float(offset[0]))
    )
    assert given.shift_ev[0] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(MeasureError, match="inside every spectrum"):
        residual_core_shift(counts, offset, 0.1, (500, 550))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(MeasureError, match="in order"):
        filter_shifts([1.0, 0.0], [0.0, 0.0], 0.1, NOISE)
    with pytest.raises(MeasureError, match="do not belong"):
        filter_shifts([1.0], [0.0, 0.0], 0.1, NOISE)
    with pytest.raises(MeasureError, match="lag"):
        filter_shifts([1.0], [0.0], 0.1, NOISE, lag=-1)
    with pytest.raises(MeasureError, match="do not belong"):
        core_shifts(np.zeros((3, 2)), 0.1, np.zeros((3, 1, 2)), np.zeros((3, 2)), NOISE)
    live = ShiftFilter()
    live.update(1.0, 0.0, 0.1)
    with pytest.raises(MeasureError, match="order of time"):
        live.update(0.5, 0.0, 0.1)
    with pytest.raises(MeasureError, match="jitter_ev"):
        ShiftNoise(jitter_ev=-1.0)
