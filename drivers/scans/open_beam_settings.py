"""The options of the Open Beam Interface driver, and the geometry of its DAC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acquire.errors import LimitError
from acquire.instruments import Limit, ScanExposure
from acquire.units import show
from drivers import options
from drivers.scans import microscope
from drivers.scans.open_beam_device import Raster
from drivers.scans.open_beam_protocol import CODES, CYCLE_S, FRACTIONS, MOST_CYCLES, Range

SMALLEST = 16
LARGEST = 1 << 13
TOLERANCE = 0.01
"""Dwell times and pixel sizes further than this from what the board can do are refused."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of :func:`drivers.scans.open_beam.open_scan`, read."""

    detector: str
    full_field_nm: float
    release_when_safe: bool
    facts: Mapping[str, str | float]

    @property
    def code_nm(self) -> float:
        """What a code of the DAC is on the specimen."""
        return self.full_field_nm / CODES


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an exposure is really taken."""

    raster: Raster
    pixel_nm: float
    center_nm: tuple[float, float]
    """Of the image, without the shift."""

    @property
    def dwell_s(self) -> float:
        """Of a pixel."""
        return self.raster.cycles * CYCLE_S


def read(
    *,
    detector: str,
    full_field: str,
    release_when_safe: bool,
    probe_current: str | None,
    beam_energy: str | None,
    convergence_semi_angle: str | None,
    detector_angles: Sequence[str] | None,
) -> Settings:
    """Read the options; raises ValueError, TypeError."""
    if not isinstance(detector, str) or not detector.isidentifier():
        raise ValueError(
            f"detector = {detector!r} refused: the board digitises one signal; name it, as 'haadf'. "
            "For two detectors use a scan that has two."
        )
    return Settings(
        detector=detector,
        full_field_nm=options.quantity("full_field", full_field, "nm", 1.0, 1e8),
        release_when_safe=options.switch("release_when_safe", release_when_safe),
        facts=microscope.facts(
            probe_current=probe_current,
            beam_energy=beam_energy,
            convergence_semi_angle=convergence_semi_angle,
            detector_angles=None if detector_angles is None else {detector: detector_angles},
        ),
    )


def limits_of(settings: Settings) -> tuple[Limit, Limit, Limit, Limit]:
    """Field of view (nm), dwell time (s), size (pixels) and position (nm) that are allowed."""
    half = settings.full_field_nm / 2
    return (
        Limit(
            "field_of_view",
            SMALLEST * settings.code_nm,
            settings.full_field_nm,
            "nm",
            "full_field",
        ),
        Limit("dwell_time", CYCLE_S, MOST_CYCLES * CYCLE_S, "s", "driver"),
        Limit("size", SMALLEST, LARGEST, "px", "driver"),
        Limit("position", -half, half, "nm", "full_field"),
    )


def geometry(settings: Settings, exposure: ScanExposure, shift_nm: tuple[float, float]) -> Geometry:
    """Codes and cycles of an exposure whose quantities are within their limits; raises LimitError."""
    cycles = round(exposure.dwell_time_s / CYCLE_S)
    if abs(cycles * CYCLE_S / exposure.dwell_time_s - 1) > TOLERANCE:
        raise LimitError(
            f"dwell time {show(exposure.dwell_time_s, 's')} refused: the board counts in "
            f"{show(CYCLE_S, 's')}. Ask for {show(max(1, cycles) * CYCLE_S, 's')}."
        )
    step = round(exposure.pixel_size_nm / settings.code_nm * FRACTIONS)
    pixel_nm = step / FRACTIONS * settings.code_nm
    if abs(pixel_nm / exposure.pixel_size_nm - 1) > TOLERANCE or step >= 1 << 16:
        raise LimitError(
            f"pixels of {show(exposure.pixel_size_nm, 'nm')} refused: the DAC steps by "
            f"{show(settings.code_nm, 'nm')} (full_field). Choose a wider field, or change the "
            "magnification of the microscope and full_field with it."
        )
    ranges = []
    centers = []
    rows, columns = exposure.shape
    for count, center, shift in zip((columns, rows), exposure.center_nm, shift_nm, strict=True):
        reach = (count - 1) / 2 * step / FRACTIONS
        start = round(CODES / 2 + (center + shift) / settings.code_nm - reach)
        if not (start >= 0 and start + 2 * reach < CODES):
            raise LimitError(
                f"a field of {show(count * pixel_nm, 'nm')} around {show(center + shift, 'nm')} "
                f"refused: the DAC reaches {show(settings.full_field_nm, 'nm')} (full_field), in all. "
                "Choose a smaller one, or move the stage."
            )
        ranges.append(Range(start, count, step))
        centers.append((start + reach - CODES / 2) * settings.code_nm - shift)
    raster = Raster(ranges[0], ranges[1], cycles)
    return Geometry(raster, pixel_nm, (centers[0], centers[1]))


def code(settings: Settings, position_nm: float) -> int:
    """The DAC's code of a position; raises LimitError."""
    found = CODES / 2 + position_nm / settings.code_nm
    if not (math.isfinite(found) and 0 <= math.floor(found) < CODES):
        raise LimitError(
            f"probe at {show(position_nm, 'nm')} refused: the DAC reaches "
            f"{show(settings.full_field_nm / 2, 'nm')} to each side (full_field)."
        )
    return math.floor(found)
