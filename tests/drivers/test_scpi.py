"""What a source-meter may send is parsed exactly or refused, and never something in between."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquire.errors import InstrumentError
from drivers import scpi
from drivers.links import MalformedReply

READING = "+1.000236E+00,+1.000000E-04,+7.282600E+01,+4.194304E+06"


def test_the_manuals_example_is_read() -> None:
    reading = scpi.reading(READING)
    assert (reading.volts, reading.amps, reading.time_s) == (1.000236, 1e-4, 72.826)
    assert reading.status & scpi.STATUS_REMOTE_SENSE
    assert reading.resistance_ohm == pytest.approx(10002.36)
    assert reading.power_mw == pytest.approx(0.1000236)


def test_overflow_is_no_number() -> None:
    reading = scpi.reading(READING.replace("+1.000236E+00", "+9.910000E+37"))
    assert math.isnan(reading.volts)
    assert math.isnan(reading.resistance_ohm)


@given(st.integers(0, len(READING) - 1))
def test_a_reading_that_lost_a_byte_is_refused(at: int) -> None:
    with pytest.raises(MalformedReply):
        scpi.reading(READING[:at] + READING[at + 1 :])


@given(st.integers(0, len(READING)))
def test_a_reading_that_was_cut_is_refused(at: int) -> None:
    with pytest.raises(MalformedReply):
        scpi.reading(READING[:at] if at < len(READING) else READING + ",")


@given(st.text(max_size=80))
def test_anything_else_is_refused_with_an_error_of_ours(text: str) -> None:
    for parse in (scpi.reading, scpi.identify, scpi.error_entry):
        with suppress(InstrumentError):
            parse(text)


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        ('-113,"Undefined header"', -113, "Undefined header"),
        ('-113, "Undefined header"', -113, "Undefined header"),
        ('0,"No error"', 0, "No error"),
        ('+802,"OUTPUT blocked by output enable"', 802, "OUTPUT blocked by output enable"),
    ],
)
def test_entries_of_the_error_queue_are_read(reply: str, code: int, text: str) -> None:
    assert scpi.error_entry(reply) == (code, text)


@pytest.mark.parametrize("reply", ['0,"No err', "0", '"No error"', '0,No error"', ""])
def test_a_damaged_entry_of_the_error_queue_is_refused(reply: str) -> None:
    with pytest.raises(MalformedReply):
        scpi.error_entry(reply)


def test_a_time_stamp_is_newer_also_when_the_device_starts_over() -> None:
    assert scpi.newer(2.0, 1.0)
    assert not scpi.newer(1.0, 1.0)
    assert not scpi.newer(1.0, 2.0)
    assert scpi.newer(0.02, 99999.99)
