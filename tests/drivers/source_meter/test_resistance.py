"""The resistance channel measures, says an open circuit clearly, and is off when it is made safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from acquire.errors import InstrumentError, LinkError
from acquire.instruments import Channel
from acquire.station import DriverContext
from drivers.channels.source_meter import ResistanceChannel, open_resistance


@pytest.fixture
def channel(double: Any) -> Iterator[ResistanceChannel]:
    double.wire.r0 = 5000.0
    context = DriverContext("film", double.clock, "station.toml")
    opened = open_resistance(context, port=double.listen(), current="10 µA", compliance="1 V")
    yield opened
    with suppress(InstrumentError):
        opened.close()


def test_it_measures_four_wire_and_tells_units(channel: ResistanceChannel, double: Any) -> None:
    assert isinstance(channel, Channel)
    values = channel.read()
    assert values["resistance"] == pytest.approx(5000, rel=2e-3)
    details = channel.describe().details
    assert {name: details[name] for name in values} == {
        "resistance": "Ω",
        "voltage": "V",
        "current": "A",
    }
    on = double.received.index(":OUTP 1")
    assert ":SENS:VOLT:PROT 1.000000E+00" in double.received[:on]
    assert ":SYST:RSEN 1" in double.received[:on]
    assert ":SYST:ERR?" in double.received[:on]


def test_an_open_circuit_is_said(channel: ResistanceChannel, double: Any) -> None:
    channel.read()
    double.break_wire()
    with pytest.raises(InstrumentError, match=r"open circuit, or a resistance above 1e\+05 Ω"):
        channel.read()
    double.wire.broken = False
    double._switch(double.output)
    assert channel.read()["resistance"] == pytest.approx(5000, rel=2e-3)


def test_make_safe_switches_off_and_the_next_reading_on(
    channel: ResistanceChannel, double: Any, until: Callable[..., None]
) -> None:
    channel.read()
    channel.make_safe("test")
    until(lambda: not double.output)
    until(lambda: not channel._keeper.unknown)
    assert channel.read()["resistance"] > 0
    assert double.output


def test_make_safe_without_a_link_is_retried_and_readings_say_that_it_is_not_known(
    channel: ResistanceChannel, double: Any, until: Callable[..., None]
) -> None:
    channel.read()
    double.unplug()
    channel.make_safe("test")
    with pytest.raises(LinkError, match="not confirmed"):
        channel.read()
    assert double.output
    double.plug_in()
    until(lambda: not double.output)


def test_closing_switches_off(channel: ResistanceChannel, double: Any) -> None:
    channel.read()
    channel.close()
    assert not double.output
    with pytest.raises(LinkError, match="closed"):
        channel.read()


def test_closing_without_a_link_says_that_it_is_not_known(
    channel: ResistanceChannel, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.channels.source_meter.CLOSE_WALL_S", 0.3)
    channel.read()
    double.unplug()
    with pytest.raises(LinkError, match="not known"):
        channel.close()


def test_a_doubled_reply_is_not_taken_for_the_next(channel: ResistanceChannel, double: Any) -> None:
    double.mangle = lambda reply: reply + reply if b";" in reply else reply
    first = channel.read()
    double.wire.r0 = 2500.0
    double.mangle = lambda reply: reply
    second = channel.read()
    assert second["resistance"] == pytest.approx(first["resistance"] / 2, rel=3e-3)
