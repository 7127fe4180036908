"""The Impulse driver loses control, makes safe and closes, against a hand-written double."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acquire.errors import FaultError, InstrumentError, LimitError, LinkError
from acquire.instruments import HolderState, SafeState
from drivers.holders.impulse import ImpulseHolder
from drivers.holders.impulse import holder as impulse_holder
from tests.drivers.impulse_double import (
    Double,
    error_of,
    is_off,
    opened,
    raises,
    until,
    wait,
    wait_readable,
)


@pytest.fixture
def double() -> Iterator[Double]:
    made = Double()
    yield made
    made.close()


@pytest.fixture
def holder(double: Double) -> Iterator[ImpulseHolder]:
    made = opened(double)
    yield made
    made.close()


# ------------------------------------------------------------------ loss of control


def test_lost_control_fails_readings_and_commands_with_what_a_person_must_do(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(400.0, 100.0)
    until(holder, lambda r: r.setpoint_celsius > 40)
    double.enter("manual")
    wait(lambda: raises(holder.read, InstrumentError))
    for call in (holder.read, holder.hold, lambda: holder.ramp(50.0, 10.0)):
        with pytest.raises(InstrumentError, match=r"status is 'manual'.*Impulse window"):
            call()
    with pytest.raises(FaultError, match="manual"):
        holder.clear_fault()
    double.enter("control")
    reading = until(holder, lambda r: True) if wait_readable(holder) else None
    assert reading is not None
    assert reading.state is HolderState.HOLDING
    holder.clear_fault()


def test_control_that_was_lost_without_an_event_is_found_out_by_a_command(
    double: Double, holder: ImpulseHolder
) -> None:
    double.status = "manual"
    with pytest.raises(InstrumentError, match=r"status is 'manual'.*Impulse window"):
        holder.ramp(100.0, 100.0)


# ------------------------------------------------------------------ the safe state


def test_make_safe_returns_at_once_while_impulse_does_not_answer_and_goes_on_until_it_does(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(100.0, 1000.0 / 5)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    double.answer = lambda r: [b"never"]
    began = time.monotonic()
    holder.make_safe("test")
    assert time.monotonic() - began < 0.25
    unsure = until(holder, lambda r: r.fault != "")
    assert unsure.state is HolderState.MAKING_SAFE
    assert "could not be told" in unsure.fault
    with pytest.raises(InstrumentError, match="on its way to its safe state"):
        holder.ramp(100.0, 10.0)
    double.answer = None
    assert until(holder, is_off).setpoint_celsius == 25.0


def test_make_safe_does_not_wait_for_a_command_that_hangs_and_has_the_last_word(
    double: Double,
) -> None:
    holder = opened(double, timeout="1 s")

    def hang(request: dict[str, Any]) -> list[bytes] | None:
        heats = "startRamp" in request["$type"] and request["temperature"] > 25
        return [b"never"] if heats else None

    double.answer = hang
    trouble: list[Exception] = []

    def ramp() -> None:
        try:
            holder.ramp(500.0, 100.0)
        except LinkError as error:
            trouble.append(error)

    thread = threading.Thread(target=ramp)
    thread.start()
    wait(lambda: len(double.commands()) == 1)
    holder.make_safe("test")
    wait(lambda: len(double.commands()) >= 2)
    assert not trouble  # it came before the ramp gave up
    thread.join()
    assert trouble
    until(holder, is_off)
    wait(lambda: len(double.commands()) >= 3)  # once more after it
    assert all(command["temperature"] == 25.0 for command in double.commands()[1:])
    holder.close()


def test_a_command_that_is_carried_out_after_it_was_made_safe_does_not_stay(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(60.0, 200.0)
    holder.make_safe("test")
    until(holder, is_off)
    double.heat_to(700.0)
    wait(lambda: double.setpoint() == 25.0)
    until(holder, is_off)


def test_off_waits_for_the_power_to_go(double: Double, holder: ImpulseHolder) -> None:
    holder.ramp(60.0, 200.0)
    double.power_mw = 30.0
    holder.make_safe("test")
    wait(lambda: double.setpoint() == 25.0)
    time.sleep(0.1)
    assert holder.read().state is HolderState.MAKING_SAFE
    double.power_mw = 0.0
    until(holder, is_off)


def test_a_cooling_safe_state_is_a_ramp_and_then_room_temperature(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(75.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    holder.arm_safe_state(SafeState(150.0, 60.0))
    holder.make_safe("test")
    holder.make_safe("again")
    assert until(holder, lambda r: r.target_celsius == 60.0).state is HolderState.MAKING_SAFE
    until(holder, is_off)
    ends = [(c["temperature"], c["rampTime"]) for c in double.commands()[1:]]
    assert ends == [(60.0, pytest.approx(0.1)), (25.0, 0.0)]


def test_a_safe_state_at_once_overtakes_a_cooling_one(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(120.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    holder.arm_safe_state(SafeState(1.0, 25.0))
    holder.make_safe("slowly")
    wait(lambda: len(double.commands()) == 2)
    holder.arm_safe_state(SafeState())
    holder.make_safe("now")
    until(holder, is_off, within_s=1.0)


def test_a_cooling_beyond_the_limits_is_not_armed(holder: ImpulseHolder) -> None:
    with pytest.raises(LimitError):
        holder.arm_safe_state(SafeState(1e6, 25.0))


def test_make_safe_is_not_silent_about_not_knowing(double: Double, holder: ImpulseHolder) -> None:
    holder.ramp(100.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    double.publishing = False
    holder.make_safe("test")
    wait(lambda: double.commands()[-1]["temperature"] == 25.0)
    wait(lambda: raises(holder.read, LinkError))
    wait(lambda: "not known" in str(error_of(holder.read)))
    double.publishing = True
    wait(lambda: not raises(holder.read, LinkError))
    until(holder, is_off)


# ------------------------------------------------------------------ the end


def test_closing_leaves_the_heater_at_room_temperature_and_nothing_running(double: Double) -> None:
    before = threading.active_count()
    holder = opened(double)
    holder.ramp(600.0, 200.0)
    holder.arm_safe_state(SafeState(1.0, 25.0))
    holder.close()
    holder.close()
    assert double.commands()[-1] == {
        "$type": "control.heat.startRamp",
        "temperature": 25.0,
        "rampTime": 0.0,
    }
    wait(lambda: threading.active_count() == before)
    holder.make_safe("closed")
    for call in (holder.read, lambda: holder.ramp(50.0, 5.0)):
        with pytest.raises(LinkError, match="closed"):
            call()


def test_closing_ends_even_if_impulse_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impulse_holder, "CLOSE_PATIENCE_S", 0.5)
    double = Double()
    holder = opened(double)
    holder.ramp(100.0, 200.0)
    double.close()
    began = time.monotonic()
    holder.close()
    assert time.monotonic() - began < 5.0


def test_many_threads_may_call_at_once(double: Double, holder: ImpulseHolder) -> None:
    errors: list[BaseException] = []

    def work(call: Callable[[], object]) -> None:
        try:
            for _ in range(10):
                call()
        except (LimitError, InstrumentError) as error:
            if "safe state" not in str(error):
                errors.append(error)

    calls: list[Callable[[], object]] = [
        holder.read,
        holder.read,
        lambda: holder.ramp(80.0, 150.0),
        holder.hold,
        holder.describe,
    ]
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert errors == []
    holder.make_safe("enough")
    until(holder, is_off)


# ------------------------------------------------------------------ commands that come late


def test_made_safe_while_a_ramp_without_a_reply_may_still_begin_it_does_not_stay_hot(
    double: Double, holder: ImpulseHolder
) -> None:
    def lose(request: dict[str, Any]) -> list[bytes] | None:
        if "startRamp" in request["$type"] and request["temperature"] > 25:
            return [b"never"]
        return None

    double.answer = lose
    with pytest.raises(LinkError):
        holder.ramp(700.0, 100.0)
    until(holder, is_off)
    holder.make_safe("the ramp failed")
    until(holder, is_off)
    double.heat_to(700.0)  # Impulse carries out what it had not answered
    wait(lambda: double.setpoint() == 25.0)
    until(holder, is_off)


def test_a_cooling_that_impulse_does_not_carry_out_is_ended_at_once(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(500.0, 200.0)
    until(holder, lambda r: r.setpoint_celsius > 200)
    holder.arm_safe_state(SafeState(5.0, 25.0))  # more than half a minute
    holder.make_safe("test")
    wait(lambda: len(double.commands()) == 2)
    double.heat_to(double.setpoint())  # somebody stopped it in the Impulse window
    until(holder, is_off, 6.0)


def test_a_ramp_to_room_temperature_without_a_ramp_time_may_be_refused(
    double: Double, holder: ImpulseHolder
) -> None:
    def refuse(request: dict[str, Any]) -> list[bytes] | None:
        if "startRamp" in request["$type"] and request["rampTime"] <= 0:
            error = {"parameter": "rampTime", "description": "must be above 0"}
            data = {"resultCode": "invalidInput", "message": "no", "data": {"errors": [error]}}
            return [json.dumps(data).encode()]
        return None

    double.answer = refuse
    holder.ramp(60.0, 200.0)
    holder.make_safe("test")
    until(holder, is_off)
