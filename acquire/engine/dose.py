"""Counts the electrons that the specimen has seen."""

from __future__ import annotations

import math

import numpy as np

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


class DoseMeter:
    """The highest dose that any point has seen: the field's, plus that of its worst spot."""

    def __init__(self) -> None:
        self._field = 0.0
        self._index: dict[tuple[float, float, float], int] = {}
        # rows: x, y, half the side of the square that a dose is spread over (nm); the spot's own
        # dose, and with that of every other spot whose square covers it (e/nm²)
        self._spots = np.zeros((5, 64))
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
        (x, y), half = position_nm, spacing_nm / 2
        count = len(self._index)
        at = self._index.setdefault((x, y, half), count)
        if at == count:
            if count == self._spots.shape[1]:
                self._spots = np.concatenate([self._spots, np.zeros_like(self._spots)], axis=1)
            self._spots[:3, at] = x, y, half
        xs, ys, halves, own, total = self._spots[:, : len(self._index)]
        far = np.maximum(np.abs(xs - x), np.abs(ys - y)) * (1 + 1e-9)
        if at == count:
            total[at] = own[far < halves].sum()
        own[at] += dose
        total[far < half] += dose
        self._worst = max(self._worst, float(total[far < half].max()))
