"""Setpoint programs are continuous, monotonic and end where they should; the regulator's law is stable."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.holders.heater_calibration import Calibration
from drivers.holders.program import Program
from drivers.holders.regulator import PowerLimits, PowerRegulator

celsius = st.floats(-50, 1300)
times = st.floats(0, 1e4)
rates = st.floats(1e-2, 1e3)


@given(times, celsius, celsius, rates, st.floats(0, 1))
def test_a_ramp_goes_straight_to_its_target(
    begin: float, start: float, target: float, rate: float, share: float
) -> None:
    program = Program(begin, start, target, rate)
    assert program.setpoint(begin - 1) == start or not program.moving(begin - 1)
    assert program.setpoint(program.end_s) == target
    at = program.setpoint(begin + share * (program.end_s - begin))
    assert min(start, target) - 1e-9 <= at <= max(start, target) + 1e-9


@given(times, celsius, celsius, rates, st.floats(0, 1), celsius, rates)
def test_another_ramp_begins_where_the_setpoint_is(
    begin: float, start: float, target: float, rate: float, share: float, other: float, fast: float
) -> None:
    program = Program(begin, start, target, rate)
    now = begin + share * (program.end_s - begin)
    assert program.ramp(now, other, fast).setpoint(now) == pytest.approx(program.setpoint(now))
    held = program.hold(now)
    assert held.setpoint(now + 1e5) == pytest.approx(program.setpoint(now))


@given(times, celsius, celsius, rates, st.floats(0, 0.9), st.floats(0, 100))
def test_a_pause_leaves_its_time_out(
    begin: float, start: float, target: float, rate: float, share: float, gap: float
) -> None:
    program = Program(begin, start, target, rate)
    since = begin + share * (program.end_s - begin)
    paused = program.paused(since, since + gap)
    expected = program.end_s + (gap if program.moving(since) else 0)
    assert paused.end_s == pytest.approx(expected)
    assert paused.setpoint(since + gap) == pytest.approx(program.setpoint(since), abs=1e-6)


def test_a_ramp_can_be_begun_from_a_measured_temperature_and_a_hold_stays_one() -> None:
    begun = Program(0.0, 25.0, 100.0, 5.0).begun(10.0, 40.0)
    assert (begun.setpoint(10.0), begun.end_s) == (40.0, 22.0)
    assert Program(0.0, 25.0, 25.0, 5.0).begun(10.0, 40.0).setpoint(1e3) == 25.0
    assert Program.holding(0.0, 25.0).begun(10.0, 40.0).setpoint(1e3) == 40.0


@pytest.mark.parametrize("slope", [0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("lag_s", "told_s"), [(1e-3, 1e-3), (4e-3, 4e-3), (0.05, 0.05), (4e-3, 0.05), (0.02, 4e-3)]
)
@pytest.mark.parametrize("period_s", [5e-3, 0.02, 0.1])
def test_the_law_is_stable_for_slopes_and_lags_that_are_not_known_and_for_any_period(
    slope: float, lag_s: float, told_s: float, period_s: float
) -> None:
    """A plant with another slope of power over temperature, and with the lag that the law is told or not."""
    per_kelvin, temperature = 8e-3, 25.0
    law = PowerRegulator(told_s, per_kelvin, 25.0, 0.0)
    stays = math.exp(-period_s / lag_s)
    errors = []
    for _ in range(200):
        power = law.next_power_mw(temperature, 100.0, 100.0, period_s, PowerLimits(0.0, 10.0))
        settled = 25.0 + power / (slope * per_kelvin)
        temperature = settled + (temperature - settled) * stays
        errors.append(abs(temperature - 100.0))
    assert errors[-1] < 0.01
    assert max(errors[60:]) < 5.0


def test_nothing_winds_up_at_a_limit() -> None:
    law = PowerRegulator(4e-3, 8e-3, 25.0, 0.0)
    limits = PowerLimits(0.0, 1.0)
    for _ in range(1000):
        assert law.next_power_mw(150.0, 800.0, 800.0, 0.02, limits) == 1.0
    assert law.next_power_mw(150.0, 140.0, 140.0, 0.02, limits) < 1.0


def test_the_power_per_kelvin_is_learned() -> None:
    law = PowerRegulator(4e-3, 8e-3, 25.0, 0.0)
    for _ in range(200):
        law.learn(825.0, 16.0)
    assert law.power_per_kelvin_mw == pytest.approx(0.02, rel=1e-3)
    law.learn(26.0, 16.0)
    assert law.power_per_kelvin_mw == pytest.approx(0.02, rel=1e-3)


@given(st.floats(-40, 1000))
def test_the_calibration_reads_both_ways(temperature: float) -> None:
    calibration = Calibration(120.0, 25.0, 1.9e-3, 1000.0)
    resistance = calibration.resistance_ohm(temperature)
    assert calibration.celsius(resistance) == pytest.approx(temperature, abs=1e-6)
    low, high = calibration.range_ohm
    assert low < resistance < high
