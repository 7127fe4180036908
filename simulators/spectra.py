"""DualEELS of a point of the specimen: mean low-loss and core-loss spectra, energy shifts, camera counts.

Edges sit on a power law; titanium is a mixture of Ti4+ (crystal-field doublets) and Ti3+ (shifted by
-2 eV, splitting washed out); oxygen's second peak weakens with the same mixture. Everything is
scattered plurally with the low loss (Poisson orders) and blurred by the zero-loss peak.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from simulators import edges
from simulators.noise import generator

Array = NDArray[np.float64]

ZERO_LOSS_FWHM_EV = 0.6
MEAN_FREE_PATH_NM = 147.0
"""Of inelastic scattering in SrTiO3 at 300 kV."""
COUNTS_PER_ELECTRON = 5.3
READOUT_ELECTRONS = 1.4
GAIN_REFERENCE_NOISE = 0.0027
UNIT_CELL_NM3 = 0.0595
_ROOM_EV = 10.0  # more than the zero-loss peak ever moves
_LOSS_REACH_EV = 120.0
_ZERO_LOSS_REACH_EV = 5.0
_ORDERS = 5
# eV, eV (Gaussian sigma), share: plasmons and low-loss bands of SrTiO3
_LOW_LOSS = ((14.4, 2.5, 0.18), (24.6, 2.8, 0.25), (30.9, 3.2, 0.37), (47.4, 5.0, 0.20))


@dataclass(frozen=True, slots=True)
class Point:
    """What the probe meets, in areal densities that the edges scale with."""

    thickness_nm: float
    """Of the film."""
    ti3_fraction: float
    ni_per_nm2: float
    """Nickel in the film and in a particle under the probe."""


@dataclass(frozen=True, slots=True)
class Band:
    """A regular energy axis: centre of channel i is offset + i dispersion."""

    offset_ev: float
    dispersion_ev: float
    channels: int


BACKGROUND_FROM_EV = 40.0
"""Where the background of the core losses begins; what is below belongs to the low loss."""


class CoreLoss:
    """Mean core-loss spectra of one energy band, made ready once and combined for every point."""

    def __init__(self, band: Band) -> None:
        # plural scattering comes from below: the axis reaches as far down as the low loss does
        self._axis = _FineAxis(band, below_ev=_LOSS_REACH_EV)
        energy = self._axis.energy
        parts = {
            # no power law holds down to the plasmons: scattered once more, it would outshine the beam
            "background": np.where(
                energy > BACKGROUND_FROM_EV,
                8e-6 * (np.maximum(energy, BACKGROUND_FROM_EV) / 456.0) ** -3.0,
                0.0,
            ),
            "ti4": edges.titanium(energy, reduced=False),
            "ti3": edges.titanium(energy, reduced=True),
            "o_bulk": edges.oxygen(energy, boundary=False),
            "o_boundary": edges.oxygen(energy, boundary=True),
            "la": edges.lanthanum(energy),
            "ni": edges.nickel(energy),
        }
        response = _response(self._axis.step)
        origin = round(_ZERO_LOSS_REACH_EV / self._axis.step)
        self._parts = {name: _convolve(part, response, origin) for name, part in parts.items()}

    def mean(self, point: Point, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,); the spectrum moved up by ``shift_ev``."""
        cells, w = point.thickness_nm / UNIT_CELL_NM3, point.ti3_fraction
        total = (
            self._parts["background"] * (point.thickness_nm / 60.0)
            + 0.9 * cells * ((1 - w) * self._parts["ti4"] + w * self._parts["ti3"])
            + 3 * cells * ((1 - w) * self._parts["o_bulk"] + w * self._parts["o_boundary"])
            + 0.2 * cells * self._parts["la"]
            + point.ni_per_nm2 * self._parts["ni"]
        )
        return electrons * self._axis.channels(total, shift_ev)


class LowLoss:
    """Mean low-loss spectra of one energy band: zero loss, plasmons, and their plural scattering."""

    def __init__(self, band: Band) -> None:
        self._axis = _FineAxis(band, below_ev=0.0)
        single = _single_scattering(self._axis.step)
        self._orders = [_zero_loss(self._axis.energy)]
        for _ in range(1, _ORDERS):
            self._orders.append(_convolve(self._orders[-1], single, 0))

    def mean(self, point: Point, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,); the spectrum moved up by ``shift_ev``."""
        weights = _poisson_weights(point.thickness_nm)
        total = sum(
            (weight * order for weight, order in zip(weights, self._orders, strict=True)),
            np.zeros_like(self._axis.energy),
        )
        return electrons * self._axis.channels(total, shift_ev)


class _FineAxis:
    """An energy axis finer than the channels, on which spectra are made per eV, with room at the ends."""

    def __init__(self, band: Band, below_ev: float) -> None:
        parts = max(4, math.ceil(band.dispersion_ev / 0.05))
        self.step = band.dispersion_ev / parts
        first = band.offset_ev - below_ev - _ROOM_EV
        last = band.offset_ev + band.dispersion_ev * band.channels + _ROOM_EV
        self.energy: Array = first + self.step * np.arange(
            math.ceil((last - first) / self.step), dtype=np.float64
        )
        self._edges = band.offset_ev + band.dispersion_ev * (np.arange(band.channels + 1) - 0.5)

    def channels(self, per_ev: Array, shift_ev: float) -> Array:
        """Integrals of a spectrum over the channels; float64 (channels,)."""
        total = np.cumsum(per_ev) * self.step
        at_edges = np.interp(self._edges - shift_ev, self.energy + self.step / 2, total)
        return np.asarray(np.maximum(np.diff(at_edges), 0.0))


def detect(mean_electrons: Array, rng: np.random.Generator) -> NDArray[np.int32]:
    """Camera counts: Poisson, gain-reference noise, readout noise of 1.4 e-, 5.3 counts per electron."""
    electrons = rng.poisson(np.maximum(mean_electrons, 0.0)).astype(float)
    electrons *= 1 + GAIN_REFERENCE_NOISE * rng.standard_normal(electrons.shape)
    electrons += READOUT_ELECTRONS * rng.standard_normal(electrons.shape)
    return np.round(electrons * COUNTS_PER_ELECTRON).astype(np.int32)


class EnergyShift:
    """Where the zero-loss peak really is: offset, slow drift, random walk, and jitter per exposure."""

    JITTER_EV = 0.06
    WALK_EV_PER_10_S = 0.075
    _BLOCK = 1024

    def __init__(self, seed: int) -> None:
        rng = generator(seed, "energy")
        self._seed = seed
        self._offset_ev = 0.4 * float(rng.standard_normal())
        self._drift_ev_per_s = 3e-5 * float(rng.standard_normal())
        self._lock = threading.Lock()
        self._walk = np.zeros(1)

    def at(self, t_s: float, index: int) -> float:
        """Shift in eV of exposure ``index`` at a time; core and low loss of one exposure share it."""
        jitter = generator(self._seed, "energy jitter", index).standard_normal()
        return self.slow_at(t_s) + self.JITTER_EV * float(jitter)

    def slow_at(self, t_s: float) -> float:
        """The shift without jitter: the random walk has a step every second, straight in between."""
        place = max(0.0, t_s)
        first = int(place)
        with self._lock:
            while len(self._walk) < first + 2:
                block = generator(self._seed, "energy walk", len(self._walk) // self._BLOCK)
                steps = block.standard_normal(self._BLOCK) * self.WALK_EV_PER_10_S / math.sqrt(10)
                self._walk = np.concatenate([self._walk, self._walk[-1] + np.cumsum(steps)])
            low, high = float(self._walk[first]), float(self._walk[first + 1])
        walk = low + (high - low) * (place - first)
        return self._offset_ev + self._drift_ev_per_s * t_s + walk


# ----------------------------------------------------------------------- scattering


def _zero_loss(energy: Array) -> Array:
    """Per eV, unit area: a Gaussian core with a little Lorentzian, both of the same width."""
    half = ZERO_LOSS_FWHM_EV / 2
    sigma = half / math.sqrt(2 * math.log(2))
    gauss = np.exp(-0.5 * (energy / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    lorentz = half / math.pi / (energy**2 + half**2)
    return np.asarray(0.9 * gauss + 0.1 * lorentz)


def _single_scattering(step: float) -> Array:
    """Plasmons and bands from loss 0 in steps, unit sum, nothing below the gap."""
    loss = np.arange(math.ceil(_LOSS_REACH_EV / step)) * step
    shape = np.zeros_like(loss)
    for at, sigma, share in _LOW_LOSS:
        shape += share / sigma * np.exp(-0.5 * ((loss - at) / sigma) ** 2)
    shape /= 1 + np.exp(-np.clip((loss - 4.0) / 0.5, -60, 60))
    return np.asarray(shape / shape.sum())


def _poisson_weights(thickness_nm: float) -> list[float]:
    """Shares of electrons scattered 0, 1, 2 … times."""
    depth = thickness_nm / MEAN_FREE_PATH_NM
    return [math.exp(-depth) * depth**n / math.factorial(n) for n in range(_ORDERS)]


def _response(step: float) -> Array:
    """What a core loss in a film of 60 nm is blurred by, from -5 eV in steps, unit sum."""
    count = math.ceil((_LOSS_REACH_EV + _ZERO_LOSS_REACH_EV) / step)
    order = _zero_loss(np.arange(count, dtype=np.float64) * step - _ZERO_LOSS_REACH_EV)
    single = _single_scattering(step)
    total = np.zeros(count)
    for weight in _poisson_weights(60.0):
        total += weight * order
        order = _convolve(order, single, 0)
    return np.asarray(total / total.sum())


def _convolve(signal: Array, kernel: Array, origin: int) -> Array:
    """Convolution as long as the signal; ``origin`` is the kernel's index of zero displacement."""
    # scipy.signal has this too, but imports half of scipy with it, in every process that simulates
    length = fft.next_fast_len(len(signal) + len(kernel) - 1, real=True)
    both = fft.rfft(signal, length) * fft.rfft(kernel, length)
    return np.asarray(fft.irfft(both, length)[origin : origin + len(signal)])
