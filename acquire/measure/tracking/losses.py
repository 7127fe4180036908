"""Settles what became of tracks that are not seen any more: out of view, merged, gone, or all gone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.measure.tracking.events import EventKind, TrackEvent
from acquire.measure.tracking.merges import Sized, taken_up
from acquire.measure.tracking.options import TrackerOptions
from acquire.measure.tracking.population import Population, mean_size

Bools = NDArray[np.bool_]

FEWEST_FOR_MOVE = 5
"""So many tracks must be lost at once before it is the field that has moved."""
MOVED_SHARE = 0.3
"""Share of the tracks below which, found again, they are not those of before."""
FRAMES_BEFORE = 5
"""Frames that a size before a loss is averaged over."""
_JUDGE_AFTER = 3
"""Frames unseen after which a merge is looked for: single misses are over by then."""
_EITHER_WAY = 0.5
"""Confidence that one which touched another has not gone into it, where volumes do not tell."""
_PLACE_NM = 0.5


def settle(
    population: Population, cut: Bools, options: TrackerOptions, t_s: float
) -> tuple[Bools, Bools, list[TrackEvent]]:
    """Which tracks end, which have taken up another, and what there is to tell.

    Args:
        population: all tracks, this frame included.
        cut: (n,) those that the image's edge may cut; they end without an event.
        options: how particles are followed.
        t_s: this frame's time.
    """
    last = options.forget_after + 1
    judged = np.isin(population.unseen, (_JUDGE_AFTER, last)) & population.sure & ~cut
    gone, heirs = population.unseen >= last, np.zeros(len(population), bool)
    events: list[TrackEvent] = []
    judged &= ~_taken_over(population, options)
    for i in np.flatnonzero(judged).tolist():
        into, confidence = _heir(population, i, options)
        if into < 0:
            continue
        gone[i], judged[i], heirs[into] = True, False, True
        track = int(population.track[into])
        when_s = float(population.last_s[i])
        events.append(event_of(EventKind.MERGE, when_s, population, i, track, confidence))
    died = np.flatnonzero(judged & gone)
    left = int(np.count_nonzero(population.sure & ~cut & (population.unseen < last)))
    if len(died) >= max(FEWEST_FOR_MOVE, (1 - MOVED_SHARE) * (len(died) + left)):
        return gone, heirs, [*events, field_moved(t_s)]
    for i in died.tolist():
        when_s = float(population.last_s[i])
        sure = _EITHER_WAY if _touched(population, i, options) else 1.0
        events.append(event_of(EventKind.DISAPPEARANCE, when_s, population, i, confidence=sure))
    return gone, heirs, events


def _touched(population: Population, lost: int, options: TrackerOptions) -> bool:
    """Whether a lost particle lay against one that is still seen."""
    there = population.unseen < population.unseen[lost]
    apart = np.hypot(*(population.places_nm[there] - population.places_nm[lost]).T)
    both = population.size_nm[there] + population.size_nm[lost]
    return bool((apart < 0.5 * options.footprint_per_diameter * both + _PLACE_NM).any())


def _taken_over(population: Population, options: TrackerOptions) -> Bools:
    """Which lost tracks have their place held by another that began after them.

    Two that touch may be found as one, and as two again; the particle itself never went.
    """
    taken = np.zeros(len(population), bool)
    seen = np.flatnonzero(population.unseen == 0)
    for i in np.flatnonzero(population.unseen > 0).tolist():
        later = seen[population.first_s[seen] >= population.last_s[i]]
        apart = np.hypot(*(population.places_nm[later] - population.places_nm[i]).T)
        reach = 0.5 * options.footprint_per_diameter * population.size_nm[i]
        taken[i] = bool((apart < reach).any())
    return taken


def _heir(population: Population, lost: int, options: TrackerOptions) -> tuple[int, float]:
    """Who took up a lost particle, and how surely; -1 for nobody."""
    ago, frames = int(population.unseen[lost]), population.diameters.shape[1]
    half = 0.5 * options.footprint_per_diameter
    apart = np.hypot(*(population.places_nm - population.places_nm[lost]).T)
    reach = half * (population.size_nm + population.size_nm[lost])
    near = np.flatnonzero(
        (apart < 1.5 * reach) & (population.unseen < ago) & (population.seen > ago)
    )
    early, late = (
        slice(max(0, frames - ago - FRAMES_BEFORE), frames - ago),
        slice(frames - ago, None),
    )
    mine = np.array([lost])
    size, sigma = mean_size(population.diameters[mine, early], population.sigmas[mine, early])
    if not np.isfinite(size[0]):
        return -1, 0.0
    sized = Sized(
        *mean_size(population.diameters[near, early], population.sigmas[near, early]),
        *mean_size(population.diameters[near, late], population.sigmas[near, late]),
    )
    best, confidence = taken_up(
        float(size[0]),
        float(sigma[0]),
        apart[near],
        sized,
        options.footprint_per_diameter,
        abrupt=bool(population.bright[lost]) and ago > options.forget_after,
    )
    return (int(near[best]), confidence) if best >= 0 else (-1, 0.0)


def event_of(
    kind: EventKind,
    t_s: float,
    population: Population,
    index: int,
    into: int = -1,
    confidence: float = 1.0,
) -> TrackEvent:
    """An event of one track of the population."""
    y_nm, x_nm = population.places_nm[index].tolist()
    return TrackEvent(kind, t_s, int(population.track[index]), y_nm, x_nm, into, confidence)


def field_moved(t_s: float) -> TrackEvent:
    """The event of the whole field."""
    return TrackEvent(EventKind.FIELD_MOVED, t_s, -1, float("nan"), float("nan"))
