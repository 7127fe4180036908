"""Fields and shifts in nm, and what a column is told for them: the same for every way to reach one."""

from __future__ import annotations

import math
from typing import Protocol

from acquire.errors import InstrumentError
from acquire.units import show

Point = tuple[float, float]
SHIFT_TOLERANCE_NM = 0.5
"""A shift this near to what was asked for is there; a person's own is farther."""


class ColumnCalibration(Protocol):
    """The options of a scan that say how its column counts."""

    @property
    def width_at_1x_nm(self) -> float:
        """Width of the field at a magnification of 1."""

    @property
    def field_tolerance(self) -> float:
        """How far, relatively, a step of magnification may be from the field that was asked for."""

    @property
    def shift_nm(self) -> float:
        """What one unit of the column's beam shift moves the field by."""

    @property
    def shift_rotation_rad(self) -> float:
        """From the image's axes to those of the shift."""

    @property
    def shift_mirrored(self) -> bool:
        """Whether y is turned round before."""


def taken_field_nm(calibration: ColumnCalibration, wanted_nm: float, magnification: float) -> float:
    """Width of the field at the magnification that a column took for a wish.

    What was asked for, where the column differs only in the digits of its answer.

    Raises:
        InstrumentError: it is farther from the wish than the station allows.
    """
    taken_nm = calibration.width_at_1x_nm / magnification if magnification > 0 else math.nan
    off = abs(taken_nm / wanted_nm - 1)
    if not off <= calibration.field_tolerance:
        raise InstrumentError(
            f"field of view {show(wanted_nm, 'nm')} refused: the column's nearest magnification "
            f"gives {show(taken_nm, 'nm')}. Ask for that, or raise field_tolerance."
        )
    return wanted_nm if off < 1e-6 else taken_nm


def column_shift(calibration: ColumnCalibration, base: Point, shift_nm: Point) -> Point:
    """The column's own coordinates of a shift to the right and downwards from ``base``."""
    x, y = shift_nm
    up = -y if calibration.shift_mirrored else y
    cosine = math.cos(calibration.shift_rotation_rad)
    sine = math.sin(calibration.shift_rotation_rad)
    return (
        base[0] + (cosine * x - sine * up) / calibration.shift_nm,
        base[1] + (sine * x + cosine * up) / calibration.shift_nm,
    )


def expect_shift(
    calibration: ColumnCalibration, wanted: Point, taken: Point, shift_nm: Point
) -> None:
    """Raise InstrumentError if a column is not where it was sent."""
    x, y = shift_nm
    off_nm = math.dist(wanted, taken) * calibration.shift_nm
    if not off_nm <= SHIFT_TOLERANCE_NM + 0.01 * math.hypot(x, y):
        raise InstrumentError(
            f"beam shift to ({x:.4g}, {y:.4g}) nm: the column is {show(off_nm, 'nm')} from it. "
            "Its range may be at an end: bring the stage nearer."
        )


def followed(calibration: ColumnCalibration, base: Point, told: Point, found: Point) -> Point:
    """The origin, gone along where a person has moved the beam meanwhile, which is not undone."""
    if math.dist(found, told) * calibration.shift_nm <= SHIFT_TOLERANCE_NM:
        return base
    return base[0] + found[0] - told[0], base[1] + found[1] - told[1]
