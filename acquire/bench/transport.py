"""`hotstage bench transport`: frames and calls between processes, leases, and whatever is thrown at a server."""

from __future__ import annotations

import json as json_module
import logging
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from acquire.bench import transport_frames as frames
from acquire.bench import transport_hostile as hostile
from acquire.bench import transport_lease as lease
from acquire.bench.store import machine
from acquire.bench.transport_child import served
from acquire.bench.verdicts import Verdict, table_of
from acquire.errors import ConfigError, HotstageError
from acquire.remote.lease import TTL_S
from acquire.units import show_bytes, show_duration

LEAST_OF_MEMCPY = 0.3
"""From 1024² up, copied out."""
LEAST_OF_RAW = 0.8
MOST_PINGS, MOST_TLS_PINGS = 5.0, 8.0
MOST_GROWTH_BYTES = 100e6
MOST_DELAY_S = 0.5
SOAK_S = 600.0


class Bench:
    """What is measured, and what came of it."""

    def __init__(self, folder: Path, soak_s: float, *, quick: bool) -> None:
        self.folder = folder
        self.soak_s = soak_s
        self.quick = quick
        self.seed = secrets.randbits(31)
        self.verdicts: list[Verdict] = []
        self.measured: dict[str, Any] = {}
        self.notes: list[str] = []

    def say(
        self, section: str, what: str, value: str, goal: str = "", good: bool | None = None
    ) -> None:
        """Add a line to the table."""
        self.verdicts.append(Verdict(section, what, value, goal, good))


def main(
    parts: str | None = None,
    soak: float = 0.0,
    json: Path | None = None,
    *,
    check: bool = False,
    quick: bool = False,
) -> int:
    """Measure, print the table, and say whether all goals are met: 0, or with ``check`` also 1.

    Args:
        parts: some of :data:`PARTS`, with commas between them; default all.
        soak: seconds of four large streams under one lease; 0 leaves that out.
        json: where all that was measured is written, too.
        check: exit status 1 when a goal is missed, or something could not be measured.
        quick: a little of each, to see that it works: its figures mean nothing.

    Raises:
        ConfigError: an argument makes no sense.
    """
    chosen = list(PARTS) if parts is None else [part.strip() for part in parts.split(",") if part]
    if any(part not in PARTS for part in chosen) or not 0 <= soak < float("inf"):
        raise ConfigError(
            f"--parts {parts}, --soak {soak:g}: take parts out of {', '.join(PARTS)}, with commas, "
            "and some seconds."
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # a file takes whole words
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hotstage-transport-") as place:
        bench = Bench(Path(place), soak, quick=quick)
        jobs = [(part, PARTS[part]) for part in chosen] + ([("soak", _soak)] if soak else [])
        failures = _measure(bench, jobs, console)
    good = not failures and all(verdict.good is not False for verdict in bench.verdicts)
    console.print(table_of("Transport: what was seen, and the goals", bench.verdicts))
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
            "quick": quick,
            "seed": bench.seed,
            "machine": machine(),
            "notes": bench.notes,
            "failures": failures,
            "verdicts": [verdict.document() for verdict in bench.verdicts],
            "measured": bench.measured,
        }
        json.write_text(json_module.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if check and not good else 0


def _measure(
    bench: Bench, jobs: Sequence[tuple[str, Callable[[Bench], None]]], console: Console
) -> list[str]:
    failures: list[str] = []
    logging.getLogger("acquire.remote").addHandler(logging.NullHandler())  # it warns as it should
    for part, job in jobs:
        with console.status(part):
            try:
                job(bench)
            except (HotstageError, OSError) as error:
                failures.append(f"{part}: {error}")
    return failures


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


def _lease(bench: Bench) -> None:
    section = f"A commander's mishap: until the heater is off (time to live {TTL_S:g} s)"
    for way in lease.WAYS:
        took = lease.safe_after(way, 2 if bench.quick else 20, bench.seed)
        bench.measured[f"lease, {way}"] = took
        most = TTL_S + lease.MARGIN_S
        bench.say(
            section,
            f"{way}, {len(took)} times",
            f"{np.median(took):.3f} s, at most {max(took):.3f} s",
            f"≤ {most:g} s",
            max(took) <= most,
        )


def _malformed(bench: Bench) -> None:
    home = bench.folder / "malformed"
    identity = hostile.make_keys(home)
    count = 200 if bench.quick else 2000
    with served() as plain, served(home, identity) as secured:
        for name, server, who in (("plain", plain, None), ("TLS", secured, identity)):
            found = hostile.malformed(server, count, who, bench.seed)
            section = f"Malformed messages to a server, {name}: {found.messages}"
            bench.say(section, "it serves on", "yes" if found.alive else "no", "yes", found.alive)
            grown = found.grown_bytes
            text = show_bytes(max(0, grown))
            bench.say(section, "memory grown", text, "≤ 100 MB", grown <= MOST_GROWTH_BYTES)
            delay_s = found.worst_delay_s
            bench.say(
                section,
                "slowest call of another client",
                f"{delay_s:.3f} s",
                f"≤ {MOST_DELAY_S:g} s",
                delay_s <= MOST_DELAY_S,
            )
            bench.measured[f"malformed, {name}"] = {
                "messages": found.messages,
                "grown_bytes": grown,
                "worst_delay_s": delay_s,
                "alive": found.alive,
            }


def _intruders(bench: Bench) -> None:
    for name, (refused, logged) in hostile.intruders(bench.folder / "intruders").items():
        control = name.startswith("(")
        words = f"{'refused' if refused else 'LET IN'}, {'logged' if logged else 'NOT LOGGED'}"
        value = ("yes" if refused else "no") if control else words
        goal = "yes" if control else "refused, logged"
        bench.say("Intruders at a door of TLS", name, value, goal, refused and logged)
        bench.measured[f"intruder, {name}"] = {"refused": refused, "logged": logged}


def _soak(bench: Bench) -> None:
    with served() as plain:
        found = lease.soak(plain, bench.soak_s, lambda seconds: None)
    section = f"Two recorded and two watched streams of 2048² under one lease, {1 / lease.STREAM_PERIOD_S:g} frames/s each"
    enough = found.seconds >= SOAK_S
    bench.say(
        section,
        f"false trips in {show_duration(found.seconds)}",
        "; ".join(found.trips) or "none",
        f"none in {show_duration(SOAK_S)}",
        False if found.trips else True if enough else None,
    )
    recorded, watched = found.frames[:2], found.frames[2:]
    bench.say(
        section,
        f"frames recorded {recorded}, watched {watched}",
        f"silent for at most {found.longest_silence_s:.2f} s",
    )
    bench.measured["soak"] = {
        "seconds": found.seconds,
        "trips": found.trips,
        "frames": found.frames,
        "longest_silence_s": found.longest_silence_s,
    }


PARTS: dict[str, Callable[[Bench], None]] = {
    "frames": _frames,
    "torn": _torn,
    "lease": _lease,
    "malformed": _malformed,
    "intruders": _intruders,
}
"""What can be asked for, and what measures it."""
