"""Rows of the particle bench over time: drift, links and merges."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from acquire.bench.particle_scenes import SCENES, make_scene
from acquire.bench.particles_tracks import Series, make_series
from acquire.bench.work import Bench
from acquire.measure.drift import register
from acquire.measure.tracking import EventKind, Sightings, Tracker, TrackEvent

DRIFT_RMS_PX, DRIFT_FOUND = 0.1, 0.99
LINKS_RIGHT, MERGE_RECALL = 0.999, 0.95
_DRIFT_SIDE_PX, _DRIFT_DOSE, _DRIFT_REACH_NM = 512, 20.0, 6.0
_REMEMBERED = 5
"""Frames unseen over which a link must hold."""
_MERGE = EventKind.MERGE
_TELL_WITHIN = 12
"""Frames after a merge in which it must have been told."""


def registration(bench: Bench) -> None:
    """Error of the displacement between two images of one field at a low dose, in pixels per axis."""
    for name in ("base", "795/µm²", "51/µm²"):
        _registration(bench, name, DRIFT_RMS_PX if name == "base" else None)


def _registration(bench: Bench, name: str, goal: float | None) -> None:
    settings = replace(SCENES[name], size_px=_DRIFT_SIDE_PX, dose=_DRIFT_DOSE)
    errors, pulls, refused, times = [], [], 0, []
    for seed in bench.seeds(f"drift {name}", bench.count(100)):
        scene = make_scene(settings, seed)
        by = np.random.default_rng(seed).uniform(-_DRIFT_REACH_NM, _DRIFT_REACH_NM, 2)
        first = scene.image(seed + 1)
        second = scene.moved(float(by[0]), float(by[1])).image(seed + 2)
        began = time.process_time()
        found = register(first, second, settings.pixel_nm)
        times.append(time.process_time() - began)
        if not found.found:
            refused += 1
            continue
        off = np.array([found.dy_nm, found.dx_nm]) - by
        errors.append((off / settings.pixel_nm).tolist())
        pulls.append((off / [found.sigma_y_nm, found.sigma_x_nm]).tolist())
    rms = float(np.sqrt(np.mean(np.square(errors)))) if errors else math.nan
    share = 1.0 - refused / (refused + len(errors))
    spread = float(np.sqrt(np.mean(np.square(pulls)))) if pulls else math.nan
    bench.add(
        "drift",
        f"D {_DRIFT_DOSE:g}, {_DRIFT_SIDE_PX}², {name}: rms per axis",
        f"{rms:.3f} px, {100 * share:.0f} % told, {spread:.1f} σ, {1e3 * np.median(times):.0f} ms",
        f"≤ {goal:g} px" if goal else "",
        bool(rms <= goal and share >= DRIFT_FOUND) if goal else None,
        errors_px=errors,
        refused=refused,
        pull_rms=spread,
        cpu_s=times,
    )


def links(bench: Bench) -> None:
    """Links from frame to frame at 3 % misses and 3 % false ones, on a drifting, growing field."""
    right = total = 0
    times: list[float] = []
    for seed in bench.seeds("links", bench.count(10)):
        series = make_series(seed, 60)
        told = _track(series)
        times += told.cpu_s
        last: dict[int, tuple[int, int]] = {}
        for k, (seen, track) in enumerate(zip(series.frames, told.tracks, strict=True)):
            # who leaves the view may come back as another
            last = {who: last[who] for who in seen.in_view.tolist() if who in last}
            for who, name in zip(seen.who.tolist(), track, strict=True):
                if who < 0:
                    continue
                if who in last and k - last[who][0] <= _REMEMBERED:
                    right += last[who][1] == name
                    total += 1
                last[who] = (k, name)
    share = right / max(total, 1)
    bench.add(
        "tracks",
        "links, 3 % missed, 3 % false",
        f"{100 * share:.2f} % of {total} right, {1e3 * float(np.median(times)):.2f} ms a frame",
        f"≥ {100 * LINKS_RIGHT:g} %",
        share >= LINKS_RIGHT,
        right=right,
        total=total,
        cpu_s=float(np.median(times)),
    )


def merges(bench: Bench) -> None:
    """Merges that are told as such, among particles that dissolve, are missed, or are none."""
    found = true = false = 0
    for seed in bench.seeds("merges", bench.count(12)):
        series = make_series(seed, 80, merges=20, losses=10)
        told = _track(series)
        claims = [
            (k, {event.track, event.into}) for k, event in told.events if event.kind is _MERGE
        ]
        for merge in series.merges:
            true += merge.inside
            pair = {
                _name_before(series, told, who, merge.frame) for who in (merge.lost, merge.into)
            }
            for claim in claims:
                if 0 <= claim[0] - merge.frame <= _TELL_WITHIN and claim[1] == pair:
                    found += merge.inside
                    claims.remove(claim)
                    break
        false += len(claims)
    recall = found / max(true, 1)
    bench.add(
        "tracks",
        "merges: recall; told that are none",
        f"{100 * recall:.1f} % of {true}; {false}",
        f"≥ {100 * MERGE_RECALL:g} %",
        recall >= MERGE_RECALL,
        found=found,
        true=true,
        false=false,
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What a tracker said of a series, frame by frame."""

    tracks: list[list[int]]
    events: list[tuple[int, TrackEvent]]
    """With the frame in which it was told."""
    cpu_s: list[float]


def _track(series: Series) -> _Told:
    tracker = Tracker(field_nm=(series.side_nm, series.side_nm))
    told = _Told([], [], [])
    for k, seen in enumerate(series.frames):
        sightings = Sightings.of(
            seen.places_nm, seen.diameter_nm, seen.sigma_nm, border=seen.border
        )
        began = time.process_time()
        tracked = tracker.update(float(k), sightings)
        told.cpu_s.append(time.process_time() - began)
        told.tracks.append(tracked.track.tolist())
        told.events.extend((k, event) for event in tracked.events)
    return told


def _name_before(series: Series, told: _Told, who: int, frame: int) -> int:
    """The track under which a particle was last seen before a frame; -2 if it never was."""
    for k in range(frame - 1, -1, -1):
        row = np.flatnonzero(series.frames[k].who == who)
        if len(row):
            return told.tracks[k][int(row[0])]
    return -2
