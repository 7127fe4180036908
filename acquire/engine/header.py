"""What a run says of itself before its first record."""

from __future__ import annotations

import importlib.metadata
import platform

from acquire._version import __version__
from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.stream import RunHeader

_LIBRARIES = ("numpy", "scipy", "zarr", "pydantic")


def run_header(run: RunContext) -> RunHeader:
    """Recipe, station, instruments as they describe themselves, clocks and versions."""
    station, recipe = run.station, run.recipe
    clock = station.clock
    epoch_unix_s = clock.epoch_unix_s + run.zero_s / finite_rate(clock)
    return RunHeader(
        name=recipe.name,
        recipe_yaml=recipe.dump(),
        station_toml=station.station.text,
        station=station.station.name,
        instruments={role: i.describe() for role, i in station.instruments.items()},
        epoch_unix_s=epoch_unix_s,
        clock_rate=clock.rate,
        clock_relation_s=(station.relation.offset_s, station.relation.uncertainty_s),
        specimen=recipe.specimen.model_dump() if recipe.specimen else {},
        simulation=dict(station.simulation.describe()) if station.simulation else {},
        versions={
            "hotstage": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        continues=run.earlier.continues(epoch_unix_s, clock.rate, station.relation.uncertainty_s),
    )
