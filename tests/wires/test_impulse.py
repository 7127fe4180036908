"""The far end of Impulse, as any ZMQ client sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acquire.clock import WallClock
from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from acquire.instruments import HolderState
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.impulse import ImpulseFarEnd, serve
from simulators.wires.impulse_control import LONGEST_REQUEST, Impulse

RATE = 20.0
PATIENCE_S = 5.0


class Client:
    """A REQ and a SUB socket, as impulsePy has them; a REQ socket is made anew after a time-out."""

    def __init__(self, end: ImpulseFarEnd) -> None:
        self._end = end
        self._context = zmq.Context()
        self.control = self._connect()
        self.data: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        self.data.setsockopt(zmq.LINGER, 0)
        self.data.connect(f"tcp://{end.addresses['data']}")

    def _connect(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://{self._end.addresses['control']}")
        return socket

    def ask_bytes(self, request: bytes) -> bytes:
        self.control.send(request)
        if not self.control.poll(int(1000 * PATIENCE_S)):
            self.control.close()
            self.control = self._connect()
            raise TimeoutError
        return self.control.recv()

    def ask(self, kind: str, **parameters: Any) -> dict[str, Any]:
        reply = json.loads(self.ask_bytes(json.dumps({"$type": kind, **parameters}).encode()))
        assert isinstance(reply, dict)
        return reply

    def messages(self, topic: bytes) -> Iterator[dict[str, Any]]:
        self.data.setsockopt(zmq.SUBSCRIBE, topic)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.data.poll(100):
                name, body = self.data.recv_multipart()
                if name == topic:
                    yield json.loads(body)
        raise TimeoutError(topic)

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True)


@pytest.fixture
def start(simulation: ExsolutionSimulation) -> Iterator[Callable[..., ImpulseFarEnd]]:
    ends: list[ImpulseFarEnd] = []

    def make(**options: Any) -> ImpulseFarEnd:
        clock = simulation._world.clock
        ends.append(serve(FarEndContext("impulse", clock, simulation), **options))
        return ends[-1]

    yield make
    for end in ends:
        end.close()
        end.close()


@pytest.fixture
def end(start: Callable[..., ImpulseFarEnd]) -> ImpulseFarEnd:
    return start()


@pytest.fixture
def client(end: ImpulseFarEnd) -> Iterator[Client]:
    made = Client(end)
    yield made
    made.close()


def until(look: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


# ------------------------------------------------------------------------------ control


def test_it_says_that_scripts_are_in_control(client: Client) -> None:
    reply = client.ask("control.impulse.getStatus")
    assert reply["resultCode"] == "ok"
    assert reply["data"]["status"] == "control"


def test_every_property_of_every_channel_is_described(client: Client) -> None:
    channels = client.ask("control.impulse.getAvailableDataChannels")["data"]["activeChannels"]
    assert channels == ["heat"]
    names = client.ask("control.impulse.getAvailableProperties", channelName="heat")["data"]
    for name in names["properties"]:
        told = client.ask(
            "control.impulse.getPropertyInformation", channelName="heat", propertyName=name
        )
        assert told["data"]["propertyName"] == name
        assert isinstance(told["data"]["precision"], int)
        assert isinstance(told["data"]["unit"], str)


def test_a_ramp_takes_its_time_and_its_end_is_published(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    events = client.messages(b"events")
    heat = client.messages(b"heat")
    first = next(heat)
    reply = client.ask("control.heat.startRamp", temperature=225, rampTime=10)
    assert reply["resultCode"] == "ok"
    holder = simulation.chip
    begin_s = simulation._world.clock.now_s()
    assert holder.read(begin_s).state is HolderState.RAMPING
    finished = next(events)
    took_s = simulation._world.clock.now_s() - begin_s
    assert finished["$type"] == "data.event.stimulusActionFinished"
    assert finished["stimulusType"] == "heat"
    assert 9.0 < took_s < 10.0 + 1.0 * RATE
    last = next(m for m in heat if m["temperatureSetpoint"] == 225)
    assert last["sequenceNumber"] > first["sequenceNumber"]
    assert abs(last["temperatureMeasured"] - 225) < 5


def test_a_ramp_rate_is_taken_as_degrees_per_second(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    clock = simulation._world.clock
    client.ask("control.heat.startRamp", temperature=125.0, rampRate=2.0)
    a, t_a = simulation.chip.read(clock.now_s()).setpoint_celsius, clock.now_s()
    until(lambda: simulation.chip.read(clock.now_s()).setpoint_celsius > a + 20)
    t_b = clock.now_s()
    assert simulation.chip.read(t_b).setpoint_celsius - a == pytest.approx(2 * (t_b - t_a), rel=0.1)


def test_data_keep_current_voltage_and_power_consistent(client: Client) -> None:
    client.ask("control.heat.startRamp", temperature=600, rampTime=0)
    hot = next(m for m in client.messages(b"heat") if m["temperatureSetpoint"] == 600)
    power_mw = 1e3 * hot["currentMeasured"] * hot["voltageMeasured"]
    assert power_mw == pytest.approx(hot["powerMeasured"], abs=2e-3)
    assert hot["powerMeasured"] > 1
    assert hot["timeStamp"].endswith("+00:00")


def test_stopping_a_ramp_freezes_the_setpoint(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    clock = simulation._world.clock
    client.ask("control.heat.startRamp", temperature=1000, rampTime=100)
    until(lambda: simulation.chip.read(clock.now_s()).setpoint_celsius > 30)
    assert client.ask("control.heat.stopRamp")["resultCode"] == "ok"
    frozen = simulation.chip.read(clock.now_s())
    assert frozen.state is HolderState.HOLDING
    assert 30 < frozen.setpoint_celsius < 500
    assert client.ask("control.heat.stopRamp")["resultCode"] == "invalidOperation"


def test_stopping_may_jump_to_the_end_of_the_ramp(
    start: Callable[..., ImpulseFarEnd], simulation: ExsolutionSimulation
) -> None:
    client = Client(start(stop_ramp="jumps"))
    try:
        client.ask("control.heat.startRamp", temperature=1000, rampTime=1000)
        client.ask("control.heat.stopRamp")
        now_s = simulation._world.clock.now_s
        until(lambda: simulation.chip.read(now_s()).setpoint_celsius == 1000)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"temperature": 5000, "rampTime": 1}, "temperature"),
        ({"temperature": "hot", "rampTime": 1}, "temperature"),
        ({"temperature": True, "rampTime": 1}, "temperature"),
        ({"rampTime": 1}, "temperature"),
        ({"temperature": 100}, "rampTime"),
        ({"temperature": 100, "rampTime": 1, "rampRate": 1}, "rampTime"),
        ({"temperature": 100, "rampTime": -1}, "rampTime"),
        ({"temperature": 1300, "rampTime": 0.01}, "rampTime"),
        ({"temperature": 100, "rampRate": 0}, "rampRate"),
        ({"temperature": 10**400, "rampTime": 1}, "temperature"),
    ],
)
def test_invalid_parameters_are_named(
    client: Client, simulation: ExsolutionSimulation, parameters: dict[str, Any], wrong: str
) -> None:
    reply = client.ask("control.heat.startRamp", **parameters)
    assert reply["resultCode"] == "invalidInput"
    error = reply["data"]["errors"][0]
    assert error["parameter"] == wrong
    assert error["$type"].startswith("control.")
    assert error["description"]
    state = simulation.chip.read(simulation._world.clock.now_s()).state
    assert state is HolderState.OFF


@pytest.mark.parametrize(
    "kind",
    [
        "control.bias.getConfiguration",
        "control.gas.getConfiguration",
        "control.liquid.setLine",
        "control.profileController.controlProfile",
    ],
)
def test_devices_that_are_not_there_are_refused(client: Client, kind: str) -> None:
    assert client.ask(kind, action="start")["resultCode"] == "invalidOperation"


def test_a_profile_that_is_not_there_is_invalid_input(client: Client) -> None:
    reply = client.ask("control.profileController.loadProfile", path="C:/none.json")
    assert reply["resultCode"] == "invalidInput"
    assert reply["data"]["errors"][0]["parameter"] == "path"


def test_without_control_commands_are_refused_and_the_loss_is_published(
    client: Client, end: ImpulseFarEnd
) -> None:
    events = client.messages(b"events")
    next(client.messages(b"heat"))  # subscribed
    end.lose_control()
    lost = next(events)
    assert lost["newState"] == "noControl"
    assert next(events)["$type"] == "data.event.notificationRaised"
    assert client.ask("control.impulse.getStatus")["data"]["status"] == "noControl"
    refused = client.ask("control.heat.startRamp", temperature=100, rampTime=1)
    assert refused["resultCode"] == "invalidOperation"
    end.give_control()
    assert next(e for e in events if "newState" in e)["newState"] == "control"
    granted = client.ask("control.heat.startRamp", temperature=100, rampTime=1)
    assert granted["resultCode"] == "ok"


def test_it_may_begin_without_control(start: Callable[..., ImpulseFarEnd]) -> None:
    client = Client(start(control=False))
    try:
        assert client.ask("control.impulse.getStatus")["data"]["status"] == "noControl"
    finally:
        client.close()


def test_a_broken_heater_raises_a_popup_and_refuses_ramps(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    events = client.messages(b"events")
    heat = client.messages(b"heat")
    next(heat)
    simulation.chip.fail(simulation._world.clock.now_s(), "open_heater")
    assert next(events)["$type"] == "data.event.popupRaised"
    assert next(m for m in heat if m["temperatureMeasured"] is None)["powerMeasured"] == 0
    refused = client.ask("control.heat.startRamp", temperature=100, rampTime=1)
    assert refused["resultCode"] == "invalidOperation"


# ---------------------------------------------------------------------------- nonsense


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"7",
        b'{"$type": 3}',
        b'{"$type": "control.heat.explode"}',
        b'{"$type": "control.heat"}',
        b'{"$type": "control.heat.startRamp", "temperature": NaN, "rampTime": 1}',
        b"[" * 50_000,
        b'{"$type": "control.impulse.getStatus", "x": ' + b"1" * 6000 + b"}",
        b'{"$type": "' + b"x" * LONGEST_REQUEST + b'"}',
    ],
)
def test_nonsense_is_a_bad_request_and_the_next_one_is_answered(
    client: Client, request_bytes: bytes
) -> None:
    reply = json.loads(client.ask_bytes(request_bytes))
    assert reply["resultCode"] == "badRequest"
    assert client.ask("control.impulse.getStatus")["resultCode"] == "ok"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
kinds = st.sampled_from(
    [
        "control.heat.startRamp",
        "control.heat.stopRamp",
        "control.impulse.getAvailableProperties",
        "control.impulse.getPropertyInformation",
        "control.profileController.loadProfile",
    ]
)
names = st.sampled_from(
    ["temperature", "rampTime", "rampRate", "channelName", "propertyName", "path"]
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(raw=st.binary(max_size=200), kind=kinds, rest=st.dictionaries(names, json_values))
def test_whatever_is_asked_is_answered_in_json(
    simulation: ExsolutionSimulation, raw: bytes, kind: str, rest: dict[str, Any]
) -> None:
    holder: Any = simulation.instruments["holder"]
    impulse = Impulse(holder, simulation._world.clock)
    for request in (raw, json.dumps({"$type": kind, **rest}).encode()):
        reply = json.loads(impulse.answer(request), parse_constant=pytest.fail)
        assert reply["resultCode"] in ("ok", "badRequest", "invalidInput", "invalidOperation")
        assert isinstance(reply["message"], str)
        assert isinstance(reply["data"], dict)


def test_clients_that_speak_another_protocol_delay_nobody(
    end: ImpulseFarEnd, client: Client
) -> None:
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://{end.addresses['control']}")
        for _ in range(200):
            dealer.send_multipart([b"no", b"envelope"])
        dealer.send_multipart([b"", b"x" * (2 << 20)])
        asked = context.socket(zmq.REQ)
        asked.setsockopt(zmq.LINGER, 0)
        asked.connect(f"tcp://{end.addresses['control']}")
        asked.send(b'{"$type": "control.impulse.getStatus"}')
        asked.close()  # gone before its reply
        begin = time.monotonic()
        assert client.ask("control.impulse.getStatus")["resultCode"] == "ok"
        assert time.monotonic() - begin < 0.5
    finally:
        context.destroy(linger=0)


def test_two_clients_are_served(end: ImpulseFarEnd, client: Client) -> None:
    other = Client(end)
    try:
        for who in (client, other, client):
            assert who.ask("control.impulse.getStatus")["resultCode"] == "ok"
    finally:
        other.close()


# ------------------------------------------------------------------------------- faults


def test_a_lost_reply_stays_lost_and_the_next_one_comes(end: ImpulseFarEnd, client: Client) -> None:
    end.faults.next("lose")
    client.control.send(b'{"$type": "control.impulse.getStatus"}')
    assert not client.control.poll(200)
    fresh = Client(end)
    try:
        assert fresh.ask("control.impulse.getStatus")["resultCode"] == "ok"
    finally:
        fresh.close()


@pytest.mark.parametrize("fault", ["slow", "split", "duplicate"])
def test_slow_split_and_doubled_replies_are_whole(
    end: ImpulseFarEnd, client: Client, fault: str
) -> None:
    end.faults.next(fault)
    for _ in range(3):
        assert client.ask("control.impulse.getStatus")["data"]["status"] == "control"


def test_a_garbled_reply_is_garbled(end: ImpulseFarEnd, client: Client) -> None:
    end.faults.next("garbage")
    assert b"resultCode" not in client.ask_bytes(b'{"$type": "control.impulse.getStatus"}')


def test_after_the_cable_is_back_the_same_ports_answer(end: ImpulseFarEnd, client: Client) -> None:
    before = dict(end.addresses)
    client.ask("control.impulse.getStatus")
    end.faults.unplug()
    client.control.send(b'{"$type": "control.impulse.getStatus"}')
    assert not client.control.poll(300) or client.control.recv()
    end.faults.unplug(False)
    fresh = Client(end)
    try:
        assert fresh.ask("control.impulse.getStatus")["resultCode"] == "ok"
        assert next(fresh.messages(b"heat"))["sequenceNumber"] > 0
    finally:
        fresh.close()
    assert dict(end.addresses) == before


def test_a_silent_data_stream_is_silent(end: ImpulseFarEnd, client: Client) -> None:
    heat = client.messages(b"heat")
    next(heat)
    end.silent = True
    until(lambda: not client.data.poll(100) or not client.data.recv_multipart())
    end.silent = False
    assert next(heat)["sequenceNumber"] > 1


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "options",
    [{"period": "1 h"}, {"period": 3}, {"stop_ramp": "burns"}, {"faults": {"magic": 0.1}}],
)
def test_options_that_cannot_be_used_are_refused(
    start: Callable[..., ImpulseFarEnd], options: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, TypeError)):
        start(**options)


def test_ports_that_it_does_not_have_are_refused(simulation: ExsolutionSimulation) -> None:
    clock = simulation._world.clock
    with pytest.raises(ConfigError, match="control, data"):
        serve(FarEndContext("impulse", clock, simulation, {"socket": "127.0.0.1:0"}))


def test_a_port_that_is_taken_is_an_error(
    end: ImpulseFarEnd, simulation: ExsolutionSimulation
) -> None:
    wish = {"control": end.addresses["control"]}
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        serve(FarEndContext("impulse", simulation._world.clock, simulation, wish))
