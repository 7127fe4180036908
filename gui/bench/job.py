"""`hotstage bench window`: what the window shows, costs and survives, offscreen and on a virtual screen."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from acquire.bench.concluding import Closing, chosen_parts
from acquire.bench.work import Bench
from acquire.errors import HotstageError
from gui.bench import rows
from gui.bench.processes import virtual_screen

Row = Callable[[Bench, str, Mapping[str, str]], None]
PARTS: dict[str, Row] = {
    "shown": rows.shown,
    "effect": rows.effect,
    "recorded": rows.recorded,
    "start": rows.first_paint,
    "heater-off": rows.heater_off,
    "points": rows.points,
    "scrub": rows.scrub,
    "crowd": rows.crowd,
}
PLATFORMS = ("offscreen", "xvfb")
_QUICK = 0.1
_SOAK_S = 60.0
_LOADED = 0.6
"""Share of the processors in use before anything began, from which times are not the machine's best."""


def main(
    parts: str | None = None,
    platforms: str | None = None,
    soak_s: float = _SOAK_S,
    json: Path | None = None,
    *,
    check: bool = False,
    quick: bool = False,
) -> int:
    """Measure, print the table, and say whether all goals are met: 0, or with ``check`` also 1.

    Args:
        parts: some of :data:`PARTS` and ``soak``, with commas between them; default all.
        platforms: some of :data:`PLATFORMS`; default both.
        soak_s: how long the soak lasts.
        json: where all that was measured is written, too.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: a little of each, to see that it works: its figures mean nothing.

    Raises:
        ConfigError: an argument makes no sense.
    """
    known: dict[str, Row] = {
        **PARTS,
        "soak": partial(rows.soak, seconds=_SOAK_S / 6 if quick else soak_s),
    }
    chosen = chosen_parts("--parts", parts, tuple(known))
    where = chosen_parts("--platforms", platforms, PLATFORMS)
    bench = Bench(secrets.randbits(31), _QUICK if quick else 1.0)
    closing = Closing("The window", loaded=_LOADED)
    jobs = [(name, known[name]) for name in chosen]
    failures = _measure(bench, jobs, where, closing.console)
    return closing.conclude(
        bench, failures, json, check=check, quick=quick, parts=chosen, platforms=where
    )


def _measure(
    bench: Bench, chosen: list[tuple[str, Row]], platforms: list[str], console: Console
) -> list[str]:
    failures: list[str] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("window", total=len(chosen) * len(platforms))
        bench.tell = lambda what: progress.update(task, description=what)
        for platform in platforms:
            screen = virtual_screen() if platform == "xvfb" else nullcontext(_OFFSCREEN)
            try:
                with screen as environment:
                    for name, measure in chosen:
                        progress.update(task, description=f"{platform}: {name}")
                        try:
                            measure(bench, platform, environment)
                        except HotstageError as error:
                            failures.append(f"{platform}, {name}: {error}")
                        progress.advance(task)
            except HotstageError as error:
                failures.append(f"{platform}: {error}")
    return failures


_OFFSCREEN = {"QT_QPA_PLATFORM": "offscreen"}
