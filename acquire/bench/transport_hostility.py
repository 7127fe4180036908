"""Rows of the transport's bench: malformed messages, and those who may not come in."""

from __future__ import annotations

from random import Random

from acquire.bench import transport_far_ends as far_ends
from acquire.bench import transport_hostile as hostile
from acquire.bench.transport_child import served
from acquire.bench.transport_host import try_host
from acquire.bench.transport_shower import Endured
from acquire.bench.transport_table import Bench
from acquire.errors import HotstageError
from acquire.units import show_bytes

MESSAGES, QUICK_MESSAGES = 2000, 100
MOST_GROWTH_BYTES = 100e6
MOST_DELAY_S = 0.5


def _messages(bench: Bench) -> int:
    return QUICK_MESSAGES if bench.quick else MESSAGES


def server_rows(bench: Bench) -> None:
    """Malformed messages to an instrument server, with and without TLS, and to an engine host."""
    home = bench.folder / "malformed"
    identity = hostile.make_keys(home)
    count = _messages(bench)
    with served() as plain, served(home, identity) as secured:
        for name, server, who in (("plain", plain, None), ("TLS", secured, identity)):
            found = hostile.malformed(server, count, who, bench.seed)
            _endured(bench, f"the instrument server, {name}", found)
    if not bench.quick:
        _endured(bench, "the engine host", try_host(count, bench.seed))


def far_end_rows(bench: Bench) -> None:
    """Malformed messages to every kind of far end that installed stations have; when quick, to one."""
    trials = far_ends.far_ends()
    chosen = Random(bench.seed).sample(sorted(trials), 1) if bench.quick else sorted(trials)
    for name in chosen:
        what = f"the far end {name}"
        try:
            found = far_ends.try_far_end(trials[name], _messages(bench), bench.seed)
        except (HotstageError, OSError) as error:  # the others are tried all the same
            bench.notes.append(f"{what}: {error}")
            bench.say(f"Malformed messages to {what}", "it could be tried", "no", "yes", False)
            continue
        _endured(bench, what, found)


def _endured(bench: Bench, what: str, found: Endured) -> None:
    section = f"Malformed messages to {what}: {found.messages}"
    bench.notes += [f"{what}: {note}." for note in (*found.notes, found.problem) if note]
    alive = found.alive and not found.problem
    bench.say(section, "it serves on", "yes" if alive else "no", "yes", alive)
    grown = max(0, found.grown_bytes)
    good = grown <= MOST_GROWTH_BYTES
    bench.say(section, "memory grown", show_bytes(grown), "≤ 100 MB", good)
    bench.say(
        section,
        f"another client's longest wait, {found.questions} questions",
        f"{found.worst_delay_s:.3f} s",
        f"≤ {MOST_DELAY_S:g} s",
        found.questions > 0 and found.worst_delay_s <= MOST_DELAY_S,
    )
    bench.measured[f"malformed, {what}"] = {
        "messages": found.messages,
        "grown_bytes": grown,
        "worst_delay_s": found.worst_delay_s,
        "calm_delay_s": found.calm_delay_s,
        "questions": found.questions,
        "alive": alive,
    }


def intruder_rows(bench: Bench) -> None:
    """Everyone who must not come in, at a door of TLS."""
    for name, (refused, logged) in hostile.intruders(bench.folder / "intruders").items():
        control = name.startswith("(")
        words = f"{'refused' if refused else 'LET IN'}, {'logged' if logged else 'NOT LOGGED'}"
        value = ("yes" if refused else "no") if control else words
        goal = "yes" if control else "refused, logged"
        bench.say("Intruders at a door of TLS", name, value, goal, refused and logged)
        bench.measured[f"intruder, {name}"] = {"refused": refused, "logged": logged}
