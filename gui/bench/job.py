"""`hotstage bench window`: what the window shows, costs and survives, offscreen and on a virtual screen."""

from __future__ import annotations

import json as json_module
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from acquire.bench.concluding import machine
from acquire.bench.verdicts import table_of
from acquire.bench.work import Bench
from acquire.errors import ConfigError, HotstageError
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
    chosen = _chosen("--parts", parts, tuple(known))
    where = _chosen("--platforms", platforms, PLATFORMS)
    bench = Bench(secrets.randbits(31), _QUICK if quick else 1.0)
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    began_s, busy = time.monotonic(), os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy > _LOADED:
        bench.notes.append(
            f"Other processes kept this machine busy ({busy:.1f} per core when it began): times are "
            "longer and rates lower than it can do."
        )
    failures = _measure(bench, [(name, known[name]) for name in chosen], where, console)
    good = not failures and all(verdict.good is not False for verdict in bench.verdicts)
    console.print(table_of("The window: what was seen, and the goals", bench.verdicts))
    for text in (*bench.notes, *failures):
        console.print(Text(text, "red" if text in failures else ""), soft_wrap=True)
    missed = sum(verdict.good is False for verdict in bench.verdicts)
    console.print(
        f"{missed} goals missed; {time.monotonic() - began_s:.0f} s."
        + (" A quick run: its figures mean nothing." if quick else "")
    )
    if json is not None:
        document = {
            "good": good,
            "quick": quick,
            "parts": chosen,
            "platforms": where,
            "machine": machine(),
            "notes": bench.notes,
            "failures": failures,
            "verdicts": [verdict.document() for verdict in bench.verdicts],
            "measured": bench.measured,
        }
        json.write_text(json_module.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if check and not good else 0


def _chosen(option: str, words: str | None, among: tuple[str, ...]) -> list[str]:
    chosen = list(among) if words is None else [word.strip() for word in words.split(",")]
    if unknown := [word for word in chosen if word not in among]:
        raise ConfigError(
            f"{option} {words}: there is no {unknown[0]!r}; take some of {', '.join(among)}, with commas."
        )
    return chosen


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
