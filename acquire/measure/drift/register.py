"""Says by how much one image is displaced against another, with its uncertainty, or that it cannot be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.drift.correlate import Correlated, correlate
from acquire.measure.drift.prepared import SMALLEST_SIDE_PX, Prepared, prepare
from acquire.measure.drift.vote import bumps, vote

FALSE_RATE = 1e-3
"""Default chance that two images of nothing in common are registered all the same."""
LEAST_MATCH = 0.6
"""Of the structure of the first image that must be found again in the second."""
_REACH_SHARE = 0.3
_CROP_FROM = 2.0
"""Blocks of displacement from which both images are cut to what they share, and compared again."""
_DIAMETER_NM = 8.0
"""Of particles, where none is given."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Displacement of the specimen in the image, with its standard uncertainties; NaN if refused."""

    dy_nm: float
    dx_nm: float
    """The specimen's image lies further down and to the right by this."""
    sigma_y_nm: float
    sigma_x_nm: float
    method: str
    """``correlation``, ``voting`` or, when refused, ``none``."""
    flags: tuple[str, ...] = ()
    """``no_registration`` with the reason for a refusal: ``nonfinite``, ``constant``,
    ``ambiguous``; ``saturated`` and ``dose_change`` do not refuse."""
    match: float = math.nan
    """Share of the first image's structure that is found in the second; 1 if all."""
    height: float = math.nan
    """Height of the correlation peak over its noise."""

    @property
    def found(self) -> bool:
        """Whether there is a displacement."""
        return math.isfinite(self.dy_nm) and math.isfinite(self.dx_nm)

    @property
    def sigma_nm(self) -> float:
        """The larger of the two uncertainties."""
        return max(self.sigma_y_nm, self.sigma_x_nm)


def register(
    before: NDArray[Any] | Prepared,
    now: NDArray[Any] | Prepared,
    pixel_size_nm: float,
    *,
    expected_nm: tuple[float, float] = (0.0, 0.0),
    reach_nm: float | None = None,
    false_rate: float = FALSE_RATE,
    diameter_nm: float = _DIAMETER_NM,
    places_nm: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Registration:
    """Displacement of the specimen from one image to the next.

    The two are compared by a cross-correlation that weights every spatial frequency by what it
    tells. Where that is not borne out, particles vote. A result is refused (NaN, with the flag
    ``no_registration``) unless its peak exceeds what noise reaches at ``false_rate``, and enough of
    the structure is found again.

    Args:
        before: (y, x) image, or what :func:`prepare` made of it.
        now: a later image of the same shape and pixel size.
        pixel_size_nm: of both.
        expected_nm: (y, x) displacement around which to look.
        reach_nm: how far from it; default 0.3 of the shorter side.
        false_rate: chance at which unrelated images may pass.
        diameter_nm: about the size of a particle, for voting.
        places_nm: (n, 2) places (y, x) of particles in both, if they are known.

    Raises:
        MeasureError: an image is unfit (see :func:`prepare`), or their shapes differ.
    """
    first = before if isinstance(before, Prepared) else prepare(before, pixel_size_nm)
    second = now if isinstance(now, Prepared) else prepare(now, pixel_size_nm)
    if first.shape != second.shape or not math.isclose(first.pixel_size_nm, second.pixel_size_nm):
        raise MeasureError(
            f"images of {first.shape} and {second.shape} pixels of {first.pixel_size_nm:g} and "
            f"{second.pixel_size_nm:g} nm cannot be registered: they must be alike. Compare frames "
            "of one stream."
        )
    reach = reach_nm if reach_nm is not None else _REACH_SHARE * min(first.shape) * pixel_size_nm
    flags = tuple(dict.fromkeys(first.flags + second.flags))
    if not (first.usable and second.usable):
        return refused(flags)
    if not 0.5 < second.level / first.level < 2.0:
        flags = (*flags, "dose_change")
    found = _correlated(first, second, expected_nm, reach, false_rate)
    if found is not None and found.match >= LEAST_MATCH:
        if found.ambiguous:
            return refused((*flags, "ambiguous"))
        if found.height >= found.needed:
            return _told(found, first.step_nm, flags)
    voted = _voted(first, second, expected_nm, reach, false_rate, diameter_nm, places_nm)
    return voted if voted is not None else refused(flags)


def refused(reasons: tuple[str, ...] = ()) -> Registration:
    """No displacement, and why."""
    nan = math.nan
    return Registration(nan, nan, nan, nan, "none", ("no_registration", *reasons))


def _told(found: Correlated, step_nm: float, flags: tuple[str, ...]) -> Registration:
    return Registration(
        found.place[0] * step_nm,
        found.place[1] * step_nm,
        math.sqrt(found.covariance[0]) * step_nm,
        math.sqrt(found.covariance[1]) * step_nm,
        "correlation",
        flags,
        found.match,
        found.height,
    )


def _correlated(
    first: Prepared,
    second: Prepared,
    expected_nm: tuple[float, float],
    reach_nm: float,
    false_rate: float,
) -> Correlated | None:
    step = first.step_nm
    expected = expected_nm[0] / step, expected_nm[1] / step
    found = correlate(first.contrast, second.contrast, expected, reach_nm / step, false_rate)
    if found is None or max(map(abs, found.place)) < _CROP_FROM:
        return found
    # windows that stay while the specimen moves pull the peak to the middle: compare what is shared
    dy, dx = round(found.place[0]), round(found.place[1])
    a, b = _shared(first.contrast.shape, dy, dx), _shared(first.contrast.shape, -dy, -dx)
    before, now = first.contrast[b], second.contrast[a]
    if min(before.shape) < SMALLEST_SIDE_PX:
        return None
    closer = correlate(before, now, (0.0, 0.0), 3.0, false_rate)
    if closer is None:
        return None
    return Correlated(
        (closer.place[0] + dy, closer.place[1] + dx),
        closer.covariance,
        found.height,
        found.needed,
        closer.match,
        found.second,
    )


def _shared(shape: tuple[int, ...], dy: int, dx: int) -> tuple[slice, slice]:
    rows, columns = shape
    return (
        slice(max(0, dy), min(rows, rows + dy)),
        slice(max(0, dx), min(columns, columns + dx)),
    )


def _voted(
    first: Prepared,
    second: Prepared,
    expected_nm: tuple[float, float],
    reach_nm: float,
    false_rate: float,
    diameter_nm: float,
    places_nm: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Registration | None:
    if places_nm is not None:
        sets = [places_nm]
    else:
        sets = [
            (bumps(first, diameter_nm, polarity), bumps(second, diameter_nm, polarity))
            for polarity in (1.0, -1.0)
        ]
    for before, now in sets:
        found = vote(before, now, reach_nm, 0.15 * diameter_nm, expected_nm, false_rate)
        if found is not None:
            (dy, dx), (sigma_y, sigma_x) = found.place, found.sigma
            return Registration(dy, dx, sigma_y, sigma_x, "voting")
    return None
