"""What a Keithley 2400 can be set to, its ranges, and the defaults of ``*RST`` (tables 18-6 and 18-8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Function = Literal["CURR", "VOLT"]
FUNCTIONS: tuple[Function, ...] = ("CURR", "VOLT")
HIGHEST: dict[str, float] = {"CURR": 1.05, "VOLT": 210.0, "RES": 2.1e8}
LOWEST_RANGE = {"CURR": 1.05e-6, "VOLT": 0.21, "RES": 21.0}
SMALLEST_LIMIT = {"CURR": 1e-9, "VOLT": 2e-4}
STEPS = {"CURR": 20_000 * 1.05, "VOLT": 40_000 * 1.05}  # of a source over its range
POWER_CURRENT_A, POWER_VOLT = 0.105, 21.0
"""Above both at once the instrument would give more than its 20 W."""
NOT_MEASURED = 9.91e37
OVERFLOW = 9.9e37
BUFFER = 2500


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading; :data:`NOT_MEASURED` and :data:`OVERFLOW` where there is no number."""

    volt: float
    ampere: float
    ohm: float
    t_s: float
    """Since the instrument was switched on."""
    status: int


def _both(current: float, voltage: float) -> dict[str, float]:
    return {"CURR": current, "VOLT": voltage}


@dataclass
class Settings:
    """What ``*RST`` sets back."""

    function: Function = "VOLT"
    level: dict[str, float] = field(default_factory=lambda: _both(0.0, 0.0))
    source_range: dict[str, float] = field(default_factory=lambda: _both(1.05e-4, 21.0))
    source_auto: dict[str, bool] = field(default_factory=lambda: {"CURR": True, "VOLT": True})
    limit: dict[str, float] = field(default_factory=lambda: _both(1.05e-4, 21.0))
    sense_range: dict[str, float] = field(
        default_factory=lambda: {**_both(1.05e-4, 21), "RES": 2.1e5}
    )
    sense_auto: dict[str, bool] = field(
        default_factory=lambda: {"CURR": True, "VOLT": True, "RES": True}
    )
    measured: set[str] = field(default_factory=lambda: {"CURR"})
    concurrent: bool = True
    auto_ohms: bool = True
    nplc: float = 1.0
    line_hz: int = 50
    auto_zero: bool = True
    average: bool = False
    average_count: int = 10
    average_repeat: bool = True
    delay_s: float = 0.0
    delay_auto: bool = True
    trigger_delay_s: float = 0.0
    trigger_count: int = 1
    arm_count: int = 1
    four_wire: bool = False
    output_off: str = "NORM"
    output_enable: bool = False
    clear_auto: bool = False
    front: bool = True
    elements: tuple[str, ...] = ("VOLT", "CURR", "RES", "TIME", "STAT")
    buffer_points: int = 100
    buffer_feeds: bool = False
    plain: dict[str, str] = field(default_factory=dict)
    """Settings that are kept and told but change nothing here, by their header."""


def smallest_range(function: str, value: float) -> float:
    """The most sensitive range (its full scale, 5 % above its name) that covers a value."""
    scale = LOWEST_RANGE[function]
    while scale < abs(value) * (1 - 1e-9) and scale < HIGHEST[function] * (1 - 1e-9):
        scale *= 10
    return scale
