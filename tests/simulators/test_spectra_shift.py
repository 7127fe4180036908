"""Where the zero-loss peak is: jitter, walk and drift as processes in time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.instruments import SpectrumExposure
from simulators.spectra import EnergyShift, pattern

SHIFT = EnergyShift(3)


def test_snapshots_jitter_by_60_mev_and_the_walk_has_the_figures_of_a_real_filter() -> None:
    starts = np.arange(4000) * 0.37
    jitter = SHIFT.mean(starts, starts + 1e-3) - [SHIFT.slow_at(t) for t in starts + 5e-4]
    assert np.std(jitter) == pytest.approx(0.06, rel=0.1)
    assert abs(np.mean(jitter)) < 0.01
    walk = np.array([SHIFT.slow_at(10.0 * k) for k in range(2000)])
    assert 0.06 <= np.std(np.diff(walk)) <= 0.09


def test_jitter_forgets_within_milliseconds() -> None:
    starts = np.arange(3000) * 0.61

    def alike(apart_s: float) -> float:
        first, second = (
            SHIFT.mean(starts + by, starts + by) - [SHIFT.slow_at(t) for t in starts + by]
            for by in (0.0, apart_s)
        )
        return float(np.corrcoef(first, second)[0, 1])

    for apart_s in (0.001, 0.005, 0.01):
        assert alike(apart_s) == pytest.approx(math.exp(-apart_s / 0.005), abs=0.08)
    assert abs(alike(0.05)) < 0.1


def test_a_mean_over_a_span_is_the_mean_of_what_lies_in_it() -> None:
    for start, duration in ((3.2, 1e-4), (17.9, 0.02), (40.0, 0.5), (99.7, 2.5)):
        fine = start + duration * (np.arange(5000) + 0.5) / 5000
        expected = SHIFT.mean(fine, fine).mean()
        assert float(SHIFT.mean(start, start + duration)) == pytest.approx(expected, abs=3e-4)


def test_what_a_dwell_is_blurred_by_is_what_its_mean_has_lost() -> None:
    starts = np.arange(3000) * 0.7
    for duration in (1e-3, 0.01, 0.5):
        mean = SHIFT.mean(starts, starts + duration)
        mean = mean - [SHIFT.slow_at(t) for t in starts + duration / 2]
        kept = float(np.var(mean))
        assert kept + SHIFT.blur_ev(duration) ** 2 == pytest.approx(0.06**2, rel=0.2)
    assert SHIFT.blur_ev(1e-4) < 0.01
    assert SHIFT.blur_ev(1.0) == pytest.approx(0.06, rel=0.02)


def test_many_low_loss_reads_tell_the_core_losss_shift_better_than_one() -> None:
    starts = np.arange(600) * 0.9

    def error(reads: int) -> float:
        when = pattern(SpectrumExposure(0.5, 1e-3, reads), dual=True)

        def of(spans: np.ndarray) -> np.ndarray:
            begin, end = (starts[:, None] + spans[None, :, k] for k in (0, 1))
            return SHIFT.mean(begin, end).mean(axis=1)

        return float(np.std(of(when.low_s) - of(when.core_s)))

    one, ten, fifty = (error(n) for n in (1, 10, 50))
    # one snapshot leaves what was measured on real DualEELS; ten beat it by their number
    assert one == pytest.approx(0.06, rel=0.15)
    assert ten == pytest.approx(0.06 / math.sqrt(10), rel=0.2)
    assert fifty < 0.6 * ten


@given(reads=st.integers(1, 40), dwell=st.floats(1e-4, 10.0), low=st.floats(1e-6, 0.1))
@settings(max_examples=60, deadline=None)
def test_low_loss_reads_and_core_loss_take_turns_without_gap(
    reads: int, dwell: float, low: float
) -> None:
    when = pattern(SpectrumExposure(dwell, low, reads), dual=True)
    assert when.low_s.shape == when.core_s.shape == (reads, 2)
    assert when.low_s[0, 0] == 0.0
    assert when.frame_s == pytest.approx(dwell + reads * low)
    assert np.allclose(when.low_s[:, 1], when.core_s[:, 0])
    assert np.allclose(when.core_s[:-1, 1], when.low_s[1:, 0])
    assert (when.core_s[:, 1] - when.core_s[:, 0]).sum() == pytest.approx(dwell)
    alone = pattern(SpectrumExposure(dwell, low, reads), dual=False)
    assert len(alone.low_s) == 0
    assert alone.frame_s == dwell


def test_a_shift_depends_on_seed_and_time_alone() -> None:
    times = np.array([15_000.0, 3.0, 700.5])
    together = EnergyShift(3).mean(times, times + 0.1)
    alone = [float(SHIFT.mean(t, t + 0.1)) for t in times]
    assert np.allclose(together, alone, atol=1e-12)
    assert not np.allclose(together, EnergyShift(4).mean(times, times + 0.1))


def test_a_monochromated_filter_is_as_much_steadier_as_it_is_finer() -> None:
    fine = EnergyShift(3, 0.009)
    starts = np.arange(500) * 0.37
    assert np.allclose(
        fine.mean(starts, starts + 0.01), SHIFT.mean(starts, starts + 0.01) * 0.009 / 0.6
    )
    assert np.std(fine.mean(starts, starts + 1e-3)) < 0.009
