"""How an image of particles is measured: what an operator may choose, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from acquire.measure.particles.shapes import (
    BlurredDome,
    Shape,
    blurred_dome,
    cap_diameter_per_radius,
    cap_exponent,
)


@dataclass(frozen=True, slots=True)
class ParticleOptions:
    """How an image is measured; every length in nm."""

    polarity: Literal["bright", "dark"] = "bright"
    """``bright`` for HAADF, ``dark`` for ABF and bright field."""
    shape: Shape = Shape.HEMISPHERE
    """The solid that a footprint's radius is turned into a diameter with; see :class:`Shape`."""
    contact_angle_deg: float | None = None
    """Of a spherical cap on the film, if it is known to be other than a hemisphere's 90°."""
    exponent: float | None = None
    """m of (1 - r²/R²)^m, calibrated and held (``calibrate_shape``); None takes the shape's own."""
    probe_sigma_nm: float = 0.2
    """Standard deviation of the probe along one axis (FWHM / 2.355), held."""
    expected_diameter_nm: float = 4.0
    """The size that detection is tuned for: that of the smallest particles of interest."""
    smallest_diameter_nm: float = 2.0
    largest_diameter_nm: float = 20.0
    false_islands: float = 0.001
    """How many islands of noise may pass for particles in one empty frame, on average."""
    dark_level: float = 0.0
    """Counts of the detector without beam."""

    @property
    def dome(self) -> BlurredDome:
        """The profile that is fitted."""
        if self.exponent is not None:
            return blurred_dome(self.exponent)
        if self.contact_angle_deg is not None:
            return blurred_dome(round(cap_exponent(self.contact_angle_deg), 3))
        return blurred_dome(self.shape.exponent)

    @property
    def diameter_per_radius(self) -> float:
        """Equivalent spherical diameter over the footprint's radius."""
        if self.contact_angle_deg is not None:
            return cap_diameter_per_radius(self.contact_angle_deg)
        return self.shape.diameter_per_radius

    @property
    def shot(self) -> int:
        """1 where particles are brighter and so noisier than the film, -1 where darker."""
        return 1 if self.polarity == "bright" else -1
