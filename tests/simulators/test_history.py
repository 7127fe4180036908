"""The temperature that a specimen has lived through, and exact integrals along it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from simulators.history import (
    BOLTZMANN_EV_PER_K,
    KELVIN_AT_0_CELSIUS,
    Relaxation,
    TemperatureHistory,
    ThermalTime,
    straightened,
)
from simulators.specimen import lived
from simulators.specimen.rates import BARRIERS_EV, exposure

BARRIER_EV = 2.5
REFERENCE_CELSIUS = 700.0


def _thermal(*knots: tuple[float, float]) -> TemperatureHistory:
    history = TemperatureHistory(0.0, 25.0, {"t": ThermalTime(BARRIER_EV, REFERENCE_CELSIUS)})
    history.plan(0.0, knots)
    return history


@given(
    st.floats(20, 1200),
    st.floats(20, 1200),
    st.floats(0.01, 1e4),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_thermal_time_does_not_depend_on_the_pattern_of_steps(
    begin: float, end: float, duration: float, cuts: list[float]
) -> None:
    thermal = ThermalTime(BARRIER_EV, REFERENCE_CELSIUS)
    whole = thermal.advance(0.0, duration, begin, end)
    value, last = 0.0, 0.0
    for cut in [*sorted(cuts), 1.0]:
        at = [begin + (end - begin) * part for part in (last, cut)]
        value = thermal.advance(value, (cut - last) * duration, *at)
        last = cut
    assert value == pytest.approx(whole, rel=1e-8, abs=1e-12)


def test_thermal_time_is_the_arrhenius_integral() -> None:
    a = BARRIER_EV / BOLTZMANN_EV_PER_K
    reference = REFERENCE_CELSIUS + KELVIN_AT_0_CELSIUS

    def rate(t: float) -> float:
        return math.exp(-a * (1 / (KELVIN_AT_0_CELSIUS + 25 + 5 * t) - 1 / reference))

    expected, _ = quad(rate, 0, 135, epsabs=0, epsrel=1e-10)
    thermal = ThermalTime(BARRIER_EV, REFERENCE_CELSIUS)
    assert thermal.advance(0.0, 135.0, 25.0, 700.0) == pytest.approx(expected, rel=1e-8)


def test_relaxation_follows_its_differential_equation() -> None:
    relaxation, y, n = Relaxation(40.0), 25.0, 20000
    for k in range(n):  # midpoint rule
        middle = y + 0.005 / 2 * ((25 + 5 * k * 0.005) - y) / 40
        y += 0.005 * ((25 + 5 * (k + 0.5) * 0.005) - middle) / 40
    assert relaxation.advance(25.0, 100.0, 25.0, 525.0) == pytest.approx(y, rel=1e-6)


def test_replacing_the_future_leaves_the_past_alone() -> None:
    history = _thermal((135.0, 700.0))
    past = (10.0, 100.0, 120.0)
    before = [history.value("t", t) for t in past]
    history.plan(120.0, [(130.0, 400.0)])
    assert [history.value("t", t) for t in past] == pytest.approx(before)
    assert [history.celsius(t) for t in past] == pytest.approx([75.0, 525.0, 625.0])
    assert history.celsius(125.0) == pytest.approx(512.5)
    assert history.celsius(1000.0) == 400.0


def test_a_cooler_sample_lives_through_less_the_more_the_higher_the_barrier() -> None:
    hot, cooler = (
        exposure(lived([(1.0, 900.0)], cooler_by=share), 1000.0) for share in (0.0, 0.04)
    )
    ratios = {name: getattr(cooler, name) / getattr(hot, name) for name in BARRIERS_EV}
    assert hot.along == pytest.approx(999.0, rel=0.01)
    assert all(ratio < 1 for ratio in ratios.values())
    ordered = sorted(BARRIERS_EV, key=BARRIERS_EV.__getitem__)
    assert [ratios[name] for name in ordered] == sorted(ratios.values(), reverse=True)


@given(
    st.lists(st.tuples(st.floats(1e-3, 10), st.floats(20, 1300)), min_size=1, max_size=60),
    st.floats(0.01, 300),
)
@settings(max_examples=200, deadline=None)
def test_straight_lines_through_fewer_knots_pass_all_others_within_the_tolerance(
    steps: list[tuple[float, float]], tolerance: float
) -> None:
    times = list(itertools.accumulate(duration for duration, _ in steps))
    celsius = [c for _, c in steps]
    kept = straightened(times, celsius, tolerance)
    assert kept == sorted(set(kept))
    assert {0, len(times) - 1} <= set(kept)
    lines = np.interp(times, [times[i] for i in kept], [celsius[i] for i in kept])
    assert np.abs(lines - celsius).max() <= tolerance * (1 + 1e-9) + 1e-9
