"""Says what makes an image unfit to be measured, or its numbers doubtful, in short flags."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.particles.arrays import in_order
from acquire.measure.particles.pixels import pixel_statistics

SMALLEST_SIDE_PX = 48

_HUGE = 1e30
_ACROSS = 64
"""Rows or columns that are looked at."""
_MISSING_SHARE = 0.01
_DARK_ROW = 0.1
_CLIPPED_SHARE = 1e-3

UNMEASURABLE = frozenset({"nonfinite", "blank", "constant", "incomplete"})
"""Flags with which no number is given."""


def check_image(image: NDArray[Any], pixel_size_nm: float) -> None:
    """Refuse what is no detector image.

    Raises:
        MeasureError: not two-dimensional, too small, not of a real number type, or a pixel size
            that is not positive and finite.
    """
    if image.ndim != 2:
        raise MeasureError(
            f"an image of shape {image.shape} cannot be sized: (y, x) is needed. "
            "Pass one frame of one detector."
        )
    if min(image.shape) < SMALLEST_SIDE_PX:
        raise MeasureError(
            f"an image of shape {image.shape} cannot be sized: at least {SMALLEST_SIDE_PX} pixels "
            "a side are needed. Scan more pixels."
        )
    if image.dtype.kind not in "uif":
        raise MeasureError(
            f"an image of type {image.dtype} cannot be sized: integers or floats are needed."
        )
    known = isinstance(pixel_size_nm, (int, float, np.number))
    if not (known and math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise MeasureError(
            f"pixel_size_nm = {pixel_size_nm!r} cannot be used: it must be positive and finite. "
            "Calibrate the scan."
        )


def image_flags(image: NDArray[Any], dark_level: float = 0.0) -> tuple[str, ...]:
    """Flags of an image: ``nonfinite``, ``constant``, ``blank``, ``incomplete``, ``saturated``.

    ``nonfinite``: NaN, infinite, or beyond 10³⁰. ``blank``: the beam was off; the mean lies within
    half a count of ``dark_level``, or below it. ``incomplete``: more than 1 % of the rows repeat
    the one before or are dark, while the others are not. ``saturated``: more than 0.1 % of the
    pixels sit together on the highest value, or on the lowest without a tail towards it.
    """
    low, high, on_top, finite, rows, again = pixel_statistics(image)
    if not finite or max(abs(low), abs(high)) > _HUGE:
        return ("nonfinite",)
    whole = image.dtype.kind in "ui"
    if float(rows.mean()) - dark_level <= (0.5 if whole else 0.0):
        return ("blank",)
    if low == high:
        return ("constant",)
    if _missing_rows(rows - dark_level, again) > _MISSING_SHARE * len(rows):
        return ("incomplete",)
    # a few counts per pixel pile up on small integers without being clipped
    if (high >= 16 or not whole) and on_top > max(16, _CLIPPED_SHARE * image.size):
        return ("saturated",)
    if _clipped_below(image, low):
        return ("saturated",)
    return ()


def _missing_rows(level: NDArray[np.float64], again: NDArray[np.bool_]) -> int:
    """Rows that are those before once more, or dark: noise never repeats, and film is not dark."""
    usual = in_order(level)[int(0.9 * len(level))]
    return int(np.count_nonzero(again | (level < _DARK_ROW * usual)))


def _clipped_below(image: NDArray[Any], low: float) -> bool:
    """Whether pixels pile up on the lowest value: of counts fewer have that one than the next."""
    some = image[:: max(1, image.shape[0] // _ACROSS)]
    lowest = int(np.count_nonzero(some == low))
    if lowest <= max(16, _CLIPPED_SHARE * some.size):
        return False
    above = some[some > low]
    return above.size == 0 or lowest > 2 * int(np.count_nonzero(above == above.min()))
