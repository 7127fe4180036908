"""What a heating holder must pass."""

from __future__ import annotations

import math
from functools import partial

from acquire.clock import Clock, finite_rate
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Description,
    HeatingHolder,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
)
from drivers.conformance.common import at_once, check_description, grace_s, highest, refuses

UNDER_WAY_WALL_S = 1.0
"""A ramp lasts at least so long on the wall, so that a busy machine still looks at it in its middle."""


def check_holder(
    holder: HeatingHolder,
    clock: Clock,
    *,
    target_celsius: float = 200.0,
    rate_celsius_per_s: float = 50.0,
    tolerance_celsius: float = 5.0,
) -> None:
    """Limits, ramp, hold, safe states; ends with the heater off.

    Args:
        holder: what is tried.
        clock: that it runs on.
        target_celsius: of its ramps.
        rate_celsius_per_s: of its ramps; on a clock that runs fast they are slower.
        tolerance_celsius: how far from its target it may be measured.
    """
    description = check_description(holder)
    holder.arm_safe_state(SafeState())
    holder.make_safe("conformance begins")
    _wait_for(holder, clock, HolderState.OFF, 5.0)
    _check_reading(holder.read(), clock)
    _check_holder_limits(holder, clock, description, rate_celsius_per_s)
    _check_ramp(holder, clock, target_celsius, rate_celsius_per_s, tolerance_celsius)
    _check_hold(holder, clock, target_celsius, rate_celsius_per_s)
    _check_cooling_safe_state(holder, clock, rate_celsius_per_s)
    _check_immediate_safe_state(holder, clock, target_celsius, rate_celsius_per_s)


def _check_reading(reading: HolderReading, clock: Clock) -> None:
    assert math.isfinite(reading.measured_celsius), (
        f"{reading}: an idle holder reads a temperature."
    )
    late = clock.now_s() - reading.t_s
    assert -0.05 <= late < 60, (
        f"reading is stamped {late:.3g} s ago: t_s is on the station's clock."
    )


def _check_holder_limits(
    holder: HeatingHolder, clock: Clock, description: Description, rate: float
) -> None:
    high = highest(description, "temperature")
    fastest = highest(description, "ramp_rate")
    before = holder.read()
    bad = (
        RampRequest(high + 1, rate),
        RampRequest(math.nan, rate),
        RampRequest(math.inf, rate),
        RampRequest(100.0, fastest * 1.01),
        RampRequest(100.0, 0.0),
        RampRequest(100.0, -1.0),
        RampRequest(100.0, math.nan),
    )
    for request in bad:
        refuses(partial(holder.check, request), LimitError, f"check({request})")
        refuses(
            partial(holder.ramp, request.target_celsius, request.rate_celsius_per_s),
            LimitError,
            f"ramp of {request}",
        )
    holder.check(RampRequest(100.0, rate))
    clock.sleep(0.5)
    after = holder.read()
    assert (after.state, after.setpoint_celsius) == (before.state, before.setpoint_celsius), (
        f"the holder went from {before} to {after} though nothing was commanded: check() must never "
        "move anything, and a refused ramp changes nothing."
    )


def _check_ramp(
    holder: HeatingHolder, clock: Clock, target: float, rate: float, tolerance: float
) -> None:
    start = holder.read()
    rate = _unhurried(rate, target - start.setpoint_celsius, clock)
    at_once(clock, lambda: holder.ramp(target, rate), "ramp()")
    clock.sleep(0.5 * abs(target - start.setpoint_celsius) / rate)
    half = holder.read()
    assert half.state is HolderState.RAMPING, f"half-way through a ramp the state is {half.state}."
    low, high = sorted((start.setpoint_celsius, target))
    assert low < half.setpoint_celsius < high, f"half-way through a ramp the setpoint is {half}."
    assert half.target_celsius == target, f"target_celsius is {half.target_celsius}, not {target}."
    _wait_for(
        holder, clock, HolderState.HOLDING, 2 * abs(target - start.setpoint_celsius) / rate + 5
    )
    clock.sleep(1.0)
    end = holder.read()
    assert abs(end.setpoint_celsius - target) < 1e-6 * max(1, abs(target)) + 1e-3, (
        f"after the ramp the setpoint is {end.setpoint_celsius} °C, not {target} °C."
    )
    assert abs(end.measured_celsius - target) <= tolerance, (
        f"after the ramp {end.measured_celsius} °C are measured, {target} °C were asked for."
    )


def _check_hold(holder: HeatingHolder, clock: Clock, target: float, rate: float) -> None:
    back = target / 2
    rate = _unhurried(rate, target - back, clock)
    holder.ramp(back, rate)
    clock.sleep(0.4 * (target - back) / rate)
    at_once(clock, holder.hold, "hold()")
    frozen = holder.read()
    clock.sleep(1.0)
    later = holder.read()
    assert frozen.state is HolderState.HOLDING, f"after hold() the state is {frozen.state}."
    assert back < frozen.setpoint_celsius < target, (
        f"hold() in mid-ramp left the setpoint at {frozen.setpoint_celsius} °C: it must freeze where "
        f"it is, between {back} and {target} °C."
    )
    assert later.setpoint_celsius == frozen.setpoint_celsius, (
        f"the setpoint moved from {frozen.setpoint_celsius} to {later.setpoint_celsius} °C after hold()."
    )


def _check_cooling_safe_state(holder: HeatingHolder, clock: Clock, rate: float) -> None:
    present = holder.read().setpoint_celsius
    end = max(30.0, present / 3)
    rate = _unhurried(rate, present - end, clock)
    holder.arm_safe_state(SafeState(rate, end))
    at_once(clock, lambda: holder.make_safe("conformance: cooling"), "make_safe()")
    cooling = holder.read()
    assert cooling.state is HolderState.MAKING_SAFE, (
        f"with a cooling safe state armed, make_safe() leads to {cooling.state}, not to making_safe."
    )
    refuses(lambda: holder.ramp(present, rate), InstrumentError, "ramp() while making safe")
    expected = (present - end) / rate
    clock.sleep(expected / 2)
    holder.make_safe("conformance: again, while cooling")
    _wait_for(holder, clock, HolderState.OFF, expected / 2 + 2.0)
    _check_off(holder)


def _check_immediate_safe_state(
    holder: HeatingHolder, clock: Clock, target: float, rate: float
) -> None:
    holder.arm_safe_state(SafeState())
    for state in (HolderState.RAMPING, HolderState.HOLDING):
        holder.ramp(target, rate)
        if state is HolderState.HOLDING:
            holder.hold()
        for _ in range(2):
            at_once(clock, partial(holder.make_safe, "conformance"), "make_safe()")
        _wait_for(holder, clock, HolderState.OFF, 1.0)
    clock.sleep(1.0)
    _check_off(holder)
    holder.clear_fault()  # without a fault there is nothing to clear, and nothing to raise
    holder.make_safe("conformance: off already")
    _check_off(holder)


def _check_off(holder: HeatingHolder) -> None:
    reading = holder.read()
    assert reading.state is HolderState.OFF, f"make_safe() must lead to off, not {reading.state}."
    assert math.isnan(reading.power_mw) or reading.power_mw < 0.1, (
        f"the heater is said to be off, yet takes {reading.power_mw} mW."
    )


def _unhurried(rate: float, span: float, clock: Clock) -> float:
    """A rate in °C/s, at most that asked for, at which the way across ``span`` can be looked at."""
    return min(rate, abs(span) / (UNDER_WAY_WALL_S * finite_rate(clock)))


def _wait_for(holder: HeatingHolder, clock: Clock, state: HolderState, within_s: float) -> None:
    end = clock.now_s() + within_s + grace_s(clock)
    while (reading := holder.read()).state is not state:
        assert clock.now_s() < end, (
            f"the holder did not get to {state} within {within_s:.3g} s; it is {reading}."
        )
        clock.sleep(min(0.05, within_s / 10 + 0.005))
