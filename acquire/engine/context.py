"""What every part of one run shares: time, the sink, the live view, and the ways in which a run ends."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from acquire.engine.by_hand import ByHand
from acquire.engine.calibrating import Calibrations
from acquire.engine.dose import DoseMeter, probe_current_pa
from acquire.engine.earlier import NOTHING, Earlier
from acquire.engine.events import Dispatcher
from acquire.engine.live import LiveView
from acquire.engine.shifts import ShiftLog
from acquire.engine.status import EngineState
from acquire.errors import EmergencyOff, HotstageError
from acquire.measure.dose import Area
from acquire.recipe import Recipe
from acquire.station import OpenStation
from acquire.stream import Estimate, Note, Quantity, Sink
from acquire.units import show, show_duration

logger = logging.getLogger(__name__)

MOST_WARNINGS = 100
"""Kept for display; the journal has them all."""


@dataclass
class RunContext:
    """One run: made when it starts, dropped when it has ended."""

    station: OpenStation
    recipe: Recipe
    sink: Sink
    live: LiveView
    dispatcher: Dispatcher
    enforce: bool = True
    """Whether the recipe's limits end the run; a preflight only lists what would be broken."""
    earlier: Earlier = NOTHING
    """What a run that this one continues has used up."""
    by: str = ""
    """Who started it; empty if nobody said."""

    def __post_init__(self) -> None:
        self.clock = self.station.clock
        self.zero_s = self.clock.now_s()
        self.wake = self.clock.signal()
        """Raised whenever the run loop should look around."""
        self.stop = self.clock.signal()
        """Raised when an exposure under way must be cut."""
        self.ends = self.clock.signal()
        """Raised once, when the run has ended or must end."""
        self.blanked_s = math.inf
        """When the end of the run blanked the beam, on the clock: what was exposed later is black."""
        self.shifts = ShiftLog()
        self.calibrations = Calibrations(self.recipe, self.earlier.calibrations)
        self.steered = False
        """Whether the scan shift follows the drift."""
        self.dose = DoseMeter()
        # where exactly the specimen lies by now nobody knows: the worst point's dose counts everywhere
        self.dose.add_everywhere(self.earlier.dose_e_per_nm2)
        self.dose_used_up_s = math.nan
        """Run time at which limits.dose is reached at the present rate; NaN while it is not rising."""
        self.probe_current_pa = probe_current_pa(self.station.scan.describe())
        self.estimates: dict[str, Estimate] = {}
        self.quantities: dict[str, Quantity] = {}
        self.frames: dict[str, int] = {}
        self.violations: list[str] = []
        self.warnings: list[str] = []
        self.lost: dict[str, str] = {}
        """Why an instrument does not answer, by role, as the parts of the run that use it see it."""
        self.preface: tuple[str, ...] = ()
        """What happened to the specimen by hand before the run, for the journal."""
        self.by_hand_e_per_nm2 = 0.0
        """What of the dose was given by hand before the run, where that was most."""
        self.estimators_off: list[str] = []
        """Estimators that were disabled."""
        self._broken: set[str] = set()
        self._lock = threading.Lock()
        self._failure: HotstageError | None = None
        self._failed_in_abort = ""
        """Why the run was being aborted when it failed, if it was."""
        self._emergency = ""
        self._abort_reason: str | None = None

    def begin_with(self, hand: ByHand) -> None:
        """Count what the specimen has seen by hand: it does not forget."""
        self.preface, self.by_hand_e_per_nm2 = hand.words(), hand.dose_e_per_nm2
        hand.hand_on(self.dose)

    def now_s(self) -> float:
        """Run time."""
        return self.clock.now_s() - self.zero_s

    def note(self, kind: str, text: str, details: Mapping[str, object] | None = None) -> None:
        """Write to the journal, then show it; a failure to write is raised."""
        t_s = self.now_s()
        self.sink.note(Note(kind, t_s, text, details or {}))
        self.live.put_note(t_s, kind, text)
        self.dispatcher.emit(self.dispatcher.events.noted, t_s, kind, text)

    def warn(self, text: str) -> None:
        """Say something that the operator should know, once."""
        with self._lock:
            if text in self.warnings:
                return
            if len(self.warnings) < MOST_WARNINGS:
                self.warnings.append(text)
        logger.warning("%s", text)
        self.note("warning", text)

    # --------------------------------------------------------------- how a run is ended

    def fail(self, error: BaseException) -> None:
        """End the run as failed; the first cause counts. Never waits, never raises."""
        with self._lock:
            if isinstance(error, EmergencyOff):
                # somebody meant it: the errors that it causes elsewhere do not count
                self._emergency = self._emergency or str(error)
            elif self._failure is None:
                if isinstance(error, HotstageError):
                    self._failure = error
                else:
                    logger.error("unexpected error ends the run", exc_info=error)
                    self._failure = HotstageError(f"{type(error).__name__}: {error}")
                self._failed_in_abort = self._abort_reason or ""
        self._end()

    def abort(self, reason: str) -> None:
        """End the run as aborted; the first reason counts."""
        with self._lock:
            if self._abort_reason is None:
                self._abort_reason = reason
        self._end()

    def _end(self) -> None:
        self.stop.set()
        self.wake.set()
        self.ends.set()

    def break_limit(self, limit: str, text: str) -> None:
        """A limit of the recipe is broken: abort, or in a preflight remember it, once."""
        if self.enforce:
            self.abort(text)
            return
        with self._lock:
            if limit not in self._broken:
                self._broken.add(limit)
                self.violations.append(text)

    @property
    def failure(self) -> HotstageError | None:
        """Why the run failed, if it did."""
        return None if self._emergency else self._failure

    @property
    def abort_reason(self) -> str | None:
        """Why the run is aborted, if it is."""
        return self._abort_reason or self._emergency or None

    @property
    def ending(self) -> bool:
        """Whether something ends the run."""
        return self.failure is not None or self.abort_reason is not None

    def ended(self) -> tuple[EngineState, str]:
        """How the run has ended, or would if it ended now, and the cause."""
        if self.failure is not None:
            while_ = self._failed_in_abort
            cause = f"{self.failure} (while the run was aborted: {while_})" if while_ else ""
            return EngineState.FAILED, cause or str(self.failure)
        if self.abort_reason is not None:
            return EngineState.ABORTED, self.abort_reason
        return EngineState.COMPLETED, ""

    # ------------------------------------------------------------------------------ dose

    def allow_dose(self, more_e_per_nm2: float, area: Area | None = None) -> bool:
        """Whether the dose limit bears so much more on an area; if not, it counts as broken.

        Args:
            more_e_per_nm2: what the next exposure adds.
            area: where; None if anywhere.
        """
        limit = self.recipe.limits.dose
        if limit is None:
            return True
        seen = self.dose.highest_in(area)
        if not seen + more_e_per_nm2 > limit:
            return True
        where = "" if area is None else f" at ({area.x_nm:.4g}, {area.y_nm:.4g}) nm"
        by_hand = self.by_hand_e_per_nm2
        of_which = f" (up to {show(by_hand, 'e/nm²')} by hand before the run)" if by_hand else ""
        self.break_limit(
            "dose",
            f"the dose{where} would exceed the recipe's limit of {show(limit, 'e/nm²')} "
            f"(limits.dose) at run time {show_duration(self.now_s())}: "
            f"{show(seen, 'e/nm²')} so far{of_which}, and the next exposure adds "
            f"{show(more_e_per_nm2, 'e/nm²')}. Raise the limit, or take fewer or shorter exposures.",
        )
        return not self.enforce
