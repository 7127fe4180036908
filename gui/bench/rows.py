"""The rows of the window bench: each measures one thing in processes of its own and says what was seen."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from acquire.bench.work import Bench
from acquire.engine.client import HostClient
from acquire.errors import HotstageError
from acquire.store import open_run
from gui.bench.processes import Child, engine_host, source
from gui.emergency import ENGINE, SERVER

Environment = Mapping[str, str]
PER_S = 200.0
SHOWN = {1024: 30.0, 2048: 25.0}
CORES, LAG_P99_S, LAG_MAX_S = 0.30, 0.050, 0.200
EFFECT, GROWTH_BYTES = 1.2, 50e6
FROZEN_S = 10.0
PAINT_S, ACK_S = 2.0, 0.1
SCRUB_S, UPDATE_S = 0.050, 0.010
POINTS = 1_000_000
CROWD, CROWD_PER_S = 5000, 2.0
_REFERENCES, _REFERENCES_PER_FRAME = 1000, 0.1

RECIPE = """hotstage: 1
name: window bench
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 80 nm, dwell_time: 10 µs}, every: 1 s}
steps:
  - hold: {for: 2 h}
"""


def shown(bench: Bench, where: str, environment: Environment) -> None:
    """Frames shown a second, processor time and the UI thread's delays, at 200 frames/s acquired."""
    for shape, goal in SHOWN.items():
        seconds = max(3.0, 20 * bench.share)
        with source(shape, PER_S) as (child, address):
            seen = _watch(address, seconds, environment)
            made = child.ask("report")["frames"]
        section = f"live image, {where}"
        what = f"{shape}² acquired at {PER_S:g}/s"
        rate, cores = seen["shown_per_s"], seen["cores"]
        bench.add(
            section,
            what,
            f"{rate:.1f} shown/s, {100 * cores:.0f} % of a core",
            f">= {goal:g}/s" + (f", <= {100 * CORES:g} %" if shape == 1024 else ""),
            rate >= goal and (shape != 1024 or cores <= CORES),
            made=made,
            **seen,
        )
        if shape == 1024:
            p99, worst = seen["lag_p99_s"], seen["lag_max_s"]
            bench.add(
                section,
                "how late the UI thread was meanwhile",
                f"p99 {1000 * p99:.0f} ms, most {1000 * worst:.0f} ms",
                "<= 50 ms, 200 ms on an idle machine",
                p99 <= LAG_P99_S and worst <= LAG_MAX_S,
            )


def effect(bench: Bench, where: str, environment: Environment) -> None:
    """What a window does to the pace of the frames: rounds without, with and without one, in turn."""
    rounds, seconds = max(1, round(7 * bench.share)), max(2.0, 5 * bench.share)
    alone: list[float] = []
    beside: list[float] = []

    def pace() -> float:
        time.sleep(1.0)
        child.ask("report")
        time.sleep(seconds)
        return _p99(child.ask("report"))

    with source(1024, PER_S) as (child, address):
        memory = child.ask("report")["memory_bytes"]
        alone.append(pace())
        for _ in range(rounds):
            with _window(address, seconds + 60.0, environment) as window:
                time.sleep(2.0)
                beside.append(pace())
                window.kill()
            alone.append(pace())
        # each with what was before and after it: the machine's other work comes and goes
        ratio = statistics.median(
            2 * with_one / (before + after)
            for before, with_one, after in zip(alone, beside, alone[1:], strict=False)
        )
        bench.add(
            f"acquisition, {where}",
            f"interval from frame to frame, p99, with a window / without one, median of {rounds} rounds",
            f"{ratio:.2f} ({1000 * statistics.median(beside):.1f} / {1000 * statistics.median(alone):.1f} ms)",
            f"<= {EFFECT:g}",
            ratio <= EFFECT,
            alone_s=alone,
            beside_s=beside,
        )
        with _window(address, 60.0, environment) as window:
            time.sleep(4.0)
            before = child.ask("report")
            window.freeze(FROZEN_S)
            window.kill()
            after = child.ask("report")
        grown = after["memory_bytes"] - before["memory_bytes"]
        expected = PER_S * FROZEN_S
        made = after["frames"] - before["frames"]
        bench.add(
            f"acquisition, {where}",
            f"window frozen {FROZEN_S:g} s, then killed: frames made, memory of the host",
            f"{100 * made / expected:.0f} % of {expected:.0f}, {grown / 1e6:+.0f} MB",
            ">= 98 %, <= +50 MB",
            made >= 0.98 * expected and grown <= GROWTH_BYTES,
            started_with_bytes=memory,
        )


def recorded(bench: Bench, where: str, environment: Environment) -> None:
    """A real run of the simulated station, whose window is frozen and killed: nothing is lost."""
    with (
        tempfile.TemporaryDirectory(prefix="hotstage-window-") as folder,
        engine_host("simulated") as (_, address),
    ):
        run = Path(folder) / "run"
        host = HostClient(address)
        try:
            host.start(RECIPE, str(run))
            _until(lambda: host.status().frames.get("overview", 0) > 3, "the run does not record")
            time.sleep(5 * max(0.2, bench.share))
            with _window(address, 120.0, environment) as window:
                time.sleep(5.0)
                window.freeze(FROZEN_S * max(0.2, bench.share))
                window.kill()
            time.sleep(2.0)
            told = host.status().frames["overview"]
            host.abort("the bench ends")
            _until(lambda: not host.status().state.active, "the run does not end")
        finally:
            host.close()
        stored = open_run(run)
        frames = stored.images("overview").sizes["time"]
        gaps = stored.gaps
        lost = int(gaps["frames"].sum()) if "frames" in gaps else 0
    bench.add(
        f"acquisition, {where}",
        "a run whose window was frozen, then killed: frames stored, missing",
        f"{frames} stored, {lost} missing",
        f">= {told}, none",
        frames >= told and not lost,
    )


def first_paint(bench: Bench, where: str, environment: Environment) -> None:
    """From the start of the process until the window is painted for the first time."""
    with source(256, 10.0) as (_, address):
        took = [
            _watch(address, 0.5, environment, warm_s=0.5)["painted_s"]
            for _ in range(max(2, round(5 * bench.share)))
        ]
    median = statistics.median(took)
    bench.add(
        f"start, {where}",
        f"process begun → first paint, median of {len(took)}",
        f"{median:.2f} s",
        f"< {PAINT_S:g} s",
        median < PAINT_S,
        all_s=took,
    )


def heater_off(bench: Bench, where: str, environment: Environment) -> None:
    """Heater off, pressed until the instrument server's answer is shown, every other one over a dialog."""
    presses = max(4, round(20 * bench.share))
    with engine_host("simulated") as (_, address):
        words = ("--address", address, "--presses", str(presses))
        with Child("gui.bench.pressed", *words, environment=dict(environment)) as child:
            took = child.read(60.0 + 10 * presses)["presses"]
    for name, chosen in (("button", took[::2]), ("F12 over a modal dialog", took[1::2])):
        server = np.array([one[SERVER] for one in chosen])
        engine = np.array([one[ENGINE] for one in chosen])
        worst = float(np.max(server))
        bench.add(
            f"heater off, {where}",
            f"{name} → server's answer shown, worst of {len(server)}",
            f"{1000 * worst:.0f} ms (engine {1000 * float(np.max(engine)):.0f} ms)",
            f"<= {1000 * ACK_S:g} ms",
            worst <= ACK_S,
            server_s=server.tolist(),
            engine_s=engine.tolist(),
        )


def scrub(bench: Bench, where: str, environment: Environment) -> None:
    """From a wish for a random time of a stored run until its frame and curves are painted."""
    frames, jumps = max(100, round(1500 * bench.share)), max(20, round(300 * bench.share))
    words = ("--frames", str(frames), "--jumps", str(jumps), "--seed", str(bench.seed))
    with Child("gui.bench.stored", *words, environment=dict(environment)) as child:
        took_s = np.array(child.read(600.0)["took_s"])
    median, p95 = np.percentile(took_s, (50, 95))
    bench.add(
        f"stored runs, {where}",
        f"scrub to {jumps} random frames of {frames} of 1024², until painted",
        f"p95 {1000 * p95:.0f} ms, median {1000 * median:.0f} ms, most {1000 * took_s.max():.0f} ms",
        f"p95 <= {1000 * SCRUB_S:g} ms",
        bool(p95 <= SCRUB_S),
        took_s=took_s.tolist(),
    )


def points(bench: Bench, where: str, environment: Environment) -> None:
    """An update of the time plots that hold a million points a curve."""
    many = round(POINTS * max(0.1, bench.share))
    with Child("gui.bench.stored", "--points", str(many), environment=dict(environment)) as child:
        seen = child.read(300.0)
    draw_ms, paint_ms = np.array(seen["draw_ms"]), np.array(seen["paint_ms"])
    total_ms = draw_ms + paint_ms
    p95 = float(np.percentile(total_ms, 95))
    bench.add(
        f"stored runs, {where}",
        f"update of both time plots with {many} points a curve, p95",
        f"{p95:.1f} ms (median: {np.median(draw_ms):.1f} to draw, {np.median(paint_ms):.1f} to paint)",
        f"<= {1000 * UPDATE_S:g} ms",
        p95 <= 1000 * UPDATE_S,
        **seen,
    )


def crowd(bench: Bench, where: str, environment: Environment) -> None:
    """Thousands of particles on every frame; then the curves, events and notes of a day."""
    seconds = max(4.0, 20 * bench.share)
    section = f"much to draw, {where}"
    with source(1024, CROWD_PER_S, "--particles", str(CROWD)) as (child, address):
        seen = _watch(address, seconds, environment, 5.0, "--crowd")
        bench.add(
            section,
            f"{CROWD} particles on {CROWD_PER_S:g} frames/s, outlines, trails, labels: how late the UI thread was",
            f"p99 {1000 * seen['lag_p99_s']:.0f} ms, most {1000 * seen['lag_max_s']:.0f} ms; "
            f"{seen['shown_per_s']:.1f} shown/s, {100 * seen['cores']:.0f} % of a core",
            f"p99 <= {1000 * LAG_P99_S:g} ms",
            seen["lag_p99_s"] <= LAG_P99_S and seen["labelled"] > 0,
            **seen,
        )
    with source(1024, CROWD_PER_S) as (child, address):
        fresh = _watch(address, 2.0, environment)
        child.ask("day", 120.0)
        day = _watch(address, seconds, environment, 5.0)
    grown = day["looks"][-1]["memory_bytes"] - fresh["looks"][-1]["memory_bytes"]
    bench.add(
        section,
        "curves, events and notes of 8 h: how late the UI thread was, memory beside a new window",
        f"p99 {1000 * day['lag_p99_s']:.0f} ms, most {1000 * day['lag_max_s']:.0f} ms; {grown / 1e6:+.0f} MB",
        f"p99 <= {1000 * LAG_P99_S:g} ms, <= +50 MB",
        day["lag_p99_s"] <= LAG_P99_S and grown <= GROWTH_BYTES,
        fresh_bytes=fresh["looks"][-1]["memory_bytes"],
        **day,
    )


def soak(bench: Bench, where: str, environment: Environment, seconds: float) -> None:
    """A long time at speed: memory, reference counts, warnings."""
    with source(1024, PER_S) as (_, address):
        seen = _watch(address, seconds, environment, warm_s=10.0)
    looks = seen["looks"]
    grown = looks[-1]["memory_bytes"] - looks[0]["memory_bytes"]
    # a binding that takes or keeps a reference with every call moves them by one a frame or more; what
    # a window holds at the moment comes and goes
    moved = looks[-1]["references"] - looks[0]["references"]
    frames = seen["shown_per_s"] * seen["seconds"]
    steady = abs(moved) <= max(_REFERENCES, _REFERENCES_PER_FRAME * frames)
    bench.add(
        f"soak, {where}",
        f"{seconds:.0f} s at speed: memory, references, warnings",
        f"{grown / 1e6:+.0f} MB, {moved:+.0f} over {frames:.0f} frames, {len(seen['warnings'])}",
        f"<= +50 MB, less than {_REFERENCES_PER_FRAME:g} a frame, none",
        grown <= GROWTH_BYTES and steady and not seen["warnings"],
        **seen,
    )


def _watch(
    address: str, seconds: float, environment: Environment, warm_s: float = 3.0, *more: str
) -> dict[str, Any]:
    with _window(address, seconds, environment, warm_s, *more) as child:
        return child.read(seconds + warm_s + 60.0)


def _window(
    address: str, seconds: float, environment: Environment, warm_s: float = 3.0, *more: str
) -> Child:
    words = ("--address", address, "--seconds", f"{seconds:g}", "--warm-s", f"{warm_s:g}")
    return Child("gui.bench.watched", *words, *more, environment=dict(environment))


def _p99(report: Mapping[str, Any]) -> float:
    return float(np.percentile(report["intervals_s"], 99))


def _until(true: Any, words: str, within_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > give_up_s:
            raise HotstageError(f"{words} within {within_s:.0f} s.")
        time.sleep(0.05)
