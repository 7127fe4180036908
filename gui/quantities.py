"""What estimated quantities are called in the window."""

from __future__ import annotations

import re

from gui.words import tr

_CALLED = {
    "ti3_fraction": tr("Ti³⁺ fraction"),
    "ti3_fraction_at_edge": tr("Ti³⁺ fraction at edge"),
    "o_k_ratio": tr("O-K a/b"),
    "relative_thickness": tr("thickness t/λ"),
    "zero_loss_position": tr("zero loss"),
}
_EDGE = re.compile(r"([a-z]{1,2})_([klmn]\d*)(?:_(\w+))?")


def called(name: str) -> str:
    """A quantity for people: ``ni_l_counts`` is ``Ni-L counts``."""
    if name in _CALLED:
        return _CALLED[name]
    edge = _EDGE.fullmatch(name)
    if edge is not None:
        element, shell, rest = edge.groups()
        words = f"{element.capitalize()}-{shell.upper()}"
        return f"{words} {tr(rest.replace('_', ' '))}" if rest else words
    return tr(name.replace("_", " "))
