"""Cuts DM scripts into words, numbers, texts and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulators.wires.emccd_values import ScriptError

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|//[^\n]*|/\*.*?\*/)
      |(?P<end>[\n;])
      |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      |(?P<string>"(?:[^"\\\n]|\\.)*")
      |(?P<name>[A-Za-z_]\w*)
      |(?P<sign>:=|==|!=|<=|>=|&&|\|\||[-+*/^!<>=(){},])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One of them, and the line that it is on."""

    kind: str
    text: str
    line: int


def tokens(text: str) -> list[Token]:
    """All of a script, with an end of line at its end; raises ScriptError."""
    found, at, line = [], 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ScriptError(f"line {line}: {text[at : at + 20]!r} is not understood")
        kind = match.lastgroup or "skip"
        if kind != "skip":
            found.append(Token(kind, match.group(), line))
        line += match.group().count("\n")
        at = match.end()
    found.append(Token("end", "\n", line))
    return found
