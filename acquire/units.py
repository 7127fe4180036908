"""Unit strings to plain floats and back: pint behind pydantic types."""

from __future__ import annotations

import logging
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from acquire.errors import UnitError

if TYPE_CHECKING:
    import pint

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def registry() -> pint.UnitRegistry[float]:
    """The unit registry of hotstage: pint's, with electrons as a counted unit."""
    import pint

    ureg: pint.UnitRegistry[float]
    kept = platformdirs.user_cache_path("hotstage") / "units"
    try:
        # parsing pint's definitions takes a fifth of a second, at every start of every program
        ureg = pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=kept)
    except Exception as error:  # noqa: BLE001  no place for it, or half of a file
        logger.debug("units are read anew: %s", error)
        ureg = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    ureg.define("beam_electron = [beam_electron]")
    ureg.define("frame = [frame]")
    return ureg


# How a unit is written by people, and what pint calls it.
_SPELLINGS = (
    ("Δ°C", "delta_degC"),
    ("e-/", "beam_electron/"),
    ("e⁻/", "beam_electron/"),
    ("e/", "beam_electron/"),
    ("electrons/", "beam_electron/"),
    ("Å", "angstrom"),
    ("°C", "degC"),
    ("℃", "degC"),
    ("µ", "u"),
    ("μ", "u"),
    ("Ω", "ohm"),
    ("²", "**2"),
    ("³", "**3"),
    ("·", "*"),
)


# pint's tokenizer passes over characters that it does not know
_FOREIGN = re.compile(r"[^\w\s°℃ÅµμΩ²³⁻·%Δ*/^.()+-]")


def _pint_units(text: str) -> str:
    if _FOREIGN.search(text):
        raise UnitError(f"{text!r} is not a unit.")
    for written, name in _SPELLINGS:
        text = text.replace(written, name)
    if "/" in text or "*" in text:
        # in a compound unit a degree is a difference ("5 °C/s"), never a point on the scale
        text = _as_difference(text)
    return text


def _as_difference(text: str) -> str:
    return re.sub(r"(?<!delta_)degC", "delta_degC", text)


@lru_cache(maxsize=256)
def _unit(text: str) -> Any:
    return registry().Unit(_pint_units(text))


def convert(value: float, from_unit: str, to_unit: str) -> float:
    """Convert ``value`` between two unit strings; raises UnitError when the dimensions differ."""
    try:
        source, target = _unit(from_unit), _unit(to_unit)
        if source == target:
            return value
        return float(registry().Quantity(value, source).to(target).magnitude)
    except Exception as error:
        raise UnitError(f"{value:g} {from_unit} cannot be read in {to_unit}: {error}") from error


def parse(value: str | float, unit: str) -> float:
    """Read a quantity such as ``"5 °C/s"`` as a float in ``unit``.

    A bare number is refused, since its unit would be a guess, unless ``unit`` is ``"1"``.

    Raises:
        UnitError: names the text, what was expected, and an example.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"{value!r} is not a quantity; write for example {example(unit)!r}.")
    if not isinstance(value, str):
        if unit == "1":
            return _finite(float(value), repr(value), unit)
        meant = example(unit) if unit == "B" else f"{value} {unit}"  # nobody means 50 bytes
        raise UnitError(
            f"{value!r} has no unit; write it with one of [{unit}], for example {meant!r}."
        )
    text = value.strip()
    number, _, rest = _split(text)
    if number is None:
        raise UnitError(f"{value!r} is not a quantity; write for example {example(unit)!r}.")
    if not rest:
        return parse(number, unit)
    if unit.startswith("Δ") and rest in ("°C", "℃", "degC"):
        rest = "Δ°C"
    try:
        source = _unit(rest)
    except Exception as error:
        raise UnitError(
            f"{value!r}: the unit {rest!r} is not known; write for example {example(unit)!r}."
        ) from error
    if source.dimensionality != _unit(unit).dimensionality:
        raise UnitError(
            f"{value!r} is not of the right kind: a quantity in {unit} is needed, "
            f"for example {example(unit)!r}."
        )
    return _finite(convert(number, rest, unit), value, unit)


def _split(text: str) -> tuple[float | None, str, str]:
    """Split ``"2e8 e/nm²"`` into number and unit."""
    for end in range(len(text), 0, -1):
        try:
            number = float(text[:end])
        except ValueError:
            continue
        return number, text[:end], text[end:].strip()
    return None, "", text


def _finite(number: float, text: str, unit: str) -> float:
    if not math.isfinite(number):
        raise UnitError(f"{text!r} is not finite; write for example {example(unit)!r}.")
    return number


_EXAMPLES = {
    "°C": "700 °C",
    "Δ°C": "50 °C",
    "°C/s": "5 °C/s",
    "s": "20 min",
    "nm": "120 nm",
    "eV": "0.1 eV",
    "e/nm²": "2e8 e/nm²",
    "pA": "50 pA",
    "V": "300 kV",
    "mrad": "23 mrad",
    "B": "50 GB",
}


def example(unit: str) -> str:
    """A quantity in ``unit`` as a person would write it."""
    return _EXAMPLES.get(unit, f"1 {unit}")


def show(value: float, unit: str, digits: int = 4) -> str:
    """Write a quantity for people: ``show(700, "°C") == "700 °C"``."""
    number = f"{value:.{digits}g}" if math.isfinite(value) else "–"
    return number if unit in ("", "1") else f"{number} {unit}"


def show_duration(seconds: float) -> str:
    """Write a duration for people: ``2.5 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_bytes(count: float) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _quantity(unit: str) -> Any:
    """A pydantic type: a float in ``unit``, written as a unit string in files."""

    def read(value: object) -> float:
        try:
            return parse(value, unit)  # type: ignore[arg-type]
        except UnitError as error:
            raise ValueError(str(error)) from error

    def write(value: float) -> str | float:
        return value if unit == "1" else f"{value:.12g} {unit}"

    return (
        BeforeValidator(read),
        PlainSerializer(write),
        WithJsonSchema({"type": "string", "examples": [example(unit)], "unit": unit}),
    )


if TYPE_CHECKING:
    Celsius = float
    CelsiusDifference = float
    CelsiusPerSecond = float
    Seconds = float
    Nanometres = float
    ElectronVolts = float
    Milliradians = float
    ElectronsPerNm2 = float
    Bytes = float
else:
    Celsius = Annotated[float, *_quantity("°C")]
    CelsiusDifference = Annotated[float, *_quantity("Δ°C")]
    CelsiusPerSecond = Annotated[float, *_quantity("°C/s")]
    Seconds = Annotated[float, *_quantity("s")]
    Nanometres = Annotated[float, *_quantity("nm")]
    ElectronVolts = Annotated[float, *_quantity("eV")]
    Milliradians = Annotated[float, *_quantity("mrad")]
    ElectronsPerNm2 = Annotated[float, *_quantity("e/nm²")]
    Bytes = Annotated[float, *_quantity("B")]
