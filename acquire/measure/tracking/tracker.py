"""Follows particles from table to table: links, gaps, births, losses and merges; no images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.tracking.events import EventKind, TrackEvent
from acquire.measure.tracking.graves import Graves
from acquire.measure.tracking.linking import link, view_shift
from acquire.measure.tracking.losses import (
    FEWEST_FOR_MOVE,
    FRAMES_BEFORE,
    MOVED_SHARE,
    event_of,
    field_moved,
    settle,
)
from acquire.measure.tracking.merges import successor
from acquire.measure.tracking.options import TrackerOptions
from acquire.measure.tracking.population import Population, Sightings, mean_size, starting
from acquire.measure.tracking.tracked import Tracked

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NEAR, _FAR = 4.0, 20.0
"""Reach of the vote on the view's shift, in link distances: usually, and when it fails."""
_BIN = 0.4
_FAINT_GATE = 0.33
"""Share of the link distance that a faint sighting may be away."""
_SIZE_SIGMA = 3.0
"""A size may differ by so many σ whatever the ratio."""
_GHOST = 0.1
"""Handicap of a track for every frame unseen, and for not being sure, in link distances."""
_SETTLING = 3
"""Frames after a beginning in which who appears had only been missed."""
_JUMP_SIGMA, _JUMP_SHARE = 5.0, 0.08
"""A diameter that leaps by more than both is no growth: a new segment begins."""


class Tracker:
    """Tracks over the tables of one series; the same tables give the same tracks.

    Links are greedy, from the nearest pair on, within a distance and a ratio of sizes, after the
    shift of the view, which is given or voted for. A particle may be unseen for some frames. The
    first frame's particles, those that come in at the border and those that split off from another
    are not nucleations; those that leave at the border are not disappearances.
    """

    def __init__(
        self,
        options: TrackerOptions | None = None,
        field_nm: tuple[float, float] | None = None,
    ) -> None:
        """``field_nm`` is (height, width) of the images; without it the border is only known from the tables."""
        self.options = options or TrackerOptions()
        self._field = None if field_nm is None else np.array(field_nm, np.float64)
        self._frames = FRAMES_BEFORE + self.options.forget_after + 1
        self._alive = Population.empty(self._frames)
        self._graves = Graves(self._frames)
        self._next_track = 0
        self._next_segment = 0
        self._watched = 0
        self._rate = np.zeros(2)
        self._t_s = 0.0

    @property
    def alive(self) -> Population:
        """The tracks that are alive."""
        return self._alive

    @property
    def undecided(self) -> dict[EventKind, int]:
        """How many particles may yet turn out to be such an event."""
        missing = int(np.count_nonzero(self._alive.sure & (self._alive.unseen >= 2)))
        born = int(np.count_nonzero(self._alive.born & (self._alive.strong > 0)))
        return {
            EventKind.NUCLEATION: born,
            EventKind.MERGE: missing,
            EventKind.DISAPPEARANCE: missing,
            EventKind.RETURN: 0,
            EventKind.FIELD_MOVED: 0,
        }

    def predicted_shift_nm(self, t_s: float) -> Array:
        """(2,) as (y, x): how far the view's content should have moved by then, as it drifts lately."""
        return self._rate * (t_s - self._t_s) if self._watched else np.zeros(2)

    def restart(self) -> None:
        """End all tracks without an event; ids go on counting."""
        self._alive = Population.empty(self._frames)
        self._graves = Graves(self._frames)
        self._watched = 0
        self._rate = np.zeros(2)

    def new_segments(self) -> None:
        """Say that diameters before and after now are not to be compared (a change of dose)."""
        fresh = self._next_segment + np.arange(len(self._alive))
        self._next_segment += len(fresh)
        self._alive = replace(
            self._alive,
            segment=fresh,
            diameters=np.full_like(self._alive.diameters, np.nan),
            sigmas=np.full_like(self._alive.sigmas, np.nan),
        )

    def update(self, t_s: float, seen: Sightings, shift_nm: Array | None = None) -> Tracked:
        """Take the next frame's particles.

        Args:
            t_s: its time; must rise.
            seen: its particles.
            shift_nm: (2,) how far the view's content has moved since the last frame, as (y, x);
                None lets the particles vote.

        Raises:
            MeasureError: the time does not rise.
        """
        if self._watched and not t_s > self._t_s:
            raise MeasureError(
                f"a frame at {t_s:g} s cannot follow one at {self._t_s:g} s: times must rise."
            )
        shift, known = self._shift(t_s, seen, shift_nm)
        self._t_s = t_s
        before = replace(self._alive, places_nm=self._alive.places_nm + shift)
        self._graves.move(shift)
        found = self._link(before, seen)
        events: list[TrackEvent] = []
        if not known and self._is_elsewhere(before, found):
            events.append(field_moved(t_s))
            self.restart()
            before, found = self._alive, np.full(len(seen), -1, np.int64)
        before, found, returned = self._graves.claimed(before, seen, found, self.options)
        events += [
            event_of(EventKind.RETURN, t_s, before, i) for i in np.flatnonzero(returned).tolist()
        ]
        old = found >= 0
        population, rows = self._carry_on(before, seen, found, t_s)
        population, more = self._losses(population, t_s)
        events += [*more]
        population, more = self._births(population)
        events += [*more]
        self._alive = population
        self._watched += 1
        return Tracked(
            rows.track,
            rows.segment,
            rows.seen,
            old,
            shift,
            known,
            tuple(events),
        )

    # ------------------------------------------------------------------ where things are now

    def _shift(self, t_s: float, seen: Sightings, given: Array | None) -> tuple[Array, bool]:
        if given is not None:
            return np.asarray(given, np.float64), True
        alive = self._alive.where(self._alive.unseen == 0)
        step_s = t_s - self._t_s
        predicted = self.predicted_shift_nm(t_s)
        gate = self.options.link_distance_nm
        for reach in (_NEAR, _FAR):
            rest = view_shift(
                alive.places_nm + predicted,
                seen.places_nm,
                reach * gate,
                _BIN * gate,
                alive.size_nm,
                seen.diameter_nm,
                self.options.size_ratio,
            )
            if rest is not None:
                shift = predicted + rest
                # a rate from one pair of frames alone would overshoot when the drift stops
                self._rate = 0.5 * self._rate + 0.5 * shift / step_s
                return shift, True
        self._rate = 0.5 * self._rate
        return predicted, False

    def _link(self, before: Population, seen: Sightings) -> Ints:
        options = self.options
        # what is faint may be noise, and must lie near to pass for a particle that is missed
        share = np.where(seen.snr < options.sure_snr, _FAINT_GATE, 1.0)
        found = link(
            before.places_nm,
            before.size_nm,
            seen.places_nm,
            seen.diameter_nm,
            share * options.link_distance_nm,
            # twice: the size before has an error of its own
            np.maximum(options.size_ratio, 1 + 2 * _SIZE_SIGMA * seen.sigma_nm / seen.diameter_nm),
            # where two tracks claim a place, one of them is a ghost
            _GHOST * options.link_distance_nm * (np.minimum(before.unseen, 3) + ~before.sure),
        )
        lost = np.setdiff1d(np.flatnonzero(before.sure & (before.unseen <= 2)), found)
        for row in np.flatnonzero(found < 0).tolist():
            if len(lost) < 2:
                break
            apart = np.hypot(*(before.places_nm[lost] - seen.places_nm[row]).T)
            size, sigma = mean_size(before.diameters[lost], before.sigmas[lost])
            heir = successor(
                float(seen.diameter_nm[row]),
                apart,
                np.where(np.isfinite(size), size, before.size_nm[lost]),
                np.where(np.isfinite(sigma), sigma, 0.1 * before.size_nm[lost]),
                options.footprint_per_diameter,
            )
            if heir >= 0:
                found[row] = lost[heir]
                lost = np.delete(lost, heir)
        return found

    def _is_elsewhere(self, before: Population, found: Ints) -> bool:
        """Whether nearly nobody is where they should be, though the frame shows particles."""
        expected = before.where(before.sure & (before.unseen == 0) & self._in_view(before))
        if len(expected) < FEWEST_FOR_MOVE or len(found) < FEWEST_FOR_MOVE:
            return False
        again = np.isin(expected.track, before.track[found[found >= 0]])
        return bool(again.mean() < MOVED_SHARE)

    def _in_view(self, of: Population, margin_nm: float = 0.0) -> Bools:
        """Which whole particles should lie in the image, that far from its edge."""
        if self._field is None:
            return ~of.edge
        reach = 0.5 * self.options.footprint_per_diameter * of.size_nm + margin_nm
        low = (of.places_nm > reach[:, None]).all(axis=1)
        return np.asarray(low & (of.places_nm < self._field - reach[:, None]).all(axis=1))

    def _outside(self, of: Population) -> Bools:
        """Which have their centre so far outside of the image that they cannot be seen."""
        if self._field is None:
            return np.zeros(len(of), bool)
        gate = self.options.link_distance_nm
        out = (of.places_nm < -gate) | (of.places_nm > self._field + gate)
        return np.asarray(out.any(axis=1))

    # ------------------------------------------------------------------ tracks go on

    def _carry_on(
        self, before: Population, seen: Sightings, found: Ints, t_s: float
    ) -> tuple[Population, Population]:
        """All tracks after this frame, and those of its rows in order."""
        new = found < 0
        fresh = self._start(before, seen, new, t_s)
        index = found.copy()
        index[new] = len(before) + np.arange(len(fresh))
        both = before.and_also(fresh)
        n = len(both)
        here = np.zeros(n, bool)
        here[index] = True
        places, size, last = both.places_nm.copy(), both.size_nm.copy(), both.last_s.copy()
        edge, bright = both.edge.copy(), both.bright.copy()
        places[index], size[index], last[index] = seen.places_nm, seen.diameter_nm, t_s
        edge[index], bright[index] = seen.border, seen.snr > self.options.sure_snr
        diameter, sigma = np.full(n, np.nan), np.full(n, np.nan)
        diameter[index] = np.where(seen.sized, seen.diameter_nm, np.nan)
        sigma[index] = np.where(seen.sized, seen.sigma_nm, np.nan)
        segment = self._cut_at_jumps(both, diameter, sigma)
        count, strong = both.seen + here, both.strong.copy()
        strong[index] += bright[index]
        population = replace(
            both,
            segment=segment,
            places_nm=places,
            diameters=np.concatenate([both.diameters[:, 1:], diameter[:, None]], axis=1),
            sigmas=np.concatenate([both.sigmas[:, 1:], sigma[:, None]], axis=1),
            size_nm=size,
            last_s=last,
            seen=count,
            strong=strong,
            unseen=np.where(here, 0, both.unseen + 1),
            sure=both.sure | (strong >= self.options.sure_frames),
            bright=bright,
            edge=edge,
        )
        order = Population(
            **{name: getattr(population, name)[index] for name in Population.__slots__}
        )
        return population, order

    def _start(self, before: Population, seen: Sightings, new: Bools, t_s: float) -> Population:
        rows = Sightings(**{name: getattr(seen, name)[new] for name in Sightings.__slots__})
        n = len(rows)
        tracks = self._next_track + np.arange(n)
        segments = self._next_segment + np.arange(n)
        self._next_track += n
        self._next_segment += n
        watched = np.full(n, self._watched >= _SETTLING)
        fresh = starting(rows, tracks, segments, t_s, watched, self._frames)
        inside = self._in_view(fresh, self.options.link_distance_nm) & ~rows.border
        return replace(fresh, born=watched & inside & ~self._split_off(fresh, before))

    def _split_off(self, fresh: Population, before: Population) -> Bools:
        """Which new ones lie in the footprint of one that was there before."""
        if not len(fresh) or not len(before):
            return np.zeros(len(fresh), bool)
        known = before.where(before.sure)
        apart = fresh.places_nm[:, None, :] - known.places_nm[None, :, :]
        reach = 0.5 * self.options.footprint_per_diameter * known.size_nm
        return np.asarray((np.hypot(apart[..., 0], apart[..., 1]) < reach).any(axis=1))

    def _cut_at_jumps(self, both: Population, diameter: Array, sigma: Array) -> Ints:
        lately, error = mean_size(
            both.diameters[:, -FRAMES_BEFORE:], both.sigmas[:, -FRAMES_BEFORE:]
        )
        leap = np.abs(diameter - lately)
        jumped = leap > np.maximum(_JUMP_SIGMA * np.hypot(sigma, error), _JUMP_SHARE * lately)
        return self._renewed(both.segment, jumped)

    def _renewed(self, segment: Ints, chosen: Bools) -> Ints:
        made = segment.copy()
        made[chosen] = self._next_segment + np.arange(int(chosen.sum()))
        self._next_segment += int(chosen.sum())
        return made

    # ------------------------------------------------------------------ births and losses

    def _births(self, population: Population) -> tuple[Population, list[TrackEvent]]:
        told = population.born & population.sure
        events = [
            event_of(EventKind.NUCLEATION, float(population.first_s[i]), population, i)
            for i in np.flatnonzero(told).tolist()
        ]
        return replace(population, born=population.born & ~told), events

    def _losses(self, population: Population, t_s: float) -> tuple[Population, list[TrackEvent]]:
        cut = ~self._in_view(population)
        gone, heirs, events = settle(population, cut, self.options, t_s)
        lost = [event.track for event in events if event.track >= 0]
        self._graves.bury(population.where(np.isin(population.track, lost)))
        gone |= (population.unseen > 0) & self._outside(population)
        segment = self._renewed(population.segment, heirs)
        return replace(population, segment=segment).where(~gone), events
