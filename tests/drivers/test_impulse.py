"""The Impulse driver, against a hand-written double that speaks ZMQ and JSON as the facts have it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from acquire.clock import Clock, WallClock
from acquire.errors import ConfigError, FaultError, InstrumentError, LimitError, LinkError
from acquire.instruments import HolderReading, HolderState, SafeState
from acquire.station import DriverContext
from drivers.conformance import check_holder
from drivers.holders.impulse import ImpulseHolder, open_impulse

PERIOD_S = 0.02
UNITS = {
    "temperatureSetpoint": "°C",
    "temperatureMeasured": "°C",
    "powerMeasured": "mW",
    "currentMeasured": "A",
    "voltageMeasured": "V",
}


class Double:
    """Impulse as the facts describe it, in wall time, with faults on request."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], list[bytes] | None] | None = None
        self.status = "control"
        self.channels = ["heat", "events"]
        self.units = dict(UNITS)
        self.stop_holds = True
        self.publishing = True
        self.number = 0
        self.power_mw: float | None = None
        self._ramp = (0.0, 25.0, 0.0, 25.0)
        self._finish_due = False
        self._context = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._data = self._context.socket(zmq.PUB)
        for socket in (self._control, self._data):
            socket.linger = 0
        self.control = f"127.0.0.1:{self._control.bind_to_random_port('tcp://127.0.0.1')}"
        self.data = f"127.0.0.1:{self._data.bind_to_random_port('tcp://127.0.0.1')}"
        self._lock = threading.Lock()
        self._late: list[tuple[float, list[bytes]]] = []
        self._to_publish: list[list[bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def commands(self) -> list[dict[str, Any]]:
        """The requests that move something."""
        return [r for r in self.requests if r["$type"].startswith("control.heat")]

    def setpoint(self) -> float:
        begin, start, end, target = self._ramp
        now = time.monotonic()
        return target if now >= end else start + (target - start) * (now - begin) / (end - begin)

    def heat_to(self, celsius: float) -> None:
        now = time.monotonic()
        self._ramp = (now, celsius, now, celsius)

    def publish(self, *parts: bytes) -> None:
        with self._lock:
            self._to_publish.append(list(parts))

    def enter(self, status: str) -> None:
        self.status = status
        self.event(newState=status)

    def event(self, **fields: Any) -> None:
        self.publish(b"events", json.dumps(fields).encode())

    def close(self) -> None:
        self._ended.set()
        self._thread.join(2)
        for socket in (self._control, self._data):
            socket.close(linger=0)
        self._context.term()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            if self._control.poll(5):
                frames = self._control.recv_multipart()
                self._serve(frames[0], frames[-1])
            now = time.monotonic()
            for at, parts in [late for late in self._late if late[0] <= now]:
                self._control.send_multipart(parts)
                self._late.remove((at, parts))
            with self._lock:
                waiting, self._to_publish = self._to_publish, []
            for parts in waiting:
                self._data.send_multipart(parts)
            if now >= due and self.publishing:
                due = now + PERIOD_S
                self._publish_heat()

    def _serve(self, who: bytes, raw: bytes) -> None:
        request = json.loads(raw)
        self.requests.append(request)
        reply = self.answer(request) if self.answer is not None else None
        if reply is None:
            reply = [json.dumps(self.reply(request)).encode()]
        if reply == [b"never"]:
            return
        if reply[0].startswith(b"late "):
            body = json.dumps(self.reply(request)).encode()
            self._late.append((time.monotonic() + float(reply[0][5:]), [who, b"", body]))
            return
        self._control.send_multipart([who, b"", *reply])

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        kind = request["$type"]
        if kind == "control.impulse.getStatus":
            return {"resultCode": "ok", "data": {"status": self.status}}
        if kind == "control.impulse.getAvailableDataChannels":
            return {"resultCode": "ok", "data": {"activeChannels": self.channels}}
        if kind == "control.impulse.getAvailableProperties":
            names = ["sequenceNumber", "timeStamp", "experimentDuration", *self.units]
            return {"resultCode": "ok", "data": {"properties": names}}
        if kind == "control.impulse.getPropertyInformation":
            name = request["propertyName"]
            info = {"propertyName": name, "unit": self.units.get(name, ""), "precision": 3}
            return {"resultCode": "ok", "data": info}
        if self.status != "control":
            return {"resultCode": "invalidOperation", "message": "not in control"}
        now = time.monotonic()
        if kind == "control.heat.startRamp":
            self._ramp = (now, self.setpoint(), now + request["rampTime"], request["temperature"])
            self._finish_due = True
            return {"resultCode": "ok"}
        if kind == "control.heat.stopRamp":
            if self.stop_holds:
                self.heat_to(self.setpoint())
            return {"resultCode": "ok"}
        return {"resultCode": "badRequest"}

    def _publish_heat(self) -> None:
        setpoint = self.setpoint()
        power = 0.01 * (setpoint - 25) if self.power_mw is None else self.power_mw
        current = 1e-3
        message = {
            "sequenceNumber": self.number,
            "timeStamp": "2026-01-01T00:00:00",
            "temperatureSetpoint": setpoint,
            "temperatureMeasured": setpoint + 0.1,
            "powerMeasured": power,
            "currentMeasured": current,
            "voltageMeasured": current * 200.0,
        }
        self.number += 1
        self._data.send_multipart([b"heat", json.dumps(message).encode()])
        if self._finish_due and time.monotonic() >= self._ramp[2]:
            self._finish_due = False
            event = {"$type": "data.event.stimulusActionFinished", "stimulusType": "heat"}
            self._data.send_multipart([b"events", json.dumps(event).encode()])


@pytest.fixture
def double() -> Iterator[Double]:
    made = Double()
    yield made
    made.close()


def opened(double: Double, clock: Clock | None = None, **options: str) -> ImpulseHolder:
    settings = {"timeout": "0.3 s", "silence": "0.4 s", **options}
    context = DriverContext("holder", clock or WallClock(), "station.toml")
    return open_impulse(context, control=double.control, data=double.data, **settings)


@pytest.fixture
def holder(double: Double) -> Iterator[ImpulseHolder]:
    made = opened(double)
    yield made
    made.close()


def until(
    holder: ImpulseHolder, wanted: Callable[[HolderReading], bool], within_s: float = 3.0
) -> HolderReading:
    end = time.monotonic() + within_s
    while not wanted(reading := holder.read()):
        assert time.monotonic() < end, f"still {reading}"
        time.sleep(0.005)
    return reading


def wait(condition: Callable[[], bool], within_s: float = 3.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def is_off(reading: HolderReading) -> bool:
    return reading.state is HolderState.OFF


# ------------------------------------------------------------------ opening


def test_it_conforms(double: Double) -> None:
    clock = WallClock()
    holder = opened(double, clock, maximum_ramp_rate="1000 °C/s")
    try:
        check_holder(holder, clock, target_celsius=200.0, rate_celsius_per_s=150.0)
    finally:
        holder.close()


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
        opened(double, None, **{option: value})
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
    until(holder, lambda r: r.setpoint_celsius > 50)
    began = time.monotonic()
    holder.hold()
    assert time.monotonic() - began < 0.5
    frozen = holder.read()
    time.sleep(0.1)
    assert frozen.state is HolderState.HOLDING
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


def raises(call: Callable[[], object], error: type[Exception]) -> bool:
    try:
        call()
    except error:
        return True
    return False


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


def wait_readable(holder: ImpulseHolder) -> bool:
    wait(lambda: not raises(holder.read, InstrumentError))
    return True


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
    assert time.monotonic() - began < 0.1
    unsure = until(holder, lambda r: r.fault != "")
    assert unsure.state is HolderState.MAKING_SAFE
    assert "could not be told" in unsure.fault
    with pytest.raises(InstrumentError, match="on its way to its safe state"):
        holder.ramp(100.0, 10.0)
    double.answer = None
    assert until(holder, is_off).setpoint_celsius == 25.0


def test_make_safe_does_not_wait_for_a_command_that_hangs_and_has_the_last_word(
    double: Double, holder: ImpulseHolder
) -> None:
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
    wait(lambda: len(double.commands()) >= 2, within_s=0.2)  # before the ramp gave up
    thread.join()
    assert trouble
    until(holder, is_off)
    wait(lambda: len(double.commands()) >= 3)  # once more after it
    assert all(command["temperature"] == 25.0 for command in double.commands()[1:])


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
    holder.ramp(120.0, 200.0)
    until(holder, lambda r: r.state is HolderState.HOLDING)
    holder.arm_safe_state(SafeState(200.0, 60.0))
    holder.make_safe("test")
    holder.make_safe("again")
    assert until(holder, lambda r: r.target_celsius == 60.0).state is HolderState.MAKING_SAFE
    until(holder, is_off)
    ends = [(c["temperature"], c["rampTime"]) for c in double.commands()[1:]]
    assert ends == [(60.0, pytest.approx(0.3)), (25.0, 0.0)]


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


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except LinkError as error:
        return error
    return None


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


def test_closing_ends_even_if_impulse_is_gone() -> None:
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
