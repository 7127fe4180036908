"""Curves are interrupted where nothing was recorded."""

from __future__ import annotations

import numpy as np

from acquire.measure.series import break_at_gaps


def test_a_gap_breaks_the_curve_and_nothing_else_changes() -> None:
    t_s = np.array([0.0, 1.0, 2.0, 3.0, 30.0, 31.0])
    values = np.arange(6.0)
    times, curve = break_at_gaps(t_s, values)
    assert np.flatnonzero(np.isnan(curve)).tolist() == [4]
    assert times[4] == 16.5
    assert np.array_equal(np.delete(times, 4), t_s)
    assert np.array_equal(np.delete(curve, 4), values)


def test_even_curves_and_short_ones_stay_as_they_are() -> None:
    for count in (0, 1, 2, 50):
        t_s = np.arange(float(count))
        times, curve = break_at_gaps(t_s, t_s)
        assert np.array_equal(times, t_s)
        assert np.array_equal(curve, t_s)
