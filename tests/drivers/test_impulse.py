"""The Impulse driver opens, ramps, holds and reads, against a hand-written double."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import pytest

from acquire.clock import WallClock
from acquire.errors import ConfigError, InstrumentError, LimitError, LinkError
from acquire.instruments import HolderState
from acquire.station import DriverContext
from drivers.holders.impulse import ImpulseHolder, open_impulse
from tests.drivers.impulse_double import (
    Double,
    is_off,
    opened,
    raises,
    until,
    wait,
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


# ------------------------------------------------------------------ opening


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("maximum_temperature", "2000 °C", "allowed"),
        ("maximum_temperature", "hot", "not a quantity"),
        ("maximum_ramp_rate", "5 °C", "right kind"),
        ("timeout", "0 s", "allowed"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_anything_is_sent(
    double: Double, option: str, value: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=f"holder.options.{option}.*{complaint}"):
        opened(double, **{option: value})
    assert double.requests == []


def test_nothing_that_listens_is_named_as_the_cause(double: Double) -> None:
    context = DriverContext("holder", WallClock(), "station.toml")
    began = time.monotonic()
    with pytest.raises(LinkError, match=r"cannot be reached.*not sent.*Is Impulse running"):
        open_impulse(context, control="127.0.0.1:9", data=double.data, timeout="0.2 s")
    assert time.monotonic() - began < 1.0


def test_impulse_without_control_is_refused_with_what_a_person_must_do(double: Double) -> None:
    double.status = "idle"
    with pytest.raises(InstrumentError, match=r"status is 'idle'.*Impulse window"):
        opened(double)


def test_a_holder_that_cannot_heat_is_refused(double: Double) -> None:
    double.channels = ["bias", "events"]
    with pytest.raises(InstrumentError, match="no heating holder: its channels are bias"):
        opened(double)


def test_temperatures_in_another_unit_are_refused(double: Double) -> None:
    double.units["temperatureSetpoint"] = "K"
    with pytest.raises(InstrumentError, match="temperatureSetpoint in 'K'"):
        opened(double)


def test_commands_that_are_answered_without_data_are_not_enough(double: Double) -> None:
    double.publishing = False
    with pytest.raises(LinkError, match=r"sends no heat data.*5556"):
        opened(double)


def test_a_holder_that_is_hot_when_found_is_not_said_to_be_off(double: Double) -> None:
    double.heat_to(500.0)
    holder = opened(double)
    try:
        reading = holder.read()
        assert (reading.state, reading.target_celsius) == (HolderState.HOLDING, 500.0)
        assert double.commands() == []
    finally:
        holder.close()
    assert double.commands()[-1]["temperature"] == 25.0


def test_units_are_read_and_not_assumed(double: Double) -> None:
    double.units.update(powerMeasured="W", currentMeasured="mA", voltageMeasured="furlong")
    double.power_mw = 0.25
    holder = opened(double)
    try:
        reading = holder.read()
        assert reading.power_mw == pytest.approx(250.0)
        assert math.isnan(reading.resistance_ohm)
    finally:
        holder.close()


# ------------------------------------------------------------------ ramps


def test_a_ramp_is_carried_out_by_impulse_and_followed_to_its_end(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(65.0, 100.0)
    assert double.commands() == [
        {"$type": "control.heat.startRamp", "temperature": 65.0, "rampTime": 0.4}
    ]
    half = until(holder, lambda r: r.setpoint_celsius > 35)
    assert half.state is HolderState.RAMPING
    assert half.target_celsius == 65.0
    end = until(holder, lambda r: r.state is HolderState.HOLDING)
    assert end.setpoint_celsius == 65.0
    assert end.resistance_ohm == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("target", "rate"),
    [(math.nan, 5.0), (math.inf, 5.0), (1300.1, 5.0), (20.0, 5.0), (100.0, 0.0), (100.0, math.nan)],
)
def test_what_is_beyond_the_limits_is_refused_and_nothing_is_sent(
    double: Double, holder: ImpulseHolder, target: float, rate: float
) -> None:
    with pytest.raises(LimitError, match="refused"):
        holder.ramp(target, rate)
    assert double.commands() == []


def test_a_value_that_impulse_refuses_is_a_limit_with_its_own_words(
    double: Double, holder: ImpulseHolder
) -> None:
    refusal = {
        "resultCode": "invalidInput",
        "message": "invalid request",
        "data": {"errors": [{"parameter": "temperature", "$type": "x", "description": "too hot"}]},
    }
    double.answer = lambda request: (
        [json.dumps(refusal).encode()] if "startRamp" in request["$type"] else None
    )
    with pytest.raises(LimitError, match="temperature: too hot"):
        holder.ramp(900.0, 100.0)
    double.answer = None
    assert holder.read().state is HolderState.OFF


def test_a_ramp_that_somebody_stopped_at_the_device_ends_where_it_is(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(1000.0, 100.0)
    time.sleep(0.4)  # a real part of the ramp
    double.heat_to(double.setpoint())
    double.event(**{"$type": "data.event.stimulusActionFinished", "stimulusType": "heat"})
    reading = until(holder, lambda r: r.state is HolderState.HOLDING)
    assert reading.target_celsius == reading.setpoint_celsius < 100.0


@pytest.mark.parametrize("stop_holds", [True, False])
def test_hold_freezes_the_setpoint_whatever_stop_ramp_does(
    double: Double, holder: ImpulseHolder, stop_holds: bool
) -> None:
    double.stop_holds = stop_holds
    holder.ramp(400.0, 100.0)
    until(holder, lambda r: r.setpoint_celsius > 60)
    began = time.monotonic()
    holder.hold()
    assert time.monotonic() - began < 0.5
    frozen = holder.read()
    time.sleep(0.1)
    assert frozen.state is HolderState.HOLDING
    # the controller freezes what it read last, which at 100 °C/s is some degrees behind
    assert 50 < frozen.setpoint_celsius < 100
    assert holder.read().setpoint_celsius == frozen.setpoint_celsius
    sent = [command["$type"].rpartition(".")[2] for command in double.commands()]
    assert sent == ["startRamp", "stopRamp"] + ([] if stop_holds else ["startRamp"])


def test_holding_what_is_off_sends_nothing(double: Double, holder: ImpulseHolder) -> None:
    holder.hold()
    assert double.commands() == []
    assert is_off(holder.read())


# ------------------------------------------------------------------ replies that go wrong


def test_a_request_without_a_reply_is_never_repeated_and_its_late_reply_never_taken(
    double: Double, holder: ImpulseHolder
) -> None:
    double.answer = lambda r: [b"late 0.45"] if "startRamp" in r["$type"] else None
    with pytest.raises(LinkError, match=r"did not answer control.heat.startRamp.*not known"):
        holder.ramp(300.0, 200.0)
    refused = {"resultCode": "invalidOperation", "message": "busy"}
    double.answer = lambda r: [json.dumps(refused).encode()] if "startRamp" in r["$type"] else None
    time.sleep(0.2)  # the late "ok" arrives now
    with pytest.raises(InstrumentError, match="busy"):
        holder.ramp(50.0, 200.0)
    double.answer = None
    assert [command["temperature"] for command in double.commands()] == [300.0, 50.0]


@pytest.mark.parametrize(
    "reply",
    [
        [b""],
        [b"\xff\xfe"],
        [b"[1, 2]"],
        [b'{"resultCode": 3}'],
        [b"{}"],
        [b'{"resultCode": "ok"}', b"and more"],
        [b"[" * 100_000],
    ],
)
def test_a_malformed_reply_is_an_error_and_shifts_nothing(
    double: Double, holder: ImpulseHolder, reply: list[bytes]
) -> None:
    double.answer = lambda r: reply if "startRamp" in r["$type"] else None
    with pytest.raises(LinkError, match="what it did is not known"):
        holder.ramp(100.0, 100.0)
    double.answer = None
    holder.ramp(50.0, 200.0)
    assert until(holder, lambda r: r.state is HolderState.HOLDING).setpoint_celsius == 50.0


@pytest.mark.parametrize(
    "parts",
    [
        (b"heat",),
        (b"heat", b"not json"),
        (b"heat", b"[]"),
        (b"heat", b'{"sequenceNumber": "x"}'),
        (b"heat", b'{"sequenceNumber": 99999999, "temperatureSetpoint": NaN}'),
        (b"heat", b'{"sequenceNumber": 99999999, "temperatureSetpoint": 5}'),
        (b"heater", b'{"sequenceNumber": 99999999}'),
        (b"heat", b"{}", b"three"),
        (b"events", b"5"),
        (b"events", b'{"newState": 5}'),
    ],
)
def test_malformed_data_are_left_out(
    double: Double, holder: ImpulseHolder, parts: tuple[bytes, ...]
) -> None:
    double.publish(*parts)
    seen = double.number
    wait(lambda: double.number > seen + 3)
    assert is_off(holder.read())
    assert holder.read().setpoint_celsius == 25.0


def test_a_late_or_doubled_measurement_is_not_the_newest(
    double: Double, holder: ImpulseHolder
) -> None:
    wait(lambda: double.number > 5)
    old = {"sequenceNumber": 2, "temperatureSetpoint": 999.0, "temperatureMeasured": 999.0}
    for _ in range(2):
        double.publish(b"heat", json.dumps(old).encode())
    for _ in range(20):
        assert holder.read().setpoint_celsius == 25.0
        time.sleep(0.005)


def test_silence_makes_readings_fail_instead_of_old(double: Double, holder: ImpulseHolder) -> None:
    double.publishing = False
    wait(lambda: raises(holder.read, LinkError))
    with pytest.raises(LinkError, match=r"no heat data.*not known"):
        holder.read()
    double.publishing = True
    wait(lambda: not raises(holder.read, LinkError))
    assert is_off(holder.read())


def test_impulse_that_was_started_anew_is_read_and_not_commanded(
    double: Double, holder: ImpulseHolder
) -> None:
    holder.ramp(400.0, 50.0)
    wait(lambda: double.number > 10)
    before = len(double.commands())
    double.heat_to(25.0)
    double.number = 0
    assert until(holder, is_off).setpoint_celsius == 25.0
    assert len(double.commands()) == before
