"""How particles are followed from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

from acquire.errors import MeasureError


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How particles are followed."""

    link_distance_nm: float = 3.0
    """Farthest move from frame to frame, after the view's shift."""
    size_ratio: float = 1.6
    """Largest ratio of the diameters of one particle in two frames."""
    forget_after: int = 5
    """Frames unseen that a track survives."""
    sure_snr: float = 7.0
    sure_frames: int = 3
    """Seen in so many frames above that SNR, it is a particle."""
    footprint_per_diameter: float = 2 ** (1 / 3)
    """Diameter of a footprint over the equivalent spherical one; that of a hemisphere."""

    def __post_init__(self) -> None:
        if not (self.link_distance_nm > 0 and self.size_ratio > 1 and self.sure_frames >= 1):
            raise MeasureError(
                f"tracking with link_distance_nm = {self.link_distance_nm:g}, size_ratio = "
                f"{self.size_ratio:g}, sure_frames = {self.sure_frames} is not possible: the first "
                "must be above 0, the second above 1, the third at least 1."
            )
        if self.forget_after < 0:
            raise MeasureError(f"forget_after = {self.forget_after} must be at least 0 frames.")
