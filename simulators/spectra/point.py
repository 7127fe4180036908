"""What the probe meets at a point, as areal densities and lengths that spectra scale with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from simulators.spectra.materials import HIGH_BAND_EV, LOW_BAND_EV, MATERIALS, PhononBand

BULK_TI3 = 0.05
BOUNDARY_TI3 = 0.6
REDUCED_TI3 = 0.25
"""Of the matrix after long heat in vacuum."""
ROOM_CELSIUS = 25.0
_NM = 60.0
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Point:
    """A column of film, perhaps with a particle in or on it."""

    material: str
    """Of the film; in :data:`~simulators.spectra.materials.MATERIALS`."""
    thickness_nm: float
    """Of the film."""
    per_nm2: Mapping[str, float] = field(default_factory=dict)
    """Atoms by element, in film and particle."""
    relative: Mapping[str, float] = field(default_factory=dict)
    """Concentration of elements in the film over the material's own, where it is not 1."""
    ti3_fraction: float = 0.0
    """Share of the titanium that is Ti3+."""
    o_boundary_fraction: float = 0.0
    """Share of the oxygen with the fine structure of an anti-phase boundary."""
    nickel_nm: float = 0.0
    """Metal along the beam."""
    celsius: float = ROOM_CELSIUS

    def paths_nm(self) -> dict[str, float]:
        """Lengths of the materials along the beam."""
        return {self.material: self.thickness_nm, "nickel": self.nickel_nm}

    def scattering(self, beam_kev: float) -> dict[tuple[str, str], float]:
        """Mean number of single scattering events by material and by the element that it follows ("" if none).

        The mean free path stays the material's: where an element is missing, the other bands take its place.
        """
        found: dict[tuple[str, str], float] = {}
        for name, nm in self.paths_nm().items():
            material = MATERIALS[name]
            shares: dict[str, float] = {}
            for band in material.bands:
                share = band.share * self.relative.get(band.element, 1.0)
                shares[band.element] = shares.get(band.element, 0.0) + share
            if nm > 0 and shares:
                per_share = nm / material.path_nm(beam_kev) / sum(shares.values())
                found.update({(name, element): per_share * s for element, s in shares.items()})
        return found

    def depth(self, beam_kev: float) -> float:
        """Thickness over mean free path: the mean number of inelastic scattering events."""
        return sum(self.scattering(beam_kev).values())

    def background_nm(self) -> float:
        """Length of perovskite that gives as much background of core losses."""
        return sum(nm * MATERIALS[name].background for name, nm in self.paths_nm().items())

    def phonons(self) -> list[tuple[PhononBand, float]]:
        """Bands and their mean numbers of excitations on the axis, without thermal ones."""
        found = []
        for name, nm in self.paths_nm().items():
            material = MATERIALS[name]
            for band in material.phonons:
                weights = {e: material.per_nm3[e] for e in band.elements}
                relative = (
                    sum(w * self.relative.get(e, 1.0) for e, w in weights.items())
                    / sum(weights.values())
                    if weights
                    else 1.0
                )
                found.append((band, nm * band.per_nm * relative))
        return found

    def phonon_sums(self) -> tuple[float, float]:
        """Mean excitations of the bands within 10 to 50 and within 50 to 100 meV, without thermal ones."""
        first, second = (
            sum(n for band, n in self.phonons() if low <= band.energy_ev < high)
            for low, high in (LOW_BAND_EV, HIGH_BAND_EV)
        )
        return first, second


def film(
    material: str,
    thickness_nm: float = _NM,
    *,
    relative: Mapping[str, float] = _NONE,
    ti3_fraction: float = 0.0,
    nickel_nm: float = 0.0,
    celsius: float = ROOM_CELSIUS,
) -> Point:
    """A point of a film, whose areal densities follow from its thickness; raises KeyError for no such material.

    ``relative`` are concentrations over the material's own. Oxygen has the fine structure of a boundary
    in the same share as titanium is Ti3+.
    """
    per_nm2 = {
        element: density * thickness_nm * relative.get(element, 1.0)
        for element, density in MATERIALS[material].per_nm3.items()
    }
    if nickel_nm > 0:
        metal = MATERIALS["nickel"].per_nm3["Ni"] * nickel_nm
        per_nm2["Ni"] = per_nm2.get("Ni", 0.0) + metal
    return Point(
        material=material,
        thickness_nm=thickness_nm,
        per_nm2=MappingProxyType(per_nm2),
        relative=MappingProxyType(dict(relative)),
        ti3_fraction=ti3_fraction,
        o_boundary_fraction=ti3_fraction,
        nickel_nm=nickel_nm,
        celsius=celsius,
    )


POINTS: Mapping[str, Callable[[], Point]] = MappingProxyType(
    {
        "lsnt_matrix": lambda: film("lsnt", ti3_fraction=BULK_TI3),
        "lsnt_boundary": lambda: film("lsnt", ti3_fraction=BOUNDARY_TI3),
        "lsnt_particle": lambda: film("lsnt", ti3_fraction=BULK_TI3, nickel_nm=6.0),
        "lstz_grain": lambda: film("lstz"),
        "lstz_boundary": lambda: film("lstz", relative={"Sr": 0.74, "Ta": 0.89, "Zr": 0.93}),
        "srtio3": lambda: film("srtio3"),
        "tio2": lambda: film("tio2"),
        "carbon": lambda: film("carbon"),
        "vacuum": lambda: film("vacuum", 0.0),
    }
)
"""Points by name: 60 nm of film, 25 °C, the probe in the middle of what it is named after."""
