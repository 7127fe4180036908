"""Images of a field of the specimen: film and particles to detected electrons and counts.

Film scatters by its local thickness, composition and texture. A particle in plan view is a
hemispherical profile of nickel, stretched by what of it is below the surface and faceted when it has
settled, blurred by probe and pixel: HAADF is brighter by 0.1 per nm of nickel, ABF darker as
exp(-0.06 h). Crystals, film and superlattice carry fringes where pixels are small enough. Counts are
Poisson in the electrons of the probe in a dwell time, the detector's share of them, and a small dark
count. The compiled loops are loaded when the first image is drawn.
"""

from simulators.imaging.detectors import DETECTORS, Detector, Readout
from simulators.imaging.frame import (
    PERFECT,
    Imaging,
    Side,
    domes_in,
    expected_counts,
    height_map,
    render,
)
from simulators.imaging.lines import Lines, ScanErrors, real, straight
from simulators.imaging.probe import PROBE_SIGMA_NM, Probe

__all__ = [
    "DETECTORS",
    "PERFECT",
    "PROBE_SIGMA_NM",
    "Detector",
    "Imaging",
    "Lines",
    "Probe",
    "Readout",
    "ScanErrors",
    "Side",
    "domes_in",
    "expected_counts",
    "height_map",
    "real",
    "render",
    "straight",
]
