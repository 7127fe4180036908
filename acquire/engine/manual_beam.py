"""The beam in somebody's hand: a live view, or a probe that rests on a point; both end by themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from acquire.engine.checks import check_exposure
from acquire.engine.core import Engine
from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.engine.manual_view import HandView
from acquire.errors import LimitError
from acquire.instruments import ScanExposure
from acquire.units import show, show_duration

LONGEST_S = 600.0
"""Wall seconds that a live view, or an un-blanked beam, may be asked for."""
SPOT_NM = 1.0
"""Side of the square that the dose of a resting probe is counted over, as for single spectra."""


class HandBeam:
    """For one thread at a time, but for :meth:`cut`; ``note`` writes to the log."""

    def __init__(self, engine: Engine, note: Callable[[str], None]) -> None:
        self._engine = engine
        self._scan = engine.station.scan
        self._note = note
        self._until_s = math.nan
        self._at_nm = (0.0, 0.0)
        self._counted_s = math.nan
        self._current_pa = math.nan
        self._view: HandView | None = None
        self._unsure = False
        """Whether a view has ended and its beam may still be on."""
        self.trouble = ""
        """Why the last live view ended; empty if it was to."""

    @property
    def on(self) -> bool:
        """Whether the beam is on by hand."""
        at_rest = math.isnan(self.left_s) and math.isnan(self.view_left_s)
        return self._unsure or not at_rest

    @property
    def left_s(self) -> float:
        """Wall seconds until a resting probe's beam is blanked; NaN if there is none."""
        until_s = self._until_s
        return math.nan if math.isnan(until_s) else max(0.0, until_s - time.monotonic())

    @property
    def view_left_s(self) -> float:
        """Wall seconds until the live view ends; NaN if there is none."""
        view = self._view
        return math.nan if view is None else view.left_s

    @property
    def view_frames(self) -> int:
        """Images of the present or last live view."""
        view = self._view
        return 0 if view is None else view.taken

    @property
    def sharpness(self) -> float:
        """Of its newest image."""
        view = self._view
        return math.nan if view is None else view.sharpness

    def check_rest(self, for_s: float) -> None:
        """Raise LimitError for a time that is not allowed."""
        _bounded(for_s, "an un-blanked beam")

    def check_view(self, exposure: ScanExposure, for_s: float) -> None:
        """Raise LimitError or RecipeError for a view that would be refused; moves nothing."""
        _bounded(for_s, "a live view")
        check_exposure(exposure, self._engine.station)

    def rest(self, for_s: float, x_nm: float, y_nm: float) -> None:
        """Let the probe rest on a point with the beam on."""
        self.end()
        self._current_pa = probe_current_pa(self._scan.describe())
        self._scan.park(x_nm, y_nm)
        self._at_nm = (x_nm, y_nm)
        # before the beam is on: an un-blanking whose answer is lost is ended all the same
        self._counted_s = time.monotonic()
        self._until_s = self._counted_s + for_s
        try:
            self._scan.blank(False)
        except Exception:
            self.end()
            raise
        self._note(f"beam on, resting at ({x_nm:.4g}, {y_nm:.4g}) nm, for {show_duration(for_s)}")

    def view(self, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """Take images, see :class:`acquire.engine.manual_view.HandView`."""
        self.end()
        self.trouble = ""
        self._view = HandView(
            self._engine, self._engine.by_hand, exposure, frames, for_s, self._ended
        )
        self._note(
            f"{'single image' if frames == 1 else 'live view'}: field "
            f"{show(exposure.field_of_view_nm, 'nm')}, {exposure.shape[1]} × {exposure.shape[0]}, "
            f"{show(exposure.dwell_time_s * 1e6, 'µs')} per pixel"
        )

    def end(self) -> None:
        """End the live view and blank the beam; idempotent.

        Raises:
            InstrumentError: it may still be on, which :meth:`tick` goes on to end.
        """
        if self._view is not None:
            self._view.stop()
        if math.isfinite(self._until_s):
            self._until_s = min(self._until_s, time.monotonic())
            self._count()
            self._scan.blank(True)
            self._count()
            self._until_s = math.nan
        if self._unsure:
            self._scan.blank(True)
            self._unsure = False

    def cut(self) -> None:
        """The beam was blanked otherwise: end what would un-blank it; returns at once."""
        view = self._view
        if view is not None:
            view.cut()
        if math.isfinite(self._until_s):
            self._until_s = time.monotonic()

    def forget(self) -> None:
        """Somebody else commands the beam from now on."""
        self._until_s, self._unsure = math.nan, False

    def tick(self) -> None:
        """End what has lasted long enough, again until it has ended; raises as :meth:`end`."""
        if self._view is not None:
            self._view.tick()
        if self._unsure:
            self.end()
        if math.isfinite(self._until_s):
            self._count()
            if time.monotonic() >= self._until_s:
                self.end()
                self._note("beam blanked: its time is up")

    def _ended(self, reason: str, unsure: bool) -> None:
        """Called by a view's thread: it takes no lock, since who ends the view may wait for it."""
        self._unsure = self._unsure or unsure
        if reason:
            self.trouble = f"the live view ended: {reason}"
            self._note(self.trouble)

    def _count(self) -> None:
        now_s = time.monotonic()
        rested_s = (now_s - self._counted_s) * self._engine.station.clock.rate
        self._counted_s = now_s
        dose = spot_dose(self._current_pa, rested_s, SPOT_NM)
        self._engine.by_hand.rested(dose, self._at_nm, SPOT_NM)


def _bounded(for_s: float, what: str) -> None:
    if not 0 < for_s <= LONGEST_S:
        raise LimitError(
            f"{what} for {show(for_s, 's')} refused: more than 0, and at most "
            f"{show_duration(LONGEST_S)}. It can be asked for again."
        )
