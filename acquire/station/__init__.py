"""A microscope as a TOML file: roles, drivers, addresses and limits; opens the instruments in this process."""

from acquire.station.file import (
    SIMULATED,
    HolderLimitSettings,
    HolderSettings,
    InstrumentSettings,
    ServerSettings,
    SimulationSettings,
    StationFile,
    WireSettings,
)
from acquire.station.opened import Control, DriverContext, LocalControl, OpenStation
from acquire.station.safing import make_safe_anew, not_safe
from acquire.station.station import Station, installed

__all__ = [
    "SIMULATED",
    "Control",
    "DriverContext",
    "HolderLimitSettings",
    "HolderSettings",
    "InstrumentSettings",
    "LocalControl",
    "OpenStation",
    "ServerSettings",
    "SimulationSettings",
    "Station",
    "StationFile",
    "WireSettings",
    "installed",
    "make_safe_anew",
    "not_safe",
]
