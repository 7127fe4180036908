"""Specimens by name, as plain figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.specimen.film import FilmSettings

NI_PER_NM3_OF_FILM = 1.68
"""0.1 Ni in a unit cell of 0.0595 nm³."""
ACTIVATION_EV = 2.5
"""Effective barrier of appearance and growth; between those across (0.68) and beside (3.35) a boundary."""
REFERENCE_CELSIUS = 700.0


@dataclass(frozen=True, slots=True)
class Preset:
    """One specimen; densities per µm², times in thermal seconds at 700 °C."""

    description: str
    film: FilmSettings = field(default_factory=FilmSettings)
    density_per_um2: float = 0.0
    boundary_share: float = 0.85
    """Share of the sites where an anti-phase boundary meets the surface."""
    spacing_nm: float = 15.0
    """Least distance between sites: domes of the final size do not overlap."""
    onset_s: float = 25.0
    """Median incubation on a boundary."""
    onset_elsewhere_s: float = 60.0
    onset_spread: float = 0.5
    """Sigma of the logarithm of the incubation."""
    speed_nm: float = 0.69
    """Median diameter after one second of growth, in nm / s^(1/3)."""
    speed_spread: float = 0.12
    near_surface_nm: float = 24.5
    """Depth of film that counts as near the surface, for the share of reduced nickel."""
    reachable_share: float = 0.66
    """Share of the near-surface nickel that can come out."""
    fixed_diameters_nm: tuple[float, ...] = ()
    """Sizes of particles that are there from the beginning and never change."""
    fixed_pitch_nm: float = 36.0


PRESETS: dict[str, Preset] = {
    "lsnt_nonstoichiometric": Preset(
        "La0.2Sr0.7Ni0.1Ti0.9O3 film of 60 nm, A-site deficient, many anti-phase boundaries",
        density_per_um2=795.0,
    ),
    "lsnt_stoichiometric": Preset(
        "stoichiometric film of 60 nm with few anti-phase boundaries",
        film=FilmSettings(boundary_spacing_nm=500.0),
        density_per_um2=51.0,
        spacing_nm=30.0,
        near_surface_nm=18.6,
        reachable_share=0.10,
        speed_nm=0.60,
    ),
    "blank_film": Preset("film of 60 nm from which nothing comes"),
    "reference_domes": Preset(
        "film of 60 nm with domes of known sizes that heat does not change",
        film=FilmSettings(boundary_spacing_nm=0.0),
        fixed_diameters_nm=(3.0, 3.83, 5.0, 8.8, 12.0),
    ),
}
