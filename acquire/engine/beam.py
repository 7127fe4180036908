"""The beam of a run: un-blanked and blanked through the scan, and noted when it changes."""

from __future__ import annotations

import math
from collections.abc import Callable

from acquire.engine.context import RunContext
from acquire.engine.links import LinkWatch

Wait = Callable[[float], object]
"""Waits for so many seconds of run time; raises what ends the run."""


class Beam:
    """Switches the beam for one run; ``wait(s)`` waits where no pause may interrupt."""

    def __init__(self, run: RunContext, link: LinkWatch, wait: Wait) -> None:
        self.on = False
        self.since_s = 0.0
        """Run time at which it was un-blanked last: right before the scan was told."""
        self._told = False
        """What the journal says."""
        self._run = run
        self._link = link
        self._wait = wait

    def switch(
        self, *, on: bool, briefly: bool = False, by: tuple[LinkWatch, Wait] | None = None
    ) -> None:
        """Un-blank or blank; tries again as the recipe allows if the scan is lost.

        Once the end of the run has blanked it, it stays so.

        Args:
            on: whether it shall be on.
            briefly: blanked for a moment only, as between spectra, which fills no journal.
            by: the link as another thread than the run's own sees it, and how that one waits.
        """
        scan = self._run.station.scan
        link, wait = by or (self._link, self._wait)
        link.insist(self._light if on else lambda: scan.blank(True), wait)
        self.on = on and not self._ended()
        if briefly and not on:
            return
        if self.on != self._told:
            self._told = self.on
            self._run.note("beam", "on" if self.on else "blanked")

    def _light(self) -> None:
        if self._ended():
            return
        self.since_s = self._run.now_s()
        self._run.station.scan.blank(False)
        if self._ended():  # meanwhile, by another thread
            self._run.station.scan.blank(True)

    def _ended(self) -> bool:
        return math.isfinite(self._run.blanked_s)

    def blank(self) -> None:
        """Blank at once, as an end does, and remember since when."""
        self._run.blanked_s = min(self._run.blanked_s, self._run.clock.now_s())
        self._run.station.scan.blank(True)
        self.on = False
