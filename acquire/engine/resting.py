"""Counts the dose under a probe that rests on a point with nothing to show for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from acquire.engine.context import RunContext
from acquire.engine.dose import spot_dose


class Rest:
    """For how long the beam has been on a point."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._since_s: float | None = None
        self._before_s = 0.0
        self._not_s = 0.0

    def begin(self, since_s: float | None = None) -> None:
        """The beam is on from now on, or since a run time."""
        self.end()
        self._since_s = self._run.now_s() if since_s is None else since_s

    def end(self) -> None:
        """The beam is off from now on."""
        if self._since_s is not None:
            self._before_s += self._run.now_s() - self._since_s
            self._since_s = None

    def without(self, paused_s: float) -> None:
        """For so long it was off, or is counted elsewhere."""
        self._not_s += paused_s

    @property
    def duration_s(self) -> float:
        """How long, up to now."""
        running_s = 0.0 if self._since_s is None else self._run.now_s() - self._since_s
        return max(0.0, self._before_s + running_s - self._not_s)


class RestingProbe:
    """The probe of one step, while an instrument does not answer or an exposure is cut."""

    def __init__(
        self,
        run: RunContext,
        spacing_nm: float,
        corner_nm: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._run = run
        self.spacing_nm = spacing_nm
        self.tile_nm: tuple[float, float] | None = None
        """Width and height of a point, where it is one of a map."""
        self._corner_nm = corner_nm
        self.at: tuple[float, float] | None = None
        """Where it was parked last (x, y) in nm, from the corner as all positions here."""

    @contextmanager
    def resting(self, position_nm: tuple[float, float], *, on: bool) -> Iterator[Rest]:
        """Context whose duration counts as dose at a point; ``on``: the beam is, to begin with."""
        rest = Rest(self._run)
        if on:
            rest.begin()
        try:
            yield rest
        finally:
            dose = spot_dose(self._run.probe_current_pa, rest.duration_s, self.spacing_nm)
            (x, y), (left, top) = position_nm, self._corner_nm
            self.count((left + x, top + y), dose)

    def count(self, place_nm: tuple[float, float], dose: float) -> None:
        """Count a dose on a point, in the scan's own frame."""
        if self.tile_nm is None:
            self._run.dose.add_spot(place_nm, dose, self.spacing_nm)
        else:
            self._run.dose.add_tile(place_nm, dose, self.tile_nm)
