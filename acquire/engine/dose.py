"""Counts the electrons that the specimen has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from acquire.instruments import Description, Frame, ScanExposure

ELECTRONS_PER_PICOCOULOMB = 1e-12 / 1.602176634e-19
"""CODATA 2018, exact."""


def probe_current_pa(scan: Description) -> float:
    """Probe current in pA as the scan states it; NaN if it does not."""
    value = scan.details.get("probe_current_pa", math.nan)
    return float(value) if isinstance(value, int | float) else math.nan


def image_dose(current_pa: float, exposure: ScanExposure) -> float:
    """Electrons per nm² that one image gives: probe current · dwell time / pixel area."""
    electrons = current_pa * ELECTRONS_PER_PICOCOULOMB * exposure.dwell_time_s
    return electrons / exposure.pixel_size_nm**2


def spot_dose(current_pa: float, time_s: float, spacing_nm: float) -> float:
    """Electrons per nm² under a resting probe, spread over the square of the point spacing."""
    return current_pa * ELECTRONS_PER_PICOCOULOMB * time_s / spacing_nm**2


class Beat:
    """Tells whether an acquisition that is cut was exposing, for a dose that left no frame.

    An image that was cut counts in full: the part that was scanned has had its whole dose.
    """

    def __init__(self, armed_s: float, period_s: float) -> None:
        self._due_s = armed_s
        self._period_s = period_s

    def took(self, frame: Frame) -> None:
        """A frame has come, its times on the clock that is asked for later."""
        self._due_s = max(frame.t_end_s, frame.t_start_s + self._period_s)

    def exposing(self, now_s: float) -> bool:
        """Whether the next exposure was due before now."""
        return now_s > self._due_s


@dataclass(slots=True)
class _Spot:
    x_nm: float
    y_nm: float
    half_nm: float
    """Half the side of the square that its dose is spread over."""
    own: float = 0.0
    total: float = 0.0
    """With that of every other spot whose square covers it."""

    def covers(self, other: _Spot) -> bool:
        far = max(abs(self.x_nm - other.x_nm), abs(self.y_nm - other.y_nm))
        return far < self.half_nm * (1 - 1e-9)


class DoseMeter:
    """The highest dose that any point has seen: the field's, plus that of its worst spot."""

    def __init__(self) -> None:
        self._field = 0.0
        self._spots: dict[tuple[float, float, float], _Spot] = {}
        self._worst = 0.0

    @property
    def total_e_per_nm2(self) -> float:
        """Highest local dose so far."""
        return self._field + self._worst

    def add_image(self, dose_e_per_nm2: float) -> None:
        """Count an image."""
        if math.isfinite(dose_e_per_nm2):
            self._field += dose_e_per_nm2

    def add_spot(self, position_nm: tuple[float, float], dose: float, spacing_nm: float) -> None:
        """Count a spectrum, spread over a square of the spacing; squares that overlap add up."""
        if not math.isfinite(dose):
            return
        key = (*position_nm, spacing_nm)
        new = key not in self._spots
        spot = self._spots.setdefault(key, _Spot(*position_nm, spacing_nm / 2))
        spot.own += dose
        for other in self._spots.values():
            if other is spot or spot.covers(other):
                other.total += dose
                self._worst = max(self._worst, other.total)
            if new and other is not spot and other.covers(spot):
                spot.total += other.own
        self._worst = max(self._worst, spot.total)
