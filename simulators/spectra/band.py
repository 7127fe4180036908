"""Energy axes: the channels of a camera, and the finer axis that spectra are made on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COARSEST_STEP_EV = 0.05
MOST_PARTS = 4
"""Cells in a channel that is not wider than :data:`COARSEST_STEP_EV` times as many."""
CELLS_PER_PEAK = 24
"""In the width of a zero-loss peak, unless channels need fewer; a narrower peak is drawn as one cell."""
MOST_CELLS = 1 << 17
"""On very fine channels losses that are scattered into the band from farther below are left out."""


@dataclass(frozen=True, slots=True)
class Band:
    """A regular energy axis: centre of channel i is offset + i dispersion."""

    offset_ev: float
    dispersion_ev: float
    channels: int

    @property
    def end_ev(self) -> float:
        """Upper end of the last channel."""
        return self.offset_ev + self.dispersion_ev * (self.channels - 0.5)

    def energy_ev(self) -> Array:
        """Centres of the channels, float64 (channels,)."""
        return np.asarray(self.offset_ev + self.dispersion_ev * np.arange(self.channels))


class FineAxis:
    """Cells of whole parts of a channel, with room at both ends for a zero-loss peak that moves.

    Args:
        band: the channels.
        below_ev: how much farther down the axis reaches, for losses that are scattered into the band.
        room_ev: how far the zero-loss peak may move.
        fwhm_ev: of the zero-loss peak.
    """

    def __init__(self, band: Band, below_ev: float, room_ev: float, fwhm_ev: float) -> None:
        wanted = math.ceil(CELLS_PER_PEAK * band.dispersion_ev / fwhm_ev)
        self.parts = max(
            min(wanted, MOST_PARTS), math.ceil(band.dispersion_ev / COARSEST_STEP_EV - 1e-9)
        )
        self.step = band.dispersion_ev / self.parts
        self.band = band
        first = band.offset_ev - band.dispersion_ev / 2 - below_ev - room_ev
        last = band.end_ev + room_ev
        first = max(first, last - MOST_CELLS * self.step)
        # the cells sit on multiples of the step, so that one of them has the loss 0 in its middle
        self.first = math.floor(first / self.step)
        self.count = math.ceil(last / self.step) - self.first + 1
        self.energy: Array = self.step * (self.first + np.arange(self.count, dtype=np.float64))
        """Centres of the cells."""

    def places(self, shift_ev: Array) -> Array:
        """Where the lower end of the first channel lies, in cells behind the upper end of the first cell."""
        lower = self.band.offset_ev - self.band.dispersion_ev / 2
        return np.asarray((lower - shift_ev) / self.step - (self.first + 0.5))
