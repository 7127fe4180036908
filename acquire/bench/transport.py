"""`hotstage bench transport`: frames and calls between processes, and everything that may go wrong there."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError

import numpy as np
import psutil
from rich.console import Console

from acquire.bench import transport_frames as frames
from acquire.bench import transport_hostile as hostile
from acquire.bench import transport_hostility as hostility
from acquire.bench import transport_mishaps as mishaps
from acquire.bench.concluding import Closing, chosen_parts
from acquire.bench.transport_child import served
from acquire.bench.transport_table import Bench
from acquire.errors import ConfigError, HotstageError

LEAST_OF_MEMCPY = 0.3
"""From 1024² up, copied out."""
LEAST_OF_RAW = 0.8
MOST_PINGS, MOST_TLS_PINGS = 5.0, 8.0


def main(
    parts: str | None = None,
    soak: float = 0.0,
    json: Path | None = None,
    seed: int | None = None,
    *,
    check: bool = False,
    quick: bool = False,
) -> int:
    """Measure, print the table, and say whether all goals are met: 0, or with ``check`` also 1.

    Args:
        parts: some of :data:`PARTS`, with commas between them; default all.
        soak: seconds of four large streams under one lease; 0 leaves that out.
        json: where all that was measured is written, too.
        seed: of everything that is left to chance; default a new one, which is told.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: a little of each, to see that it works: its figures mean nothing.

    Raises:
        ConfigError: an argument makes no sense.
    """
    chosen = chosen_parts("--parts", parts, tuple(PARTS))
    if not 0 <= soak < float("inf"):
        raise ConfigError(f"--soak {soak:g}: take some seconds, or 0 for none.")
    closing = Closing("Transport")
    with tempfile.TemporaryDirectory(prefix="hotstage-transport-") as place:
        bench = Bench(Path(place), soak, quick=quick, seed=seed)
        jobs = [(part, PARTS[part]) for part in chosen]
        if soak or parts is None:
            jobs.append(("soak", mishaps.soak_rows))
        failures = _measure(bench, jobs, closing.console)
    return closing.conclude(bench, failures, json, check=check, quick=quick)


def _measure(
    bench: Bench, jobs: Sequence[tuple[str, Callable[[Bench], None]]], console: Console
) -> list[str]:
    failures: list[str] = []
    with _quiet():
        for part, job in jobs:
            with console.status(part):
                try:
                    job(bench)
                except (HotstageError, OSError, SubprocessError, psutil.Error) as error:
                    failures.append(f"{part}: {error}")
    return failures


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings and errors stay out of the table: they are meant, and counted where they matter."""
    root = logging.getLogger()
    root.addHandler(nothing := logging.NullHandler())
    levels = [(handler, handler.level) for handler in root.handlers]
    for handler, _ in levels:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in levels:
            handler.setLevel(level)
        root.removeHandler(nothing)


# ---------------------------------------------------------------------------------- parts


def _frames(bench: Bench) -> None:
    home = bench.folder / "frames"
    identity = hostile.make_keys(home)
    with served() as plain, served(home, identity) as secured:
        speeds, shared = frames.measure(
            plain, secured, identity, 1 if bench.quick else 11, quick=bench.quick
        )
    bench.measured["frames"] = speeds.document()
    sides = sorted({side for _, side in speeds.rounds if side})
    section = "Same computer, through shared memory, copied out: parts of memcpy"
    if not shared:
        bench.notes.append("Memory could not be shared here: those frames came through a socket.")
    for side in sides:
        ratios = speeds.ratios("memcpy", "shared", side)
        judged = side >= 1024
        _ratio(bench, section, side, speeds, "shared", ratios, LEAST_OF_MEMCPY if judged else None)
    for way, peer in (("TLS", "raw TLS"), ("plain", "raw")):
        name = {"TLS": "Through TLS", "plain": "Through a plain socket"}[way]
        for side in sides:
            ratios = speeds.ratios(peer, way, side)
            _ratio(bench, f"{name}: parts of {peer}", side, speeds, way, ratios, LEAST_OF_RAW)
    for way, peer, most in (("plain", "raw", MOST_PINGS), ("TLS", "raw TLS", MOST_TLS_PINGS)):
        times = [1 / ratio for ratio in speeds.ratios(peer, way, 0)]
        middle = float(np.median(times))
        own, other = speeds.median(way, 0), speeds.median(peer, 0)
        bench.say(
            "The smallest call: times a ping on a plain socket",
            f"{way}: {1e6 * own:.0f} µs beside {1e6 * other:.0f} µs",
            _span(times),
            f"≤ {most:g}",
            middle <= most,
        )


def _ratio(
    bench: Bench,
    section: str,
    side: int,
    speeds: frames.Speeds,
    way: str,
    ratios: list[float],
    least: float | None,
) -> None:
    took_s = speeds.median(way, side)
    what = f"{side}², {1e3 * took_s:.3f} ms, {2 * side * side / took_s / 1e9:.2f} GB/s"
    good = None if least is None else float(np.median(ratios)) >= least
    bench.say(section, what, _span(ratios), "" if least is None else f"≥ {least:g}", good)


def _span(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _torn(bench: Bench) -> None:
    count = 2000 if bench.quick else 100_000
    with served() as plain:
        torn = frames.count_torn(plain, count)
    bench.measured["torn"] = {"frames": count, "torn": torn}
    bench.say(
        "Same computer, every pixel looked at", f"torn of {count} frames", str(torn), "0", not torn
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    "frames": _frames,
    "torn": _torn,
    "lease": mishaps.lease_rows,
    "supervisor": mishaps.supervisor_rows,
    "malformed": hostility.server_rows,
    "far-ends": hostility.far_end_rows,
    "intruders": hostility.intruder_rows,
    "loop": mishaps.loop_rows,
}
"""What can be asked for, and what measures it."""
