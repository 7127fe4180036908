"""The far end of the source-meter speaks SCPI: headers, messages, errors, elements of a reading."""

from __future__ import annotations

import time

import pytest

from tests.wires.source_meter.conftest import Client


def test_it_says_who_it_is(client: Client) -> None:
    maker, model, _, _ = client.ask("*IDN?").split(",", 3)
    assert (maker, model) == ("KEITHLEY INSTRUMENTS INC.", "MODEL 2400")


@pytest.mark.parametrize(
    "header",
    [
        ":SOURCE:CURRENT:LEVEL:IMMEDIATE:AMPLITUDE",
        ":sour:curr",
        "SOUR1:CURR:LEV",
        "Source:Curr:Ampl",
    ],
)
def test_headers_come_short_long_and_in_any_case(client: Client, header: str) -> None:
    client.write(f"{header} 1e-3")
    assert float(client.ask(f"{header}?")) == pytest.approx(1e-3)
    assert client.errors() == []


def test_several_commands_and_queries_go_in_one_line(client: Client) -> None:
    client.write(":SOUR:FUNC CURR;CURR 2E-3;:SYST:RSEN ON;")
    assert client.ask(":SOUR:FUNC?;CURR?;*OPC?;:SYST:RSEN?") == "CURR;2.000000E-03;1;1"


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_messages_end_with_cr_or_lf_or_both(client: Client, ending: str) -> None:
    client.socket.sendall(f"*OPC?{ending}".encode())
    assert client.read() == "1"
    assert client.says_nothing()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":FOO:BAR 1", -113),
        (":SYST :ERR?", -113),
        (":SENS:VOLT:DC:RANG100", -113),
        ("*FOO", -113),
        (":SOUR:CURR", -109),
        (":SOUR:CURR 1,2", -108),
        ("*RST 1", -108),
        (":SOUR:CURR abc", -104),
        (":SOUR:CURR nan", -104),
        (":SOUR:CURR inf", -104),
        (":SOUR:CURR 1.06", -222),
        (":SOUR:CURR 1e999", -222),
        (":SENS:VOLT:PROT 211", -222),
        (":SENS:VOLT:NPLC 11", -222),
        (":OUTP:SMOD FLOAT", -224),
        (":SENS:FUNC 'VOLT", -151),
        ("\u00b5", -101),
        ("x" * 5000, -363),
    ],
)
def test_what_is_wrong_gets_its_number_and_nothing_changes(
    client: Client, message: str, code: int
) -> None:
    client.write("*RST", message)
    assert client.errors() == [code]
    assert client.ask(":SOUR:CURR?;:OUTP?") == "0.000000E+00;0"


def test_errors_queue_up_in_order_and_overflow(client: Client) -> None:
    client.write("*CLS", ":FOO", ":SOUR:CURR", *[":FOO"] * 12)
    errors = client.errors()
    assert errors[:3] == [-113, -109, -113]
    assert (len(errors), errors[-1]) == (10, -350)
    assert client.ask(":SYST:ERR?") == '0,"No error"'
    assert int(client.ask("*ESR?")) & 0x20
    assert client.ask("*ESR?") == "0"


def test_clearing_the_status_forgets_errors(client: Client) -> None:
    client.write(":FOO", "*CLS")
    assert client.ask(":SYST:ERR?") == '0,"No error"'


def test_reset_switches_off_and_goes_back_to_the_manuals_defaults(heating: Client) -> None:
    heating.write(":SOUR:CURR 1e-3", ":OUTP ON", "*RST")
    assert heating.ask(":OUTP?;:SOUR:FUNC?;:SYST:RSEN?;:SENS:VOLT:PROT?") == (
        "0;VOLT;0;2.100000E+01"
    )


def test_elements_are_told_in_their_own_order(heating: Client) -> None:
    heating.write(":FORM:ELEM TIME, RESISTANCE, CURRENT", ":SENS:FUNC 'RES'")
    heating.write(":SOUR:CURR 1e-3;:OUTP ON")
    assert heating.ask(":FORM:ELEM?") == "CURR,RES,TIME"
    ampere, ohm, _ = heating.reading()
    assert (ampere, ohm) == (pytest.approx(1e-3, rel=1e-4), pytest.approx(123, abs=2))


def test_what_is_not_measured_is_told_as_no_number(heating: Client) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON")
    assert heating.reading()[2] == 9.91e37


@pytest.mark.parametrize("clear", [b"\x03", b"\x18"])
def test_a_device_clear_ends_a_long_reading_and_its_reply(heating: Client, clear: bytes) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON;:SENS:VOLT:NPLC 10;:TRIG:COUN 2000")
    heating.write(":READ?")
    assert heating.says_nothing()
    heating.socket.sendall(clear)
    begin = time.monotonic()
    assert heating.ask("*OPC?") == "1"
    assert time.monotonic() - begin < 0.5
    heating.write(":TRIG:COUN 1")


def test_a_device_clear_forgets_a_message_that_was_not_complete(client: Client) -> None:
    client.socket.sendall(b":SOUR:CURR 1e\x03")
    assert client.ask(":SOUR:CURR?") == "0.000000E+00"
    assert client.errors() == []
