"""Specimens by name, as plain figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.specimen.film import FilmSettings


@dataclass(frozen=True, slots=True)
class Preset:
    """One specimen."""

    description: str
    film: FilmSettings = field(default_factory=FilmSettings)
    sites_per_um2: float = 0.0
    """Where a particle can nucleate; more than there are particles in the end."""
    boundary_share: float = 0.77
    """Share of the sites where an anti-phase boundary meets the surface."""
    dislocation_share: float = 0.16
    """Share of the sites on a dislocation core."""
    inside_share: float = 0.03
    """Share of the sites on a boundary inside the film."""
    spacing_nm: float = 8.0
    """Least distance between sites."""
    onset_spread: float = 0.5
    """Sigma of the logarithm of the incubation."""
    uptake_spread: float = 0.15
    """Sigma of the logarithm of how well particles are fed."""
    fixed_diameters_nm: tuple[float, ...] = ()
    """Sizes of particles that are there from the beginning and never change."""
    fixed_pitch_nm: float = 36.0
    grain_boundary: bool = False
    """Whether a grain boundary crosses the film."""
    material: str = "lsnt"
    """Of the film, as spectra see it; in ``simulators.spectra.MATERIALS``."""


_EVEN = FilmSettings(undulation=0.0, boundary_spacing_nm=0.0, dislocations_per_um2=0.0)
_HOLE = FilmSettings(
    level=0.05, undulation=0.0, texture=0.0, boundary_spacing_nm=0.0, dislocations_per_um2=0.0
)

PRESETS: dict[str, Preset] = {
    "lsnt_nonstoichiometric": Preset(
        "La0.2Sr0.7Ni0.1Ti0.9O3 film of 60 nm, A-site deficient, many anti-phase boundaries",
        sites_per_um2=1830.0,
    ),
    "lsnt_stoichiometric": Preset(
        "stoichiometric film of 60 nm with few anti-phase boundaries",
        film=FilmSettings(boundary_spacing_nm=1110.0),
        sites_per_um2=60.0,
        spacing_nm=20.0,
    ),
    "lstz_grain_boundary": Preset(
        "Li0.375Sr0.4375Ta0.75Zr0.25O3 of 60 nm with a grain boundary that is poor in Sr, Ta and Zr",
        film=FilmSettings(boundary_spacing_nm=0.0),
        grain_boundary=True,
        material="lstz",
    ),
    "blank_film": Preset("film of 60 nm from which nothing comes"),
    "reference_domes": Preset(
        "film of 60 nm with domes of known sizes that heat does not change",
        film=FilmSettings(boundary_spacing_nm=0.0),
        fixed_diameters_nm=(3.0, 3.83, 5.0, 8.8, 12.0),
    ),
    "calibration_grating": Preset(
        "flat carbon-like film of 60 nm with raised lines every 64 nm in x and y",
        film=FilmSettings(
            undulation=0.0, texture=0.01, boundary_spacing_nm=0.0, grating_pitch_nm=64.0
        ),
        material="carbon",
    ),
    "srtio3": Preset("even SrTiO3 of 60 nm, all Ti4+", film=_EVEN, material="srtio3"),
    "tio2": Preset("even TiO2 (rutile) of 60 nm, all Ti4+", film=_EVEN, material="tio2"),
    "vacuum": Preset(
        "a hole: spectra of the beam alone, dark in HAADF", film=_HOLE, material="vacuum"
    ),
}
