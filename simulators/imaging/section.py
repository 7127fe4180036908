"""The cross-section: a lamella of film seen along its surface, particles as domes upon it and sockets in it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from simulators.imaging import lattice
from simulators.imaging.lines import Lines
from simulators.imaging.plan import BOUNDARY_LOSS, BOUNDARY_SIGMA_NM, film_maps
from simulators.imaging.probe import Probe
from simulators.specimen import Domes, Specimen, View
from simulators.specimen.film import REGION_NM, SLOW_STEP_NM
from simulators.specimen.shape import FILM_PER_NICKEL

Array = NDArray[np.float64]
Image = NDArray[np.float32]

LAMELLA_NM = 30.0
"""Thickness along the beam, around y = 0 of the plan view's coordinates."""
SUBSTRATE = 0.9
"""Scattering of the substrate over that of as much film."""
_TRUNCATE = 4.0


def section_domes(specimen: Specimen, view: View, t_s: float, margin_nm: float = 0.0) -> Domes:
    """Particles of the lamella in a view from the side; positions are of the axis and the surface.

    Depth runs down the image and is 0 at the surface. Those inside the film are at their centre.
    """
    found = specimen.particles(t_s)
    half = REGION_NM / 2
    beside = np.mod(found.y_nm + half, REGION_NM) - half
    # spheres inside the film are narrower than their footprint would be at the surface
    radius = found.radius_nm + margin_nm
    reach = float(radius.max(initial=0.0))
    x = np.mod(found.x_nm - view.origin_nm[0] + reach, REGION_NM) - reach
    y = found.z_nm - view.origin_nm[1]
    width, height = view.size_nm
    inside = (np.abs(beside) < LAMELLA_NM / 2) & (x > -radius) & (x < width + radius)
    inside &= (y + np.maximum(radius, found.depth_nm) > 0) & (y - radius < height)
    return replace(found, x_nm=x, y_nm=y)[np.flatnonzero(inside)]


def section_maps(
    specimen: Specimen,
    domes: Domes,
    view: View,
    probe: Probe,
    lines: Lines,
    rows: tuple[int, int],
    *,
    substrate: bool,
) -> tuple[Image, Image, Image]:
    """Scattering mass over that of the nominal film, fine structure and nickel (nm) of some rows."""
    from simulators.imaging.section_kernels import draw_section

    first, last = rows
    # boundaries run down the image; those of the plan view would run across it
    mass, fine = film_maps(specimen, view, probe, lines, rows, edge_on=True)
    settings = specimen.film.settings
    draw_section(
        lines.x_nm[first:last] + view.origin_nm[0],
        lines.y_nm[first:last] + view.origin_nm[1],
        lines.along_nm,
        specimen.film.boundary_map,
        SLOW_STEP_NM,
        BOUNDARY_LOSS if settings.boundary_spacing_nm > 0 else 0.0,
        BOUNDARY_SIGMA_NM,
        settings.thickness_nm,
        LAMELLA_NM / settings.thickness_nm,
        SUBSTRATE if substrate else 0.0,
        max(probe.blur_nm(view.pixel_nm), 1e-3),
        mass,
        fine,
    )
    return mass, fine, _nickel(domes, view, probe, lines, rows)


def _nickel(domes: Domes, view: View, probe: Probe, lines: Lines, rows: tuple[int, int]) -> Image:
    from simulators.imaging.section_kernels import draw_sections

    pixel = view.pixel_nm
    sigma = probe.blur_nm(pixel) / pixel
    margin = math.ceil(_TRUNCATE * sigma) + 1
    first, last = max(0, rows[0] - margin), min(view.shape[0], rows[1] + margin)
    sharp = np.zeros((last - first, view.shape[1]), np.float32)
    waves = np.zeros_like(sharp)
    strong, weak = lattice.nickel_amplitudes(probe, pixel)
    amplitude = domes.crystalline[:, None] * np.array([strong, strong, weak])
    inside = domes.z_nm > 0
    up = np.where(inside, domes.diameter_nm / 2, domes.radius_nm)
    down = np.where(inside, up, np.maximum(domes.depth_nm, 1e-6))
    draw_sections(
        lines.x_nm[first:last],
        lines.y_nm[first:last],
        lines.along_nm,
        pixel,
        domes.x_nm,
        domes.y_nm,
        up,
        down,
        inside,
        1 - FILM_PER_NICKEL,
        lattice.nickel_waves(domes.angle_rad),
        np.ascontiguousarray(amplitude),
        sharp,
        waves,
    )
    blurred = gaussian_filter(sharp, sigma, mode="nearest", truncate=_TRUNCATE)
    blurred += waves
    return np.ascontiguousarray(blurred[rows[0] - first : rows[1] - first])
