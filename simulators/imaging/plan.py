"""The plan view: film and particles from above, as maps of scattering mass, fine structure and nickel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulators.imaging import lattice
from simulators.imaging.lines import Lines
from simulators.imaging.probe import Probe
from simulators.imaging.profiles import dome_tables
from simulators.specimen import Domes, Specimen, View
from simulators.specimen.film import (
    LINE_EDGE_NM,
    LINE_HEIGHT,
    LINE_SHARE,
    REGION_NM,
    SLOW_STEP_NM,
    TILE_NM,
)
from simulators.specimen.grain_boundary import CELL_NM

if TYPE_CHECKING:
    from simulators.imaging.kernels import FilmNumbers, ParticleArrays

Array = NDArray[np.float64]
Image = NDArray[np.float32]

BOUNDARY_LOSS = 0.03
"""Relative loss of HAADF intensity in the middle of an anti-phase boundary: a choice of this model."""
BOUNDARY_SIGMA_NM = 0.8
_FACET_WEIGHT = 0.6  # of the polygon in the outline of a crystal that has settled


def film_numbers(specimen: Specimen, view: View, probe: Probe) -> FilmNumbers:
    """What :func:`~simulators.imaging.kernels.draw_film` is told about a film in a view."""
    from simulators.imaging.kernels import FilmNumbers

    film, grain = specimen.film, specimen.grain_boundary
    settings, pixel = film.settings, view.pixel_nm
    length = settings.texture_length_nm
    cell = CELL_NM if grain else lattice.FILM_A_NM
    angles = lattice.film_angles_rad(specimen.seed, grain_boundary=grain is not None)
    first, diagonal, second = lattice.film_amplitudes(probe, pixel, cell)
    blurred = math.hypot(BOUNDARY_SIGMA_NM, probe.blur_sigma_nm)
    return FilmNumbers(
        left=float(view.origin_nm[0]),
        top=float(view.origin_nm[1]),
        slow_step=SLOW_STEP_NM,
        texture_step=TILE_NM / film.texture_tile(pixel).shape[0],
        texture_rms=settings.texture * length / math.hypot(length, probe.defocus_sigma_nm),
        boundary_loss=BOUNDARY_LOSS * BOUNDARY_SIGMA_NM / blurred
        if settings.boundary_spacing_nm > 0
        else 0.0,
        boundary_sigma=blurred,
        grain_x=grain.x_nm if grain else 0.0,
        grain_loss=grain.scattering_loss if grain else 0.0,
        grain_sigma=math.hypot(grain.width_nm, probe.blur_sigma_nm) if grain else 0.0,
        superlattice=lattice.superlattice_amplitude(probe, pixel) if grain else 0.0,
        superlattice_reach=grain.superlattice_reach_nm if grain else 1.0,
        region=REGION_NM,
        pitch=float(settings.grating_pitch_nm),
        line_width=LINE_SHARE * settings.grating_pitch_nm,
        line_height=LINE_HEIGHT,
        line_edge=LINE_EDGE_NM,
        lattice=cell,
        angle_left=angles[0],
        angle_right=angles[1],
        first_order=first,
        diagonal=diagonal,
        second_order=second,
    )


def film_maps(
    specimen: Specimen,
    view: View,
    probe: Probe,
    lines: Lines,
    rows: tuple[int, int],
    *,
    edge_on: bool = False,
) -> tuple[Image, Image]:
    """Relative scattering mass and relative fine structure of some rows; float32 (y, x) each.

    ``edge_on`` leaves anti-phase boundaries out and aligns the lattice with the image.
    """
    from simulators.imaging.kernels import draw_film

    first, last = rows
    shape = last - first, view.shape[1]
    mass, fine = np.empty(shape, np.float32), np.empty(shape, np.float32)
    film, numbers = specimen.film, film_numbers(specimen, view, probe)
    if edge_on:
        numbers = numbers._replace(boundary_loss=0.0, angle_left=0.0, angle_right=0.0)
    draw_film(
        lines.x_nm[first:last],
        lines.y_nm[first:last],
        lines.along_nm,
        film.slow_map,
        film.boundary_map,
        film.texture_tile(view.pixel_nm),
        numbers,
        mass,
        fine,
    )
    return mass, fine


def nickel_map(
    domes: Domes,
    view: View,
    probe: Probe,
    lines: Lines,
    rows: tuple[int, int],
    *,
    fringes: bool = True,
) -> Image:
    """Nickel in nm as images show it, blurred by probe and pixel; float32 (y, x) of some rows.

    With ``fringes`` that of crystals is modulated as the pixels allow.
    """
    from simulators.imaging.kernels import draw_particles

    first, last = rows
    nickel = np.zeros((last - first, view.shape[1]), np.float32)
    if not len(domes):
        return nickel
    y = lines.y_nm[first:last]
    blur = probe.blur_nm(view.pixel_nm)
    reach = 1.25 * (domes.radius_nm + 5 * blur)
    near = (domes.y_nm + reach > y.min()) & (domes.y_nm - reach < y.max())
    domes = domes[np.flatnonzero(near)]
    arrays, profiles = _arrays(domes, view.pixel_nm, probe, fringes=fringes)
    flyback = abs(lines.along_nm[0] - 0.5 * view.pixel_nm)
    margin = math.ceil(flyback / view.pixel_nm) + 1
    draw_particles(
        lines.x_nm[first:last], y, lines.along_nm, view.pixel_nm, margin, arrays, profiles, nickel
    )
    return nickel


def _arrays(
    domes: Domes, pixel_nm: float, probe: Probe, *, fringes: bool
) -> tuple[ParticleArrays, Image]:
    from simulators.imaging.kernels import ParticleArrays

    profiles, reach = dome_tables(domes.radius_nm, probe.blur_nm(pixel_nm))
    weight = _FACET_WEIGHT * domes.faceting
    strong, weak = lattice.nickel_amplitudes(probe, pixel_nm) if fringes else (0.0, 0.0)
    amplitude = domes.crystalline[:, None] * np.array([strong, strong, weak])
    arrays = ParticleArrays(
        np.ascontiguousarray(domes.x_nm),
        np.ascontiguousarray(domes.y_nm),
        np.ascontiguousarray(domes.peak_nm),
        np.ascontiguousarray(reach),
        np.ascontiguousarray(weight),
        facet_scale(weight),
        np.ascontiguousarray(lattice.nickel_waves(domes.angle_rad)),
        np.ascontiguousarray(amplitude),
    )
    return arrays, profiles


def facet_scale(weight: Array) -> Array:
    """Factor of distances in a faceted outline that keeps the particle's volume; float64 (n,).

    The outline stretches a circle by 1/s(φ), s = 1 - w + w max_k |cos(φ - φ_k)|/d_k; the volume
    goes as the mean of 1/s².
    """
    from simulators.imaging.kernels import TRUNCATION

    turn = np.linspace(0, math.pi, 180, endpoint=False)[:, None]
    normals = np.array([lattice.NI_HALF_ANGLE_RAD, -lattice.NI_HALF_ANGLE_RAD, 0.0])
    facet = (np.abs(np.cos(turn - normals)) / np.array([1.0, 1.0, TRUNCATION])).max(axis=1)
    outline = 1 - weight[:, None] + weight[:, None] * facet
    return np.asarray(np.sqrt((outline**-2.0).mean(axis=1)))
