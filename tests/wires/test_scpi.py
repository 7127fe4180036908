"""SCPI of far ends: headers, compound messages, parameters; whatever comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.wires import scpi
from simulators.wires.scpi import ErrorQueue, ScpiError, Tree, Unit


def _tree() -> Tree[str]:
    tree: Tree[str] = Tree()
    for header in (
        "*RST",
        "*IDN?",
        ":SOURce[1]:CURRent[:LEVel][:IMMediate][:AMPLitude]",
        ":SOURce[1]:CURRent[:LEVel][:IMMediate][:AMPLitude]?",
        ":SOURce[1]:CURRent:RANGe",
        "[:SENSe[1]]:FUNCtion[:ON]",
        ":OUTPut[1][:STATe]",
    ):

        def handle(parameters: Sequence[str], header: str = header) -> str:
            return header.split("[")[0] + "(" + "|".join(parameters) + ")"

        tree.add(header, handle)
    return tree


def _run(message: str) -> list[str | int]:
    return [
        unit.code if isinstance(unit, ScpiError) else unit.handle(unit.parameters)
        for unit in _tree().parse(message)
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (":SOUR:CURR 1", [":SOURce(1)"]),
        ("sour1:current:lev:imm:ampl 1", [":SOURce(1)"]),
        (":SOUR:CURR 1;CURR:RANG 2", [":SOURce(1)", ":SOURce(2)"]),
        (":SOUR:CURR:RANG 2;LEV 1", [":SOURce(2)", ":SOURce(1)"]),
        (":SOUR:CURR 1;*RST;CURR:RANG 2", [":SOURce(1)", "*RST()", ":SOURce(2)"]),
        (":SOUR:CURR 1;:OUTP ON;", [":SOURce(1)", ":OUTPut(ON)"]),
        (":SENS:FUNC 'A;B', \"C,D\"", ["('A;B'|\"C,D\")"]),
        ("FUNC 'X'", ["('X')"]),
        (":SOUR:CURRE 1", [-113]),
        (":SOUR2:CURR 1", [-113]),
        (":SOUR:CURR 1;FOO 2;:OUTP 1", [":SOURce(1)", -113]),
        (":SENS:FUNC 'X", [-151]),
        ("", []),
        (" ; ;", []),
    ],
)
def test_messages_are_taken_apart_as_scpi_has_it(message: str, expected: list[str | int]) -> None:
    assert _run(message) == expected


@given(st.text(max_size=200))
@settings(max_examples=700, deadline=None)
def test_any_text_is_parsed_or_refused(message: str) -> None:
    for unit in _tree().parse(message):
        assert isinstance(unit, Unit | ScpiError)


@given(st.text(alphabet="0123456789+-.eEnaifNAIF _", max_size=12))
@settings(max_examples=700, deadline=None)
def test_a_number_is_finite_and_in_range_or_refused(text: str) -> None:
    try:
        value = scpi.number([text], -2.0, 3.0, 1.0)
    except ScpiError as error:
        refused = error.code
    else:
        refused = 0
        assert -2.0 <= value <= 3.0
        assert float(text) == value
    assert refused in (0, -104, -109, -222)


@pytest.mark.parametrize(("word", "value"), [("MIN", -2.0), ("maximum", 3.0), ("DEF", 1.0)])
def test_limits_and_defaults_have_names(word: str, value: float) -> None:
    assert scpi.number([word], -2.0, 3.0, 1.0) == value


@pytest.mark.parametrize(("word", "code"), [("2", -222), ("maybe", -104), ("", -109)])
def test_a_switch_is_on_or_off(word: str, code: int) -> None:
    assert [scpi.switch([w]) for w in ("ON", "0", "off", "1")] == [True, False, False, True]
    with pytest.raises(ScpiError) as caught:
        scpi.switch([word])
    assert caught.value.code == code


def test_positive_error_numbers_are_signed_and_set_their_events() -> None:
    queue = ErrorQueue()
    queue.clear()
    for code in (-113, -222, 803):
        queue.put(code)
    assert queue.standard_event == 0x30
    assert queue.take() == '-113,"Undefined header"'
    assert queue.take() == '-222,"Parameter data out of range"'
    assert queue.take() == '+803,"Not permitted with OUTPUT off"'
    assert queue.take() == '0,"No error"'
