"""The Eurotherm driver ramps by remote setpoints, never writes the EEPROM, and is off when it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acquire.errors import ConfigError, FaultError, InstrumentError, LinkError, UnitError
from acquire.instruments import HolderState
from drivers.conformance import check_holder

TARGET_SETPOINT = (2, 0x8000 + 2 * 2, 0x8000 + 2 * 2 + 1)


@pytest.mark.parametrize("wire", ["rtu over tcp", "modbus tcp", "serial"])
def test_it_conforms_on_every_wire(double: Any, open_it: Any, wire: str) -> None:
    ports = {
        "rtu over tcp": double.listen,
        "modbus tcp": lambda: double.listen(tcp=True),
        "serial": double.line,
    }
    holder = open_it(ports[wire](), baud_rate=115200)
    check_holder(holder, double.clock, tolerance_celsius=12.0)
    assert double.registers[199] == 1
    assert not [address for address, _ in double.written if address in TARGET_SETPOINT]


def test_a_controller_without_standby_is_off_at_a_remote_setpoint_of_ambient(
    double: Any, open_it: Any
) -> None:
    del double.registers[199]
    holder = open_it()
    check_holder(holder, double.clock, tolerance_celsius=12.0)
    assert double.working == 25.0
    assert holder.describe().details["off_is"] == "remote setpoint at ambient"


def test_floats_are_written_high_word_first_at_twice_the_address(double: Any, open_it: Any) -> None:
    holder = open_it()
    del double.written[:]
    holder.ramp(100.0, 50.0)
    _wait_for(holder, HolderState.HOLDING)
    holder.read()
    # 100.0 is 0x42C80000
    assert (0x8000 + 52, (0x42C8, 0x0000)) in double.written
    assert (276, (1,)) in double.written


def test_the_remote_setpoint_is_refreshed_while_it_holds_and_while_it_is_off(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    for _ in range(2):
        del double.written[:]
        until(lambda: len([1 for address, _ in double.written if address == 0x8000 + 52]) > 3)
        holder.ramp(60.0, 50.0)
        _wait_for(holder, HolderState.HOLDING)


@pytest.mark.parametrize(
    ("bit", "says"),
    [
        (0x10, "manual"),
        (0x20, "sensor break|not a number"),
        (0x40, "loop break"),
        (0x80, "heater fail"),
        (0x100, "load fail"),
        (0x400, "out of range"),
        (0x4000, "remote setpoint fail"),
    ],
)
def test_a_fault_of_the_controller_switches_off_and_is_cleared_only_when_it_is_gone(
    double: Any, open_it: Any, until: Callable[..., None], bit: int, says: str
) -> None:
    holder = open_it()
    holder.ramp(100.0, 50.0)
    _wait_for(holder, HolderState.HOLDING)
    double.registers[75] = bit
    until(lambda: holder._task.fault)
    reading = _read_when_known(holder)
    assert reading.state is HolderState.TRIPPED
    assert any(part in reading.fault for part in says.split("|"))
    assert not double.heating
    with pytest.raises(FaultError, match="persists"):
        holder.clear_fault()
    double.registers[75] = 0
    holder.clear_fault()
    assert holder.read().state is HolderState.OFF
    assert (274, (1,)) in double.written


def test_a_setpoint_that_is_not_taken_trips(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(100.0, 50.0)
    _wait_for(holder, HolderState.HOLDING)
    double.registers[276] = 0  # somebody presses local
    until(lambda: holder._task.fault)
    assert "Is it in local" in _read_when_known(holder).fault


def test_a_furnace_that_does_not_follow_trips(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    double.follows = False
    holder = open_it(deviation="30 °C", deviation_time="1 s")
    holder.ramp(300.0, 50.0)
    until(lambda: "from the setpoint" in _read_when_known(holder).fault)


def test_a_controller_that_would_heat_on_its_own_is_refused(double: Any, open_it: Any) -> None:
    double.floats[2] = 400.0
    with pytest.raises(InstrumentError, match=r"400 °C.*Lower it at the controller"):
        open_it()


def test_a_controller_with_a_rate_limit_of_its_own_is_refused(double: Any, open_it: Any) -> None:
    double.registers[35] = 20
    with pytest.raises(InstrumentError, match="rate limit"):
        open_it()


@pytest.mark.parametrize("code", [0x1234, 0x5000])
def test_another_device_is_refused(double: Any, open_it: Any, code: int) -> None:
    double.registers[122] = code
    with pytest.raises(InstrumentError, match="no Eurotherm"):
        open_it()


def test_a_controller_that_does_not_tell_its_type_is_used(double: Any, open_it: Any) -> None:
    del double.registers[122]
    assert open_it().read().state is HolderState.OFF


def test_a_silent_unit_is_said_in_time(double: Any, open_it: Any) -> None:
    with pytest.raises(LinkError, match="address and baud rate"):
        open_it(unit=7)


def test_opening_switches_off_what_was_found_operating(double: Any, open_it: Any) -> None:
    double.registers[276] = 1
    double.floats[26] = 500.0
    open_it()
    assert not double.heating


def test_operating_although_nobody_switched_it_on_trips(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.read()
    double.registers[199] = 0
    until(lambda: holder._task.fault)
    assert "found operating" in _read_when_known(holder).fault
    assert double.registers[199] == 1


def test_a_lost_link_trips_and_is_switched_off_when_it_is_back(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(patience="50 ms")
    holder.ramp(100.0, 50.0)
    _wait_for(holder, HolderState.HOLDING)
    double.unplug()
    until(lambda: holder._task.fault)
    with pytest.raises(LinkError, match="not known"):
        holder.read()
    double.plug_in()
    until(lambda: not double.heating)
    assert _read_when_known(holder).state is HolderState.TRIPPED


@pytest.mark.parametrize(
    "mangle",
    [
        lambda reply: reply[:-1],
        lambda reply: reply + reply,
        lambda reply: bytes([reply[0] ^ 3]) + reply[1:],
        lambda reply: reply[:4] + bytes([reply[4] ^ 1]) + reply[5:],
        lambda reply: b"\x01\x83\x04" + b"\x40\xf3",
        lambda reply: b"\x00" * 300,
        lambda reply: b"",
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_a_spoilt_reply_is_never_taken_for_a_reading(
    double: Any,
    open_it: Any,
    until: Callable[..., None],
    mangle: Callable[[bytes], bytes],
    tcp: bool,
) -> None:
    holder = open_it(double.listen(tcp=tcp), patience="5 s")
    holder.ramp(60.0, 50.0)
    _wait_for(holder, HolderState.HOLDING)
    double.clock.sleep(1.0)
    spoilt = []

    def once(reply: bytes) -> bytes:
        if not spoilt and len(reply) > 20:
            spoilt.append(reply)
            return mangle(reply)
        return reply

    double.mangle = once
    until(lambda: bool(spoilt))
    since = double.clock.now_s()
    until(lambda: holder.read().t_s > since)
    for _ in range(10):
        assert holder.read().measured_celsius == pytest.approx(60, abs=2)
        double.clock.sleep(0.1)
    assert holder.read().state is HolderState.HOLDING


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("maximum_temperature", "9000 °C"),
        ("maximum_temperature", "900"),
        ("unit", 0),
        ("unit", "1"),
        ("period", "1 ms"),
        ("fallback_limit", "1200 °C"),
        ("port", "tcp://127.0.0.1"),
        ("baud_rate", 1),
        ("units", "°F"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(open_it: Any, option: str, value: Any) -> None:
    with pytest.raises((ConfigError, UnitError, TypeError, ValueError)) as refused:
        open_it(**{"port": "127.0.0.1:9", option: value})
    assert len(str(refused.value)) > 20


@pytest.mark.parametrize(("told", "units"), [(1, "°F"), (2, "K")])
@pytest.mark.parametrize("options", [{}, {"units": "°C"}])
def test_a_controller_that_shows_other_units_is_switched_off_and_refused(
    double: Any, open_it: Any, told: int, units: str, options: dict[str, str]
) -> None:
    double.registers[516] = told
    double.registers[276] = 1
    double.floats[26] = 300.0
    assert double.heating
    with pytest.raises(InstrumentError, match=f"is set to {units}.*°C"):
        open_it(**options)
    assert double.registers[199] == 1
    assert not double.heating


@pytest.mark.parametrize("told", [None, 3, 4])
def test_a_controller_that_does_not_tell_its_units_is_taken_at_a_persons_word(
    double: Any, open_it: Any, told: int | None
) -> None:
    del double.registers[516]
    if told is not None:
        double.registers[516] = told
    with pytest.raises(InstrumentError, match='units = "°C"'):
        open_it()
    assert open_it(units="°C").describe().details["units"] == "°C, as stated in the station"


def test_the_units_it_tells_are_in_the_description(open_it: Any) -> None:
    assert open_it().describe().details["units"] == "°C"


def test_units_that_were_changed_while_it_was_off_keep_it_off(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.read()
    double.registers[516] = 1
    holder.ramp(100.0, 50.0)
    until(lambda: holder._task.fault)
    assert "°F" in _read_when_known(holder).fault
    assert not double.heating


# ------------------------------------------------------------------------------- helpers


def _wait_for(holder: Any, state: HolderState) -> None:
    end = holder._clock.now_s() + 60.0
    while (reading := holder.read()).state is not state:
        assert holder._clock.now_s() < end, reading
        holder._clock.sleep(0.1)


def _read_when_known(holder: Any) -> Any:
    end = holder._clock.now_s() + 60.0
    while True:
        try:
            return holder.read()
        except LinkError:
            assert holder._clock.now_s() < end
            holder._clock.sleep(0.1)
