"""`hotstage bench eels`: EELS estimates beside their limits, on simulated line scans, and their speed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from acquire.bench import eels_accuracy as accuracy
from acquire.bench import eels_burst as bursts
from acquire.bench import eels_engine_burst as engine_burst
from acquire.bench import eels_simulated as simulated
from acquire.bench import eels_speed as speed
from acquire.bench.concluding import Closing, chosen_parts
from acquire.bench.work import Bench
from acquire.errors import ConfigError

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
    chosen = chosen_parts("--parts", parts, tuple(PARTS))
    if seed is not None and seed < 0:
        raise ConfigError(f"--seed {seed}: take 0 or more.")
    bench = Bench(secrets.randbits(31) if seed is None else seed, _QUICK if quick else 1.0)
    closing = Closing("EELS")
    failures = closing.measure(bench, {part: PARTS[part] for part in chosen})
    return closing.conclude(bench, failures, json, check=check, quick=quick, parts=chosen)
