"""Simulated instruments that stand in for a station in a preflight, under the same limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from acquire import plugins
from acquire.clock import VirtualClock
from acquire.engine.channels import OWN_COLUMNS
from acquire.engine.foreseeing import condition_of
from acquire.errors import UnitError
from acquire.instruments import Description
from acquire.recipe import Recipe, Step
from acquire.station import SIMULATED, InstrumentSettings, OpenStation, SimulationSettings, Station
from acquire.stream import Quantity
from acquire.units import convert


class UnknownChannel:
    """Stands in for a channel that the simulator has not: it has what is asked of it, and tells no value."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._units: dict[str, str] = {}

    def learn(self, name: str, unit: str) -> str:
        """Take it that a value exists, in the unit in which it was first asked for; returns that."""
        try:
            convert(1.0, unit, unit)
        except UnitError:
            unit = "1"  # for a message that names the wrong unit
        return self._units.setdefault(name, unit)

    def describe(self) -> Description:
        """What was asked for by now."""
        return Description(
            self._role, "unknown", SIMULATED, simulated=True, details=dict(self._units)
        )

    def make_safe(self, reason: str) -> None:
        """Do nothing: it does no harm."""

    def read(self) -> Mapping[str, float]:
        """NaN for all that was asked for by now."""
        return dict.fromkeys(self._units, math.nan)


@dataclass
class Unknowns:
    """The channels of which a preflight knows nothing, by the records that name them."""

    channels: dict[str, UnknownChannel] = field(default_factory=dict)

    def learn(self, step: Step) -> dict[str, Quantity]:
        """Which of their values the condition of a step rests on."""
        condition = condition_of(step)
        found: dict[str, Quantity] = {}
        for part in condition.parts if condition is not None else ():
            record, _, value = part.quantity.partition(".")
            if record in self.channels and value not in {"", *OWN_COLUMNS}:
                unit = self.channels[record].learn(value, part.unit)
                found[part.quantity] = Quantity(part.quantity, unit, value)
        return found


@contextmanager
def opened_twin(station: Station, recipe: Recipe) -> Iterator[tuple[OpenStation, Unknowns]]:
    """The station in virtual time, where it is not simulated as a twin, and what is unknown of it."""
    twin = station if station.in_process else _twin(station)
    with twin.open(VirtualClock(), draft=True) as opened:
        missing = set(station.file.channels) - set(opened.channels)
        stand_ins = {role: UnknownChannel(role) for role in missing}
        opened.channels = {**opened.channels, **stand_ins}
        unknowns = Unknowns(
            {n: stand_ins[c.name] for n, c in recipe.channels.items() if c.name in missing}
        )
        for step in recipe.distinct_steps():
            unknowns.learn(step)
        yield opened, unknowns


def _twin(station: Station) -> Station:
    """The station with simulated instruments of this process in every role that the simulator has."""
    settings = station.file.simulation or SimulationSettings()
    known = plugins.find(plugins.SIMULATORS, settings.simulator)(
        VirtualClock(), seed=settings.seed, draft=True, **settings.options
    ).instruments
    simulated = InstrumentSettings(driver=SIMULATED)
    file = station.file
    has_spectrometer = file.spectrometer is not None and "spectrometer" in known
    return replace(
        station,
        file=file.model_copy(
            update={
                "simulation": settings,
                "wires": {},
                "holder": file.holder.model_copy(update={"driver": SIMULATED, "options": {}}),
                "scan": simulated,
                "spectrometer": simulated if has_spectrometer else None,
                "channels": {role: simulated for role in file.channels if role in known},
            }
        ),
    )
