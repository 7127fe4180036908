"""The camera of the energy filter: images whose columns are energies and whose rows share the spectrum.

A column's electrons are those of the simulated spectrometer at the present energy loss, dispersion
and slit; they lie on the middle rows as the entrance aperture is imaged there. Counts are 5.3 per
electron, as those of the spectrometer; the readout noise of all rows together is its readout noise.
What the plugin does with the counts is from mastcu/SerialEMCCD, ``ProcessImage``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Acquisition
from acquire.clock import Signal
from acquire.instruments import Frame
from simulators.exposing import KeepGoing, lasting
from simulators.noise import generator
from simulators.spectra import COUNTS_PER_ELECTRON, READOUT_ELECTRONS, Band
from simulators.spectrometer import SimulatedSpectrometer
from simulators.wires.emccd_digiscan import Failed
from simulators.wires.emccd_optics import EnergyFilter
from simulators.wires.emccd_packets import Failure
from simulators.world import World

COLUMNS = 2048
DARK_COUNTS = 100
LIT_SHARE = 0.06
"""Standard deviation of the spectrum across the rows, as a share of them."""
FULL_COUNTS = 65535
SHORTEST_S, LONGEST_S = 1e-5, 1000.0
UNPROCESSED, GAIN_NORMALISED = 0, 2
_NAME = "gif camera"


@dataclass(frozen=True, slots=True)
class Shot:
    """How an image is taken; rows and columns are unbinned."""

    exposure_s: float
    binning: int
    top: int
    left: int
    bottom: int
    right: int
    processing: int
    """0 raw, 1 dark-subtracted, 2 gain-normalised."""
    halved: bool
    shutter_closed: bool = False


class GifCamera:
    """The only camera, number 0.

    Args:
        world: whose electrons it counts.
        spectrometer: what makes its spectra.
        energy_filter: what it looks through.
        rows: of the camera.
        zero_loss_channel: column of the energy loss that the filter is set to.
    """

    def __init__(
        self,
        world: World,
        spectrometer: SimulatedSpectrometer,
        energy_filter: EnergyFilter,
        rows: int,
        zero_loss_channel: float,
    ) -> None:
        self.inserted = True
        self.rows = rows
        self._world = world
        self._spectrometer = spectrometer
        self._filter = energy_filter
        self._zero_loss_channel = zero_loss_channel
        self._acquisition = Acquisition(world.clock, _NAME)
        across = (np.arange(rows) - (rows - 1) / 2) / max(0.5, LIT_SHARE * rows)
        profile = np.exp(-0.5 * across**2)
        self._profile = profile / profile.sum()

    def take(self, shot: Shot, stop: Signal) -> NDArray[np.uint16] | NDArray[np.int16]:
        """Expose an image, (rows, columns) of the read area; blocks for the exposure.

        Raises:
            Failed: it cannot be taken so.
        """
        self._check(shot)
        self._acquisition.arm(1)
        taken: list[NDArray[np.int64]] = []

        def expose(index: int, start_s: float, end_s: float, keep_going: KeepGoing) -> Frame:
            taken.append(self._counts(shot, index, start_s, end_s))
            return Frame(_NAME, index, {}, start_s, end_s)

        try:
            ended = list(
                self._acquisition.frames(
                    stop, 0.0, lasting(self._world.clock, shot.exposure_s, expose)
                )
            )
        finally:
            self._acquisition.disarm()
        if not ended:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, "the exposure was ended")
        return _delivered(taken[0], shot)

    def _check(self, shot: Shot) -> None:
        if not self.inserted:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, "the camera is not inserted")
        if not (math.isfinite(shot.exposure_s) and SHORTEST_S <= shot.exposure_s <= LONGEST_S):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"exposure {shot.exposure_s} s")
        if shot.processing not in range(UNPROCESSED, GAIN_NORMALISED + 1):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"processing {shot.processing}")
        within = 0 <= shot.top < shot.bottom <= self.rows and 0 <= shot.left < shot.right <= COLUMNS
        small = min(shot.bottom - shot.top, shot.right - shot.left) >= shot.binning >= 1
        if not (within and small):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"the read area of {shot} is none")

    def _counts(self, shot: Shot, index: int, start_s: float, end_s: float) -> NDArray[np.int64]:
        """Counts of the binned read area; without the dark offset."""
        mean = np.zeros(COLUMNS)
        if not shot.shutter_closed:
            mean = self._spectrum(index, start_s, end_s)
        mean = mean[shot.left : shot.right]
        lit = np.outer(self._profile[shot.top : shot.bottom], mean)
        lit = _binned(lit, shot.binning)
        rng = generator(self._world.seed, _NAME, index)
        electrons = rng.poisson(lit).astype(np.float64)
        electrons += READOUT_ELECTRONS / math.sqrt(self.rows) * rng.standard_normal(lit.shape)
        return np.asarray(np.round(COUNTS_PER_ELECTRON * electrons), np.int64)

    def _spectrum(self, index: int, start_s: float, end_s: float) -> NDArray[np.float64]:
        energy_filter = self._filter
        energy = energy_filter.energy_at((start_s + end_s) / 2)
        dispersion = energy_filter.dispersion_ev
        band = Band(energy - self._zero_loss_channel * dispersion, dispersion, COLUMNS)
        mean = self._spectrometer.disperse(band, start_s, end_s, index, energy_filter.correction_ev)
        if energy_filter.slit_in:
            away = (np.arange(COLUMNS) - self._zero_loss_channel) * dispersion
            mean = np.where(np.abs(away) <= energy_filter.slit_width_ev / 2, mean, 0.0)
        return mean


def _binned(image: NDArray[np.float64], binning: int) -> NDArray[np.float64]:
    rows, columns = (size // binning for size in image.shape)
    cut = image[: rows * binning, : columns * binning]
    return np.asarray(cut.reshape(rows, binning, columns, binning).sum(axis=(1, 3)))


def _delivered(counts: NDArray[np.int64], shot: Shot) -> NDArray[np.uint16] | NDArray[np.int16]:
    """As the plugin sends it: raw images are unsigned, processed ones have signs, which only halves keep."""
    if shot.processing == UNPROCESSED:
        raw = np.clip(counts + DARK_COUNTS, 0, FULL_COUNTS).astype(np.uint16)
        return raw // 2 if shot.halved else raw
    processed = np.minimum(counts, FULL_COUNTS - DARK_COUNTS)
    if shot.halved:
        # the plugin adds a half, cuts off, and cuts off what a short cannot hold
        return np.clip(np.trunc(processed / 2 + 0.5), -32767, 32767).astype(np.int16)
    return np.clip(processed, 0, FULL_COUNTS).astype(np.uint16)
