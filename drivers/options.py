"""Reads the options of a driver, as station files write them, with advice for what cannot be."""

from __future__ import annotations

import math

from acquire.errors import UnitError
from acquire.units import parse, show


def quantity(name: str, text: object, unit: str, low: float, high: float) -> float:
    """A unit string within limits, in ``unit``; raises TypeError, ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"{name} = {text!r} refused: write a text with a unit, as '1 {unit}'.")
    try:
        value = parse(text, unit)
    except UnitError as error:
        raise ValueError(f"{name}: {error}") from error
    if not low <= value <= high:
        raise ValueError(
            f"{name} = {text!r} refused: {show(low, unit)} to {show(high, unit)} is allowed."
        )
    return value


def number(name: str, value: object, low: float, high: float) -> float:
    """A plain number within limits; raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} = {value!r} refused: a number is needed.")
    if not low <= value <= high:
        raise ValueError(f"{name} = {value} refused: {low:g} to {high:g} is allowed.")
    return float(value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number within limits; raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} = {value!r} refused: a whole number is needed.")
    return int(number(name, value, low, high))


def switch(name: str, value: object) -> bool:
    """Yes or no; raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} = {value!r} refused: write true or false.")
    return value
