"""Refuses what a spectrometer without that hardware cannot do, for the drivers that have none of it."""

from __future__ import annotations

from acquire.errors import LimitError
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from acquire.units import show


def demand_on_axis(setting: SpectrometerSetting) -> None:
    """Raise LimitError for an entrance aperture off the axis."""
    if setting.off_axis_mrad != 0:
        raise LimitError(
            f"off axis {show(setting.off_axis_mrad, 'mrad')} refused: this driver cannot move the beam "
            "against the entrance aperture. Leave it out, and shift the diffraction pattern by hand."
        )


def demand_one_read(exposure: SpectrumExposure) -> None:
    """Raise LimitError for several low-loss reads in one core-loss spectrum."""
    if exposure.low_loss_reads != 1:
        raise LimitError(
            f"{exposure.low_loss_reads} low-loss reads refused: this driver takes one before every "
            "core-loss spectrum. Ask for 1, and for more and shorter spectra."
        )
