"""An instrument that does not answer: for how long the recipe waits for it to come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from acquire.engine.context import RunContext
from acquire.errors import LinkError
from acquire.units import show_duration

RETRY_S = 0.25
"""Run time between two attempts."""

T = TypeVar("T")


class LinkWatch:
    """One instrument's link as one user of it sees it; for use from one thread.

    The holder has none: a heater that does not answer ends the run.
    """

    def __init__(self, run: RunContext, instrument: str) -> None:
        self._run = run
        self._instrument = instrument
        self._patience_s = run.recipe.on_link_loss.retry_for
        self._since_s: float | None = None
        self.lost = False
        """Whether the instrument did not answer when it was last asked."""

    def failed(self, error: LinkError) -> None:
        """Take note of an attempt that failed; raises LinkError if it was the last one."""
        run, now_s = self._run, self._run.now_s()
        if self._patience_s <= 0:
            raise error
        self.lost = True
        run.lost[self._instrument] = str(error)
        if self._since_s is None:
            self._since_s = now_s
            patience = show_duration(self._patience_s)
            run.note(
                "link",
                f"the {self._instrument} was lost, and is tried again for {patience}: {error}",
            )
            run.warn(
                f"the {self._instrument} did not answer for a while; the journal says when, and "
                "which frames are missing."
            )
        elif now_s - self._since_s >= self._patience_s:
            raise LinkError(
                f"the {self._instrument} has not answered for "
                f"{show_duration(now_s - self._since_s)}, longer than on_link_loss.retry_for = "
                f"{show_duration(self._patience_s)}: {error}"
            ) from error

    def works(self) -> None:
        """Take note that the instrument answers."""
        self.lost = False
        self._run.lost.pop(self._instrument, None)
        if self._since_s is not None:
            away_s = self._run.now_s() - self._since_s
            self._since_s = None
            self._run.note("link", f"the {self._instrument} is back after {show_duration(away_s)}")

    def forget(self) -> None:
        """Begin to count anew at the next attempt, which may come much later."""
        self._since_s = None

    def insist(self, what: Callable[[], T], wait: Callable[[float], object]) -> T:
        """Do something that may be done again, until it succeeds or the patience is over.

        Args:
            what: raises LinkError if the instrument does not answer.
            wait: waits for so many seconds of run time; raises what ends the run.
        """
        while True:
            try:
                result = what()
            except LinkError as error:
                self.failed(error)
                wait(RETRY_S)
            else:
                self.works()
                return result
