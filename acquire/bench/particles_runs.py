"""Rows of the particle bench that take whole runs of the engine: a ramp that drifts, the closed loop."""

from __future__ import annotations

from dataclasses import asdict

from acquire.bench.particle_loop import NEAR, closed_loop, latency
from acquire.bench.particle_ramp import ramp
from acquire.bench.work import Bench

FIELD_SHARE = 0.05
DECISION_S = 0.1
"""Beyond one frame period."""
_SECTION = "runs of the engine on the simulated microscope"


def ramps(bench: Bench) -> None:
    """How far the field goes while the chip heats to 800 °C and drifts by 5 nm/s."""
    results = [ramp(seed) for seed in bench.seeds("ramp", 1 if bench.share < 1 else 3)]
    worst = max(result.farthest for result in results)
    bench.add(
        _SECTION,
        "ramp 25 → 800 °C with 5 nm/s: field away by",
        f"{100 * worst:.1f} % of its width ({results[0].drifted_nm:.0f} nm of drift)",
        f"≤ {100 * FIELD_SHARE:g} %",
        worst <= FIELD_SHARE,
        runs=[asdict(result) for result in results],
    )


def loop(bench: Bench) -> None:
    """Whether growth is held on images, and how late decisions come."""
    results = [closed_loop(seed) for seed in bench.seeds("loop", 1 if bench.share < 1 else 2)]
    worst = max(results, key=lambda result: result.largest_error)
    bench.add(
        _SECTION,
        f"growth of {worst.target_nm_per_min:g} nm/min held for 10 min: farthest off",
        f"{100 * worst.largest_error:.0f} %, within {100 * NEAR:.0f} % for "
        f"{100 * worst.share_held:.0f} % of the time",
        f"≤ {100 * NEAR:g} %",
        all(result.held for result in results),
        runs=[asdict(result) for result in results],
    )
    late = latency(next(bench.seeds("latency", 1)))
    bench.add(
        _SECTION,
        "frame to decision, longest",
        f"{1e3 * late.largest_s:.0f} ms (median {1e3 * late.median_s:.0f}) of {late.decisions}",
        f"≤ {late.frame_period_s + DECISION_S:g} s",
        late.largest_s <= late.frame_period_s + DECISION_S,
        **asdict(late),
    )
