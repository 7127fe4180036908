"""Rows of the transport's bench: what is safe, and how soon, when a program, a server or a network fails."""

from __future__ import annotations

import itertools

import numpy as np

from acquire.bench import transport_lease as lease
from acquire.bench import transport_loop as loop
from acquire.bench import transport_namespace as namespace
from acquire.bench import transport_supervised as supervised
from acquire.bench.transport_child import served
from acquire.bench.transport_table import Bench
from acquire.remote.lease import TTL_S
from acquire.remote.supervisor import CRASHES
from acquire.units import show_duration

TIMES = 20
SOAK_S = 600.0
MOST_OFF_CELSIUS, MOST_OVERSHOOT_CELSIUS = 2.0, 3.0
PERIOD_S, PERIOD_TOLERANCE_S = 0.02, 0.005


def lease_rows(bench: Bench) -> None:
    """A commander is killed, stopped, frozen or cut off."""
    section = f"A commander's mishap: until the heater is off (time to live {TTL_S:g} s)"
    times = 2 if bench.quick else TIMES
    for way in lease.WAYS:
        if way == lease.CUT:
            took, name = _cut(bench, times)
        else:
            took, name = lease.safe_after(way, times, bench.seed), way
        bench.measured[f"lease, {way}"] = took
        most = TTL_S + lease.MARGIN_S
        bench.say(
            section, f"{name}, {len(took)} times", _times(took), f"≤ {most:g} s", max(took) <= most
        )


def _cut(bench: Bench, times: int) -> tuple[list[float], str]:
    """In a network namespace if there can be one, else at a proxy that goes silent; and which it was."""
    reason = namespace.why_not()
    if not reason:
        took = namespace.cut(times, bench.seed, bench.folder / "namespace")
        return took, "cut network (a network namespace, TLS)"
    bench.notes.append(f"No network namespace can be made here: {reason}.")
    return lease.safe_after(lease.CUT, times, bench.seed), "cut network (a proxy that goes silent)"


def _times(took: list[float]) -> str:
    return f"{np.median(took):.3f} s, at most {max(took):.3f} s"


def supervisor_rows(bench: Bench) -> None:
    """The instrument server is killed or frozen, with the heater of a far end on."""
    for way in supervised.WAYS[:1] if bench.quick else supervised.WAYS:
        found = supervised.deaths(way, 1 if bench.quick else TIMES, bench.seed)
        problems = [problem for one in found for problem in one.problems]
        safe_s = list(itertools.chain.from_iterable(one.safe_s for one in found))
        returned_s = list(itertools.chain.from_iterable(one.returned_s for one in found))
        latched = [one.latched for one in found]
        section = f"An instrument server's end, {way}, holders of {', '.join(sorted({one.station for one in found}))}"
        bench.notes += problems
        bench.say(
            section,
            f"heater off at the far end, {len(safe_s)} times",
            _times(safe_s) if safe_s else "never",
            f"≤ {supervised.SAFE_S:g} s",
            bool(safe_s) and max(safe_s) <= supervised.SAFE_S and not problems,
        )
        expected = len(found) * (CRASHES - 1)
        bench.say(
            section,
            "a new server at the same address, heater off",
            f"{len(returned_s)} of {expected}, {_times(returned_s)}" if returned_s else "never",
            "always",
            len(returned_s) == expected and not problems,
        )
        bench.say(
            section,
            f"{CRASHES} deaths in a row: stays down, and tells why",
            f"{latched.count(True)} of {len(latched)}",
            "always",
            all(latched),
        )
        bench.measured[f"supervisor, {way}"] = {
            "safe_s": safe_s,
            "returned_s": returned_s,
            "latched": latched,
            "problems": problems,
        }


def loop_rows(bench: Bench) -> None:
    """The closed loop of the source-meter heater, in real time."""
    found = loop.follow(quick=bench.quick)
    section = f"Closed loop of {loop.DRIVER} on the simulated chip, {loop.RATE_CELSIUS_PER_S:g} °C/s to {loop.TARGET_CELSIUS:g} °C"
    off, over, period = found.worst, found.overshoot, found.period_s
    rows = (
        ("furthest from the setpoint, read and true", f"{off:.2f} °C", MOST_OFF_CELSIUS, off),
        ("overshoot", f"{over:.2f} °C", MOST_OVERSHOOT_CELSIUS, over),
    )
    for what, value, most, seen in rows:
        bench.say(section, what, value, f"≤ {most:g} °C", seen <= most)
    bench.say(
        section,
        f"from one reading to the next, median of {len(found.gaps_s)}",
        f"{1e3 * period:.1f} ms",
        f"{1e3 * PERIOD_S:g} ms",
        abs(period - PERIOD_S) <= PERIOD_TOLERANCE_S,
    )
    bench.measured["loop"] = {
        "worst_celsius": off,
        "overshoot_celsius": over,
        "period_s": period,
        "readings": len(found.off),
    }


def soak_rows(bench: Bench) -> None:
    """Four large streams under one lease, for as long as was asked for."""
    if not bench.soak_s:
        bench.say(
            "Four streams of 2048² under one lease",
            "false trips",
            "not looked at: --soak 600",
            f"none in {show_duration(SOAK_S)}",
        )
        return
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
