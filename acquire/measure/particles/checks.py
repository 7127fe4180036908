"""Says what makes an image unfit to be measured, or its numbers doubtful, in short flags."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.particles.pixels import pixel_statistics

SMALLEST_SIDE_PX = 48

UNMEASURABLE = frozenset({"nonfinite", "blank", "constant"})
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
    if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise MeasureError(
            f"pixel_size_nm = {pixel_size_nm!r} cannot be used: it must be positive and finite. "
            "Calibrate the scan."
        )


def image_flags(image: NDArray[Any], dark_level: float = 0.0) -> tuple[str, ...]:
    """Flags of an image: ``nonfinite``, ``constant``, ``blank``, ``saturated``.

    ``blank``: the beam was off; the mean lies within half a count of ``dark_level``, or below it.
    ``saturated``: more than 0.1 % of the pixels sit together on the highest value.
    """
    low, high, mean, on_top, finite = pixel_statistics(image)
    if not finite:
        return ("nonfinite",)
    whole = image.dtype.kind in "ui"
    if mean - dark_level <= (0.5 if whole else 0.0):
        return ("blank",)
    if low == high:
        return ("constant",)
    # a few counts per pixel pile up on small integers without being clipped
    if (high >= 16 or not whole) and on_top > max(16, 1e-3 * image.size):
        return ("saturated",)
    return ()
