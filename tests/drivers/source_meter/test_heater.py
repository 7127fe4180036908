"""The source-meter heater follows setpoints, trips when it should, and is off when it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.errors import (
    ConfigError,
    FaultError,
    InstrumentError,
    LimitError,
    LinkError,
    UnitError,
)
from acquire.instruments import HolderState, SafeState
from acquire.station import DriverContext
from drivers.conformance import check_holder
from drivers.holders.source_meter import open_heater


def test_it_conforms(double: Any, open_it: Any) -> None:
    double.follow(WallClock(20.0))
    check_holder(open_it(), double.clock)
    assert not double.output


def test_heating_begins_with_compliance_four_wire_and_errors_read_before_the_output_is_on(
    double: Any, open_it: Any
) -> None:
    holder = open_it(compliance="4 V")
    del double.received[:]
    holder.ramp(100.0, 50.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    sent = double.received
    on = sent.index(":OUTP 1")
    for needed in (":SENS:VOLT:PROT 4.000000E+00", ":SYST:RSEN 1", ":OUTP:SMOD HIMP"):
        assert needed in sent[:on]
    assert ":SENS:VOLT:PROT?" in sent[:on]
    assert ":SYST:ERR?" in sent[:on]
    assert holder.describe().details["compliance_v"] == 4.0


def test_opening_switches_off_what_was_found_on(double: Any, open_it: Any) -> None:
    double.output = True
    holder = open_it()
    assert holder.read().state is HolderState.OFF
    assert not double.output


def test_closing_switches_off(double: Any, open_it: Any) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    holder.close()
    assert not double.output
    with pytest.raises(InstrumentError, match="closed"):
        holder.ramp(100.0, 10.0)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda d: d.break_wire(), "open heater"),
        (lambda d: setattr(d, "extra_status", 1 << 3), "compliance"),
        (lambda d: setattr(d, "extra_status", 1 << 18), "contact check"),
        (lambda d: setattr(d, "four_wire", False), "four-wire"),
        (lambda d: d.errors.append('+824,"Cannot exceed compliance range"'), "824"),
        (lambda d: setattr(d.wire, "r0", 300.0), "outside the calibration"),
        (lambda d: setattr(d.wire, "r0", 20.0), "outside the calibration"),
        (
            lambda d: setattr(d, "mangle", _with_reading(b"+9.910000E+37,+1.000000E-03")),
            "not a number",
        ),
        (lambda d: setattr(d, "frozen_time", 0.001), "an old one"),
        (lambda d: d._switch(False), "readings fail|found off|are forced"),
    ],
)
def test_a_heater_that_cannot_be_trusted_is_off_and_stays_off(
    double: Any, open_it: Any, until: Callable[..., None], harm: Callable[[Any], None], says: str
) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    harm(double)
    until(lambda: holder._task.fault)
    double.mangle = lambda reply: reply
    reading = _read_when_known(holder)
    assert not double.output
    assert reading.state is HolderState.TRIPPED
    assert _matches(says, reading.fault)
    with pytest.raises(FaultError, match="stays off"):
        holder.ramp(100.0, 10.0)


def test_over_temperature_trips(double: Any, open_it: Any, until: Callable[..., None]) -> None:
    holder = open_it(maximum_temperature="400 °C", deviation="500 °C")
    holder.ramp(390.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 6.0)
    double.wire.conductance = 7.4e-3
    until(lambda: not double.output)
    assert "above the driver's limit" in _read_when_known(holder).fault


def test_a_heater_that_cannot_follow_trips_for_its_deviation(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(maximum_current="2 mA", deviation="20 °C", deviation_time="200 ms")
    holder.ramp(900.0, 100.0)
    until(lambda: "from the setpoint" in _read_when_known(holder).fault, 10.0)
    assert not double.output


def test_a_wrong_chip_is_found_while_it_is_cold(double: Any, open_it: Any) -> None:
    double.wire.r0 = 170.0
    holder = open_it()
    holder.ramp(80.0, 100.0)
    assert "Is this the chip" in _tripped(holder).fault
    assert double.wire.highest < 60


def test_an_open_heater_is_found_before_it_is_heated(double: Any, open_it: Any) -> None:
    double.break_wire()
    holder = open_it()
    assert holder.read().measured_celsius != holder.read().measured_celsius  # NaN
    holder.ramp(80.0, 100.0)
    assert "open heater" in _tripped(holder).fault
    assert not double.output


def test_a_fault_can_be_cleared_only_when_its_cause_is_gone(double: Any, open_it: Any) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    double.break_wire()
    _tripped(holder)
    with pytest.raises(FaultError, match="persists"):
        holder.clear_fault()
    double.wire.broken = False
    holder.clear_fault()
    assert holder.read().state is HolderState.OFF
    assert holder.read().measured_celsius == pytest.approx(25, abs=3)
    holder.ramp(100.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)


def test_a_short_loss_of_the_link_is_survived_and_the_ramp_goes_on_from_where_it_was(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(patience="2 s")
    holder.ramp(400.0, 100.0)
    until(lambda: holder.read().setpoint_celsius > 100.0, 5.0)
    before = double.connections
    double.unplug()
    at = holder.read()
    double.clock.sleep(1.0)
    double.plug_in()
    until(lambda: double.connections > before)
    until(lambda: holder.read().t_s > at.t_s)
    later = holder.read()
    # for a second nobody listened; the ramp did not go on meanwhile
    gone = later.setpoint_celsius - at.setpoint_celsius
    assert gone <= 100.0 * (later.t_s - at.t_s - 0.8)
    _wait_for(holder, HolderState.HOLDING, 6.0)


def test_a_lasting_loss_of_the_link_trips_and_is_switched_off_as_soon_as_the_device_can_be_told(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(patience="50 ms")
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    double.unplug()
    until(lambda: holder._task.fault)
    with pytest.raises(LinkError, match="not known"):
        holder.read()
    assert double.output, "nobody can have switched it off"
    with pytest.raises(FaultError):
        holder.clear_fault()
    double.plug_in()
    until(lambda: not double.output)
    assert "readings fail" in _read_when_known(holder).fault


def test_make_safe_during_a_lost_link_returns_at_once_and_is_retried_until_it_is_confirmed(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it(patience="10 s")
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    double.unplug()
    begun = double.clock.now_s()
    holder.make_safe("test")
    assert double.clock.now_s() - begun < 0.5
    with pytest.raises(LinkError, match="not known"):
        holder.read()
    double.plug_in()
    until(lambda: not double.output)
    assert _read_when_known(holder).state is HolderState.OFF


def test_an_output_that_does_not_obey_is_told_again_and_never_said_to_be_off(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    double.deaf_to_off = True
    holder.make_safe("test")
    with pytest.raises(LinkError, match="did not"):
        holder.read()
    double.deaf_to_off = False
    until(lambda: not double.output)
    assert _read_when_known(holder).state is HolderState.OFF


def test_a_trip_while_cooling_switches_off_at_once(
    double: Any, open_it: Any, until: Callable[..., None]
) -> None:
    holder = open_it()
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    _wait_until_near(holder, 80.0)
    holder.arm_safe_state(SafeState(1.0, 30.0))
    holder.make_safe("test")
    assert holder.read().state is HolderState.MAKING_SAFE
    double.extra_status = 1 << 3
    until(lambda: not double.output)


@pytest.mark.parametrize(
    "mangle",
    [
        lambda reply: reply[:-8] + b"\n",  # dropped bytes
        lambda reply: b"\xff\xfe" + reply,
        lambda reply: reply + reply,  # doubled
        lambda reply: b"garbage" * 20,
        lambda reply: b"",
    ],
)
def test_a_spoilt_reply_is_never_taken_for_a_reading_nor_for_the_next_one(
    double: Any, open_it: Any, until: Callable[..., None], mangle: Callable[[bytes], bytes]
) -> None:
    holder = open_it(patience="3 s")
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    until(lambda: abs(holder.read().measured_celsius - 80) < 1)
    before = double.connections
    spoilt = []

    def once(reply: bytes) -> bytes:
        if not spoilt and b"," in reply and b";" in reply:
            spoilt.append(reply)
            return mangle(reply)
        return reply

    double.mangle = once
    until(lambda: double.connections > before)
    until(lambda: holder.read().t_s > double.clock.now_s() - 0.1)
    for _ in range(20):
        assert holder.read().measured_celsius == pytest.approx(80, abs=2)
        double.clock.sleep(0.01)
    assert holder.read().state is HolderState.HOLDING


def test_it_works_over_a_serial_line(double: Any, open_it: Any) -> None:
    holder = open_it(port=double.line())
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)
    _wait_until_near(holder, 80.0)


def test_it_works_with_another_terminator(double: Any, open_it: Any) -> None:
    double.mangle = lambda reply: reply.replace(b"\n", b"\r\n")
    holder = open_it(terminator="CRLF")
    holder.ramp(80.0, 100.0)
    _wait_for(holder, HolderState.HOLDING, 5.0)


def test_it_can_be_heated_again_to_where_it_was_before(double: Any, open_it: Any) -> None:
    holder = open_it()
    for _ in range(2):
        holder.ramp(80.0, 100.0)
        _wait_for(holder, HolderState.HOLDING, 5.0)
        _wait_until_near(holder, 80.0)
        holder.make_safe("test")
        _wait_for(holder, HolderState.OFF, 5.0)


def test_a_given_power_per_kelvin_needs_no_learning(double: Any, open_it: Any) -> None:
    holder = open_it(power_per_kelvin="8e-3 mW/K")
    holder.ramp(60.0, 20.0)
    assert holder.read().measured_celsius < 28
    _wait_for(holder, HolderState.HOLDING, 5.0)


@pytest.mark.parametrize(
    ("idn", "says"),
    [
        ("ACME,POWER 3000,1,2", "2400 class"),
        ("KEITHLEY INSTRUMENTS INC.,MODEL 2000,1,2", "2400 class"),
        ("nonsense", "not what was expected"),
    ],
)
def test_a_wrong_model_is_refused(double: Any, open_it: Any, idn: str, says: str) -> None:
    double.idn = idn
    with pytest.raises(InstrumentError, match=says):
        open_it()


def test_a_2450_is_used_in_its_2400_dialect_and_refused_in_its_own(
    double: Any, open_it: Any
) -> None:
    double.idn = "KEITHLEY INSTRUMENTS,MODEL 2450,04012345,1.7.0"
    assert open_it().read().state is HolderState.OFF
    double.language = "SCPI"
    with pytest.raises(InstrumentError, match=r"\*LANG SCPI2400"):
        open_it()


def test_a_device_that_takes_another_compliance_is_not_used(double: Any, open_it: Any) -> None:
    real = double._ask
    double._ask = lambda header: "2.1E+01" if header == ":SENS:VOLT:PROT?" else real(header)
    with pytest.raises(InstrumentError, match="was set"):
        open_it()


def test_nobody_there_is_said_in_time(clock: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.holders.heater_actuator.SETUP_WALL_S", 0.0)
    begun = clock.now_s()
    with pytest.raises(LinkError, match=r"cannot be reached.*switched on"):
        open_heater(
            DriverContext("holder", clock, "s.toml"),
            port="127.0.0.1:9",
            r0="120 Ω",
            alpha="1.9e-3 1/K",
            maximum_temperature="1000 °C",
            maximum_current="10 mA",
        )
    assert clock.now_s() - begun < 5 * clock.rate


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("r0", "-1 Ω"),
        ("r0", "120"),
        ("alpha", "2 1/K"),
        ("maximum_current", "2 A"),
        ("maximum_temperature", "5000 °C"),
        ("sense_current", "8 mA"),
        ("nplc", 1.0),
        ("nplc", float("nan")),
        ("period", "10 s"),
        ("port", ""),
        ("port", "127.0.0.1:99999"),
        ("terminator", "EOI"),
        ("baud_rate", 1),
        ("compliance", "500 V"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(open_it: Any, option: str, value: Any) -> None:
    with pytest.raises((ConfigError, UnitError, TypeError, ValueError)) as refused:
        open_it(**{"port": "127.0.0.1:9", option: value})
    assert len(str(refused.value)) > 20


def test_requests_beyond_the_options_are_refused(open_it: Any) -> None:
    holder = open_it(maximum_ramp_rate="50 °C/s")
    for target, rate in ((1001.0, 10.0), (20.0, 10.0), (100.0, 51.0), (float("nan"), 1.0)):
        with pytest.raises(LimitError, match="option"):
            holder.ramp(target, rate)
    with pytest.raises(LimitError):
        holder.arm_safe_state(SafeState(500.0))


# ------------------------------------------------------------------------------- helpers


def _with_reading(volts_and_amps: bytes) -> Callable[[bytes], bytes]:
    def mangle(reply: bytes) -> bytes:
        parts = reply.split(b",")
        return (
            b",".join([volts_and_amps, *parts[2:]]) if len(parts) > 3 and b";" in reply else reply
        )

    return mangle


def _matches(pattern: str, text: str) -> bool:
    return any(part in text for part in pattern.split("|"))


def _wait_for(holder: Any, state: HolderState, usual_s: float) -> None:
    clock = holder._clock
    end = clock.now_s() + 5 * usual_s  # on a busy machine; nothing is promised about it
    while (reading := holder.read()).state is not state:
        assert clock.now_s() < end, reading
        clock.sleep(0.01)


def _wait_until_near(holder: Any, celsius: float) -> None:
    """On a busy machine the temperature is regulated late, and follows its setpoint later."""
    end = holder._clock.now_s() + 10.0
    while abs((reading := holder.read()).measured_celsius - celsius) > 2.0:
        assert holder._clock.now_s() < end, reading
        holder._clock.sleep(0.01)


def _tripped(holder: Any) -> Any:
    _wait_for_trip(holder)
    return _read_when_known(holder)


def _wait_for_trip(holder: Any) -> None:
    end = holder._clock.now_s() + 3.0
    while _read_when_known(holder).state is not HolderState.TRIPPED:
        assert holder._clock.now_s() < end
        holder._clock.sleep(0.01)


def _read_when_known(holder: Any) -> Any:
    end = holder._clock.now_s() + 3.0
    while True:
        try:
            return holder.read()
        except LinkError:
            assert holder._clock.now_s() < end
            holder._clock.sleep(0.01)
