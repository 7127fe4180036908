"""How stored runs are named: endings as badges, moments on the wall, quantities."""

from __future__ import annotations

import math
from datetime import datetime

from acquire.engine.status import EngineState
from gui import text, theme
from gui.replay.moments import Ending
from gui.words import tr

BADGES: dict[Ending, theme.Badge] = {
    Ending.COMPLETED: theme.STATES[EngineState.COMPLETED],
    Ending.ABORTED: theme.STATES[EngineState.ABORTED],
    Ending.FAILED: theme.Badge("✕", "FAILED", "#7A1F45"),
    Ending.WRITTEN: theme.Badge("●", "BEING WRITTEN", "#0B5F47"),
    Ending.CUT_OFF: theme.Badge("⚡", "CUT OFF", "#6E4E00"),
    Ending.UNREADABLE: theme.Badge("?", "UNREADABLE", "#4A4033", "#FFD27A"),
}


REPLAY_LINE = "#8E76C8"
"""Of what is painted around a replay: seen on both themes' grounds."""


def when(unix_s: float) -> str:
    """A moment on the wall, in local time, as ``2026-11-21 14:05``."""
    if not math.isfinite(unix_s):
        return text.UNKNOWN
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M")


def quantity(name: str, unit: str) -> str:
    """A quantity with its unit, as an axis is labelled."""
    known = {
        "mean_diameter": tr("mean diameter"),
        "median_diameter": tr("median diameter"),
        "count": tr("number of particles"),
        "areal_density": tr("particles per area"),
        "growth_rate": tr("growth rate"),
        "temperature": tr("temperature"),
    }
    words = known.get(name, name.replace("_", " "))
    return f"{words} ({unit})" if unit else words


def seconds_of(written: str) -> float:
    """Run seconds from ``h:mm:ss``, ``mm:ss`` or a number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    parts = [float(part) for part in written.strip().split(":")]
    if not 1 <= len(parts) <= 3 or any(not math.isfinite(part) or part < 0 for part in parts):
        raise ValueError(written)
    total = 0.0
    for part in parts:
        total = 60 * total + part
    return total
