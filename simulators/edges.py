"""Shapes of ionisation edges: single scattering per eV of one atom per nm², so that areas are cross-sections."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Line = tuple[float, float, float]  # energy, Gaussian sigma (eV), area
Step = tuple[float, float, float]  # energy, level per eV, width (eV)

_WINDOW_EV = 50.0
_BARN_NM2 = 1e-10

# Crystal-field doublets of Ti4+ (splitting 2.18 and 2.30 eV) over a two-step continuum.
_TI4_LINES: tuple[Line, ...] = (
    (457.5, 0.36, 0.42),
    (459.68, 0.58, 0.85),
    (462.85, 0.62, 0.50),
    (465.15, 0.85, 0.68),
)
_TI4_STEPS: tuple[Step, ...] = ((458.4, 0.038, 0.6), (463.8, 0.022, 0.6))
# Ti3+: one broad line each, 2 eV below the middle of its doublet.
_TI3_LINES: tuple[Line, ...] = ((456.6, 1.15, 1.15), (462.0, 1.35, 0.95))
_TI3_STEPS: tuple[Step, ...] = ((456.4, 0.038, 0.6), (461.8, 0.022, 0.6))
# O-K: peaks at 0, 5.3 and 11.8 eV; the second is "b", weak at a boundary.
_O_LINES: tuple[Line, ...] = ((532.0, 0.8, 0.9), (537.3, 1.5, 2.4), (543.8, 2.2, 2.6))
_O_BOUNDARY_LINES: tuple[Line, ...] = ((532.0, 0.8, 0.9), (537.3, 1.5, 0.96), (543.8, 2.2, 2.6))
_O_STEPS: tuple[Step, ...] = ((535.0, 0.16, 1.2),)
_LA_LINES: tuple[Line, ...] = ((833.0, 1.2, 1.0), (850.0, 1.2, 0.8))
_LA_STEPS: tuple[Step, ...] = ((832.0, 0.01, 1.0), (849.0, 0.007, 1.0))
_NI_LINES: tuple[Line, ...] = ((856.0, 1.4, 1.0), (873.2, 1.4, 0.5))
_NI_STEPS: tuple[Step, ...] = ((855.0, 0.05, 1.0), (872.2, 0.025, 1.0))


def titanium(energy_ev: Array, *, reduced: bool) -> Array:
    """Ti-L2,3 of Ti4+ or, ``reduced``, Ti3+; 4038 barn in 50 eV."""
    if reduced:
        return _edge(energy_ev, _TI3_LINES, _TI3_STEPS, 4038, _TI3_LINES)
    return _edge(energy_ev, _TI4_LINES, _TI4_STEPS, 4038, _TI4_LINES)


def oxygen(energy_ev: Array, *, boundary: bool) -> Array:
    """O-K, 1166 barn in 50 eV in the bulk; at an anti-phase boundary only its peak b is weaker."""
    lines = _O_BOUNDARY_LINES if boundary else _O_LINES
    return _edge(energy_ev, lines, _O_STEPS, 1166, _O_LINES)


def lanthanum(energy_ev: Array) -> Array:
    """La-M4,5: sharp white lines; 2500 barn in 50 eV."""
    return _edge(energy_ev, _LA_LINES, _LA_STEPS, 2500, _LA_LINES)


def nickel(energy_ev: Array) -> Array:
    """Ni-L2,3; 624 barn in 50 eV."""
    return _edge(energy_ev, _NI_LINES, _NI_STEPS, 624, _NI_LINES)


def _edge(
    energy: Array,
    lines: tuple[Line, ...],
    steps: tuple[Step, ...],
    barn: float,
    standard: tuple[Line, ...],
) -> Array:
    """Lines over steps, scaled so that the ``standard`` lines have ``barn`` in the window at the edge."""
    start = min(steps[0][0], lines[0][0]) - 3
    window = np.arange(start, start + _WINDOW_EV, 0.02)
    area = float(_shape(window, standard, steps).sum()) * 0.02
    return _shape(energy, lines, steps) * (barn * _BARN_NM2 / area)


def _shape(energy: Array, lines: tuple[Line, ...], steps: tuple[Step, ...]) -> Array:
    total = np.zeros_like(energy)
    for at, sigma, area in lines:
        peak = area / (sigma * math.sqrt(2 * math.pi))
        total += peak * np.exp(-0.5 * ((energy - at) / sigma) ** 2)
    for at, level, width in steps:
        onset = 1 / (1 + np.exp(-np.clip((energy - at) / width, -60, 60)))
        total += level * onset * (np.maximum(energy, 5.0) / at) ** -3.0
    return total
