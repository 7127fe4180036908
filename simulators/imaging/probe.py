"""The probe: how it blurs what it scans, how defocus widens it, and what it leaves of lattice fringes."""

from __future__ import annotations

import math
from dataclasses import dataclass

PROBE_SIGMA_NM = 0.2
"""Standard deviation of probe, tails and vibration together (0.47 nm full width at half maximum)."""
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
_CORE = 0.175  # width of the core over that of the whole: 0.035 nm, 0.08 nm at half maximum
_CORE_SHARE = 0.7  # of the current; the rest is in tails, which blur and carry no fringe


@dataclass(frozen=True, slots=True)
class Probe:
    """A focused probe: a sharp core that carries lattice fringes, and tails."""

    sigma_nm: float = PROBE_SIGMA_NM
    """Of core and tails together, in focus."""
    convergence_mrad: float = 23.0
    defocus_nm: float = 0.0
    """Height of the specimen above the plane of focus."""

    @property
    def defocus_sigma_nm(self) -> float:
        """Of the geometric disc of confusion, of radius convergence semi-angle times defocus."""
        return self.convergence_mrad * 1e-3 * abs(self.defocus_nm) / 2

    @property
    def blur_sigma_nm(self) -> float:
        """Standard deviation of the whole probe along one axis."""
        return math.hypot(self.sigma_nm, self.defocus_sigma_nm)

    def blur_nm(self, pixel_nm: float) -> float:
        """Probe and pixel together: a square pixel blurs as a Gaussian of its variance."""
        return math.hypot(self.blur_sigma_nm, pixel_nm / math.sqrt(12))

    def transfer(self, spacing_nm: float, pixel_nm: float) -> float:
        """What is left of the amplitude of fringes of a spacing; 0 where pixels cannot carry them.

        The share of the core, times the Gaussian transfer exp(-2π² σ² / spacing²) of core and
        defocus, times that of the pixel, sinc(pixel/spacing). Fringes beyond the sampling limit of
        two pixels are left out, not folded into moiré.
        """
        if spacing_nm <= 2 * pixel_nm:
            return 0.0
        core = math.hypot(_CORE * self.sigma_nm, self.defocus_sigma_nm)
        phase = math.pi * pixel_nm / spacing_nm
        probe = math.exp(-2 * (math.pi * core / spacing_nm) ** 2)
        return _CORE_SHARE * probe * math.sin(phase) / phase
