"""The beam of a run: un-blanked and blanked through the scan, and noted when it changes."""

from __future__ import annotations

from collections.abc import Callable

from acquire.engine.context import RunContext
from acquire.engine.links import LinkWatch


class Beam:
    """Switches the beam for one run; ``wait(s)`` waits where no pause may interrupt."""

    def __init__(self, run: RunContext, link: LinkWatch, wait: Callable[[float], None]) -> None:
        self.on = False
        self._run = run
        self._link = link
        self._wait = wait

    def switch(self, *, on: bool) -> None:
        """Un-blank or blank; tries again as the recipe allows if the scan is lost."""
        scan, was_on = self._run.station.scan, self.on
        self._link.insist(lambda: scan.blank(not on), self._wait)
        self.on = on
        if on != was_on:
            self._run.note("beam", "on" if on else "blanked")

    def blank(self) -> None:
        """Blank at once, as an end does, and remember since when."""
        self._run.blanked_s = min(self._run.blanked_s, self._run.clock.now_s())
        self._run.station.scan.blank(True)
        self.on = False
