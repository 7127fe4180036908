"""What DM scripts are made of: values, variables and functions, for their parser and their library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


class ScriptError(Exception):
    """A script that is not understood, or failed; says where and why."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a script can name."""

    id: int
    name: str
    width: int
    height: int
    rotation_deg: float = 0.0
    """Of the scan, clockwise."""


@dataclass(frozen=True, slots=True)
class Tags:
    """A tag group; scripts only hand it on."""


Value = float | str | Image | Tags


@dataclass(slots=True)
class Reference:
    """A variable that a function sets."""

    scope: dict[str, Value | None]
    name: str

    def set(self, value: Value) -> None:
        """Give it a value."""
        self.scope[self.name] = value


@dataclass(frozen=True, slots=True)
class Callee:
    """A function of DM: what it takes, and what it does.

    ``takes`` names every argument's kind: ``number``, ``string``, ``image``, ``tags``, or with a
    leading ``&`` a variable of that kind, which ``call`` gets as a :class:`Reference`. ``call``
    raises ScriptError when the function fails.
    """

    takes: tuple[str, ...]
    call: Callable[..., Value | None]


Library = Mapping[str, Sequence[Callee]]
"""Functions by their name in lower case; several if a name takes different arguments."""


class Left(Exception):
    """A script came to an ``Exit``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value


@dataclass(slots=True)
class Scope:
    """The variables of a running script, by their names in lower case."""

    values: dict[str, Value | None] = field(default_factory=dict)


Expression = Callable[[Scope], Value | None]
Statement = Callable[[Scope], None]

KINDS: dict[str, type] = {"number": float, "string": str, "image": Image, "tags": Tags}


def checked(value: Value | None, kind: str) -> Value:
    """A value that is of a kind; raises ScriptError."""
    if isinstance(value, int | float):
        value = float(value)
    if value is None or not isinstance(value, KINDS[kind]):
        raise ScriptError(f"{value!r} is no {kind}")
    return value


def number(value: Value | None) -> float:
    """A value that is a number; raises ScriptError."""
    if not isinstance(value, int | float):
        raise ScriptError(f"{value!r} is no number")
    return float(value)


def lazy(a: Expression, b: Expression, *, stop_at: bool) -> Expression:
    """``||`` (stop at true) or ``&&`` (stop at false)."""

    def value(scope: Scope) -> Value:
        if (number(a(scope)) != 0) is stop_at:
            return float(stop_at)
        return float(number(b(scope)) != 0)

    return value


def arithmetic(sign: str, a: Expression, b: Expression) -> Expression:
    """``+ - * / ^`` of numbers, and ``+`` of texts."""

    def value(scope: Scope) -> Value:
        left, right = a(scope), b(scope)
        if sign == "+" and (isinstance(left, str) or isinstance(right, str)):
            return _text(left) + _text(right)
        x, y = number(left), number(right)
        try:
            match sign:
                case "+":
                    return x + y
                case "-":
                    return x - y
                case "*":
                    return x * y
                case "/":
                    return x / y
                case _:
                    return math.pow(x, y)
        except (ArithmeticError, ValueError) as error:
            raise ScriptError(f"{x} {sign} {y}: {error}") from error

    return value


def _text(value: Value | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
