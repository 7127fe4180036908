"""The closed loop of the source-meter heater on the simulated chip meets its goals, in real time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from acquire.instruments import HolderReading, HolderState
from acquire.station import DriverContext
from drivers.holders.regulated import RegulatedHolder
from drivers.holders.source_meter import open_heater
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.source_meter import serve


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def simulation(clock: WallClock) -> ExsolutionSimulation:
    return build(clock, seed=1, draft=True)


@pytest.fixture
def holder(clock: WallClock, simulation: ExsolutionSimulation) -> Iterator[RegulatedHolder]:
    with ExitStack() as stack:
        end = serve(FarEndContext("meter", clock, simulation))
        stack.callback(end.close)
        opened = open_heater(
            DriverContext("holder", clock, "station.toml"),
            port=end.addresses["scpi"],
            r0="120 Ω",
            alpha="1.9e-3 1/K",
            maximum_temperature="1000 °C",
            maximum_current="10 mA",
            maximum_ramp_rate="400 °C/s",
        )
        stack.callback(opened.close)
        yield opened


def test_a_ramp_of_5_degrees_per_second_to_800_is_followed_within_2_with_readings_each_20_ms(
    holder: RegulatedHolder, clock: WallClock, simulation: ExsolutionSimulation
) -> None:
    holder.ramp(785.0, 400.0)
    _wait_until_it_holds(holder, clock)
    clock.sleep(0.3)
    holder.ramp(800.0, 5.0)
    readings = _record(holder, clock, 3.5)
    gaps = sorted(later.t_s - earlier.t_s for earlier, later in pairwise(readings))
    assert gaps[len(gaps) // 2] == pytest.approx(0.02, abs=0.003)
    assert max(abs(r.measured_celsius - r.setpoint_celsius) for r in readings) <= 2.0
    assert max(r.measured_celsius for r in readings) <= 803.0
    assert readings[-1].setpoint_celsius == 800.0
    truth = [simulation.world.history.celsius(r.t_s) for r in readings]
    assert max(abs(t - r.setpoint_celsius) for t, r in zip(truth, readings, strict=True)) <= 2.0
    assert max(truth) <= 803.0


# ------------------------------------------------------------------------------- helpers


def _wait_until_it_holds(holder: RegulatedHolder, clock: WallClock) -> None:
    end = clock.now_s() + 10.0
    while holder.read().state is not HolderState.HOLDING:
        assert clock.now_s() < end
        clock.sleep(0.02)


def _record(holder: RegulatedHolder, clock: WallClock, for_s: float) -> list[HolderReading]:
    readings = [holder.read()]
    end = clock.now_s() + for_s
    while clock.now_s() < end:
        reading = holder.read()
        if reading.t_s != readings[-1].t_s:
            readings.append(reading)
        clock.sleep(0.003)
    return readings
