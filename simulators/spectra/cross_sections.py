"""How often an atom scatters into its edges: an offline table, and how it follows the beam's energy.

[S] the project's science sheet; [I] inferred from it as the comment says; [M] from memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TABLE_KEV, TABLE_MRAD, TABLE_WINDOW_EV = 200.0, 33.0, 50.0
"""Conditions of the table: beam energy, collection semi-angle, window from the edge on."""
BARN_NM2 = 1e-10
_REST_KEV = 510.999


@dataclass(frozen=True, slots=True)
class Entry:
    """One edge, or a pair of edges that the window holds together."""

    barn: float
    """In the window of 50 eV at the edge, at the table's conditions."""
    edge_ev: float


TABLE: Mapping[str, Entry] = MappingProxyType(
    {
        "o_k": Entry(1166.0, 532.0),  # [S]
        "ti_l": Entry(4038.0, 456.0),  # [S] L3 and L2
        "ni_l": Entry(624.0, 855.0),  # [S] L3 and L2
        "sr_l": Entry(120.0, 1940.0),  # [S] L3; L2 begins behind the window
        # [I] from Sr-L by the inverse square of the edge's energy (oscillator strength per eV)
        "zr_l": Entry(88.0, 2222.0),
        "la_m": Entry(2500.0, 832.0),  # [M] white lines of M5 and M4
        "ta_m": Entry(200.0, 1735.0),  # [M] M5, delayed; M4 begins behind the window
        # [M] M3: its jump of X-ray absorption is some 0.4 of that of Zr-L3 per atom
        "ta_m3": Entry(36.0, 2194.0),
        "c_k": Entry(4090.0, 284.0),  # [I] from O-K, in the same way
    }
)


def speed_term_kev(beam_kev: float) -> float:
    """m0 v²/2 of a beam in keV (Egerton, EELS in the Electron Microscope, appendix E)."""
    relative = beam_kev / _REST_KEV
    return beam_kev * (1 + relative / 2) / (1 + relative) ** 2


def dipole(beam_kev: float, collection_mrad: float, loss_ev: float) -> float:
    """What a cross-section is proportional to in dipole scattering: ln(1 + β²/θE²) / T, per keV.

    θE = E / (2 γ T), the characteristic angle (Egerton, EELS in the Electron Microscope, section 3.2).
    """
    t_kev = speed_term_kev(beam_kev)
    gamma = 1 + beam_kev / _REST_KEV
    theta_mrad = loss_ev / (2 * gamma * t_kev)  # eV over keV is mrad
    return math.log1p((collection_mrad / theta_mrad) ** 2) / t_kev


def barn(edge: str, beam_kev: float, collection_mrad: float = TABLE_MRAD) -> float:
    """Cross-section of an edge in its window; the table's at 200 keV and 33 mrad, else scaled as dipole.

    Raises:
        KeyError: the table has no such edge.
    """
    entry = TABLE[edge]
    now = dipole(beam_kev, collection_mrad, entry.edge_ev)
    return entry.barn * now / dipole(TABLE_KEV, TABLE_MRAD, entry.edge_ev)
