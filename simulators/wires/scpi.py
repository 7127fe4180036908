"""SCPI for far ends: headers in short and long form, compound messages, parameters, the error queue.

Sources: SCPI 1999.0 volume 1 (headers, compound messages, parameters), IEEE 488.2 (common commands,
standard event register). Numbers and texts of errors are those of the Keithley 2400 manual, table B-1.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MESSAGES = {
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -151: "Invalid string data",
    -221: "Settings conflict",
    -222: "Parameter data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    800: "Illegal with storage active",
    802: "OUTPUT blocked by output enable",
    803: "Not permitted with OUTPUT off",
    810: "OUTPUT blocked by Over Temp",
    822: "Too small for sense range",
    824: "Cannot exceed compliance range",
    826: "Attempt to exceed power limit",
}
QUEUE = 10
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NODE = re.compile(r"(\[?):?([A-Za-z]+)(\[1\])?(\]?)")


class ScpiError(Exception):
    """An error that goes into the queue; ``code`` is its number."""

    def __init__(self, code: int) -> None:
        super().__init__(MESSAGES[code])
        self.code = code


class ErrorQueue:
    """First in, first out, and the standard event register that errors set."""

    def __init__(self) -> None:
        self._errors: deque[int] = deque()
        self.standard_event = 0x80  # switched on

    def put(self, code: int) -> None:
        """Append an error; when the queue is full its newest becomes an overflow."""
        if len(self._errors) >= QUEUE:
            self._errors[-1] = -350
        else:
            self._errors.append(code)
        if code <= -400:
            self.standard_event |= 0x04
        elif code <= -300:
            self.standard_event |= 0x08
        elif code <= -200 or code >= 800:
            self.standard_event |= 0x10
        else:
            self.standard_event |= 0x20

    def take(self) -> str:
        """The oldest error as ``SYST:ERR?`` answers it."""
        code = self._errors.popleft() if self._errors else 0
        sign = "+" if code > 0 else ""
        return f'{sign}{code},"{MESSAGES.get(code, "No error")}"'

    def clear(self) -> None:
        """Empty queue and register (``*CLS``)."""
        self.clear_queue()
        self.standard_event = 0

    def clear_queue(self) -> None:
        """Empty the queue alone."""
        self._errors.clear()

    def __len__(self) -> int:
        return len(self._errors)


# --------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Unit(Generic[T]):
    """One command of a message, found in the tree."""

    handle: Callable[[Sequence[str]], T]
    parameters: tuple[str, ...]


class Tree(Generic[T]):
    """Commands by header; written as manuals do: ``:SOURce[1]:CURRent[:LEVel][:AMPLitude]?``."""

    def __init__(self) -> None:
        self._short: dict[str, str] = {}
        self._commands: dict[tuple[str, ...], Callable[[Sequence[str]], T]] = {}

    def add(self, header: str, handle: Callable[[Sequence[str]], T]) -> None:
        """Answer a header with a function of its parameters; a query's header ends with ``?``."""
        query = header.endswith("?")
        if header.startswith(("*", ":*")):
            self._commands[(header.upper(),)] = handle
            return
        nodes: list[tuple[str, bool]] = []
        for opening, name, _, _ in _NODE.findall(header.rstrip("?")):
            short = "".join(c for c in name if c.isupper())
            self._short[name.upper()] = self._short[short] = short
            nodes.append((short, bool(opening)))
        choices = [((short,), ()) if optional else ((short,),) for short, optional in nodes]
        for path in itertools.product(*choices):
            key = tuple(itertools.chain.from_iterable(path))
            self._commands[(*key, "?") if query else key] = handle

    def parse(self, message: str) -> list[Unit[T] | ScpiError]:
        """The commands of one message in their order.

        The first error is the last item: what comes after it in the message is lost, as IEEE 488.2
        has it.
        """
        units: list[Unit[T] | ScpiError] = []
        path: tuple[str, ...] = ()
        try:
            for text in _split(message, ";"):
                stripped = text.strip()
                if stripped:
                    unit, path = self._unit(stripped, path)
                    units.append(unit)
        except ScpiError as error:
            units.append(error)
        return units

    def _unit(self, text: str, path: tuple[str, ...]) -> tuple[Unit[T], tuple[str, ...]]:
        header, *rest = text.split(None, 1)
        parameters = tuple(p.strip() for p in _split(rest[0], ",")) if rest else ()
        if header.startswith(("*", ":*")):
            common = self._commands.get((header.upper(),))
            if common is None:
                raise ScpiError(-113)
            return Unit(common, parameters), path
        query = ("?",) if header.endswith("?") else ()
        names = header.removesuffix("?")
        if names.startswith(":"):
            path, names = (), names[1:]
        nodes = (*path, *(self._canonical(name) for name in names.split(":")))
        handle = self._commands.get((*nodes, *query))
        if handle is None:
            raise ScpiError(-113)
        return Unit(handle, parameters), nodes[:-1]

    def _canonical(self, name: str) -> str:
        upper = name.upper()
        short = self._short.get(upper) or self._short.get(upper.removesuffix("1"))
        if short is None:
            raise ScpiError(-113)
        return short


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that stand outside of quotes; raises ScpiError for an open quote."""
    parts, begin, quote = [], 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c == separator:
            parts.append(text[begin:i])
            begin = i + 1
    if quote:
        raise ScpiError(-151)
    return [*parts, text[begin:]]


# -------------------------------------------------------------------------- parameters


def none(parameters: Sequence[str]) -> None:
    """Raise -108 if there are parameters."""
    if parameters:
        raise ScpiError(-108)


def one(parameters: Sequence[str]) -> str:
    """The only parameter; raises -109, -108."""
    if not parameters or not parameters[0]:
        raise ScpiError(-109)
    if len(parameters) > 1:
        raise ScpiError(-108)
    return parameters[0]


def number(
    parameters: Sequence[str], low: float, high: float, default: float | None = None
) -> float:
    """The only parameter as a number in a closed range, or MINimum, MAXimum, DEFault.

    Raises -104 for what is no number, -222 outside of the range: nothing is ever clipped.
    """
    text = one(parameters).upper()
    if text in ("MIN", "MINIMUM"):
        return low
    if text in ("MAX", "MAXIMUM"):
        return high
    if text in ("DEF", "DEFAULT") and default is not None:
        return default
    if len(text) > 64 or _NUMBER.fullmatch(text) is None:
        raise ScpiError(-104)
    value = float(text)
    if not (math.isfinite(value) and low <= value <= high):
        raise ScpiError(-222)
    return value


def switch(parameters: Sequence[str]) -> bool:
    """The only parameter as a boolean: 0, 1, OFF, ON."""
    text = one(parameters).upper()
    if text in ("0", "OFF", "1", "ON"):
        return text in ("1", "ON")
    raise ScpiError(-104 if _NUMBER.fullmatch(text) is None else -222)


def choice(text: str, names: Sequence[str]) -> str:
    """One of some names, given short or long and upper or lower case; as ``HIMPedance`` writes them.

    Returns its short form; raises -224.
    """
    wanted = text.upper()
    for name in names:
        short = "".join(c for c in name if c.isupper() or c.isdigit())
        if wanted in (short, name.upper()):
            return short
    raise ScpiError(-224)


def unquoted(text: str) -> str:
    """A string parameter without its quotes; raises -104 if it has none."""
    if len(text) >= 2 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    raise ScpiError(-104)
