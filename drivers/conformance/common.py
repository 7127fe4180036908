"""Checks and helpers that all kinds of instrument share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from acquire.clock import Clock
from acquire.errors import HotstageError
from acquire.instruments import (
    Description,
    Instrument,
    Limit,
)

AT_ONCE_WALL_S = 0.5
"""Longest that a command which returns at once, or the cut of an exposure, may take on the wall."""


def check_description(instrument: Instrument) -> Description:
    """The description is complete, its limits are ranges, its details are words and numbers."""
    found = instrument.describe()
    assert found.role, "describe().role is empty: name the role that the instrument plays."
    assert found.model, "describe().model is empty: say what the instrument is."
    assert found.driver, "describe().driver is empty: say which driver speaks to it."
    for limit in found.limits:
        assert limit.low <= limit.high, f"limit {limit} is not a range: low must not exceed high."
        assert limit.quantity, f"limit {limit} needs the quantity's standard name."
        assert limit.source, f"limit {limit} needs a source, where a person can change it."
    for key, value in found.details.items():
        # a flag is no number to a server, which lets no description through that holds one
        allowed = isinstance(value, str | int | float) and not isinstance(value, bool)
        assert allowed, f"detail {key!r} is {value!r}: text or a number; write yes or no."
    assert instrument.describe() == found, "describe() changes from call to call."
    return found


def at_once(clock: Clock, call: Callable[[], None], what: str) -> None:
    """The call takes neither wall time nor, beyond a grace, the clock's."""
    wall, now = time.monotonic(), clock.now_s()
    call()
    assert time.monotonic() - wall <= AT_ONCE_WALL_S, f"{what} must return at once; it waited."
    assert clock.now_s() - now <= grace_s(clock), f"{what} must return at once; it waited."


def grace_s(clock: Clock) -> float:
    """Clock seconds that pass while this machine does its work."""
    return AT_ONCE_WALL_S * clock.rate if math.isfinite(clock.rate) else 0.01


def refuses(call: Callable[[], object], error: type[HotstageError], what: str) -> None:
    """The call raises this kind of error, with a message that helps."""
    try:
        call()
    except error as raised:
        refusal = str(raised)
    except Exception as other:  # a wrong kind of error is what this is looking for
        raise AssertionError(f"{what} must raise {error.__name__}, not {other!r}.") from other
    else:
        raise AssertionError(f"{what} must raise {error.__name__}; it was accepted.")
    assert len(refusal) > 20, f"{what}: {refusal!r} does not say what is allowed."


def highest(description: Description, quantity: str) -> float:
    """The tightest upper limit of a quantity."""
    found: list[Limit] = [limit for limit in description.limits if limit.quantity == quantity]
    assert found, f"describe().limits has no {quantity!r}: every driver states what it can do."
    return min(limit.high for limit in found)
