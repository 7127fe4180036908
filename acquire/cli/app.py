"""The commands and their options; each one's work is done in a module of its own."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from acquire._version import __version__
from acquire.cli.benching import bench
from acquire.cli.console import say, say_error
from acquire.cli.keys import keys_app
from acquire.cli.stored import stored
from acquire.errors import HotstageError, UnitError
from acquire.units import parse

app = typer.Typer(
    name="hotstage",
    help="In-situ heating experiments in a scanning transmission electron microscope.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(bench)
app.add_typer(keys_app)
app.add_typer(stored)

StationOption = Annotated[
    str,
    typer.Option("--station", "-s", help="An installed station's name, or a station file (.toml)."),
]
RecipeArgument = Annotated[Path, typer.Argument(help="A recipe (.yaml).", show_default=False)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 well, 1 an error, 2 usage, 3 aborted."""
    _print_anything()
    level = os.environ.get("HOTSTAGE_LOG", "ERROR").upper()
    if level not in logging.getLevelNamesMapping():
        say_error(f"HOTSTAGE_LOG = {level!r}: write DEBUG, INFO, WARNING or ERROR.")
        return 2
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        result = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        say_error("interrupted.")
        return 130
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.TyperException as error:
        say_error(f"{error.format_message()} Try `hotstage --help`.")
        return int(error.exit_code)
    except HotstageError as error:
        say_error(str(error))
        return 1
    except BrokenPipeError:
        # the reader of our output went away; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _print_anything() -> None:
    """A sign that an old console or pipe cannot show becomes a question mark, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"hotstage {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """In-situ heating experiments in a scanning transmission electron microscope."""


@app.command()
def run(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="A recipe (.yaml); with --continue only if it shall replace what is left.",
            show_default=False,
        ),
    ] = None,
    station: StationOption = "simulated",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder for the run; default runs/DATE_NAME.",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Store a simulation's truth beside the run.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of a simulated station.", show_default=False)
    ] = None,
    virtual: Annotated[
        bool,
        typer.Option("--virtual", help="Simulated station in virtual time: exactly repeatable."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Confirm wait_for_operator steps without asking.")
    ] = False,
    continued: Annotated[
        Path | None,
        typer.Option(
            "--continue",
            help="Go on with this run, which was cut off: what is done is not repeated, nothing is "
            "heated again, and a new segment is stored in its folder.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Run it on the engine host at HOST:PORT, beside its windows, with its station.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run a recipe on a station, stream it to a new folder and leave a summary there.

    Ctrl-C ends the run safely.
    """
    if host is not None:
        if recipe is None or continued is not None or truth or virtual or seed is not None:
            raise typer.BadParameter(
                "it goes with a recipe, --output and --yes only.", param_hint="'--host'"
            )
        from acquire.cli.attaching import run_on_host

        return run_on_host(recipe, output, host, yes=yes)
    from acquire.cli.running import How, continue_run, run_recipe

    how = How(station, truth=truth, seed=seed, virtual=virtual, yes=yes)
    if continued is not None:
        return continue_run(continued, recipe, output, how)
    if recipe is None:
        raise typer.BadParameter(
            "name one to run, or a run to go on with: --continue RUN.", param_hint="'recipe'"
        )
    return run_recipe(recipe, output, how)


@app.command()
def check(
    recipe: RecipeArgument,
    station: StationOption = "simulated",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the run would be stored.", show_default=False),
    ] = None,
) -> int:
    """Tell what a recipe would take and what would stop it; no instrument is touched."""
    from acquire.cli.checking import check_recipe

    return check_recipe(recipe, station, output)


@app.command()
def serve(
    station: Annotated[str, typer.Argument(help="A station's name or file.")],
    listen: Annotated[
        str | None,
        typer.Option("--listen", help="HOST:PORT on this machine; default as the station says."),
    ] = None,
) -> int:
    """Serve a station's instruments to an engine on this machine, until Ctrl-C.

    When nobody commands the heater any more, the server makes it safe.
    """
    from acquire.cli.serving import serve_station

    return serve_station(station, listen)


@app.command()
def simulate(
    station: Annotated[str, typer.Argument(help="A station with wires: its name or file.")],
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the simulation.", show_default=False)
    ] = None,
) -> int:
    """Run only the far ends of a station's wires, for any client that speaks them. Ctrl-C ends it."""
    from acquire.cli.serving import simulate_station

    return simulate_station(station, seed)


@app.command()
def host(
    station: Annotated[str, typer.Argument(help="A station's name or file.")] = "simulated",
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT on this machine.")] = (
        "127.0.0.1:0"
    ),
    linger: Annotated[
        str | None,
        typer.Option(
            "--linger",
            help="End after so long without client and run, such as '30 s'; default never.",
            show_default=False,
        ),
    ] = None,
    ready: Annotated[
        Path | None, typer.Option("--ready", help="A file to write the address to.", hidden=True)
    ] = None,
) -> int:
    """Run an engine that windows and scripts attach to; it outlives them. Ctrl-C ends it safely."""
    from acquire.cli.serving import host_engine

    return host_engine(station, listen, _duration(linger, "--linger"), ready)


@app.command()
def gui(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe to open; it runs when you press Run.", show_default=False),
    ] = None,
    station: StationOption = "simulated",
    host: Annotated[
        str | None,
        typer.Option("--host", help="Attach to the engine host at HOST:PORT.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder for the run.", show_default=False),
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Start the recipe at once.")] = False,
    stored: Annotated[
        Path | None,
        typer.Option(
            "--open",
            help="Look at a stored run; without --host or a recipe no engine is started.",
            show_default=False,
        ),
    ] = None,
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", help="Save a picture of the window and end.", hidden=True),
    ] = None,
    opened: Annotated[
        Path | None,
        typer.Option("--opened", help="Make this file when the engine answers.", hidden=True),
    ] = None,
) -> int:
    """Open the operator's window; at the first start a tour shows you round.

    Without --station everything in it is simulated, and nothing can be hurt. Closing the window does
    not touch a run: the same command opens a window on it again.
    """
    from acquire.cli.serving import open_window

    return open_window(
        recipe,
        station,
        host,
        output,
        start=start,
        screenshot=screenshot,
        stored=stored,
        opened=opened,
    )


@app.command()
def drivers() -> int:
    """List drivers, simulators and estimators, also those that cannot be loaded, and why."""
    from acquire.cli.listing import list_plugins

    return list_plugins()


@app.command()
def stations() -> int:
    """List the installed stations."""
    from acquire.cli.listing import list_stations

    return list_stations()


@app.command()
def doctor() -> int:
    """Tell what is installed, what is missing, and what to do about it."""
    from acquire.cli.doctor import examine

    return examine()


def _duration(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    try:
        return parse(text, "s")
    except UnitError as error:
        raise UnitError(f"{option}: {error}") from error
