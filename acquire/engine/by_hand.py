"""What the specimen has seen by hand since the last run began: the next run begins with it."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

from acquire.engine.dose import DoseMeter
from acquire.measure.dose import FIELD, SPOT, Area
from acquire.units import show


class ByHand:
    """Heat, and dose per place; any thread may use it.

    A field is moved over the specimen by the scan shift in force. Shifts by hand are added up here,
    so that what was exposed is handed on where it lies for the run that follows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hottest_celsius = math.nan
        self._shift_nm = (0.0, 0.0)
        self._place_known = True
        self._uncounted = False
        self._dose = DoseMeter()
        """At the places that they have on the specimen before any shift by hand."""

    @property
    def dose_e_per_nm2(self) -> float:
        """What the worst place has got."""
        return self._dose.total_e_per_nm2

    def warmed(self, setpoint_celsius: float) -> None:
        """Remember the highest setpoint that was seen."""
        with self._lock:
            if not setpoint_celsius <= self._hottest_celsius:  # also while that is NaN
                self._hottest_celsius = setpoint_celsius

    def shifted(self, dx_nm: float, dy_nm: float) -> None:
        """The field was moved over the specimen."""
        with self._lock:
            self._shift_nm = (self._shift_nm[0] + dx_nm, self._shift_nm[1] + dy_nm)

    def lost_place(self) -> None:
        """Whether the field was moved is not known: from here on all places count as one."""
        self._place_known = False

    def image(self, dose_e_per_nm2: float, area: Area) -> None:
        """Count an image of an area of the scan's frame; a dose of NaN is told as not known."""
        self._know(dose_e_per_nm2)
        self._dose.add_image(dose_e_per_nm2, _moved(area, self._shift_nm))

    def rested(self, dose_e_per_nm2: float, at_nm: tuple[float, float], side_nm: float) -> None:
        """Count a probe that rested on a point, over a square around it."""
        self._know(dose_e_per_nm2)
        x_nm, y_nm = (at + by for at, by in zip(at_nm, self._shift_nm, strict=True))
        self._dose.add_spot((x_nm, y_nm), dose_e_per_nm2, side_nm)

    def words(self) -> tuple[str, ...]:
        """All of it, for the journal of the run that follows; nothing if there is nothing."""
        lines = []
        if math.isfinite(self._hottest_celsius):
            hottest = show(self._hottest_celsius, "°C")
            lines.append(f"heated by hand before this run, up to {hottest}")
        if self.dose_e_per_nm2:
            lines.append(
                f"exposed by hand before this run: {show(self.dose_e_per_nm2, 'e/nm²')} where most, "
                "which the run's dose and limits.dose begin with"
            )
        if self._uncounted:
            lines.append(
                "exposed by hand before this run, to a dose that is not known: the scan tells no "
                "probe current"
            )
        return tuple(lines)

    def hand_on(self, dose: DoseMeter) -> None:
        """Count all of it in the dose of a run, whose places begin at the present scan shift."""
        if not self._place_known:
            dose.add_everywhere(self.dose_e_per_nm2)
            return
        back = (-self._shift_nm[0], -self._shift_nm[1])
        for area, kind, added in self._dose.take_new():
            here = _moved(area, back)
            if kind == FIELD:
                dose.add_image(added, here)
            elif kind == SPOT:
                dose.add_spot((here.x_nm, here.y_nm), added, here.width_nm)

    def _know(self, dose_e_per_nm2: float) -> None:
        if not math.isfinite(dose_e_per_nm2):
            self._uncounted = True


def _moved(area: Area, by_nm: tuple[float, float]) -> Area:
    return replace(area, x_nm=area.x_nm + by_nm[0], y_nm=area.y_nm + by_nm[1])
