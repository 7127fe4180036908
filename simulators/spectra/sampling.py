"""The loops that every spectrum goes through, compiled: channels of a fine axis, and a camera's counts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from simulators.imaging.counting import central, deviate, electrons, mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_READOUT = np.uint64(0xD1B54A32D192ED03)
_S11 = np.uint64(11)
_UNIT = 1.1102230246251565e-16  # 2^-53


@compiled
def channels(
    below: NDArray[np.float64],
    places: NDArray[np.float64],
    parts: int,
    electrons_: float,
    out: NDArray[np.float64],
) -> None:
    """Add the electrons of every channel of some spectra.

    Args:
        below: share of the electrons up to the upper end of every cell (cells,).
        places: where the first channel of each spectrum begins, in cells behind the upper end of cell 0 (n,).
        parts: cells in a channel.
        electrons_: of the beam.
        out: added to (n, channels).
    """
    last = len(below) - 1
    for row in range(len(places)):
        first = math.floor(places[row])
        share = places[row] - first
        before = 0.0
        for j in range(out.shape[1] + 1):
            at = int(first) + j * parts
            if at < 0:
                here = 0.0
            elif at >= last:
                here = below[last]
            else:
                here = below[at] + share * (below[at + 1] - below[at])
            if j > 0:
                out[row, j - 1] += electrons_ * (here - before)
            before = here


@compiled
def _chances(state: np.uint64, out: NDArray[np.float64]) -> None:
    """Probabilities in (0, 1) of a row, each by its own number."""
    for j in range(len(out)):
        word = mix(state + np.uint64(j + 1) * _GOLDEN) >> _S11
        out[j] = (float(word) + 0.5) * _UNIT


@compiled
def _deviates(chance: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Standard normal deviates of probabilities.

    All are taken for central ones first, in a loop without a branch, of which the processor does several
    rounds at once; then those of the tails, one in twenty, are set right.
    """
    for j in range(len(out)):
        out[j] = central(chance[j] - 0.5)
    for j in range(len(out)):
        if abs(chance[j] - 0.5) > 0.47575:
            out[j] = deviate(chance[j])


@compiled
def count(
    mean: NDArray[np.float64],
    key: np.uint64,
    first: int,
    spread: float,
    light: bool,
    gain: NDArray[np.float64],
    dark: NDArray[np.float64],
    readout: float,
    per_electron: float,
    full_scale: float,
    out: NDArray[np.int32],
) -> None:
    """Counts of some spectra, each by its own number, whatever it is read together with.

    Args:
        mean: electrons (n, channels).
        key: of the camera's stream.
        first: number of the first spectrum.
        spread: share of a channel that goes to either neighbour.
        light: whether light spreads, after electrons were drawn, or the electrons themselves.
        gain: of every channel, around 1.
        dark: what the dark reference leaves, in electrons.
        readout: standard deviation in electrons.
        per_electron: counts.
        full_scale: counts at which a channel saturates.
        out: set (n, channels).
    """
    rows, width = mean.shape
    drawn = np.empty(width + 2)
    noise, chance = np.zeros(width), np.empty(width)
    beside = spread if light else 0.0
    for row in range(rows):
        state = mix(key + np.uint64(first + row) * _GOLDEN)
        _chances(state, chance)
        for j in range(width):
            m = max(mean[row, j], 0.0)
            if not light and spread > 0:
                left = max(mean[row, j - 1], 0.0) if j > 0 else m
                right = max(mean[row, j + 1], 0.0) if j < width - 1 else m
                m = (1 - 2 * spread) * m + spread * (left + right)
            drawn[j + 1] = electrons(m, chance[j]) if m > 0 else 0.0
        drawn[0], drawn[width + 1] = drawn[1], drawn[width]
        if readout > 0:
            _chances(mix(state ^ _READOUT), chance)
            _deviates(chance, noise)
        for j in range(width):
            value = (1 - 2 * beside) * drawn[j + 1] + beside * (drawn[j] + drawn[j + 2])
            value = value * gain[j] + dark[j] + readout * noise[j]
            value = math.floor(per_electron * value + 0.5)
            out[row, j] = int(min(max(value, -full_scale), full_scale))
