"""The Eurotherm's driver and its far end, which were written apart, with each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError
from acquire.farends import FarEndContext
from acquire.instruments import HolderState
from acquire.station.opened import DriverContext
from drivers.conformance import check_holder
from drivers.holders.eurotherm import open_eurotherm
from drivers.holders.regulated import RegulatedHolder
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.eurotherm import EurothermEnd, serve

RATE = 5.0
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[EurothermEnd]:
    made = serve(FarEndContext("oven", simulation.world.clock, simulation))
    yield made
    simulation.chip.mend()
    made.close()


@pytest.fixture(params=["rtu", "tcp"])
def holder(
    request: pytest.FixtureRequest, end: EurothermEnd, simulation: ExsolutionSimulation
) -> Iterator[RegulatedHolder]:
    made = open_eurotherm(
        DriverContext("holder", simulation.world.clock, "station.toml"),
        port=end.addresses[request.param],
        maximum_temperature="1000 °C",
        maximum_ramp_rate="100 °C/s",
    )
    yield made
    made.close()


def _celsius(simulation: ExsolutionSimulation) -> float:
    world = simulation.world
    return world.history.celsius(world.clock.now_s())


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def _hold(holder: RegulatedHolder, simulation: ExsolutionSimulation) -> None:
    holder.ramp(200.0, 100.0)
    _until(lambda: holder.read().state is HolderState.HOLDING)
    _until(lambda: _celsius(simulation) > 195)


def test_the_holder_conforms_and_wears_no_memory_out(
    holder: RegulatedHolder, end: EurothermEnd, simulation: ExsolutionSimulation
) -> None:
    before = end.instrument.memory_writes
    check_holder(holder, simulation.world.clock)
    assert end.instrument.memory_writes == before


@pytest.mark.parametrize("defect", ["lost_sense", "open_heater"])
def test_a_broken_sensor_or_heater_trips(
    holder: RegulatedHolder, simulation: ExsolutionSimulation, defect: str
) -> None:
    _hold(holder, simulation)
    simulation.chip.fail(simulation.world.clock.now_s(), defect)  # type: ignore[arg-type]
    _until(lambda: holder.read().state is HolderState.TRIPPED)
    assert holder.read().fault
    _until(lambda: _celsius(simulation) < 26)


def test_a_lost_line_lets_the_controller_fall_back_and_stays_off_when_it_is_back(
    holder: RegulatedHolder, end: EurothermEnd, simulation: ExsolutionSimulation
) -> None:
    _hold(holder, simulation)
    end.faults.unplug()
    _until(lambda: _celsius(simulation) < 55)
    end.faults.unplug(False)
    _until(lambda: holder.read().state in (HolderState.TRIPPED, HolderState.OFF))
    assert _celsius(simulation) < 55


@pytest.mark.parametrize("units", ["°F", "K"])
def test_a_controller_in_other_units_is_refused(
    simulation: ExsolutionSimulation, units: str
) -> None:
    end = serve(FarEndContext("oven", simulation.world.clock, simulation), units=units)
    try:
        with pytest.raises(InstrumentError, match=f"is set to {units}"):
            open_eurotherm(
                DriverContext("holder", simulation.world.clock, "station.toml"),
                port=end.addresses["tcp"],
                maximum_temperature="1000 °C",
            )
    finally:
        end.close()
