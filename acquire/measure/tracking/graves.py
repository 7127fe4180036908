"""Remembers tracks that ended, so that a particle which shows again at its place keeps its id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acquire.measure.tracking.linking import link
from acquire.measure.tracking.options import TrackerOptions
from acquire.measure.tracking.population import Population, Sightings

_GATE = 0.5
"""Share of the link distance within which one that had gone is taken to be back."""
_REMEMBERED = 60
"""Frames for which it can come back."""


class Graves:
    """Tracks that ended by disappearance or merge, for some frames."""

    def __init__(self, frames: int) -> None:
        self._gone = Population.empty(frames)

    def move(self, shift_nm: NDArray[np.float64]) -> None:
        """Go along with the view, by one frame."""
        if len(self._gone):
            gone = self._gone.where(self._gone.unseen < _REMEMBERED)
            self._gone = replace(gone, places_nm=gone.places_nm + shift_nm, unseen=gone.unseen + 1)

    def bury(self, gone: Population) -> None:
        """Take tracks that have just ended."""
        if len(gone):
            self._gone = self._gone.and_also(gone)

    def claimed(
        self,
        before: Population,
        seen: Sightings,
        found: NDArray[np.int64],
        options: TrackerOptions,
    ) -> tuple[Population, NDArray[np.int64], NDArray[np.bool_]]:
        """Let sightings that are linked to nobody alive raise who was at their place.

        Returns:
            The tracks of before with those that are back, the links with theirs, and which of these
            tracks are back.
        """
        gone, new = self._gone, np.flatnonzero(found < 0)
        alive = np.zeros(len(before), bool)
        if not len(gone) or not len(new):
            return before, found, alive
        again = link(
            gone.places_nm,
            gone.size_nm,
            seen.places_nm[new],
            seen.diameter_nm[new],
            _GATE * options.link_distance_nm,
            options.size_ratio,
        )
        claiming = again >= 0
        back = np.zeros(len(gone), bool)
        back[again[claiming]] = True
        found = found.copy()
        found[new[claiming]] = len(before) + (np.cumsum(back) - 1)[again[claiming]]
        self._gone = gone.where(~back)
        returned = np.concatenate([alive, np.ones(int(back.sum()), bool)])
        return before.and_also(gone.where(back)), found, returned
