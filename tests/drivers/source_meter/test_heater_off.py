"""A source-meter heater goes off when told, whatever the driver is at, and does not run away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.errors import FaultError, InstrumentError
from acquire.instruments import HolderState
from acquire.station import DriverContext
from drivers.holders.source_meter import open_heater
from tests.drivers.source_meter.conftest import OPTIONS


def test_make_safe_does_not_wait_for_the_learning_of_a_slow_heater(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    double.follow(WallClock(1.0))
    double.wire.heat_capacity *= 100
    holder = open_it(time_constant="50 ms")
    holder.ramp(300.0, 50.0)
    until(lambda: double.output and double.current > 2.1e-4)
    began = time.monotonic()
    holder.make_safe("test")
    until(lambda: not double.output)
    assert time.monotonic() - began < 0.3
    assert not holder._task.fault


def test_closing_while_a_slow_heater_is_switched_on_leaves_it_off(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    double.follow(WallClock(1.0))
    double.wire.heat_capacity *= 100
    double.wire.conductance *= 30  # many steps until it is warm enough to learn from
    holder = open_it(time_constant="50 ms", sense_current="5 µA")
    holder.ramp(300.0, 50.0)
    until(lambda: double.output and double.current > 6e-6)
    holder.close()
    assert not double.output


def test_off_reaches_the_device_over_a_new_connection_of_a_slow_line(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    until(lambda: holder.read().state is HolderState.HOLDING)
    plain = double.answer

    def slow(line: str) -> Any:
        if not line.startswith(":READ"):
            time.sleep(0.2)  # a slow line, or a busy device
        return plain(line)

    double.answer = slow
    double._hang_up()
    holder.make_safe("test")
    until(lambda: not double.output, 5.0)


@pytest.mark.parametrize("factor", [0.1, 10.0, 100.0])
def test_a_wrong_power_per_kelvin_does_not_make_it_run_away(
    double: Any, open_it: Any, factor: float
) -> None:
    holder = open_it(power_per_kelvin=f"{8e-3 * factor} mW/K")
    holder.ramp(200.0, 20.0)
    _pass(holder, double, 4.0)
    assert double.wire.highest < 240
    holder.make_safe("test")


def test_a_wrong_time_constant_does_not_make_it_run_away(double: Any, open_it: Any) -> None:
    holder = open_it(time_constant="50 ms")  # the heater's is 4 ms
    holder.ramp(500.0, 100.0)
    _pass(holder, double, 8.0)
    assert not holder._task.fault
    assert double.wire.highest < 510


def test_readings_that_jump_without_a_cause_trip_before_the_heater_is_overheated(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(800.0, 100.0)
    until(lambda: holder.read().state is HolderState.HOLDING, 5.0)
    plain = double.wire.resistance
    # a sense contact that has a shunt: 4-wire, current and calibration are still as they should be
    double.wire.resistance = lambda celsius: 0.8 * plain(celsius)
    until(lambda: bool(holder._task.fault))
    until(lambda: not double.output)
    assert double.wire.highest < 900


def test_a_swinging_temperature_trips_as_a_lasting_deviation_does(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(300.0, 100.0)
    until(lambda: holder.read().state is HolderState.HOLDING, 5.0)
    plain = double.wire.resistance
    began = double.clock.now_s()

    def swinging(celsius: float) -> float:
        phase = (double.clock.now_s() - began) % 0.4
        return plain(celsius + (80.0 if phase < 0.2 else -80.0))

    double.wire.resistance = swinging
    until(lambda: bool(holder._task.fault), 5.0)


def test_new_ramps_do_not_excuse_a_heater_that_does_not_follow(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(maximum_current="2 mA", compliance="5 V")
    holder.ramp(600.0, 100.0)
    end = time.monotonic() + 3.0
    while not holder._task.fault and time.monotonic() < end:
        with suppress(FaultError, InstrumentError):
            holder.ramp(600.0, 100.0)
        time.sleep(0.03)  # 0.3 s of the clock
    assert "deviation" in holder._task.fault


class _CoarseClock(WallClock):
    def now_s(self) -> float:
        return super().now_s() // 0.0156 * 0.0156


def test_a_clock_that_ticks_every_16_ms_is_enough(double: Any) -> None:
    double.follow(WallClock(1.0))
    context = DriverContext("holder", _CoarseClock(1.0), "station.toml")
    options = {**OPTIONS, "port": double.listen(), "period": "5 ms", "nplc": 0.01}
    holder = open_heater(context, **options)
    holder.ramp(60.0, 20.0)
    _pass(holder, double, 2.5)
    assert not holder._task.fault
    assert holder.read().measured_celsius == pytest.approx(60, abs=3)
    assert double.wire.highest < 65
    holder.close()


def test_an_output_that_somebody_else_has_switched_off_is_not_switched_on_again(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(300.0, 50.0)
    until(lambda: holder.read().measured_celsius > 100, 5.0)
    double.answer(":OUTP 0")
    double.answer("*RST")
    until(lambda: bool(holder._task.fault))
    until(lambda: holder.read().state is HolderState.TRIPPED)
    assert not double.output


def _pass(holder: Any, double: Any, clock_s: float) -> None:
    end = double.clock.now_s() + clock_s
    while double.clock.now_s() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("wrong", [0.9, 1.1])
def test_an_r0_that_is_10_percent_off_is_found_while_the_heater_is_cold(
    double: Any, open_it: Any, until: Callable[..., None], wrong: float
) -> None:
    double.wire.r0 *= wrong  # at 800 °C it would be 130 °C wrong
    holder = open_it()
    holder.ramp(100.0, 50.0)
    until(lambda: "cold_within" in holder._task.fault)
    until(lambda: not double.output)


def test_a_stall_of_a_second_leaves_no_step_behind(
    double: Any, open_it: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = open_it()
    holder.ramp(600.0, 50.0)
    until(lambda: holder.read().measured_celsius > 200, 5.0)
    wires, stalled = holder._actuator._wires, []
    plain = wires.force

    def stall(wire: Any, amps: float) -> None:
        if not stalled:
            stalled.append(double.wire.celsius())
            time.sleep(0.2)  # 2 s of the clock, in which the setpoint would go 100 °C
        plain(wire, amps)

    monkeypatch.setattr(wires, "force", stall)
    until(lambda: bool(stalled))
    seen = []
    end = double.clock.now_s() + 4.0
    while double.clock.now_s() < end:
        before = double.clock.now_s()
        seen.append((before, double.wire._celsius, double.clock.now_s()))
        time.sleep(0.005)
    assert not holder._task.fault
    # a stall of less than 1 s of this clock is made up for: 50 °C beside the ramp's own way
    for earlier, later in itertools.pairwise(seen):
        assert later[1] - earlier[1] < 50.0 * (later[2] - earlier[0]) + 60.0


def test_an_interlock_is_heeded_from_the_reset_on_if_the_station_has_one(
    double: Any, open_it: Any
) -> None:
    holder = open_it(output_enable=True)
    assert holder.describe().details["output_enable"] == "yes"
    reset = double.received.index("*RST")
    enabled = next(k for k, line in enumerate(double.received) if ":OUTP:ENAB 1" in line)
    assert enabled > reset
    assert not any(":OUTP 1" in line for line in double.received[:enabled])


def test_a_device_that_does_not_take_the_interlock_is_not_used(double: Any, open_it: Any) -> None:
    ask = double._ask
    double._ask = lambda header: "0" if header == ":OUTP:ENAB?" else ask(header)
    with pytest.raises(InstrumentError, match="OUTP:ENAB"):
        open_it(output_enable=True)


def test_without_an_interlock_the_line_is_left_alone_and_the_highest_power_is_told(
    double: Any, open_it: Any
) -> None:
    details = open_it(maximum_current="5 mA", compliance="2 V").describe().details
    assert not any("ENAB" in line for line in double.received)
    assert details["maximum_power_mw"] == pytest.approx(10.0)
