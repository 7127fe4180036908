"""The guard switches a heater off, and keeps it off, when its readings cannot be trusted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from acquire.clock import VirtualClock
from acquire.errors import FaultError, LinkError
from acquire.guard import GuardedHolder, HolderLimits
from acquire.instruments import (
    Description,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
)

LIMITS = HolderLimits(1000.0, 100.0, 20.0, 5.0, "chip.toml, holder.limits")


class ScriptedHolder:
    """A holder whose next reading a test decides."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.reading = HolderReading(0, 700.0, 700.0, 700.0, 1, 100, HolderState.HOLDING)
        self.lost = False
        self.deaf = False
        self.made_safe: list[str] = []
        self.armed: list[SafeState] = []

    def describe(self) -> Description:
        return Description("holder", "scripted", "test")

    def check(self, request: RampRequest) -> None:
        pass

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        self.reading = replace(self.reading, target_celsius=target_celsius)

    def hold(self) -> None:
        pass

    def read(self) -> HolderReading:
        if self.lost:
            raise LinkError("the wire is cut")
        return replace(self.reading, t_s=self._clock.now_s())

    def arm_safe_state(self, safe_state: SafeState) -> None:
        self.armed.append(safe_state)
        if self.deaf:
            raise LinkError("no answer")

    def make_safe(self, reason: str) -> None:
        self.made_safe.append(reason)
        if self.deaf:
            raise LinkError("no answer")
        self.reading = replace(self.reading, state=HolderState.OFF)

    def clear_fault(self) -> None:
        pass


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def _after(clock: VirtualClock, holder: ScriptedHolder, wait_s: float) -> HolderReading | None:
    guarded = GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(wait_s)
        reading = None if holder.lost else guarded.read()
        if reading is not None and reading.state is HolderState.TRIPPED:
            with pytest.raises(FaultError, match="stays off"):
                guarded.ramp(100.0, 1.0)
    return reading


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measured_celsius": 1050.0}, "above the station's limit"),
        ({"measured_celsius": math.nan}, "not a number"),
        ({"measured_celsius": 650.0}, "from the setpoint"),
    ],
)
def test_a_bad_reading_trips_the_heater_and_latches(
    clock: VirtualClock, changes: dict[str, float], words: str
) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, **changes)
    reading = _after(clock, holder, 6.5)
    assert reading is not None
    assert reading.state is HolderState.TRIPPED
    assert words in reading.fault
    assert holder.made_safe
    assert holder.armed[-1] == SafeState(), "a trip switches off at once, without cooling slowly"


def test_a_deviation_shorter_than_allowed_does_not_trip(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, measured_celsius=650.0)
    reading = _after(clock, holder, 4.0)
    assert reading is not None
    assert reading.state is HolderState.HOLDING


def test_a_lost_holder_is_made_safe_by_the_watch_alone(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.lost = True
    _after(clock, holder, 1.0)
    assert "could not be read" in holder.made_safe[0]


def test_a_fault_clears_only_when_its_cause_is_gone(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, measured_celsius=1050.0)
    guarded = GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(1.0)
        holder.reading = replace(holder.reading, state=HolderState.HOLDING)
        with pytest.raises(FaultError):
            guarded.clear_fault()
        holder.reading = replace(holder.reading, measured_celsius=25.0, setpoint_celsius=25.0)
        guarded.clear_fault()
        guarded.ramp(100.0, 1.0)
    assert holder.reading.target_celsius == 100.0


def test_a_heater_that_did_not_hear_is_told_again_until_it_is_off(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, measured_celsius=1050.0)
    holder.deaf = True
    guarded = GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(2.0)
        assert len(holder.made_safe) >= 2
        holder.deaf = False
        clock.sleep(1.0)
        assert holder.reading.state is HolderState.OFF
        assert guarded.read().state is HolderState.TRIPPED


def test_a_tripped_heater_that_is_not_off_yet_is_never_said_to_be(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, measured_celsius=1050.0)
    holder.deaf = True
    guarded = GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(1.0)
        reading = guarded.read()
        assert reading.state is HolderState.MAKING_SAFE
        assert "above the station's limit" in reading.fault
        holder.reading = replace(
            holder.reading, state=HolderState.MAKING_SAFE, measured_celsius=700.0, fault="no answer"
        )
        assert guarded.read().fault.endswith("no answer")
        with pytest.raises(FaultError, match="not known to be off"):
            guarded.clear_fault()
        with pytest.raises(FaultError, match="stays off"):
            guarded.ramp(100.0, 1.0)


def test_the_watch_survives_whatever_a_driver_raises(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = ScriptedHolder(clock)

    def broken() -> HolderReading:
        raise OSError("the port is gone")

    monkeypatch.setattr(holder, "read", broken)
    GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(2.0)
    assert "the port is gone" in holder.made_safe[0]


def test_a_slow_way_down_is_watched_too(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(
        holder.reading, measured_celsius=math.nan, state=HolderState.MAKING_SAFE
    )
    reading = _after(clock, holder, 1.0)
    assert reading is not None
    assert reading.state is HolderState.TRIPPED


def test_a_fault_stays_while_the_heater_is_off_but_too_hot_or_silent(clock: VirtualClock) -> None:
    holder = ScriptedHolder(clock)
    holder.reading = replace(holder.reading, measured_celsius=1050.0)
    guarded = GuardedHolder(holder, LIMITS, clock)
    with clock.enrolled("test"):
        clock.sleep(1.0)
        assert holder.reading.state is HolderState.OFF
        with pytest.raises(FaultError, match="still above"):
            guarded.clear_fault()
        holder.lost = True
        with pytest.raises(LinkError):
            guarded.clear_fault()
        with pytest.raises(FaultError):
            guarded.ramp(100.0, 1.0)
