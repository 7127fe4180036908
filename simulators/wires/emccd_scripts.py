"""Carries out DM scripts: the small part of the language that clients of the SerialEMCCD socket need.

Understood: declarations of numbers, strings, images and tag groups; assignments with ``=`` and
``:=``; arithmetic, comparisons, ``!``, ``&&``, ``||``; calls, also with variables that the function
sets; ``if`` and ``else`` with or without braces; comments; ``Exit(value)``. Names know no upper and
lower case. Everything else (loops, objects, methods, own functions, background threads) is refused
as DigitalMicrograph refuses what it cannot compile: before anything of the script is carried out.
"""

from __future__ import annotations

from simulators.wires.emccd_parser import Parser
from simulators.wires.emccd_values import Left, Library, Scope, ScriptError

LONGEST_SCRIPT = 64 << 10


def execute(text: str, library: Library) -> float:
    """Carry out a script and return what it exits with, 0 if it does not say.

    Raises:
        ScriptError: it is not understood (then nothing was done), or a function failed.
    """
    if len(text) > LONGEST_SCRIPT:
        raise ScriptError(f"a script of {len(text)} characters")
    try:
        statements = Parser(text, library).script()
        scope = Scope()
        for statement in statements:
            statement(scope)
    except Left as left:
        return left.value
    except RecursionError:
        raise ScriptError("an expression that is too long") from None
    return 0.0
