"""The goals of the store, and whether what was measured meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from acquire.bench.store_jobs import APPENDER, RAW, WHOLE
from acquire.bench.store_work import LARGE, SMALL, SPECTRUM, WORKS
from acquire.bench.verdicts import Verdict

Rounds = Mapping[tuple[str, str], Sequence[Mapping[str, float]]]
"""What was measured, round by round: by what (a writer, or ``pace``, …) and by the work's name."""

APPENDER_GOALS = {SMALL.name: 0.85, LARGE.name: 0.85, SPECTRUM.name: 0.75}
WHOLE_GOALS = {SMALL.name: 0.6, LARGE.name: 0.8, SPECTRUM.name: 0.6}
PEER_GOALS = {"zarr-python": 10.0, "acquire-zarr": 2.0}
"""How many times faster with the smallest images."""
NEVER_BEHIND = "zarr-python"


def judge(rounds: Rounds) -> list[Verdict]:
    """A line for everything that was measured, in the order of the goals."""
    return [
        *_speeds(rounds),
        *_peers(rounds),
        *_calls(rounds),
        *_sustained(rounds),
        *_memory(rounds),
        *_reader(rounds),
    ]


def ratios(rounds: Rounds, work: str, fast: str, slow: str) -> list[float]:
    """Speed of one writer over that of another, in each round that has both."""
    return [
        b["wall_s"] / a["wall_s"]
        for a, b in zip(rounds.get((fast, work), ()), rounds.get((slow, work), ()), strict=False)
        if a and b
    ]


def _speeds(rounds: Rounds) -> list[Verdict]:
    lines = []
    section = "speed, ratio to the codec and one plain file"
    for work in APPENDER_GOALS:
        raw = _median(rounds, RAW, work, "gb_per_s")
        if raw is not None:
            lines.append(Verdict(section, f"{work}: plain file", f"{raw:.2f} GB/s"))
        for writer, name, goals in (
            (APPENDER, "appender alone", APPENDER_GOALS),
            (WHOLE, "whole path", WHOLE_GOALS),
        ):
            found = ratios(rounds, work, writer, RAW)
            if found:
                cpu = _cpu(rounds, work, writer, RAW)
                value = f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f}; CPU {cpu:.2f})"
                goal = goals[work]
                lines.append(
                    Verdict(section, f"{work}: {name}", value, f"≥ {goal:g}", median(found) >= goal)
                )
    return lines


def _cpu(rounds: Rounds, work: str, writer: str, other: str) -> float:
    """CPU time of one writer over that of another: says more than the wall on a busy machine."""
    pairs = zip(rounds[writer, work], rounds[other, work], strict=False)
    return median(b["cpu_s"] / a["cpu_s"] for a, b in pairs if a and b)


def _peers(rounds: Rounds) -> list[Verdict]:
    lines = []
    section = "times as fast as others: appender alone, whole path"
    own = {APPENDER, WHOLE, RAW}
    peers = dict.fromkeys(w for w, n in rounds if n in APPENDER_GOALS and _is_writer(rounds, w, n))
    for peer in (p for p in peers if p not in own):
        ahead: dict[str, float] = {}
        for work in APPENDER_GOALS:
            alone = ratios(rounds, work, APPENDER, peer)
            whole = ratios(rounds, work, WHOLE, peer)
            if not alone or not whole:
                continue
            ahead[work] = median(alone)
            goal = PEER_GOALS.get(peer) if work == SMALL.name else None
            lines.append(
                Verdict(
                    section,
                    f"{work}: {peer}",
                    f"{median(alone):.2f}, {median(whole):.2f}",
                    f"≥ {goal:g}" if goal else "",
                    ahead[work] >= goal if goal else None,
                )
            )
        if ahead:
            faster = sum(ratio > 1 for ratio in ahead.values())
            good = faster >= min(2, len(ahead))
            goal_text = "2 of 3"
            if peer == NEVER_BEHIND:
                good, goal_text = good and faster == len(ahead), "never behind"
            value = f"ahead in {faster} of {len(ahead)}"
            lines.append(Verdict(section, f"appender, {peer}", value, goal_text, good))
    return lines


def _is_writer(rounds: Rounds, what: str, work: str) -> bool:
    return any("gb_per_s" in found for found in rounds[what, work])


def _calls(rounds: Rounds) -> list[Verdict]:
    section = "append call, records on time"
    lines = [
        _limit(rounds, section, "pace", SMALL.name, "500 fps, p99", "p99_ms", 0.1, "ms"),
        _limit(rounds, section, "pace", SMALL.name, "500 fps, cores", "cores", 0.15, ""),
        _limit(rounds, section, "pace", SPECTRUM.name, "8000/s singly, p99", "p99_ms", 0.05, "ms"),
        _limit(rounds, section, "pace", SPECTRUM.name, "8000/s singly, cores", "cores", 0.3, ""),
        _limit(
            rounds,
            section,
            "pace",
            LARGE.name,
            "30 fps, p99 beyond one copy",
            "beyond_copy_ms",
            1.0,
            "ms",
        ),
    ]
    for name in {work for what, work in rounds if what == "grow"}:
        appends = _median(rounds, "grow", name, "appends") or 0
        lines += [
            _limit(
                rounds,
                section,
                "grow",
                name,
                f"{appends:.0f} appends, last tenth to first",
                "last_to_first",
                1.2,
                "",
            ),
            _limit(rounds, section, "grow", name, "memory grown", "grown_mb", 20.0, "MB"),
        ]
    return [line for line in lines if line is not None]


def _sustained(rounds: Rounds) -> list[Verdict]:
    section = "sustained, with estimates and a reader"
    lines = []
    for name in (work for what, work in rounds if what == "sustain"):
        rate = f"{WORKS[name].per_s:g}/s"
        for found in filter(None, rounds["sustain", name]):
            lost, full = found["lost"], found["fullness"]
            value = f"{lost:.0f} of {found['records']:.0f} lost, queue ≤ {full:.2f}"
            looks = f"; {found['looks']:.0f} looks, {found['wrong_looks']:.0f} wrong"
            good = lost == 0 and full <= 0.5 and found["wrong_looks"] == 0 and found["looks"] > 0
            lines.append(Verdict(section, f"{name} at {rate}", value + looks, "0, ≤ 0.5", good))
    return lines


def _memory(rounds: Rounds) -> list[Verdict]:
    section = "memory of the writer, flat out"
    lines = [
        _limit(
            rounds,
            section,
            "memory",
            name,
            "less two frames",
            "beyond_frames_mb",
            64.0,
            "MB",
        )
        for name in APPENDER_GOALS
    ]
    return [line for line in lines if line is not None]


def _reader(rounds: Rounds) -> list[Verdict]:
    section = "reader of a live run"
    records = _median(rounds, "visible", SPECTRUM.name, "records") or 0
    what = f"{records:.0f} records, opened in"
    lines = [
        _limit(rounds, section, "visible", SPECTRUM.name, what, "open_s", 0.3, "s"),
        _limit(
            rounds,
            section,
            "visible",
            SPECTRUM.name,
            "oldest when it shows",
            "worst_age_s",
            0.7,
            "s",
        ),
    ]
    return [line for line in lines if line is not None]


def _limit(
    rounds: Rounds,
    section: str,
    measure: str,
    work: str,
    what: str,
    key: str,
    limit: float,
    unit: str,
) -> Verdict | None:
    """A line for something that must not be more than a limit, by its median."""
    found = _median(rounds, measure, work, key)
    if found is None:
        return None
    spread = _each(rounds, measure, work, key)
    value = f"{found:.3g} {unit}".rstrip()
    if len(spread) > 1:
        value += f" ({min(spread):.3g} to {max(spread):.3g})"
    return Verdict(
        section, f"{work}: {what}", value, f"≤ {limit:.3g} {unit}".rstrip(), found <= limit
    )


def _each(rounds: Rounds, measure: str, work: str, key: str) -> list[float]:
    return [found[key] for found in rounds.get((measure, work), ()) if found]


def _median(rounds: Rounds, measure: str, work: str, key: str) -> float | None:
    values = _each(rounds, measure, work, key)
    return median(values) if values else None
