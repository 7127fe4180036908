"""A source with compliance on a resistance, seen with two or four wires: pure electricity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

LEAKAGE_S = 1e-11
"""Conductance that is left when a circuit is open, in siemens."""
LIMITED = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class Source:
    """What a source-meter forces."""

    function: Literal["current", "voltage"]
    level: float
    """In A or V; either sign."""
    limit: float
    """Compliance: the largest magnitude of the other quantity, in V or A."""
    four_wire: bool
    """Whether voltage is regulated, limited and measured at the sense wires."""


@dataclass(frozen=True, slots=True)
class Point:
    """What flows, and what the source-meter sees."""

    ampere: float
    volt: float
    """Where the source-meter measures: at the sense wires, or at its own terminals."""
    limited: bool
    """Whether compliance limits."""


OFF = Point(0.0, 0.0, False)


class Load(Protocol):
    """What a source-meter is connected to; safe for use by threads. Times are those of the simulation's clock."""

    def connect(self, t_s: float, source: Source | None) -> None:
        """Force something else from now on; None is an output that is off."""

    def mean(self, begin_s: float, end_s: float) -> Point:
        """What flowed and was seen on average, over times that have come."""

    def noise_ohm(self, ohm: float) -> float:
        """Noise (standard deviation) of a resistance that is measured for one power line cycle."""


def operating_point(
    source: Source, ohm: float, leads_ohm: float, sense_lost: float | None = None
) -> Point:
    """Current and voltage of a source on a resistance.

    Args:
        source: what is forced.
        ohm: between the sense points; inf for an open circuit.
        leads_ohm: of both leads that carry the current.
        sense_lost: a sense wire is broken and, with four wires, this share of the voltage is seen
            through what the instrument has inside; None if it is sound. The rest of the circuit goes
            on as before, so that a current source heats on.
    """
    seen = ohm if source.four_wire else ohm + leads_ohm
    if source.four_wire and sense_lost is not None:
        seen *= sense_lost
    siemens = LEAKAGE_S if math.isinf(seen) else 1 / max(seen, 1e-6)
    sign = math.copysign(1.0, source.level)
    magnitude = abs(source.level)
    if source.function == "current":
        volt = magnitude / siemens
        if volt > source.limit * LIMITED:
            return Point(sign * source.limit * siemens, sign * source.limit, True)
        return Point(sign * magnitude, sign * volt, False)
    ampere = magnitude * siemens
    if ampere > source.limit * LIMITED:
        return Point(sign * source.limit, sign * source.limit / siemens, True)
    return Point(sign * ampere, sign * magnitude, False)
