"""How much of the beam comes into the entrance aperture when that is off the axis.

On the axis the aperture holds the whole cone of the probe. Off it, the cone overlaps less and less;
what stays was scattered elastically to large angles, and carries its plasmons and edges with it (dipole
scattering hardly changes the direction). Vibrations that are excited by impact go to large angles
themselves, and stay. The two widths and the elastic share are choices of this model [M].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WIDE_SHARE = 0.15
"""Share of the beam that 60 nm of film scatter elastically to large angles."""
_WIDE_NM = 60.0
_ELASTIC_MRAD = 23.0
_IMPACT_MRAD = 60.0
LIMIT_MRAD = 150.0


@dataclass(frozen=True, slots=True)
class Optics:
    """What the spectrometer sees the beam through."""

    fwhm_ev: float = 0.6
    """Of the zero-loss peak."""
    beam_kev: float = 300.0
    collection_mrad: float = 33.0
    """Semi-angle of the entrance aperture."""
    convergence_mrad: float = 23.0
    off_axis_mrad: float = 0.0

    def beam_share(self, film_nm: float) -> float:
        """Of the beam and of all that only follows it, over what comes on the axis, behind a film."""
        return self._share(self.off_axis_mrad, film_nm) / self._share(0.0, film_nm)

    def impact_share(self) -> float:
        """Of impact scattering, over what comes on the axis."""
        return 1 / (1 + (self.off_axis_mrad / _IMPACT_MRAD) ** 2)

    def _share(self, angle_mrad: float, film_nm: float) -> float:
        cone = _overlap(self.convergence_mrad, self.collection_mrad, angle_mrad)
        wide = 1 / (1 + (angle_mrad / _ELASTIC_MRAD) ** 2) ** 2
        scattered = -math.expm1(math.log1p(-WIDE_SHARE) * film_nm / _WIDE_NM)
        return (1 - scattered) * cone + scattered * wide


def _overlap(cone: float, aperture: float, apart: float) -> float:
    """Share of a uniform disc of radius ``cone`` inside one of radius ``aperture`` whose centre is ``apart``."""
    if apart >= cone + aperture:
        return 0.0
    if apart <= abs(aperture - cone):
        return min(1.0, (aperture / cone) ** 2)
    a = (apart**2 + cone**2 - aperture**2) / (2 * apart)
    b = apart - a
    lens = cone**2 * math.acos(max(-1.0, min(1.0, a / cone)))
    lens += aperture**2 * math.acos(max(-1.0, min(1.0, b / aperture)))
    lens -= apart * math.sqrt(max(0.0, cone**2 - a**2))
    return lens / (math.pi * cone**2)
