"""Rows of the particle bench beside other tools: CPU time of one thread, by turns in one process, and scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

from acquire.bench.particle_peers import PEERS, installed
from acquire.bench.particle_scenes import SCENES, make_scene
from acquire.bench.particles_score import score_discs
from acquire.bench.particles_work import middle, options_for, percent
from acquire.bench.work import Bench
from acquire.measure.particles import measure_particles

SIDES_PX = (512, 1024, 2048)
CHAIN_RATIO = 1.0
PARTICLESPY_RATIO = 100.0
RATE_HZ, RATE_SIDE_PX = 10.0, 2048
_OWN, _CHAIN, _SLOW = "hotstage", "OpenCV chain", "ParticleSpy"
_ROUNDS = {512: 31, 1024: 15, 2048: 7}
_PEER_SIDE_PX = 1024
_LEAST_DENSITY = 100.0
"""Per µm²: on emptier films only false islands would be scored."""
_SECTION = "speed, CPU time of one thread"


def speed(bench: Bench) -> None:
    """The whole measurement beside the OpenCV chain, on the base scene at three sizes."""
    if not installed(_CHAIN):
        bench.notes.append('OpenCV is not installed and left out: pip install "hotstage[bench]"')
    for side in SIDES_PX if bench.share > 0.1 else SIDES_PX[:2]:
        times = _by_turns(bench, side, [_CHAIN] if installed(_CHAIN) else [], _ROUNDS[side])
        own_s = median(times[_OWN])
        if _CHAIN in times:
            ratios = [a / b for a, b in zip(times[_OWN], times[_CHAIN], strict=True)]
            ratio = own_s / median(times[_CHAIN])
            bench.add(
                _SECTION,
                f"{side}²: over the OpenCV chain",
                f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}; "
                f"{1e3 * own_s:.1f}, {1e3 * median(times[_CHAIN]):.1f} ms)",
                f"≤ {CHAIN_RATIO:g}",
                ratio <= CHAIN_RATIO,
                seconds=times,
                median_of_ratios=median(ratios),
            )
        if side == RATE_SIDE_PX:
            bench.add(
                _SECTION,
                f"{side}²: rate",
                f"{1 / own_s:.1f} Hz",
                f"≥ {RATE_HZ:g} Hz",
                own_s * RATE_HZ <= 1.0,
                seconds=times[_OWN],
            )


def peers(bench: Bench) -> None:
    """How many times faster the measurement is than each of the other tools that are installed."""
    for name in (peer for peer in PEERS if peer != _CHAIN):
        goal = PARTICLESPY_RATIO if name == _SLOW else None
        text = f"≥ {goal:g}" if goal else ""
        if not installed(name):
            bench.add(_SECTION, f"{_PEER_SIDE_PX}²: {name}", "peer not installed", text, None)
            continue
        rounds = 3 if name == _SLOW else 5
        times = _by_turns(bench, _PEER_SIDE_PX, [name], rounds)
        ratio = median(times[name]) / median(times[_OWN])
        bench.add(
            _SECTION,
            f"{_PEER_SIDE_PX}²: {name} takes",
            f"{ratio:.3g} times as long ({1e3 * median(times[name]):.0f} ms)",
            text,
            ratio >= goal if goal else None,
            seconds=times,
        )


def peer_scores(bench: Bench) -> None:
    """F1, count and mean diameter of the other tools on the scenes of the reference table."""
    for name in filter(installed, PEERS):
        for settings in SCENES.values():
            if settings.density_per_um2 < _LEAST_DENSITY or (
                name == _SLOW and settings.name != "base"
            ):
                continue
            scores = []
            for seed in bench.seeds(settings.name, bench.count(3)):
                scene = make_scene(settings, seed)
                discs = PEERS[name][1](scene.image(seed + 1), settings.pixel_nm)
                scores.append(score_discs(scene, discs))
            f1 = middle([score.f1 for score in scores])
            count = sum(score.found for score in scores) / sum(score.true for score in scores) - 1.0
            mean = middle([score.mean_error for score in scores])
            bench.add(
                "other tools on the same scenes: F1, count, mean diameter",
                f"{name}: {settings.name}",
                f"{f1:.2f}, {percent(count, 0)}, {percent(mean, 0)}",
                "",
                None,
                f1=f1,
                count_error=count,
                mean_error=mean,
            )


def _by_turns(
    bench: Bench, side_px: int, others: list[str], rounds: int
) -> Mapping[str, list[float]]:
    """CPU seconds of each tool in every round; the first, in which code is compiled, is not counted."""
    seed = next(bench.seeds(f"speed {side_px}", 1))
    scene = make_scene(replace(SCENES["base"], size_px=side_px), seed)
    pixel_nm, options = scene.settings.pixel_nm, options_for(scene)
    images = [scene.image(seed + k) for k in range(3)]
    tools: dict[str, Callable[[int], object]] = {
        _OWN: lambda k: measure_particles(images[k % 3], pixel_nm, options)
    }
    for name in others:
        peer = PEERS[name][1]
        tools[name] = lambda k, peer=peer: peer(images[k % 3], pixel_nm)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in tools}
    for k in range(1 + max(2, math.ceil(min(4 * bench.share, 1.0) * rounds))):
        for name, run in tools.items():
            began = time.process_time()
            run(k)
            if k:
                times[name].append(time.process_time() - began)
    return times
