"""`hotstage bench particles`: sizes, drift, links and the closed loop against their goals, beside others."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from acquire.bench import particles_accuracy as accuracy
from acquire.bench import particles_follow as follow
from acquire.bench import particles_runs as runs
from acquire.bench import particles_speed as speed
from acquire.bench.concluding import Closing, chosen_parts
from acquire.bench.work import Bench
from acquire.errors import ConfigError

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
    chosen = chosen_parts("--parts", parts, tuple(PARTS))
    if seed is not None and seed < 0:
        raise ConfigError(f"--seed {seed}: take 0 or more.")
    bench = Bench(secrets.randbits(31) if seed is None else seed, _QUICK if quick else 1.0)
    closing = Closing("Particles")
    failures = closing.measure(bench, {part: PARTS[part] for part in chosen})
    return closing.conclude(bench, failures, json, check=check, quick=quick, parts=chosen)
