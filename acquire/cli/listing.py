"""`hotstage drivers` and `stations`: what is installed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from acquire import plugins
from acquire.cli.console import out, say, say_error
from acquire.errors import HotstageError
from acquire.station import Station, installed

_GROUPS = {
    plugins.DRIVERS: "drivers",
    plugins.SIMULATORS: "simulators",
    plugins.ESTIMATORS: "estimators",
    plugins.WINDOWS: "windows",
}


def list_plugins() -> int:
    """Print every plugin; returns 1 if one is broken."""
    broken = 0
    for group, title in _GROUPS.items():
        found = plugins.discover(group)
        say(title, "bold")
        if not found:
            say("  none installed", "dim")
        for plugin in found:
            say(f"  {plugin.name}  ({plugin.target}, {plugin.distribution})")
            if not plugin.works:
                broken += 1
                say_error(f"{plugin.name} cannot be loaded: {plugin.error}")
    return 1 if broken else 0


def list_stations() -> int:
    """Print every installed station; returns 1 if one cannot be read."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("station", "instruments", "description"):
        table.add_column(heading)
    broken: list[str] = []
    for name in sorted(installed()):
        try:
            file = Station.load(name).file
        except HotstageError as error:
            broken.append(str(error))
            continue
        roles = ["holder", "scan"] + ["spectrometer"] * (file.spectrometer is not None)
        kind = "simulated: " if file.simulation is not None else ""
        table.add_row(
            Text(name), Text(kind + ", ".join([*roles, *file.channels])), Text(file.description)
        )
    out.print(table)
    for text in broken:
        say_error(text)
    return 1 if broken else 0
