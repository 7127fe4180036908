"""The simulated heating chip: lag, resistance, power, states, faults."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.errors import FaultError, InstrumentError, LimitError
from acquire.instruments import HolderState, SafeState
from acquire.station import Station
from simulators.chip import ChipSettings, HeatingChip
from simulators.history import TemperatureHistory
from simulators.instruments import build


def _chip() -> tuple[HeatingChip, TemperatureHistory]:
    history = TemperatureHistory(0.0, 25.0)
    return HeatingChip(history, ChipSettings(), 1), history


def test_temperature_lags_a_ramp_by_the_time_constant() -> None:
    chip, history = _chip()
    chip.ramp(0.0, 825.0, 200.0)
    tau = ChipSettings().time_constant_s
    for t in (0.002, 0.004, 0.01):
        exact = 25 + 200 * (t - tau + tau * math.exp(-t / tau))
        assert history.celsius(t) == pytest.approx(exact, abs=0.02)
    assert chip.read(2.0).setpoint_celsius - history.celsius(2.0) == pytest.approx(
        200 * tau, abs=1e-3
    )
    assert history.celsius(4.1) == pytest.approx(825.0)


def test_switching_off_cools_with_the_time_constant() -> None:
    chip, history = _chip()
    chip.ramp(0.0, 825.0, 800.0)
    chip.make_safe(2.0)
    assert history.celsius(2.0 + 0.004) == pytest.approx(25 + 800 / math.e, rel=0.01)
    assert history.celsius(2.1) == pytest.approx(25.0)


def test_resistance_follows_its_calibration_and_carries_the_noise() -> None:
    chip, _ = _chip()
    chip.ramp(0.0, 700.0, 100.0)
    readings = [chip.read(20 + 0.1 * k) for k in range(2000)]
    measured = np.array([r.measured_celsius for r in readings])
    assert measured.mean() == pytest.approx(700.0, abs=0.01)
    assert measured.std() == pytest.approx(0.1, rel=0.1)
    mean_ohm = np.mean([r.resistance_ohm for r in readings])
    assert mean_ohm == pytest.approx(120 * (1 + 1.9e-3 * 675), rel=1e-5)
    assert chip.read(20.0) == readings[0]


def test_power_rises_faster_than_linearly() -> None:
    chip, _ = _chip()
    assert chip.power_mw(25.0) == 0.0
    assert chip.power_mw(1000) > 1.3 * 2 * chip.power_mw(512.5)
    chip.ramp(0.0, 900.0, 1000.0)
    assert chip.read(5.0).power_mw == pytest.approx(chip.power_mw(900.0))


def test_cooling_safe_state_is_linear_and_then_off() -> None:
    chip, history = _chip()
    chip.ramp(0.0, 725.0, 700.0)
    chip.arm_safe_state(SafeState(20.0, 100.0))
    chip.make_safe(10.0)
    chip.make_safe(15.0)  # does not begin anew
    assert chip.read(20.0).state is HolderState.MAKING_SAFE
    assert history.celsius(20.0) == pytest.approx(525.0, abs=0.5)
    with pytest.raises(InstrumentError, match="safe state"):
        chip.hold(20.0)
    end = chip.read(41.3)
    assert end.state is HolderState.OFF
    assert end.power_mw == 0.0
    assert history.celsius(41.4) == pytest.approx(25.0)


def test_a_trip_during_cooling_switches_off_at_once() -> None:
    chip, history = _chip()
    chip.ramp(0.0, 725.0, 700.0)
    chip.arm_safe_state(SafeState(20.0))
    chip.make_safe(10.0)
    chip.arm_safe_state(SafeState())
    chip.make_safe(12.0)
    assert chip.read(12.0).state is HolderState.OFF
    assert history.celsius(12.1) == pytest.approx(25.0)


def test_an_open_heater_is_latched_until_it_is_mended_and_cleared() -> None:
    chip, history = _chip()
    chip.ramp(0.0, 700.0, 100.0)
    chip.fail(10.0, "open_heater")
    reading = chip.read(11.0)
    assert reading.state is HolderState.TRIPPED
    assert "open" in reading.fault
    assert math.isnan(reading.measured_celsius)
    assert history.celsius(11.0) == pytest.approx(25.0)
    with pytest.raises(FaultError):
        chip.ramp(11.0, 100.0, 10.0)
    with pytest.raises(FaultError, match="persists"):
        chip.clear_fault(11.0)
    chip.mend()
    assert chip.read(12.0).state is HolderState.TRIPPED
    chip.clear_fault(12.0)
    assert chip.read(12.0).state is HolderState.OFF
    chip.ramp(12.0, 100.0, 10.0)


def test_a_lost_sense_wire_trips_the_stations_guard() -> None:
    clock = VirtualClock()
    with clock.enrolled("test"), Station.load("simulated").open(clock) as station:
        station.holder.ramp(300.0, 100.0)
        clock.sleep(5.0)
        simulation = station.simulation
        assert simulation is not None
        simulation.chip.fail(clock.now_s(), "lost_sense")  # type: ignore[attr-defined]
        clock.sleep(1.0)
        reading = station.holder.read()
        assert reading.state is HolderState.TRIPPED
        assert reading.power_mw == 0.0


def test_a_target_beyond_the_driver_is_refused_with_advice() -> None:
    clock = VirtualClock()
    with clock.enrolled("test"):
        holder = build(clock, seed=1).instruments["holder"]
        with pytest.raises(LimitError, match=r"1450 °C refused.*1300 °C"):
            holder.ramp(1450.0, 5.0)  # type: ignore[attr-defined]
