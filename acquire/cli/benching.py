"""`hotstage bench`: what hotstage takes, and what it survives; each imports its bench when it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acquire import plugins
from acquire.errors import ConfigError

bench = typer.Typer(
    name="bench",
    help="Measure hotstage on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="A file for all that is measured.", show_default=False),
]

CheckOption = Annotated[bool, typer.Option("--check", help="Exit status 1 when a goal is missed.")]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="A little of each, to see that it works.")
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", help="Of all that is left to chance; a fresh one is printed.", min=0),
]


@bench.command()
def store(
    repeats: Annotated[
        int, typer.Option("--repeats", help="Rounds of which medians are taken.")
    ] = 5,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long the sustained runs last.")
    ] = 60.0,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Some of speed, peers, pace, growth, sustained, memory and reader, with commas.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="A folder on the disk to be measured.", show_default=False),
    ] = None,
    json: JsonOption = None,
    check: CheckOption = False,
    quick: QuickOption = False,
) -> int:
    """Measure the store beside other writers, its latency and its memory, against its goals."""
    from acquire.bench.store import main

    return main(repeats, seconds, json, only, folder, check=check, quick=quick)


@bench.command()
def particles(
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help="Some of isolated, scenes, few, speed, peers, drift, links, ramp and loop, with commas.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = None,
    json: JsonOption = None,
    check: CheckOption = False,
    quick: QuickOption = False,
) -> int:
    """Measure live particle sizes, drift and tracks against their truth, and beside other tools."""
    from acquire.bench.particles import main

    return main(parts, seed, json, check=check, quick=quick)


@bench.command()
def eels(
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help=(
                "Some of zero-loss, background, valence, jitter, thickness, speed, grain, anti-phase "
                "and burst, with commas."
            ),
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = None,
    json: JsonOption = None,
    check: CheckOption = False,
    quick: QuickOption = False,
) -> int:
    """Measure EELS estimates beside their limits and the truth of simulated line scans, and their speed."""
    from acquire.bench.eels import main

    return main(parts, seed, json, check=check, quick=quick)


@bench.command()
def transport(
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help=(
                "Some of frames, torn, lease, supervisor, malformed, far-ends, intruders and loop, "
                "with commas."
            ),
            show_default=False,
        ),
    ] = None,
    soak: Annotated[
        float,
        typer.Option(
            "--soak", help="Seconds of four large streams under one lease; the goal is 600."
        ),
    ] = 0.0,
    json: JsonOption = None,
    seed: SeedOption = None,
    check: CheckOption = False,
    quick: QuickOption = False,
) -> int:
    """Measure frames and calls beside plain sockets, and what servers and far ends endure: the fault table."""
    from acquire.bench.transport import main

    return main(parts, soak, json, seed, check=check, quick=quick)


@bench.command()
def faults(
    kills: Annotated[int, typer.Option("--kills", help="How often something is killed.")] = 200,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="One of writer, engine, server, stop, disk, clock and streams.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = None,
) -> int:
    """Kill, freeze and starve runs at random moments, and check what is left of them."""
    from acquire.bench.faults import main

    return main(kills, json, only)


@bench.command()
def soak(
    hours: Annotated[float, typer.Option("--hours", help="Length of the recipe.")] = 24.0,
    check: Annotated[
        bool, typer.Option("--check", help="Exit status 1 when memory grows too far.")
    ] = False,
) -> int:
    """Run a day's recipe in virtual time into a real store, and watch the memory."""
    from acquire.bench.soak import main

    return main(hours, check=check)


@bench.command()
def specimen(
    seeds: Annotated[int, typer.Option("--seeds", help="How many specimens, seeds 1, 2, ….")] = 5,
    check: Annotated[
        bool, typer.Option("--check", help="Exit status 1 when a figure is off.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare the simulated specimen with the published figures."""
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least one specimen must be simulated.")
    report = plugins.find(plugins.BENCHES, "specimen")
    return int(report(seeds=range(1, seeds + 1), check=check, json=json))


@bench.command()
def wires(
    only: Annotated[
        str | None, typer.Option("--only", help="Drivers, with commas.", show_default=False)
    ] = None,
    json: JsonOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit status 1 when a driver fails.")
    ] = False,
) -> int:
    """Try every driver on its far end while the connection is cut, silent, late or wrong."""
    report = plugins.find(plugins.BENCHES, "wires")
    return int(report(only, json, check))


@bench.command()
def window(
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help="Some of shown, effect, recorded, start, heater-off, points, scrub and soak, with commas.",
            show_default=False,
        ),
    ] = None,
    platforms: Annotated[
        str | None,
        typer.Option(
            "--platforms", help="offscreen, xvfb, or both with a comma.", show_default=False
        ),
    ] = None,
    soak: Annotated[
        float, typer.Option("--soak", help="Seconds of the soak; the goal is 3600.", min=1.0)
    ] = 60.0,
    json: JsonOption = None,
    check: CheckOption = False,
    quick: QuickOption = False,
) -> int:
    """Measure what the operator's window shows, what it costs a run, and how soon it obeys."""
    report = plugins.find(plugins.BENCHES, "window")
    return int(report(parts, platforms, soak, json, check=check, quick=quick))
