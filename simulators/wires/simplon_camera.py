"""The pixels of a counting detector behind an energy filter: electrons, and nothing else.

Columns are energies; rows share the spectrum as the filter's entrance aperture is imaged there. A
counting detector adds no noise of its own; a pixel that counts too many is saturated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator
from simulators.spectra import Band
from simulators.spectrometer import SimulatedSpectrometer
from simulators.world import World

LIT_SHARE = 0.06
"""Standard deviation of the spectrum across the rows, as a share of them."""
LIT_SIGMAS = 4.0
_NAME = "simplon camera"


class CountingCamera:
    """Images of what the parked probe scatters into a band of energies.

    Args:
        world: whose electrons it counts, and whose energy filter it looks through, if there is one.
        spectrometer: what makes its spectra.
        shape: rows, columns.
        zero_loss_channel: column of the energy loss that the filter is set to.
        fixed: energy loss there and dispersion in eV, where there is no filter.
    """

    def __init__(
        self,
        world: World,
        spectrometer: SimulatedSpectrometer,
        shape: tuple[int, int],
        zero_loss_channel: float,
        fixed: tuple[float, float],
    ) -> None:
        self._world = world
        self._spectrometer = spectrometer
        self._shape = shape
        self._zero_loss_channel = zero_loss_channel
        self._fixed = fixed
        rows = shape[0]
        across = (np.arange(rows) - (rows - 1) / 2) / max(0.5, LIT_SHARE * rows)
        profile = np.where(np.abs(across) <= LIT_SIGMAS, np.exp(-0.5 * across**2), 0.0)
        lit = np.flatnonzero(profile)
        self._lit = slice(int(lit[0]), int(lit[-1]) + 1)
        self._profile = (profile / profile.sum())[self._lit]

    def take(
        self, index: int, start_s: float, end_s: float, dtype: np.dtype[Any], saturation: int
    ) -> NDArray[Any]:
        """An exposure between two times of the clock; ``index`` counts all of them."""
        mean = self._spectrum(index, start_s, end_s)
        image = np.zeros(self._shape, dtype)
        counts = generator(self._world.seed, _NAME, index).poisson(np.outer(self._profile, mean))
        image[self._lit] = np.minimum(counts, saturation)
        return image

    def _spectrum(self, index: int, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Mean electrons of every column."""
        columns = self._shape[1]
        energy_filter = self._world.energy_filter
        energy_ev, dispersion_ev = self._fixed
        correction_ev, slit_ev = 0.0, None
        if energy_filter is not None:
            energy_ev = energy_filter.energy_at((start_s + end_s) / 2)
            dispersion_ev = energy_filter.dispersion_ev
            correction_ev = energy_filter.correction_ev
            slit_ev = energy_filter.slit_width_ev if energy_filter.slit_in else None
        band = Band(energy_ev - self._zero_loss_channel * dispersion_ev, dispersion_ev, columns)
        mean = self._spectrometer.disperse(band, start_s, end_s, index, correction_ev)
        if slit_ev is not None:
            away_ev = (np.arange(columns) - self._zero_loss_channel) * dispersion_ev
            mean = np.where(np.abs(away_ev) <= slit_ev / 2, mean, 0.0)
        return mean
