"""The source-meter's drivers and its far end, which were written apart, with each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from acquire.clock import WallClock
from acquire.errors import FaultError, LinkError
from acquire.farends import FarEndContext
from acquire.instruments import HeatingHolder, HolderReading, HolderState
from acquire.station.opened import DriverContext
from drivers.channels.source_meter import open_resistance
from drivers.conformance import check_holder
from drivers.holders.regulated import RegulatedHolder
from drivers.holders.source_meter import open_heater
from simulators.chip import Defect
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.source_meter import SourceMeterEnd, serve

RATE = 5.0
PATIENCE_S = 10.0
TARGET_CELSIUS = 200.0


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[SourceMeterEnd]:
    made = serve(FarEndContext("smu", simulation.world.clock, simulation))
    yield made
    simulation.chip.mend()
    made.close()


def _open(
    end: SourceMeterEnd, simulation: ExsolutionSimulation, *, output_enable: bool = False
) -> RegulatedHolder:
    chip = simulation.chip.settings
    return open_heater(
        DriverContext("holder", simulation.world.clock, "station.toml"),
        port=end.addresses["scpi"],
        r0=f"{chip.r0_ohm} Ω",
        alpha=f"{chip.alpha_per_k} 1/K",
        maximum_temperature="1000 °C",
        maximum_current="10 mA",
        output_enable=output_enable,
    )


@pytest.fixture
def holder(end: SourceMeterEnd, simulation: ExsolutionSimulation) -> Iterator[RegulatedHolder]:
    made = _open(end, simulation)
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


def _hold(holder: HeatingHolder) -> None:
    holder.ramp(TARGET_CELSIUS, 100.0)
    _until(lambda: holder.read().state is HolderState.HOLDING)


def _read(holder: HeatingHolder) -> HolderReading | None:
    try:
        return holder.read()
    except LinkError:
        return None  # not known for now


def test_the_heater_conforms(holder: RegulatedHolder, simulation: ExsolutionSimulation) -> None:
    check_holder(holder, simulation.world.clock)


def test_what_is_read_is_the_temperature_of_the_chip(
    holder: RegulatedHolder, simulation: ExsolutionSimulation
) -> None:
    _hold(holder)
    simulation.world.clock.sleep(1.0)
    assert holder.read().measured_celsius == pytest.approx(_celsius(simulation), abs=2)
    assert _celsius(simulation) == pytest.approx(TARGET_CELSIUS, abs=3)


@pytest.mark.parametrize("defect", ["open_heater", "lost_sense"])
def test_a_broken_wire_trips_and_the_chip_survives(
    holder: RegulatedHolder, simulation: ExsolutionSimulation, end: SourceMeterEnd, defect: Defect
) -> None:
    _hold(holder)
    simulation.chip.fail(simulation.world.clock.now_s(), defect)
    _until(lambda: holder.read().state is HolderState.TRIPPED)
    assert holder.read().fault
    assert not end.instrument.output
    with pytest.raises(FaultError):
        holder.ramp(100.0, 10.0)
    simulation.chip.mend()
    _until(lambda: _celsius(simulation) < 26)
    holder.clear_fault()
    _hold(holder)


@pytest.mark.parametrize("defect", ["overheat", "interlock"])
def test_an_instrument_that_switches_itself_off_trips(
    simulation: ExsolutionSimulation, end: SourceMeterEnd, defect: str
) -> None:
    holder = _open(end, simulation, output_enable=True)
    try:
        _hold(holder)
        getattr(end.instrument, defect)()
        assert not end.instrument.output  # by itself, whether or not anybody still watches
        _until(lambda: holder.read().state is HolderState.TRIPPED)
        getattr(end.instrument, defect)(False)
        assert not end.instrument.output
        assert end.instrument.settings.output_enable
    finally:
        holder.close()


@pytest.mark.parametrize(
    "fault", ["split", "slow", "duplicate", "drop", "garbage", "lose", "hang", "disconnect"]
)
def test_a_bad_reply_is_never_taken_for_a_good_one(
    holder: RegulatedHolder, end: SourceMeterEnd, simulation: ExsolutionSimulation, fault: str
) -> None:
    _hold(holder)
    for _ in range(2):
        end.faults.next(fault)
        suffered = sum(end.faults.counts.values())
        _until(lambda now=suffered: sum(end.faults.counts.values()) > now)  # type: ignore[misc]
    for _ in range(20):
        reading = _read(holder)
        if reading is not None and reading.state is HolderState.HOLDING:
            assert reading.measured_celsius == pytest.approx(TARGET_CELSIUS, abs=5)
        assert _celsius(simulation) < TARGET_CELSIUS + 5
        simulation.world.clock.sleep(0.05)
    holder.make_safe("the test ends")
    _until(lambda: (r := _read(holder)) is not None and r.state is not HolderState.HOLDING)
    _until(lambda: _celsius(simulation) < 26)


def test_make_safe_reaches_the_device_when_its_cable_is_back(
    holder: RegulatedHolder, end: SourceMeterEnd, simulation: ExsolutionSimulation
) -> None:
    _hold(holder)
    end.faults.unplug()
    holder.make_safe("the cable is out")
    assert end.instrument.output
    end.faults.unplug(False)
    _until(lambda: not end.instrument.output)
    _until(lambda: _celsius(simulation) < 26)


def test_the_films_resistance_is_read(
    end: SourceMeterEnd, simulation: ExsolutionSimulation
) -> None:
    clock = simulation.world.clock
    film = serve(FarEndContext("film", clock, simulation), measures="film", faults={"split": 0.3})
    channel = open_resistance(
        DriverContext("film", clock, "station.toml"), port=film.addresses["scpi"]
    )
    try:
        (told,) = (v for name, v in channel.read().items() if "resistance" in name)
    finally:
        channel.close()
        film.close()
    specimen = simulation.world.specimen
    sheet = specimen.resistivity_ohm_m(clock.now_s()) / (specimen.film.settings.thickness_nm * 1e-9)
    assert told == pytest.approx(0.22064 * sheet, rel=1e-3)
