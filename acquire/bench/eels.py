"""`hotstage bench eels`: EELS estimates beside their limits, on simulated line scans, and their speed."""

from __future__ import annotations

import json as json_module
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from acquire.bench import eels_accuracy as accuracy
from acquire.bench import eels_burst as bursts
from acquire.bench import eels_engine_burst as engine_burst
from acquire.bench import eels_simulated as simulated
from acquire.bench import eels_speed as speed
from acquire.bench.particles_work import Bench
from acquire.bench.store import machine
from acquire.bench.verdicts import table_of
from acquire.errors import ConfigError, HotstageError

PARTS: dict[str, tuple[Callable[[Bench], None], ...]] = {
    "zero-loss": (accuracy.zero_loss,),
    "background": (accuracy.background,),
    "valence": (accuracy.valence,),
    "jitter": (simulated.titanium_under_jitter,),
    "thickness": (accuracy.thickness,),
    "speed": (speed.one_pair, speed.rows),
    "grain": (simulated.grain_boundary, simulated.vibrations),
    "anti-phase": (simulated.anti_phase_boundary,),
    "burst": (bursts.burst, engine_burst.through_the_engine),
}
"""What can be asked for, and what measures it."""
_QUICK = 0.03
"""Part of the spectra that a quick run makes."""
_LOADED = 1.2
"""Processes per core that want to run, from which times are not this machine's best."""


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
        seed: of all spectra, specimens and noise; default a fresh one, which is printed.
        json: where all that was measured is written, too.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: few spectra of each, to see that it works: its figures mean nothing.

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
        console = Console(width=170)  # a file takes whole words
    began, busy = time.monotonic(), _load()
    failures = _measure(bench, chosen, console)
    if max(busy, _load() - 1 / (os.cpu_count() or 1)) > _LOADED:
        bench.notes.append(
            f"Other processes kept this machine busy ({busy:.1f} per core when it began): times and "
            "rates are longer and lower than it can do."
        )
    good = not failures and all(verdict.good is not False for verdict in bench.verdicts)
    console.print(table_of("EELS: what was seen, and the goals", bench.verdicts))
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
        task = progress.add_task("EELS", total=sum(len(PARTS[part]) for part in chosen))
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


def _load() -> float:
    """Processes per core that wanted to run in the last minute; 0 where the system does not tell."""
    if not hasattr(os, "getloadavg"):
        return 0.0
    return os.getloadavg()[0] / (os.cpu_count() or 1)
