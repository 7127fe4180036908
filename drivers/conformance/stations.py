"""Subjects of the suite from station files: each driver of a station on the far end of its wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from acquire import farends, plugins
from acquire.clock import Clock
from acquire.farends import FarEnd, FarEnds
from acquire.instruments import HeatingHolder, Scan
from acquire.station import DriverContext, Station
from acquire.station.station import installed
from drivers.conformance.rig import Subject

COLD_CELSIUS = 35.0
"""A simulated chip that is colder than this is not heated; it cools within milliseconds."""


def subject(station: Station, role: str, rate: float = 5.0) -> Subject:
    """A driver of a station with wires, on its far ends.

    Args:
        station: with a [wires] table.
        role: whose driver is tried.
        rate: clock seconds per wall second.
    """
    settings = station.settings[role]

    def start(clock: Clock) -> FarEnd:
        return station.start_far_ends(clock)

    def opened(context: DriverContext, addresses: Mapping[str, str]) -> Any:
        where = f"{station.source}: {role}.options"
        options = {
            name: farends.resolve(value, addresses, f"{where}.{name}")
            for name, value in settings.options.items()
        }
        return plugins.find(plugins.DRIVERS, settings.driver)(context, **options)

    def is_safe(far_end: FarEnd) -> bool:
        if not isinstance(far_end, FarEnds):
            raise TypeError("these are not the far ends of a station.")
        instrument = far_end.simulation.instruments.get(role)
        if isinstance(instrument, HeatingHolder):
            return instrument.read().measured_celsius < COLD_CELSIUS
        return instrument.blanked() if isinstance(instrument, Scan) else True

    return Subject(settings.driver, start, opened, is_safe, role, rate)


def stations_with_wires() -> Iterator[Station]:
    """Installed stations whose drivers talk to far ends on wires."""
    for name in sorted(installed()):
        station = Station.load(name)
        if station.file.wires:
            yield station


def drivers_on_wires() -> dict[str, tuple[Station, str]]:
    """A station and a role in it for each driver that an installed station has on a wire."""
    found: dict[str, tuple[Station, str]] = {}
    for station in stations_with_wires():
        for role, settings in station.settings.items():
            found.setdefault(settings.driver, (station, role))
    return found
