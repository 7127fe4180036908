"""Serves estimators that want more than to be heard: scan shift for the field, and sums of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from acquire.engine.correcting import DriftCorrector
from acquire.engine.shifts import ShiftLog
from acquire.instruments import Frame
from acquire.stream import Estimator
from acquire.stream.shifting import Steers, Sums, WantedShift


@dataclass(frozen=True, slots=True)
class Asked:
    """What an estimator asks for after a frame."""

    shift: WantedShift | None = None
    sum: Frame | None = None


class Companion:
    """Goes with one estimator's task; all of it is called from there.

    Args:
        shifts: what scan shift was in force when.
        corrector: whom to tell what is wanted; None if nothing is to be corrected.
        put_sum: takes sums, in run time; None if nobody wants them.
    """

    def __init__(
        self,
        shifts: ShiftLog,
        corrector: DriftCorrector | None,
        put_sum: Callable[[Frame], None] | None,
    ) -> None:
        self._shifts = shifts
        self._corrector = corrector
        self._put_sum = put_sum

    def before(self, estimator: Estimator, frame: Frame) -> None:
        """Tell the estimator what it cannot see in the frame that comes."""
        if isinstance(estimator, Steers):
            estimator.applied_shift(self._shifts.during(frame.t_start_s, frame.t_end_s))

    def ask(self, estimator: Estimator) -> Asked:
        """What it asks for after the frame; its own errors come through."""
        return Asked(
            estimator.wanted_shift()
            if self._corrector is not None and isinstance(estimator, Steers)
            else None,
            estimator.take_sum() if isinstance(estimator, Sums) else None,
        )

    def serve(self, asked: Asked) -> None:
        """Do it; raises what ends the run."""
        if self._corrector is not None:
            self._corrector.want(asked.shift)
        if asked.sum is not None and self._put_sum is not None:
            self._put_sum(asked.sum)
