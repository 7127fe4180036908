"""Plural scattering, exact: every order of a Poisson distribution at once, as an exponential in Fourier space."""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from simulators.spectra import phonons
from simulators.spectra.geometry import Optics
from simulators.spectra.materials import MATERIALS, LowBand
from simulators.spectra.point import Point
from simulators.spectra.zero_loss import in_cells

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

REACH_EV = 300.0
"""Room behind the axis for what is scattered beyond it, and would come back at its beginning."""
_GAP_EV = 4.0
_ZERO_LOSS_REACH_EV = 8.0
_BEFORE_EDGE = 60.0


class Scattering:
    """Transforms of all that a spectrum is convolved with, on one fine axis; made when first needed.

    The convolution is circular over ``length`` cells of ``step_ev``: loss 0 is cell 0, and gains wrap
    around to the end.
    """

    def __init__(self, cells: int, step_ev: float, optics: Optics) -> None:
        beyond = min(math.ceil(REACH_EV / step_ev), 3 * cells)
        self.length = int(fft.next_fast_len(cells + beyond, real=True))
        self.step_ev = step_ev
        self._optics = optics
        self._lock = threading.Lock()
        self._bands: dict[tuple[str, str], Complex] = {}

    def peak(self, first: int | None = None) -> Complex:
        """Of the zero-loss peak, unit area; tails beyond the axis are cut at its ends.

        Args:
            first: cell that the axis begins with; None if the axis holds losses only, which the peak
                then blurs by its middle (±8 eV).
        """
        cell = np.arange(self.length)
        if first is None:
            signed = np.where(cell < self.length // 2, cell, cell - self.length)
            far = np.abs(signed * self.step_ev) > _ZERO_LOSS_REACH_EV
        else:
            signed = np.where(cell < self.length + first, cell, cell - self.length)
            far = np.zeros(self.length, bool)
        shares = in_cells(signed * self.step_ev, self.step_ev, self._optics.fwhm_ev)
        shares[far] = 0.0
        if first is None:
            shares /= shares.sum()
        return np.asarray(fft.rfft(shares))

    def inelastic(self, point: Point, share: float = 1.0) -> Complex:
        """Of the distribution of losses of all orders, unit area; of a share of the scattering only."""
        exponent: Complex = np.zeros(self.length // 2 + 1, np.complex128)
        for key, events in point.scattering(self._optics.beam_kev).items():
            exponent += share * events * (self._band(key) - 1)
        return np.exp(exponent)

    def seen(self, point: Point) -> Complex | float:
        """Of what comes into the aperture of an electron without inelastic losses: itself, and vibrations."""
        share = self._optics.beam_share(point.thickness_nm)
        if self.step_ev > phonons.FINEST_STEP_EV:
            return share
        cells = math.ceil(phonons.REACH_EV / self.step_ev)
        energy = self.step_ev * np.arange(-cells, cells + 1, dtype=np.float64)
        numbers = phonons.distribution(point, energy) * self.step_ev
        kernel = np.zeros(self.length)
        np.add.at(kernel, np.arange(-cells, cells + 1) % self.length, numbers)
        excited = float(numbers.sum())
        return np.asarray(
            share * max(0.0, 1 - excited) + self._optics.impact_share() * fft.rfft(kernel)
        )

    def _band(self, key: tuple[str, str]) -> Complex:
        with self._lock:
            known = self._bands.get(key)
        if known is not None:
            return known
        material, element = key
        bands = [b for b in MATERIALS[material].bands if b.element == element]
        cells = min(self.length, math.ceil(REACH_EV / self.step_ev))
        loss = self.step_ev * np.arange(cells, dtype=np.float64)
        # scaled over all losses: what lies beyond a short axis is lost to it
        whole = np.arange(0.0, REACH_EV, 0.05)
        shape, area = _bands(bands, loss), float(_bands(bands, whole).sum()) * 0.05
        transform: Complex = fft.rfft(shape * (self.step_ev / area), self.length)
        with self._lock:
            self._bands[key] = transform
        return transform

    def back(self, transform: Complex, cells: int) -> Array:
        """The first cells of what a transform is of."""
        return np.asarray(fft.irfft(transform, self.length)[:cells])


def _bands(bands: list[LowBand], loss_ev: Array) -> Array:
    """Some bands by their shares, nothing below the gap; any scale."""
    total = np.zeros_like(loss_ev)
    for band in bands:
        away = (loss_ev - band.energy_ev) / band.width_ev
        if band.edge:
            onset = 1 / (1 + np.exp(-np.clip(away, -_BEFORE_EDGE, _BEFORE_EDGE)))
            fall = (np.maximum(loss_ev, 1.0) / band.energy_ev) ** -3.0
            total += band.share * 2 / band.energy_ev * onset * fall
        else:
            total += band.share / (band.width_ev * math.sqrt(2 * math.pi)) * np.exp(-0.5 * away**2)
    return np.asarray(total / (1 + np.exp(-np.clip((loss_ev - _GAP_EV) / 0.5, -60, 60))))
