"""The commands for runs that are stored, or being stored: to look at, mend, measure and pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

stored = typer.Typer()
RunArgument = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]


@stored.command()
def show(run: RunArgument) -> int:
    """Print the summary of a run, finished, under way or cut off."""
    from acquire.cli.looking import show_run

    return show_run(run)


@stored.command()
def plot(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="PNG file; default RUN/summary.png.", show_default=False
        ),
    ] = None,
) -> int:
    """Draw a run as one page: temperature, sizes, first and last image, EELS profile."""
    from acquire.cli.looking import plot_page

    return plot_page(run, output)


@stored.command()
def verify(run: RunArgument) -> int:
    """Check a run: metadata, every checksum, coordinates, gaps, journal. Exit status 1: damaged."""
    from acquire.cli import keeping

    return keeping.verify(run)


@stored.command()
def recover(run: RunArgument) -> int:
    """Repair a run whose program died or whose power failed; acquired data are only read."""
    from acquire.cli import keeping

    return keeping.recover(run)


@stored.command()
def consolidate(run: RunArgument) -> int:
    """Add smaller images and statistics to a run that has ended; nothing recorded is changed."""
    from acquire.cli import after

    return after.consolidate(run)


@stored.command()
def upload(
    run: RunArgument,
    url: Annotated[str, typer.Argument(help="Where to, such as s3://BUCKET/FOLDER.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="KEY=VALUE for the storage, such as endpoint_url=http://…; give secrets by the "
            "environment instead.",
            show_default=False,
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not check the run before.")
    ] = False,
    read_back: Annotated[
        bool, typer.Option("--read-back", help="Compare by reading everything back.")
    ] = False,
) -> int:
    """Copy a run that has ended to a storage, and check what arrived.

    The same command goes on where it was interrupted, and mends what was damaged there.
    """
    from acquire.cli import after

    return after.upload(run, url, option or [], verify=not no_verify, read_back=read_back)


@stored.command()
def analyse(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs, also those under way.", show_default=False),
    ],
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="YAML with estimators as in a recipe's 'estimate'; default as each run was recorded.",
            show_default=False,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="ESTIMATOR.KEY=VALUE, such as particles.smallest_diameter='3 nm'.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only this estimator.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Of the analysis, RUN/analyses/NAME; default analysis-1, -2 and so on.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder for it; of several runs, one folder each in this one.",
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str,
        typer.Option(
            "--scheduler", help="threads, processes, or a Dask scheduler, tcp://HOST:PORT."
        ),
    ] = "threads",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Blocks measured at once; default all.", show_default=False),
    ] = None,
    as_live: Annotated[
        bool,
        typer.Option("--as-live", help="Frame after frame, as while recording; slower."),
    ] = False,
) -> int:
    """Measure runs again with other settings; what was recorded and estimated stays as it is.

    Exit status 1: an error, or some frames could not be read and are flagged.
    """
    from acquire.cli.analysing import analyse_runs

    return analyse_runs(
        runs,
        settings,
        change or [],
        only or [],
        name,
        output,
        scheduler,
        workers,
        as_live=as_live,
    )


@stored.command()
def export(
    run: RunArgument,
    to: Annotated[
        Literal["zspy", "hspy", "tiff", "ome-tiff", "csv", "nexus"],
        typer.Option("--to", help="What to make of it.", show_default=False),
    ],
    stream: Annotated[
        str | None, typer.Option("--stream", help="Only this stream.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder (nexus: file); default RUN_FORMAT beside the run.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Hand a run to other programs: HyperSpy, ImageJ, OME, spreadsheets, NeXus.

    Units, times and temperatures go along. Works on runs under way and cut off, too.
    """
    from acquire.cli.exporting import export_folder

    return export_folder(run, to, stream, output)
