"""`hotstage serve`, `host` and `gui`: the processes that a run is made of."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from acquire import plugins
from acquire.cli.console import say
from acquire.engine.client import start_host
from acquire.errors import ConfigError
from acquire.farends import FarEnds
from acquire.recipe import Recipe
from acquire.remote import connect, log_to_file, serve, simulate, supervise
from acquire.station import Station


def serve_station(name: str, listen: str | None) -> int:
    """Serve a station's instruments until a signal."""
    station = Station.load(name)
    log_to_file("serve" if station.in_process else "supervise", station.name)
    if station.in_process:
        serve(station, listen=listen)
    else:
        supervise(station, listen=listen)
    return 0


def simulate_station(name: str, seed: int | None) -> int:
    """Run the far ends of a station alone until a signal, so that anyone's client can talk to them."""
    station = Station.load(name)

    def announce(far_ends: FarEnds) -> None:
        rate = "" if station.make_clock().rate == 1 else f", {station.make_clock().rate:g} × faster"
        say(f"The far ends of station {station.name} listen{rate}. Ctrl-C ends them.")
        for reference, address in far_ends.addresses.items():
            say(f"  @{reference} = {address}")
        sys.stdout.flush()

    simulate(station if seed is None else station.with_seed(seed), announce=announce)
    return 0


def host_engine(name: str, listen: str, linger_s: float | None, ready: Path | None) -> int:
    """Serve an engine on a station until a signal, or until nobody needs it."""
    # a server of instruments, which has no engine, does not wait for it
    from acquire.engine.host import EngineHost
    from acquire.engine.hosts import listed

    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    station = connect(Station.load(name))
    host = None
    try:
        host = EngineHost(station, listen)
        line = json.dumps({"address": host.address, "station": station.station.name})
        if ready is not None:
            part = ready.with_suffix(".part")
            part.write_text(line, encoding="utf-8")
            part.replace(ready)
        say(line)
        with listed(station.station.name, host.address):
            host.wait(ending, linger_s)
    finally:
        if host is not None:
            host.close()
        else:
            station.close()
    return 0


def open_window(
    recipe: Path | None,
    station: str,
    host: str | None,
    output: Path | None,
    *,
    start: bool,
    screenshot: Path | None,
    stored: Path | None = None,
    opened: Path | None = None,
) -> int:
    """Open the operator's window on an engine host, starting one if none is named.

    A window that is opened only to look at a ``stored`` run gets no engine. The file ``opened`` is made
    when the engine has answered.
    """
    if recipe is not None:
        Recipe.load(recipe)
    if start and recipe is None:
        raise ConfigError("--start needs a recipe to start: hotstage gui RECIPE --start.")
    if start and stored is not None:
        raise ConfigError(
            "--start runs a recipe, --open looks at a stored run: choose one of them."
        )
    if output is not None:
        from acquire.engine.experiment import check_folder

        check_folder(output)
    _need_a_screen()
    window = plugins.find(plugins.WINDOWS, "operator")
    if stored is not None:
        _need_a_run(stored)
    if host is not None:
        address = host
    else:
        address = "" if stored is not None and recipe is None else _host_of(station)
    status: int = window(address, recipe, output, screenshot, start, stored=stored, opened=opened)
    return status


def _host_of(station: str) -> str:
    """The host on which something of this station is on, so that a closed window comes back to it; else a new one."""
    from acquire.engine.hosts import find_busy

    busy = find_busy(Station.load(station).name)
    if busy is None:
        return start_host(station)
    what = f"the run {busy.run_name!r}" if busy.run_name else "what is done by hand"
    say(f"Attached to the engine host at {busy.address}, where {what} goes on.")
    return busy.address


def _need_a_run(folder: Path) -> None:
    from acquire.store import ZARR_NAME

    if not (folder / ZARR_NAME).is_dir():
        raise ConfigError(f"{folder} is no run: name a folder with {ZARR_NAME} in it.")


def _need_a_screen() -> None:
    """Raise ConfigError where a window could only crash."""
    if sys.platform.startswith("linux") and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        raise ConfigError(
            "there is no screen here: neither DISPLAY nor WAYLAND_DISPLAY is set. Open the window on "
            "a desktop; `hotstage run` needs none."
        )
