"""DualEELS of a point of the specimen: composition, mean spectra, energy shifts, camera counts."""

from simulators.spectra.band import Band
from simulators.spectra.camera import (
    CAMERAS,
    COUNTS_PER_ELECTRON,
    FULL_SCALE_COUNTS,
    GAIN_REFERENCE_NOISE,
    READOUT_ELECTRONS,
    Detector,
    SpectrumCamera,
)
from simulators.spectra.geometry import Optics
from simulators.spectra.materials import MATERIALS, UNIT_CELL_NM3
from simulators.spectra.model import AnyLoss, CoreLoss, LowLoss, Spectrum
from simulators.spectra.pattern import Pattern, pattern
from simulators.spectra.point import BOUNDARY_TI3, BULK_TI3, POINTS, Point, film
from simulators.spectra.shift import EnergyShift
from simulators.spectra.zero_loss import FWHM_EV as ZERO_LOSS_FWHM_EV

__all__ = [
    "BOUNDARY_TI3",
    "BULK_TI3",
    "CAMERAS",
    "COUNTS_PER_ELECTRON",
    "FULL_SCALE_COUNTS",
    "GAIN_REFERENCE_NOISE",
    "MATERIALS",
    "POINTS",
    "READOUT_ELECTRONS",
    "UNIT_CELL_NM3",
    "ZERO_LOSS_FWHM_EV",
    "AnyLoss",
    "Band",
    "CoreLoss",
    "Detector",
    "EnergyShift",
    "LowLoss",
    "Optics",
    "Pattern",
    "Point",
    "Spectrum",
    "SpectrumCamera",
    "film",
    "pattern",
]
