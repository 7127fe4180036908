"""The Impulse driver and its far end, which were written apart, with each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError
from acquire.farends import FarEndContext
from acquire.instruments import HolderReading, HolderState, SafeState
from acquire.station import DriverContext
from drivers.conformance import check_holder
from drivers.holders.impulse import ImpulseHolder, open_impulse
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.impulse import ImpulseFarEnd, serve

RATE = 10.0
PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture(params=["holds", "jumps"])
def stop_ramp(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def listening(simulation: ExsolutionSimulation, **options: object) -> ImpulseFarEnd:
    context = FarEndContext("impulse", simulation.world.clock, simulation)
    return serve(context, **options)  # type: ignore[arg-type]


def opened(end: ImpulseFarEnd, simulation: ExsolutionSimulation) -> ImpulseHolder:
    return open_impulse(
        DriverContext("holder", simulation.world.clock, "station.toml"),
        control=end.addresses["control"],
        data=end.addresses["data"],
        timeout="1 s",
        silence="1 s",
    )


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[ImpulseFarEnd]:
    made = listening(simulation)
    yield made
    made.close()


@pytest.fixture
def holder(end: ImpulseFarEnd, simulation: ExsolutionSimulation) -> Iterator[ImpulseHolder]:
    made = opened(end, simulation)
    yield made
    end.silent = False
    end.faults.clear()
    end.give_control()
    made.close()


def until(holder: ImpulseHolder, wanted: Callable[[HolderReading], bool]) -> HolderReading:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(InstrumentError):  # a link that is not back yet among them
            reading = holder.read()
            if wanted(reading):
                return reading
        assert time.monotonic() < give_up
        time.sleep(0.01)


def fails(holder: ImpulseHolder) -> str:
    """What the first reading that fails says."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        try:
            holder.read()
        except InstrumentError as error:
            return f"{type(error).__name__}: {error}"
        time.sleep(0.01)
    return ""


def celsius(simulation: ExsolutionSimulation) -> float:
    return simulation.world.history.celsius(simulation.world.clock.now_s())


def test_the_driver_conforms_on_the_wire(simulation: ExsolutionSimulation, stop_ramp: str) -> None:
    end = listening(simulation, stop_ramp=stop_ramp)
    holder = opened(end, simulation)
    try:
        check_holder(holder, simulation.world.clock)
    finally:
        holder.close()
        end.close()


def test_what_is_read_is_what_the_chip_is(
    holder: ImpulseHolder, simulation: ExsolutionSimulation
) -> None:
    holder.ramp(300.0, 200.0)
    reading = until(holder, lambda r: r.state is HolderState.HOLDING)
    assert reading.measured_celsius == pytest.approx(celsius(simulation), abs=1.0)
    assert reading.resistance_ohm == pytest.approx(simulation.chip.resistance_ohm(300.0), rel=0.01)
    assert reading.power_mw == pytest.approx(simulation.chip.power_mw(300.0), rel=0.05)


@pytest.mark.parametrize("fault", ["lose", "garbage", "drop", "duplicate", "slow", "split"])
def test_a_reply_that_goes_wrong_spoils_no_later_one(
    holder: ImpulseHolder, end: ImpulseFarEnd, fault: str
) -> None:
    end.faults.next(fault)
    with contextlib.suppress(InstrumentError):
        holder.ramp(80.0, 100.0)
    end.faults.clear()
    holder.ramp(60.0, 100.0)
    reading = until(holder, lambda r: r.state is HolderState.HOLDING)
    assert reading.setpoint_celsius == pytest.approx(60.0)


def test_a_lost_reply_does_not_keep_the_heater_from_being_made_safe(
    holder: ImpulseHolder, end: ImpulseFarEnd, simulation: ExsolutionSimulation
) -> None:
    holder.ramp(400.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    end.faults.hang()
    holder.make_safe("test")
    time.sleep(0.1)
    end.faults.clear()
    until(holder, lambda r: r.state is HolderState.OFF)
    assert celsius(simulation) < 30.0


def test_lost_control_is_said_and_the_heater_made_safe_as_soon_as_it_is_back(
    holder: ImpulseHolder, end: ImpulseFarEnd, simulation: ExsolutionSimulation
) -> None:
    holder.ramp(500.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    end.lose_control()
    said = fails(holder)
    assert "not in control" in said
    assert "Impulse window" in said
    holder.make_safe("control was lost")
    assert until(holder, lambda r: r.fault != "").state is HolderState.MAKING_SAFE
    end.give_control()
    until(holder, lambda r: r.state is HolderState.OFF)
    assert celsius(simulation) < 30.0


def test_a_silent_stream_is_said(holder: ImpulseHolder, end: ImpulseFarEnd) -> None:
    end.silent = True
    said = fails(holder)
    assert said.startswith("LinkError")
    assert "no heat data" in said
    end.silent = False
    until(holder, lambda r: r.state is HolderState.OFF)


def test_a_far_end_that_comes_back_is_read_and_not_commanded(
    simulation: ExsolutionSimulation,
) -> None:
    end = listening(simulation)
    holder = opened(end, simulation)
    where = dict(end.addresses)
    try:
        holder.ramp(300.0, 200.0)
        until(holder, lambda r: r.state is HolderState.HOLDING)
        end.close()
        holder.arm_safe_state(SafeState())
        holder.make_safe("the link is gone")
        end = serve(FarEndContext("impulse", simulation.world.clock, simulation, where))
        until(holder, lambda r: r.state is HolderState.OFF)
        assert celsius(simulation) < 30.0
    finally:
        holder.close()
        end.close()
