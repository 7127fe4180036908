"""A source-meter heater on a slow serial line ramps as it was told, only with fewer readings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.instruments import HolderState

BYTES_PER_S = 960.0
DEVICE_S = 0.03


@pytest.fixture
def slow(double: Any) -> Any:
    """The double at 9600 baud, and slow to answer."""
    double.follow(WallClock(1.0))
    plain: Callable[[str], str | None] = double.answer

    def answer(line: str) -> str | None:
        reply = plain(line)
        time.sleep(DEVICE_S + (len(line) + 1 + len(reply or "")) / BYTES_PER_S)
        return reply

    double.answer = answer
    return double


def test_the_ramp_goes_on_and_readings_come_in_time(slow: Any, open_it: Any) -> None:
    holder = open_it()
    assert holder.read().state is HolderState.OFF
    holder.ramp(150.0, 20.0)
    assert holder.read().state is HolderState.RAMPING  # though switching on takes longer than 1.5 s
    start = holder.read()
    time.sleep(3.0)
    reading = holder.read()
    gone = reading.setpoint_celsius - start.setpoint_celsius
    assert gone == pytest.approx(20.0 * (reading.t_s - start.t_s), rel=0.35)
    assert reading.measured_celsius == pytest.approx(reading.setpoint_celsius, abs=10)
