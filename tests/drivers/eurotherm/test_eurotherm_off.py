"""A Eurotherm controller is switched off whatever else of it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acquire.errors import InstrumentError
from acquire.instruments import HolderState

REMOTE_SETPOINT = 26


def test_opening_switches_off_a_controller_that_is_then_refused(double: Any, open_it: Any) -> None:
    double.registers[276] = 1
    double.floats[26] = 800.0  # left by a server that died
    double.floats[2] = 700.0  # somebody raised its own setpoint
    with pytest.raises(InstrumentError, match="fallback_limit"):
        open_it()
    assert not double.heating


def test_a_controller_that_refuses_its_setpoint_is_put_in_standby_all_the_same(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(300.0, 50.0)
    until(lambda: double.working > 100)
    double.refuses = {REMOTE_SETPOINT}
    holder.make_safe("test")
    until(lambda: not double.heating)
    until(lambda: holder.read().state is HolderState.OFF)


def test_operating_although_nobody_switched_it_on_is_ended_even_if_its_setpoint_cannot_be_written(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    until(lambda: holder.read().state is HolderState.OFF)
    double.refuses = {REMOTE_SETPOINT}
    double.floats[26] = 500.0
    double.registers[199] = 0
    until(lambda: not double.heating)
    until(lambda: bool(holder._task.fault))


def test_a_target_setpoint_raised_while_heating_trips(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(300.0, 50.0)
    until(lambda: double.working > 100)
    double.floats[2] = 900.0  # a link lost from here on would heat to it
    until(lambda: "fallback_limit" in holder._task.fault)
    until(lambda: not double.heating)
