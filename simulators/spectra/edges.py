"""Shapes of ionisation edges: single scattering per eV of one atom per nm², so that areas are cross-sections.

An edge is lines (Gaussians) over steps that fall as E⁻³. Energies of Ti-L, O-K are measured ones of the
science sheet; the other edges' lines and widths are from memory [M]. The references that spectra are
analysed with are of other functional shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulators.spectra.cross_sections import BARN_NM2, TABLE, TABLE_WINDOW_EV

Array = NDArray[np.float64]
Line = tuple[float, float, float]  # energy, Gaussian sigma (eV), area
Step = tuple[float, float, float]  # energy, level per eV, width (eV)

BEFORE_EV = 3.0
"""The window of a cross-section begins so far below the first line or step."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The fine structure of an edge."""

    cross_section: str
    """Name in the table of cross-sections."""
    lines: tuple[Line, ...]
    steps: tuple[Step, ...]
    like: str = ""
    """Name of the edge whose scale it shares: their continua are the same, their lines are not."""
    from_ev: float = math.inf
    """Where the window begins, if that is not a little below the first line or step."""

    @property
    def start_ev(self) -> float:
        """Where the window of the cross-section begins."""
        first = min(at for at, *_ in (*self.lines, *self.steps)) - BEFORE_EV
        return min(first, self.from_ev)

    def shape(self, energy_ev: Array) -> Array:
        """Lines over steps, without scale."""
        total = np.zeros_like(energy_ev)
        for at, sigma, area in self.lines:
            peak = area / (sigma * math.sqrt(2 * math.pi))
            total += peak * np.exp(-0.5 * ((energy_ev - at) / sigma) ** 2)
        for at, level, width in self.steps:
            onset = 1 / (1 + np.exp(-np.clip((energy_ev - at) / width, -60, 60)))
            total += level * onset * (np.maximum(energy_ev, 5.0) / at) ** -3.0
        return total


_TI_STEPS: tuple[Step, ...] = ((458.4, 0.038, 0.6), (463.8, 0.022, 0.6))
_O_STEPS: tuple[Step, ...] = ((535.0, 0.16, 1.2),)

EDGES: Mapping[str, Edge] = MappingProxyType(
    {
        # crystal-field doublets of Ti4+ in SrTiO3 (splitting 2.18 and 2.30 eV) over a two-step continuum
        "ti4": Edge(
            "ti_l",
            (
                (457.5, 0.36, 0.42),
                (459.68, 0.58, 0.85),
                (462.85, 0.62, 0.50),
                (465.15, 0.85, 0.68),
            ),
            _TI_STEPS,
        ),
        # one broad line each, 2 eV below the middle of its doublet
        "ti3": Edge(
            "ti_l",
            ((456.6, 1.15, 1.15), (462.0, 1.35, 0.95)),
            ((456.4, 0.038, 0.6), (461.8, 0.022, 0.6)),
        ),
        # TiO2: splitting 2.51 and 2.33 eV, L3 to L2 5.48 eV, areas of L3 and L2 as 0.65
        "ti4_tio2": Edge(
            "ti_l",
            (
                (457.9, 0.38, 0.40),
                (460.41, 0.66, 0.57),
                (463.47, 0.66, 0.65),
                (465.80, 0.92, 0.84),
            ),
            _TI_STEPS,
        ),
        # O-K: peaks at 0, 5.3 and 11.8 eV; the second is "b", weak at a boundary
        "o_bulk": Edge("o_k", ((532.0, 0.8, 0.9), (537.3, 1.5, 2.4), (543.8, 2.2, 2.6)), _O_STEPS),
        "o_boundary": Edge(
            "o_k", ((532.0, 0.8, 0.9), (537.3, 1.5, 0.96), (543.8, 2.2, 2.6)), _O_STEPS, "o_bulk"
        ),
        "o_tio2": Edge(
            "o_k",
            ((531.6, 0.7, 0.9), (534.2, 0.9, 1.1), (540.3, 1.6, 2.0), (545.5, 2.4, 2.2)),
            _O_STEPS,
        ),
        "la": Edge(
            "la_m",
            ((833.0, 1.2, 1.0), (850.0, 1.2, 0.8)),
            ((832.0, 0.01, 1.0), (849.0, 0.007, 1.0)),
        ),
        "ni": Edge(
            "ni_l",
            ((856.0, 1.4, 1.0), (873.2, 1.4, 0.5)),
            ((855.0, 0.05, 1.0), (872.2, 0.025, 1.0)),
        ),
        # 4d shells are empty: white lines upon steps of 2 to 1
        "sr": Edge(
            "sr_l",
            ((1942.0, 1.8, 0.9), (2009.0, 1.8, 0.5)),
            ((1940.0, 0.05, 1.5), (2007.0, 0.025, 1.5)),
        ),
        "zr": Edge(
            "zr_l",
            ((2224.5, 2.0, 0.9), (2309.5, 2.0, 0.5)),
            ((2222.0, 0.05, 1.5), (2307.0, 0.025, 1.5)),
        ),
        # 3d to f: delayed, so that the steps are wide and lie behind the edges
        "ta": Edge("ta_m", (), ((1745.0, 0.06, 4.0), (1803.0, 0.04, 4.0)), from_ev=1735.0),
        "ta_m3": Edge("ta_m3", ((2196.5, 2.2, 0.6),), ((2194.0, 0.04, 2.0), (2469.0, 0.018, 2.5))),
        "c": Edge("c_k", ((285.2, 0.7, 0.5), (292.5, 2.5, 2.0)), ((289.0, 0.18, 1.5),)),
    }
)


def per_atom(name: str, energy_ev: Array, barn: Callable[[str], float] | None = None) -> Array:
    """Single scattering per eV of one atom per nm²; the energies may be any.

    Args:
        name: in :data:`EDGES`.
        energy_ev: float64, any shape.
        barn: cross-section by its name; the table's if None.

    Raises:
        KeyError: no such edge.
    """
    edge = EDGES[name]
    standard = EDGES[edge.like] if edge.like else edge
    window = np.arange(standard.start_ev, standard.start_ev + TABLE_WINDOW_EV, 0.02)
    area = float(standard.shape(window).sum()) * 0.02
    section = barn(edge.cross_section) if barn else TABLE[edge.cross_section].barn
    return edge.shape(energy_ev) * (section * BARN_NM2 / area)
