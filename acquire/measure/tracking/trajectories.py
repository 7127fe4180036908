"""Trajectories of a whole series as columns, made from its particle tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray
from acquire.measure.tracking.events import TrackEvent
from acquire.measure.tracking.growth import PairedGrowth, paired_growth
from acquire.measure.tracking.options import TrackerOptions
from acquire.measure.tracking.population import Sightings
from acquire.measure.tracking.tracker import Tracker

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Every sighting of every track, one row each, in the order of frames."""

    t_s: Array
    track: Ints
    segment: Ints
    """Diameters of a track are comparable within a segment."""
    y_nm: Array
    """In the image."""
    x_nm: Array
    diameter_nm: Array
    sigma_nm: Array
    sized: NDArray[np.bool_]
    """Whole, and its diameter is that of a fit."""
    shift_y_nm: Array
    """How far the view's content had moved at that frame since the first."""
    shift_x_nm: Array

    def __len__(self) -> int:
        return len(self.t_s)

    def of(self, track: int) -> Trajectories:
        """The rows of one track."""
        return self._where(self.track == track)

    def between(self, first_s: float, last_s: float) -> Trajectories:
        """The rows of a span of time, both ends included."""
        return self._where((self.t_s >= first_s) & (self.t_s <= last_s))

    def growth(self) -> PairedGrowth:
        """Paired growth rate over all rows; see :func:`paired_growth`."""
        rows = self._where(self.sized)
        return paired_growth(rows.t_s, rows.track, rows.segment, rows.diameter_nm, rows.sigma_nm)

    def _where(self, chosen: NDArray[np.bool_]) -> Trajectories:
        return Trajectories(*(getattr(self, name)[chosen] for name in Trajectories.__slots__))


def track_series(
    tables: Iterable[tuple[float, Mapping[str, AnyArray] | Sightings]],
    options: TrackerOptions | None = None,
    field_nm: tuple[float, float] | None = None,
) -> tuple[Trajectories, tuple[TrackEvent, ...]]:
    """Track a finished series.

    Args:
        tables: time in s and particle table (or :class:`Sightings`) of each frame, in order.
        options: how particles are followed.
        field_nm: (height, width) of the images.

    Raises:
        MeasureError: times do not rise, or a table is not one of particles.
    """
    tracker = Tracker(options, field_nm)
    events: list[TrackEvent] = []
    parts: list[tuple[AnyArray, ...]] = []
    shift = np.zeros(2)
    for t_s, table in tables:
        seen = table if isinstance(table, Sightings) else Sightings.from_table(table)
        now = tracker.update(t_s, seen)
        shift = shift + now.shift_nm
        events.extend(now.events)
        n = len(seen)
        parts.append(
            (
                np.full(n, t_s),
                now.track,
                now.segment,
                seen.places_nm[:, 0],
                seen.places_nm[:, 1],
                seen.diameter_nm,
                seen.sigma_nm,
                seen.sized,
                np.full(n, shift[0]),
                np.full(n, shift[1]),
            )
        )
    if not parts:
        none, whole = np.zeros(0), np.zeros(0, np.int64)
        return Trajectories(
            none, whole, whole, none, none, none, none, np.zeros(0, bool), none, none
        ), ()
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trajectories(*columns), tuple(events)
