"""How numbers are written in the window: fixed widths, no jumping digits, a dash for what is not known."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

from gui.words import tr

UNKNOWN = "–"


def homely(words: str) -> str:
    """Words with ``~`` for one's own folder, as it is written on a shell: paths are long enough."""
    return words.replace(_home(), "~" + os.sep)


@cache
def _home() -> str:
    return str(Path.home()).rstrip(os.sep) + os.sep


def clock(seconds: float) -> str:
    """Run seconds as ``h:mm:ss``."""
    if not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def celsius(value: float) -> str:
    """A temperature with one decimal."""
    return f"{value:.1f} °C" if math.isfinite(value) else f"{UNKNOWN} °C"


def dose(value: float) -> str:
    """A dose in e/nm², as ``1.84e3``."""
    if not math.isfinite(value):
        return UNKNOWN
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}"


def short(value: float) -> str:
    """Three figures of a number, written out as long as that is readable."""
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def with_sigma(value: float, sigma: float, unit: str) -> str:
    """A value and its σ with decimals that suit the σ."""
    if not math.isfinite(value):
        return UNKNOWN
    if not math.isfinite(sigma) or sigma <= 0:
        return f"{short(value)} {unit}".strip()
    power = math.floor(math.log10(sigma))
    # one digit of σ, two where it begins with 1, as physicists write it
    decimals = max(0, min(4, (1 if sigma < 2 * 10.0**power else 0) - power))
    return f"{value:.{decimals}f} ± {sigma:.{decimals}f} {unit}".strip()


def age(seconds: float) -> str:
    """How long ago something was, in wall time."""
    if not math.isfinite(seconds):
        return tr("never")
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def short_time(seconds: float) -> str:
    """How long an answer took."""
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def nice_length(at_most: float) -> float:
    """The largest of 1, 2, 5 × 10ⁿ that is not above ``at_most``."""
    power = 10.0 ** math.floor(math.log10(at_most))
    for factor in (5.0, 2.0):
        if factor * power <= at_most * (1 + 1e-9):
            return factor * power
    return power


def length(nm: float) -> str:
    """A length of a scale bar: ``50 nm``, ``2 µm``, ``500 pm``."""
    if nm >= 1000:
        return f"{nm / 1000:g} µm"
    return f"{nm:g} nm" if nm >= 1 else f"{nm * 1000:g} pm"
