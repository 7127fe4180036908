"""What an estimator may offer beside estimates: a wish for scan shift, and sums of aligned frames.

An estimator that has these methods is asked by the engine; others are left alone. All are called
from the thread that calls ``update``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from acquire.instruments import Frame, StreamSpec


@dataclass(frozen=True, slots=True)
class Steering:
    """How the field is to be kept by scan shift; lengths in nm."""

    gain: float
    """Share of an error that one correction takes away; above 0, at most 1."""
    deadband_nm: float | None
    """Errors up to here are left; None: one pixel, or twice the uncertainty if that is more."""
    max_step_nm: float
    """The longest single shift."""
    max_shift_nm: float
    """The farthest that the field may be taken from where the run found it."""
    max_sigma_nm: float
    """No correction rests on a position that is less certain."""
    pixel_size_nm: float
    predict: bool
    """Whether the shift aims at where the specimen will be in the middle of the next exposure."""


@dataclass(frozen=True, slots=True)
class AppliedShift:
    """Scan shift in force during a frame, relative to the beginning of the run; x right, y down."""

    x_nm: float = 0.0
    y_nm: float = 0.0
    steady: bool = True
    """False if it was changed while the frame was exposed."""


@dataclass(frozen=True, slots=True)
class WantedShift:
    """Total scan shift, on the scale of :class:`AppliedShift`, that brings the field back."""

    t_s: float
    """For when it holds: the middle of an exposure, on the frame's clock."""
    x_nm: float
    y_nm: float
    rate_x_nm_per_s: float
    rate_y_nm_per_s: float
    """How fast it changes; NaN where unknown."""
    sigma_nm: float


@runtime_checkable
class Steers(Protocol):
    """An estimator that knows where the field should be."""

    @property
    def steering(self) -> Steering | None:
        """How to correct; None if the estimator is only to look."""

    def applied_shift(self, shift: AppliedShift) -> None:
        """Be told the shift during the frame that ``update`` gets next."""

    def wanted_shift(self) -> WantedShift | None:
        """What the frame that ``update`` got last asks for; None if it says nothing trustworthy."""


@runtime_checkable
class Sums(Protocol):
    """An estimator that adds frames up."""

    @property
    def store_sums(self) -> bool:
        """Whether the sums are to be stored in the run, not only shown."""

    def sum_spec(self) -> StreamSpec | None:
        """What the sums look like, None if there are none; the engine names their stream STREAM_sum."""

    def take_sum(self) -> Frame | None:
        """A sum that is complete and was not taken yet; its span is that of its frames."""
