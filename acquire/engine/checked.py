"""What a station foresees of a recipe, as a window draws it: times of every step, and objections by place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from acquire.engine.status import PlanView

Place = tuple[int | str, ...]
"""Keys and positions that lead through a recipe's text: ``("steps", 2, "when", "then", 0)``."""

SUPERSEDED = "a newer check took the place of this one."
"""Why a check was given up; who still wants it asks again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What would stop the run, or what its author should know."""

    kind: Literal["problem", "warning"]
    text: str
    places: tuple[Place, ...] = ()
    """What it concerns; empty where that is the recipe as a whole."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a station foresees of a recipe; times in run seconds, NaN where nothing could be rehearsed."""

    plan: PlanView
    places: tuple[Place, ...] = ()
    """Of every step of the plan, repeats written out."""
    results: tuple[str, ...] = ()
    """How every step is expected to end."""
    duration_s: float = math.nan
    worst_s: float = math.nan
    """If no condition is met and every decision takes the longer branch; NaN where none is taken."""
    dose_e_per_nm2: float = math.nan
    dose_limit_e_per_nm2: float = math.nan
    expected_bytes: int = 0
    free_bytes: int = 0
    frames: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    station: str = ""
    twin: bool = False
    """Whether simulated instruments stood in for the station's own, under its limits."""
