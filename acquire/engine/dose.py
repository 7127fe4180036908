"""Counts the electrons that the specimen has seen."""

from __future__ import annotations

import math

from acquire.instruments import Description, ScanExposure

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


class DoseMeter:
    """The highest dose that any point has seen: the field's, plus that of its worst spot."""

    def __init__(self) -> None:
        self._field = 0.0
        self._spots: dict[tuple[int, int], float] = {}

    @property
    def total_e_per_nm2(self) -> float:
        """Highest local dose so far."""
        return self._field + max(self._spots.values(), default=0.0)

    def add_image(self, dose_e_per_nm2: float) -> None:
        """Count an image."""
        if math.isfinite(dose_e_per_nm2):
            self._field += dose_e_per_nm2

    def add_spot(self, position_nm: tuple[float, float], dose: float, spacing_nm: float) -> None:
        """Count a spectrum; positions closer than half the spacing are one spot."""
        if math.isfinite(dose):
            spot = (round(position_nm[0] / spacing_nm), round(position_nm[1] / spacing_nm))
            self._spots[spot] = self._spots.get(spot, 0.0) + dose
