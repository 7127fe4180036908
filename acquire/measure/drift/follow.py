"""Follows a specimen from image to image against a held reference, so that errors do not add up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.measure.drift.motion import Motion
from acquire.measure.drift.prepared import Prepared
from acquire.measure.drift.register import Registration, refused, register

_LEAST_OVERLAP = 0.7
"""Share of the field that a reference must still show."""
_FADING = 0.8
"""Match below which the specimen has changed so much that a newer reference is taken."""
_LOST_AFTER = 3
"""Usable images in succession that fit nowhere, after which the field has moved away."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Reference:
    """An image whose place is known."""

    image: Prepared
    place: Floats
    """Of the specimen in the scan's frame, (y, x) in nm."""
    shift: Floats
    """Scan shift at that time."""
    sigma: float


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the specimen lies in the scan's frame, in nm from where it was first."""

    y_nm: float
    x_nm: float
    sigma_y_nm: float
    sigma_x_nm: float
    flags: tuple[str, ...]
    registration: Registration

    @property
    def found(self) -> bool:
        """Whether it is known."""
        return math.isfinite(self.y_nm)


class Follower:
    """Registers every image against a held reference.

    The place of the specimen is the displacement in the image plus the scan shift, both against the
    first image. The reference is replaced, by the image at hand, only when it shows less than 0.7
    of the present field or less than 0.8 of its structure is found again; then the uncertainty of
    the new one's place is carried on. An image that fits neither the reference nor the last good
    image has no place; after three of those in succession the field has moved away and a new
    reference begins, with the place that was known last: from there on flagged ``origin_lost``.
    """

    def __init__(self, pixel_size_nm: float, reach_nm: float, diameter_nm: float) -> None:
        self.motion = Motion()
        self._pixel_nm = pixel_size_nm
        self._reach_nm = reach_nm
        self._diameter_nm = diameter_nm
        self._reference: _Reference | None = None
        self._last: _Reference | None = None
        self._failures = 0
        self._origin_lost = False

    def follow(self, image: Prepared, t_s: float, shift: tuple[float, float]) -> Followed:
        """Place of an image taken at a time under a scan shift (y, x) in nm.

        Flags: those of :func:`~acquire.measure.drift.register.register`; ``first`` for the image
        that all others are compared with; ``field_moved`` and ``origin_lost``, see above.
        """
        there = np.asarray(shift, np.float64)
        if not image.usable:
            return self._unknown(image.flags, refused(image.flags))
        if self._reference is None:
            self._begin(image, np.zeros(2), there, t_s)
            return self._placed(np.zeros(2), (0.0, 0.0), ("first",), refused())
        found, against = self._register(image, t_s, there)
        if not found.found:
            return self._lose(image, t_s, there, found)
        self._failures = 0
        moved = np.array([found.dy_nm, found.dx_nm])
        place = against.place + moved + (there - against.shift)
        sigmas = (
            math.hypot(against.sigma, found.sigma_y_nm),
            math.hypot(against.sigma, found.sigma_x_nm),
        )
        self.motion.measure(t_s, place, found.sigma_nm)
        self._last = _Reference(image, place, there, max(sigmas))
        self._reference = against
        sides = np.array(image.shape) * self._pixel_nm
        overlap = float(np.prod(np.clip(1.0 - np.abs(moved) / sides, 0.0, 1.0)))
        if overlap < _LEAST_OVERLAP or found.match < _FADING:
            self._reference = self._last
        return self._placed(place, sigmas, found.flags, found)

    def _register(
        self, image: Prepared, t_s: float, shift: Floats
    ) -> tuple[Registration, _Reference]:
        references = [self._reference, self._last]
        if self._last is self._reference:
            references.pop()
        found, used = refused(), references[0]
        assert used is not None
        for reference in references:
            assert reference is not None
            expected = self.motion.predict(t_s) - shift - (reference.place - reference.shift)
            found = register(
                reference.image,
                image,
                self._pixel_nm,
                expected_nm=(float(expected[0]), float(expected[1])),
                reach_nm=self._reach_nm,
                diameter_nm=self._diameter_nm,
            )
            if found.found:
                return found, reference
        return found, used

    def _lose(self, image: Prepared, t_s: float, shift: Floats, found: Registration) -> Followed:
        self._failures += 1
        if self._failures < _LOST_AFTER:
            return self._unknown(found.flags, found)
        assert self._last is not None
        self._failures = 0
        self._origin_lost = True
        self.motion.forget()
        self._begin(image, self._last.place, shift, t_s)
        return self._unknown((*found.flags, "field_moved"), found)

    def _begin(self, image: Prepared, place: Floats, shift: Floats, t_s: float) -> None:
        self._reference = self._last = _Reference(image, place, shift, 0.0)
        self.motion.measure(t_s, place, 0.1 * self._pixel_nm)

    def _placed(
        self,
        place: Floats,
        sigmas: tuple[float, float],
        flags: tuple[str, ...],
        found: Registration,
    ) -> Followed:
        if self._origin_lost:
            flags = (*flags, "origin_lost")
        return Followed(float(place[0]), float(place[1]), *sigmas, flags, found)

    def _unknown(self, flags: tuple[str, ...], found: Registration) -> Followed:
        nan = math.nan
        if self._origin_lost:
            flags = (*flags, "origin_lost")
        return Followed(nan, nan, nan, nan, tuple(dict.fromkeys(flags)), found)
