"""`hotstage bench particles`: sizes, drift, links and the closed loop against their goals, beside others."""

from __future__ import annotations

import json as json_module
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from acquire.bench import particles_accuracy as accuracy
from acquire.bench import particles_follow as follow
from acquire.bench import particles_runs as runs
from acquire.bench import particles_speed as speed
from acquire.bench.particles_work import Bench
from acquire.bench.store import machine
from acquire.bench.verdicts import table_of
from acquire.errors import ConfigError, HotstageError

PARTS: dict[str, tuple[Callable[[Bench], None], ...]] = {
    "isolated": (accuracy.isolated_domes, accuracy.other_solids),
    "scenes": (accuracy.scenes, accuracy.dose_change),
    "few": (accuracy.sparse, accuracy.blank),
    "speed": (speed.speed,),
    "peers": (speed.peers, speed.peer_scores),
    "drift": (follow.registration,),
    "links": (follow.links, follow.merges),
    "ramp": (runs.ramps,),
    "loop": (runs.loop,),
}
"""What can be asked for, and what measures it."""
_QUICK = 0.02
"""Part of the frames that a quick run makes."""


def main(
    parts: str | None = None,
    seed: int | None = None,
    json: Path | None = None,
    *,
    check: bool = False,
    quick: bool = False,
) -> int:
    """Measure, print the table, and say whether all goals are met: 0, or with ``check`` also 1.

    Args:
        parts: some of :data:`PARTS`, with commas between them; default all.
        seed: of all scenes and noise; default a fresh one, which is printed.
        json: where all that was measured is written, too.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: few frames of each, to see that it works: its figures mean nothing.

    Raises:
        ConfigError: an argument makes no sense.
    """
    chosen = list(PARTS) if parts is None else [part.strip() for part in parts.split(",")]
    unknown = [part for part in chosen if part not in PARTS]
    if unknown or (seed is not None and seed < 0):
        raise ConfigError(
            f"--parts {parts}, --seed {seed}: take parts out of {', '.join(PARTS)}, with commas, and "
            "a seed of 0 or more."
        )
    bench = Bench(secrets.randbits(31) if seed is None else seed, _QUICK if quick else 1.0)
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # a file takes whole words
    began = time.monotonic()
    failures = _measure(bench, chosen, console)
    good = not failures and all(verdict.good is not False for verdict in bench.verdicts)
    console.print(table_of("Particles: what was seen, and the goals", bench.verdicts))
    for text in (*bench.notes, *failures):
        console.print(Text(text, "red" if text in failures else ""), soft_wrap=True)
    missed = sum(verdict.good is False for verdict in bench.verdicts)
    console.print(
        f"{missed} goals missed; seed {bench.seed}, {time.monotonic() - began:.0f} s."
        + (" A quick run: its figures mean nothing." if quick else "")
    )
    if json is not None:
        document = {
            "good": good,
            "seed": bench.seed,
            "quick": quick,
            "parts": chosen,
            "machine": machine(),
            "notes": bench.notes,
            "failures": failures,
            "verdicts": [verdict.document() for verdict in bench.verdicts],
            "measured": bench.measured,
        }
        json.write_text(json_module.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if check and not good else 0


def _measure(bench: Bench, chosen: list[str], console: Console) -> list[str]:
    failures: list[str] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("particles", total=sum(len(PARTS[part]) for part in chosen))
        bench.tell = lambda what: progress.update(task, description=what)
        for part in chosen:
            for measure in PARTS[part]:
                progress.update(task, description=part)
                try:
                    measure(bench)
                except HotstageError as error:
                    failures.append(f"{part}: {error}")
                progress.advance(task)
    return failures
