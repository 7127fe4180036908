"""What the probe can go through: mean free paths, low-loss bands, phonon bands, background, formula.

Mean free paths at 60, 200 and 300 kV: SrTiO3 and nickel are those of the science sheet [S]; the others
are that of SrTiO3 times the ratio that Malis, Cheng & Egerton 1988 give (effective atomic number; 33
mrad, 300 kV) [I]. Low-loss bands: SrTiO3 and TiO2 measured [S], widths and shares and all other
materials from memory [M]. Phonons: longitudinal-optical modes of SrTiO3 (21, 59, 98 meV) and TiO2 from
memory [M]; those of LSTZ are placed so that heavy cations with oxygen hold 10 to 50 meV and Li-O holds 50
to 100 meV, as [GB] assigns them. How strong they are is a choice of this model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

BEAMS_KEV = (60.0, 200.0, 300.0)
_SRTIO3_NM = (60.0, 123.0, 147.0)
HEAVY = ("Sr", "Ta", "Zr")
LOW_BAND_EV, HIGH_BAND_EV = (0.010, 0.050), (0.050, 0.100)
"""The windows that vibrational contrast is told in."""


@dataclass(frozen=True, slots=True)
class LowBand:
    """A band of the low loss: a Gaussian, or an edge that rises at ``energy_ev`` and falls as E⁻³."""

    energy_ev: float
    width_ev: float
    """Gaussian sigma, or how wide the edge's onset is."""
    share: float
    """Of the material's single scattering."""
    element: str = ""
    """Whose concentration it follows."""
    edge: bool = False


@dataclass(frozen=True, slots=True)
class PhononBand:
    """A band of vibrations, seen in impact scattering."""

    energy_ev: float
    sigma_ev: float
    per_nm: float
    """Mean number of excitations per nm, collected on the axis, without thermal ones."""
    elements: tuple[str, ...] = ()
    """Whose mean concentration it follows, by their shares in the formula; none: it never changes."""


@dataclass(frozen=True, slots=True)
class Material:
    """One material."""

    mean_free_path_nm: tuple[float, float, float]
    """Of inelastic scattering, at :data:`BEAMS_KEV`."""
    bands: tuple[LowBand, ...]
    per_nm3: Mapping[str, float] = field(default_factory=dict)
    """Atoms by element."""
    phonons: tuple[PhononBand, ...] = ()
    background: float = 1.0
    """Of core losses per nm, over that of the perovskites."""

    def path_nm(self, beam_kev: float) -> float:
        """Mean free path, interpolated linearly in the beam energy."""
        return float(np.interp(beam_kev, BEAMS_KEV, self.mean_free_path_nm))


def _of_srtio3(ratio: float) -> tuple[float, float, float]:
    first, second, third = (ratio * nm for nm in _SRTIO3_NM)
    return first, second, third


def _per_nm3(formula: Mapping[str, float], cell_nm3: float) -> Mapping[str, float]:
    return MappingProxyType({name: share / cell_nm3 for name, share in formula.items()})


UNIT_CELL_NM3 = 0.0595
LSTZ_CELL_NM3 = 0.391**3
_RUTILE_NM3 = 0.0312  # of one TiO2 [M]
LSNT_FORMULA = {"La": 0.2, "Sr": 0.7, "Ni": 0.1, "Ti": 0.9, "O": 3.0}
LSTZ_FORMULA = {"Li": 0.375, "Sr": 0.4375, "Ta": 0.75, "Zr": 0.25, "O": 3.0}
_TITANATE_BANDS = (
    LowBand(14.4, 2.5, 0.18),
    LowBand(24.6, 2.8, 0.25),
    LowBand(30.9, 3.2, 0.37),
    LowBand(47.4, 5.0, 0.20),
)
_TITANATE_PHONONS = (
    PhononBand(0.021, 0.0035, 3e-5),
    PhononBand(0.059, 0.005, 3e-5),
    PhononBand(0.098, 0.006, 2.4e-5),
)

MATERIALS: Mapping[str, Material] = MappingProxyType(
    {
        "srtio3": Material(
            _SRTIO3_NM,
            _TITANATE_BANDS,
            _per_nm3({"Sr": 1.0, "Ti": 1.0, "O": 3.0}, UNIT_CELL_NM3),
            _TITANATE_PHONONS,
        ),
        "lsnt": Material(
            _SRTIO3_NM, _TITANATE_BANDS, _per_nm3(LSNT_FORMULA, UNIT_CELL_NM3), _TITANATE_PHONONS
        ),
        "lstz": Material(
            _of_srtio3(0.873),
            (
                LowBand(14.0, 2.6, 0.14),
                LowBand(23.5, 3.0, 0.22),
                LowBand(29.5, 3.4, 0.33),
                # the giant Ta-O2,3, in whose tail Li-K drowns
                LowBand(36.0, 1.6, 0.305, "Ta", edge=True),
                LowBand(55.0, 0.8, 0.005, "Li", edge=True),
            ),
            _per_nm3(LSTZ_FORMULA, LSTZ_CELL_NM3),
            (
                PhononBand(0.018, 0.003, 2.0e-5, HEAVY),
                PhononBand(0.029, 0.0035, 1.6e-5, HEAVY),
                PhononBand(0.039, 0.003, 1.2e-5, HEAVY),
                PhononBand(0.067, 0.0045, 1.6e-5, ("Li",)),
                PhononBand(0.084, 0.0045, 1.2e-5, ("Li",)),
                PhononBand(0.122, 0.006, 0.8e-5, ("O",)),
            ),
        ),
        "tio2": Material(
            _of_srtio3(1.11),
            (LowBand(13.3, 2.2, 0.20), LowBand(25.3, 4.0, 0.60), LowBand(39.6, 4.5, 0.20)),
            _per_nm3({"Ti": 1.0, "O": 2.0}, _RUTILE_NM3),
            (
                PhononBand(0.047, 0.004, 3e-5),
                PhononBand(0.063, 0.004, 2e-5),
                PhononBand(0.099, 0.006, 3e-5),
            ),
        ),
        "carbon": Material(
            _of_srtio3(1.43),
            (LowBand(6.0, 1.2, 0.1), LowBand(23.5, 6.0, 0.9)),
            MappingProxyType({"C": 100.0}),  # amorphous, 2 g/cm³
            (PhononBand(0.15, 0.015, 1e-5),),
            background=0.3,
        ),
        "nickel": Material(
            (53.0, 107.0, 128.0),
            (
                LowBand(9.0, 2.0, 0.10),
                LowBand(20.0, 5.0, 0.40),
                LowBand(28.0, 6.0, 0.40),
                LowBand(66.0, 1.0, 0.10, edge=True),
            ),
            MappingProxyType({"Ni": 91.4}),
            background=0.0,  # its edges were calibrated upon the film's own
        ),
        "vacuum": Material(_SRTIO3_NM, (), background=0.0),
    }
)
