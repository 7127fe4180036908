"""Built-in references of Ti-L2,3 and O-K: first guesses until references are measured on the specimen.

Positions, splittings and the shift with valence are figures measured on SrTiO3; widths, areas and
steps are rounded ones of the usual kind (pseudo-Voigt lines over arctangent steps of 2 to 1), and no
measurement: a fraction that is told with them is only as good as they are like the specimen.
Better are spectra of known specimens (:func:`~acquire.measure.eels.references.measured_reference`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.references import Reference

Array = NDArray[np.float64]

_STEP_EV = 0.02
_REACH_EV = 90.0
_PER_50_EV = 50.0


@dataclass(frozen=True, slots=True)
class Line:
    """A pseudo-Voigt line of natural width."""

    energy_ev: float
    fwhm_ev: float
    area: float
    lorentzian: float = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """An arctangent step that falls as a power of the energy behind it."""

    energy_ev: float
    width_ev: float
    height_per_ev: float


TI4_SPLITTING_EV = (2.18, 2.30)
"""Of t2g and eg in L3 and in L2; SrTiO3, measured."""
TI3_SHIFT_EV = -2.0
"""Ti-L of Ti3+ against Ti4+."""
O_K_PEAKS_EV = (0.0, 5.3, 11.8)
"""Peaks of O-K above the first; SrTiO3, measured."""

_L3_EV, _L2_EV = 457.5, 462.85  # t2g peaks of Ti4+
_L3_MIDDLE = _L3_EV + TI4_SPLITTING_EV[0] / 2
_L2_MIDDLE = _L2_EV + TI4_SPLITTING_EV[1] / 2
_STEPS = (Step(_L3_MIDDLE, 0.8, 0.036), Step(_L2_MIDDLE, 0.8, 0.018))
_TI4 = (
    Line(_L3_EV, 0.75, 0.44),
    Line(_L3_EV + TI4_SPLITTING_EV[0], 1.25, 0.84),
    Line(_L2_EV, 1.30, 0.52),
    Line(_L2_EV + TI4_SPLITTING_EV[1], 1.80, 0.70),
)
# t2g and eg of Ti3+ have run into one, broad and lopsided
_TI3 = (
    Line(_L3_MIDDLE + TI3_SHIFT_EV - 0.7, 1.7, 0.52, 0.2),
    Line(_L3_MIDDLE + TI3_SHIFT_EV + 0.6, 2.1, 0.64, 0.2),
    Line(_L2_MIDDLE + TI3_SHIFT_EV - 0.7, 2.1, 0.42, 0.2),
    Line(_L2_MIDDLE + TI3_SHIFT_EV + 0.7, 2.5, 0.53, 0.2),
)
_TI3_STEPS = tuple(
    Step(step.energy_ev + TI3_SHIFT_EV, step.width_ev, step.height_per_ev) for step in _STEPS
)
_O_ONSET_EV = 532.0
_O = (
    Line(_O_ONSET_EV, 1.7, 0.95, 0.3),
    Line(_O_ONSET_EV + O_K_PEAKS_EV[1], 3.3, 2.3, 0.3),
    Line(_O_ONSET_EV + O_K_PEAKS_EV[2], 5.0, 2.5, 0.3),
)


@lru_cache(maxsize=16)
def ti4_reference(fwhm_ev: float = 0.0) -> Reference:
    """Ti-L2,3 of Ti4+ in an octahedral field, area 1 in 50 eV; ``fwhm_ev`` of the zero-loss peak."""
    return _reference("ti4", _TI4, _STEPS, _L3_EV - 5.0, fwhm_ev)


@lru_cache(maxsize=16)
def ti3_reference(fwhm_ev: float = 0.0) -> Reference:
    """Ti-L2,3 of Ti3+, area 1 in 50 eV; ``fwhm_ev`` of the zero-loss peak."""
    return _reference("ti3", _TI3, _TI3_STEPS, _L3_EV + TI3_SHIFT_EV - 5.0, fwhm_ev)


@lru_cache(maxsize=16)
def oxygen_reference(fwhm_ev: float = 0.0) -> Reference:
    """O-K of a titanate, area 1 in 50 eV; ``fwhm_ev`` of the zero-loss peak."""
    steps = (Step(_O_ONSET_EV + 3.0, 1.2, 0.15),)
    return _reference("o_k", _O, steps, _O_ONSET_EV - 5.0, fwhm_ev)


def _reference(
    name: str, lines: tuple[Line, ...], steps: tuple[Step, ...], start_ev: float, fwhm_ev: float
) -> Reference:
    cells = round((_REACH_EV + 5.0) / _STEP_EV)
    energy = start_ev - 5.0 + _STEP_EV * np.arange(cells, dtype=np.float64)
    shape = sum((_line(energy, line) for line in lines), np.zeros_like(energy))
    for step in steps:
        onset = 0.5 + np.arctan((energy - step.energy_ev) / step.width_ev) / math.pi
        shape += step.height_per_ev * onset * (energy / step.energy_ev) ** -3.0
    # Lorentzian wings have no end, an edge has a beginning
    rise = np.clip((energy - start_ev) / 3.0, 0.0, 1.0)
    shape *= rise * rise * (3.0 - 2.0 * rise)
    sharp = Reference(name, energy, shape, "built in", onset_ev=start_ev)
    return sharp.normalised(start_ev, start_ev + _PER_50_EV).blurred(fwhm_ev)


def _line(energy: Array, line: Line) -> Array:
    half = line.fwhm_ev / 2
    away = np.square((energy - line.energy_ev) / half)
    gauss = np.exp(-math.log(2.0) * away) * math.sqrt(math.log(2.0) / math.pi) / half
    lorentz = 1.0 / (math.pi * half * (1.0 + away))
    return np.asarray(line.area * ((1 - line.lorentzian) * gauss + line.lorentzian * lorentz))
