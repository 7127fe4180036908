"""Spectra of known statistics for the EELS bench: zero-loss peaks, power laws, titanium edges, plural scattering."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.instruments import Axis
from acquire.measure.eels import ZeroLossShape
from acquire.measure.eels.reference_shapes import ti3_reference, ti4_reference
from acquire.measure.eels.references import Reference
from acquire.measure.eels.valence import PER_ATOM_EV

Array = NDArray[np.float64]

PEAK = ZeroLossShape(0.6, wings=0.1)
"""The zero-loss peak: 0.6 eV wide, with a tenth in its wings."""
FIT_EV, TI_EV = (410.0, 450.0), (456.0, 480.0)
STEP_EV = 0.1
EXPONENT = 3.0
_PLASMON_EV, _PLASMON_FWHM_EV = 23.0, 8.0
_FINE_EV, _CELLS = 0.05, 20_000


def reference_ev(window: tuple[float, float] = FIT_EV) -> float:
    """Where the level of a power law is told."""
    return math.sqrt(window[0] * window[1])


def poisson(rng: np.random.Generator, mean: Array, readout: float = 0.0) -> Array:
    """Counts of single electrons around a mean, with Gaussian readout noise."""
    counts = rng.poisson(mean)
    return np.asarray(counts + readout * rng.standard_normal(mean.shape))


def zero_losses(
    rng: np.random.Generator, count: int, electrons: float, step_ev: float, readout: float
) -> tuple[Array, Axis, Array]:
    """Zero-loss peaks anywhere within 1 eV: counts (count, channels), their axis and true positions."""
    axis = Axis(-6.0, step_ev, "eV")
    position = rng.uniform(-1, 1, count)
    channels = math.ceil(12.0 / step_ev)
    energy = axis.offset + step_ev * np.arange(channels) - position[:, None]
    mean = electrons * PEAK.in_channels(energy, step_ev)[0]
    return poisson(rng, mean, readout), axis, position


def backgrounds(
    rng: np.random.Generator, count: int, level: float, exponent: float = EXPONENT
) -> tuple[Array, Array]:
    """Power laws of so many electrons per channel: counts (count, 480), energies of first channels."""
    offset = 405 + rng.uniform(-1, 1, count)
    energy = offset[:, None] + STEP_EV * np.arange(480)
    return poisson(rng, level * (energy / reference_ev()) ** -exponent), offset


def titanium_pair() -> tuple[Reference, Reference]:
    """Ti4+ and Ti3+ as these spectra have them, and as they are analysed."""
    return (
        ti4_reference(0.6).normalised(*PER_ATOM_EV),
        ti3_reference(0.6).normalised(*PER_ATOM_EV),
    )


def titanium(
    pair: tuple[Reference, Reference],
    rng: np.random.Generator,
    count: int,
    fraction: float,
    peak: float,
) -> tuple[Array, Array, float, float]:
    """Mixtures on a background of a third of their peak.

    Returns:
        Counts (count, 750), energies of first channels, electrons of titanium, and background per eV
        in the middle between 410 and 470 eV.
    """
    offset = 405.0 + rng.uniform(-1, 1, count)
    four, three = (reference.on(offset, STEP_EV, 750) for reference in pair)
    amount = peak / float(four[0].max())
    level = peak / 3 / STEP_EV
    energy = offset[:, None] + STEP_EV * np.arange(750)
    under = level * STEP_EV * (energy / reference_ev((410.0, 470.0))) ** -EXPONENT
    mean = amount * ((1 - fraction) * four + fraction * three) + under
    return poisson(rng, mean), offset, amount, level


def low_loss(depth: float, channels: int = 2048, step_ev: float = STEP_EV) -> tuple[Array, Array]:
    """One electron's low loss by Poisson's law, of all orders of one plasmon: (channels,), and its axis.

    The zero-loss peak, a Gaussian of 0.6 eV with a tenth in Lorentzian wings, lies at 0; a Drude plasmon
    at 23 eV.
    """
    fine = _FINE_EV * np.arange(_CELLS)
    single = fine / ((fine**2 - _PLASMON_EV**2) ** 2 + (_PLASMON_FWHM_EV * fine) ** 2)
    single *= fine > 3
    transform = np.fft.rfft(single / single.sum(), 2 * _CELLS)
    plural = np.fft.irfft(np.exp(depth * (transform - 1)), 2 * _CELLS)[:_CELLS]
    plural[0] -= np.exp(-depth)
    energy: Array = -20.0 + step_ev * np.arange(channels, dtype=np.float64)
    edges = np.append(energy, energy[-1] + step_ev) - step_ev / 2
    below_peak = 0.9 * ndtr(edges / 0.2548) + 0.1 * (0.5 + np.arctan(edges / 0.3) / np.pi)
    ends = np.append(fine - _FINE_EV / 2, fine[-1] + _FINE_EV / 2)
    below = np.interp(edges, ends, np.append(0.0, plural.cumsum()))
    return np.asarray(np.exp(-depth) * np.diff(below_peak) + np.diff(below)), energy
