"""Keeps the field on the specimen: turns what a drift estimator wants into bounded scan shifts between frames."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.errors import HotstageError, LimitError, LinkError
from acquire.instruments import ScanExposure
from acquire.stream.shifting import Steering, WantedShift
from acquire.units import show, show_duration

FRESH_PERIODS = 3.0
"""A wish that is older than so many frame periods says nothing about now."""
FRESH_WALL_S = 0.5
"""What it may be older, for the time that measuring takes."""
PATIENCE_WALL_S = 1.0
"""What the recorder waits for a shift that another thread has asked for."""
NOTE_EVERY_S = 30.0
"""Corrections are summed up in the journal at most so often; every frame has its own shift beside it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A shift that is to be made, in nm."""

    dx_nm: float
    dy_nm: float
    limited: bool = False
    """Whether ``max_shift`` kept it from being what was wanted."""


def correction(
    steering: Steering,
    wanted: WantedShift,
    present_nm: tuple[float, float],
    when_s: float,
    longest_s: float,
) -> Correction | None:
    """The shift to make now; None if the field is near enough, or nothing trustworthy is known.

    What is wanted is an absolute position: shifts that were made since it was measured are taken
    into account by ``present_nm``, so that neither delay nor a frame that was left out makes the
    same correction twice. With a gain g, a scan whose shifts are c times as long as asked, and no
    drift, the error shrinks by |1 - g·c| at every step: without overshoot for g·c up to 1, and not
    at all above 2.

    Args:
        steering: gain, deadband and bounds.
        wanted: the total shift (x, y) that would centre the field, for a time.
        present_nm: the total shift (x, y) in force.
        when_s: for when to correct, on the same clock.
        longest_s: how far ahead to predict at most.
    """
    if not wanted.sigma_nm <= steering.max_sigma_nm:
        return None
    x_nm, y_nm = wanted.x_nm, wanted.y_nm
    if steering.predict and math.isfinite(wanted.rate_x_nm_per_s + wanted.rate_y_nm_per_s):
        ahead_s = min(max(when_s - wanted.t_s, 0.0), longest_s)
        x_nm += wanted.rate_x_nm_per_s * ahead_s
        y_nm += wanted.rate_y_nm_per_s * ahead_s
    dx_nm, dy_nm = x_nm - present_nm[0], y_nm - present_nm[1]
    error_nm = math.hypot(dx_nm, dy_nm)
    deadband_nm = steering.deadband_nm
    if deadband_nm is None:
        deadband_nm = max(steering.pixel_size_nm, 2 * wanted.sigma_nm)
    if not error_nm > deadband_nm:
        return None
    share = min(steering.gain, steering.max_step_nm / error_nm)
    dx_nm, dy_nm = share * dx_nm, share * dy_nm
    if math.hypot(present_nm[0] + dx_nm, present_nm[1] + dy_nm) > steering.max_shift_nm:
        return Correction(0.0, 0.0, limited=True)
    return Correction(dx_nm, dy_nm)


class DriftCorrector:
    """Shifts the scan between the frames of one recorded scan, as an estimator wants it.

    It is told by the recorder when an exposure has ended and when the next begins, and by the
    estimator's task what is wanted. If there is time before the next exposure, a wish is carried
    out as it comes; else it waits for the end of the exposure under way. Only frames that were
    recorded under one shift lead to wishes. A bound that is reached, or a scan that refuses, ends
    the correction with one warning; the run goes on.
    """

    def __init__(self, run: RunContext, steering: Steering, exposure: ScanExposure) -> None:
        self._run = run
        self._steering = steering
        self._exposure_s = exposure.scan_time_s
        self._period_s = max(exposure.frame_period_s, exposure.scan_time_s)
        self._lock = threading.Lock()
        self._pending: WantedShift | None = None
        self._next_start_s = -math.inf
        self._taken_s = 0.0
        """How long the last shift took."""
        self._off = self._hangs = False
        self._made = 0
        self._noted_s = -math.inf
        self._unsure_nm = 0.0
        """By so much the field may be elsewhere than is known: shifts that nobody confirmed."""

    def want(self, wanted: WantedShift | None) -> None:
        """Take a wish, and carry it out if no exposure is under way or about to begin."""
        with self._lock:
            self._pending = wanted
            if self._run.now_s() + self._taken_s < self._next_start_s:
                self._correct()

    def exposed(self, next_start_s: float) -> None:
        """An exposure has ended; the next one begins at a run time, at the earliest."""
        with self._at_hand() as free:
            if free:
                self._next_start_s = next_start_s
                self._correct()

    def rest(self, *, briefly: bool = False) -> None:
        """No frames are taken for now, and nothing may be shifted.

        What was wanted will be out of date when they are, unless it is for a moment only.
        """
        with self._at_hand() as free:
            if free:
                self._next_start_s = -math.inf
                if briefly:
                    return
                self._pending = None
                if self._made:
                    self._note()

    @contextmanager
    def _at_hand(self) -> Iterator[bool]:
        """Context that nobody else is in; False where a shift hangs, which holds up no recording."""
        free = self._lock.acquire(timeout=0.0 if self._hangs else PATIENCE_WALL_S)
        self._hangs = not free
        if not free:
            self._run.warn(
                "the scan has been at a shift for over a second: the drift is not corrected until it "
                "answers. Look after the scan, or leave 'correct' out."
            )
        try:
            yield free
        finally:
            if free:
                self._lock.release()

    def _correct(self) -> None:
        wanted, self._pending = self._pending, None
        now_s = self._run.now_s()
        if wanted is None or self._off or self._run.ending or not self._fresh(wanted, now_s):
            return
        shifts = self._run.shifts
        when_s = max(now_s, self._next_start_s) + self._exposure_s / 2
        longest_s = FRESH_PERIODS * self._period_s
        bounded = replace(
            self._steering, max_shift_nm=max(0.0, self._steering.max_shift_nm - self._unsure_nm)
        )
        asked = correction(bounded, wanted, shifts.present, when_s, longest_s)
        if asked is None:
            return
        if asked.limited:
            self._stop(
                f"it would take the field farther than {show(self._steering.max_shift_nm, 'nm')} "
                "from where it was (max_shift)"
            )
            return
        try:
            self._run.station.scan.shift(asked.dx_nm, asked.dy_nm)
        except LinkError as error:
            self._lost(asked, error)  # the recorder looks after the link
            return
        except LimitError as error:
            self._stop(str(error))
            return
        except HotstageError as error:
            self._stop(f"the scan could not be shifted: {error}")
            return
        done_s = self._run.now_s()
        self._taken_s = done_s - now_s
        shifts.moved(now_s, done_s, asked.dx_nm, asked.dy_nm)
        self._made += 1
        if done_s - self._noted_s >= NOTE_EVERY_S:
            self._note()

    def _lost(self, asked: Correction, error: LinkError) -> None:
        """Say that nobody knows whether a shift was made; the next frame shows where the field is."""
        self._unsure_nm += math.hypot(asked.dx_nm, asked.dy_nm)
        self._run.warn(
            f"whether the scan was shifted by ({asked.dx_nm:.2f}, {asked.dy_nm:.2f}) nm at run time "
            f"{show_duration(self._run.now_s())} is not known: {error} The field is followed all the "
            "same; drift and scan shift from then on may be wrong by that much. Compare with the "
            "frames before."
        )

    def _fresh(self, wanted: WantedShift, now_s: float) -> bool:
        rate = finite_rate(self._run.clock)
        return now_s - wanted.t_s <= FRESH_PERIODS * self._period_s + FRESH_WALL_S * rate

    def _note(self) -> None:
        x_nm, y_nm = self._run.shifts.present
        count, self._made = self._made, 0
        self._noted_s = self._run.now_s()
        self._run.note(
            "correction",
            f"scan shift follows the drift: ({x_nm:.1f}, {y_nm:.1f}) nm after {count} "
            f"correction{'s' if count > 1 else ''}",
            {"shift_x_nm": x_nm, "shift_y_nm": y_nm, "corrections": count},
        )

    def _stop(self, why: str) -> None:
        self._off = True
        self._run.warn(
            f"the drift is not corrected any more: {why}. The field stays where it is; move the "
            "stage, or raise the bound."
        )
