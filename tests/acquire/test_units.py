"""Quantities are read in any fitting unit and refused, with an example, in any other."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquire.errors import UnitError
from acquire.units import parse, registry, show_bytes, show_duration


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5 °C/s", "°C/s", 5.0),
        ("5 °C/min", "°C/s", 5 / 60),
        ("300 K", "°C", 26.85),
        ("50 °C", "Δ°C", 50.0),
        ("20 min", "s", 1200.0),
        ("1 µs", "s", 1e-6),
        ("2e8 e/nm²", "e/nm²", 2e8),
        ("2e6 e/Å²", "e/nm²", 2e8),
        ("120nm", "nm", 120.0),
        ("300 kV", "V", 3e5),
        ("0.2 nm/min", "nm/min", 0.2),
        (3, "1", 3.0),
    ],
)
def test_quantities_are_read_in_the_unit_asked_for(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        (700, "°C", "has no unit"),
        ("700", "°C", "has no unit"),
        ("hot", "°C", "is not a quantity"),
        ("5 nm", "°C", "not of the right kind"),
        ("5 °C", "°C/s", "not of the right kind"),
        ("5 furlong/fortnight!", "nm/min", "is not known"),
        ("nan °C", "°C", "not finite"),
        ("inf s", "s", "not finite"),
        (True, "s", "is not a quantity"),
        ("", "s", "is not a quantity"),
    ],
)
def test_anything_else_is_refused_with_its_value(text: object, unit: str, words: str) -> None:
    with pytest.raises(UnitError, match=words) as refusal:
        parse(text, unit)  # type: ignore[arg-type]
    assert repr(text) in str(refusal.value) or str(text) in str(refusal.value)


@given(st.text(max_size=20))
def test_no_text_whatever_raises_anything_but_a_unit_error(text: str) -> None:
    with contextlib.suppress(UnitError):
        assert isinstance(parse(text, "s"), float)


@given(st.floats(-1e12, 1e12), st.sampled_from(["°C", "s", "nm", "eV", "e/nm²", "°C/s"]))
def test_what_is_written_is_read_back(value: float, unit: str) -> None:
    assert parse(f"{value:.17g} {unit}", unit) == pytest.approx(value, rel=1e-12)


def test_durations_and_sizes_are_written_for_people() -> None:
    assert show_duration(2.5) == "2.5 s"
    assert show_duration(200) == "3 min 20 s"
    assert show_duration(3900) == "1 h 05 min"
    assert show_bytes(184_031_391) == "184 MB"


def test_what_is_kept_of_the_units_may_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquire.units.platformdirs.user_cache_path", lambda name: tmp_path / name)
    made_anew = registry.__wrapped__
    assert made_anew().Quantity(2.0, "kV").to("V").magnitude == pytest.approx(2000)
    kept = list(tmp_path.rglob("*.pickle"))
    assert kept
    for each in kept:
        each.write_bytes(each.read_bytes()[: each.stat().st_size // 2])
    assert made_anew().Quantity(2.0, "beam_electron/nm**2").to("beam_electron/angstrom**2")
    for each in kept:
        each.unlink()
        each.mkdir()
    assert made_anew().Quantity(2.0, "kV").to("V").magnitude == pytest.approx(2000)
