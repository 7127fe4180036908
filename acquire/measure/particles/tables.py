"""Makes the table of particles of one image: which fits are believed, flags per particle, σ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray
from acquire.measure.particles.border import fit_cut
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.joint import untangle
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import Prepared
from acquire.measure.particles.size import Sizes, fit_domes
from acquire.measure.particles.starts import cut_by_border, first_radius
from acquire.measure.particles.summary import COLUMNS

_MASK_SPREAD = 0.15
"""Relative σ of a diameter from the mask: its shape, and so how half height relates to R, is unknown."""
_WORST_CHI2 = 4.0
_BUMP_MARGIN = 16.0


@dataclass(frozen=True)
class Sized:
    """A table, and what the summary needs beside it."""

    table: dict[str, AnyArray]
    inside: NDArray[np.bool_]
    """Which particles have their centre in the image."""


def tabulate(
    ready: Prepared, options: ParticleOptions, pixel_size_nm: float, *, given: bool = False
) -> Sized:
    """Size what was found; with ``given`` labels nothing is dropped, and masks are the labels' own."""
    found, contrast = ready.found, ready.contrast
    if len(found) == 0:
        return Sized(empty_table(), np.zeros(0, bool))
    dome, probe_px = options.dome, options.probe_sigma_nm / pixel_size_nm
    per_px = pixel_size_nm * options.diameter_per_radius
    sizes = fit_domes(
        contrast,
        ready.coarse,
        found,
        dome,
        probe_px,
        brightness=ready.film.brightness(found.y_px, found.x_px),
        shot=options.shot,
    )
    sizes = fit_cut(ready.coarse, contrast.shape, found, sizes, dome, probe_px, options.shot)
    joint = np.zeros(len(found), np.bool_)
    if not given:
        told = untangle(
            contrast,
            ready.coarse,
            found,
            sizes,
            dome,
            probe_px,
            largest_px=options.largest_diameter_nm / per_px,
            shot=options.shot,
        )
        found, sizes, joint = told.found, told.sizes, told.joint
    by_mask = first_radius(found, dome, probe_px)
    cut = np.any(cut_by_border(found, contrast.shape), axis=0)
    good = _good(sizes, np.where(joint, sizes.radius_px, by_mask), cut)
    reach = np.minimum.reduce(
        [sizes.y_px, sizes.x_px, contrast.shape[0] - sizes.y_px, contrast.shape[1] - sizes.x_px]
    )
    border = (np.where(good, sizes.radius_px, by_mask) > reach) | (cut & ~good)
    island = ~border & (sizes.bump_chi2 < -_BUMP_MARGIN)
    # at a known place a faint maximum that is no dome either is noise
    noise = ~border & ~good & (found.peak_snr < found.seed_snr)
    keep = np.ones(len(found), bool) if given else ~(island | noise)
    mask_px = 2.0 * np.sqrt((found.area_px if given else found.half_area_px) / np.pi)
    mask_share = _mask_sigma(found)
    radius = np.where(good, sizes.radius_px, by_mask)
    sigma = np.where(good, sizes.radius_sigma_px, np.hypot(_MASK_SPREAD, mask_share) * by_mask)
    table: dict[str, AnyArray] = {
        "id": np.arange(len(found), dtype=np.int64),
        "x_nm": np.where(good, sizes.x_px, found.x_px) * pixel_size_nm,
        "y_nm": np.where(good, sizes.y_px, found.y_px) * pixel_size_nm,
        "diameter_nm": radius * per_px,
        "diameter_sigma_nm": sigma * per_px,
        "mask_diameter_nm": mask_px * pixel_size_nm,
        "mask_diameter_sigma_nm": mask_share * mask_px * pixel_size_nm,
        "contrast": np.where(good, sizes.height, found.peak),
        "snr": found.peak_snr,
        "chi2": sizes.chi2,
        "border": border.astype(np.int64),
        "overlap": sizes.overlap.astype(np.int64),
        "fitted": good.astype(np.int64),
    }
    inside = np.where(good, reach > 0, ~border | _centre_inside(found, contrast.shape))
    if keep.all():
        return Sized(table, inside)
    table = {name: column[keep] for name, column in table.items()}
    table["id"] = np.arange(int(keep.sum()), dtype=np.int64)
    return Sized(table, inside[keep])


def _good(sizes: Sizes, by_mask: NDArray[np.float64], cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the dome fits and its radius is determined; of a cut particle the mask says little."""
    ratio = sizes.radius_px / by_mask
    return np.asarray(
        (sizes.chi2 < _WORST_CHI2)
        & (sizes.height > 0)
        & (sizes.radius_sigma_px < np.where(cut, 0.15, 0.5) * sizes.radius_px)
        & (ratio > np.where(cut, 0.6, 0.4))
        & (ratio < np.where(cut, 4.0, 2.3))
    )


def _mask_sigma(found: Detection) -> NDArray[np.float64]:
    """Relative σ of a mask's diameter from the noise of the filtered image.

    A dome falls at half height by 1.5 of its height per radius there, so noise of 1/snr of the
    height moves the edge by 1 / (1.5 snr) radii: half of it together, as the peak moves, the rest
    apart at every stretch of edge as long as the smoothing.
    """
    radius = np.sqrt(np.maximum(found.half_area_px, 1.0) / np.pi)
    stretches = np.maximum(2.0 * np.pi * radius / (3.5 * found.smoothing_px), 1.0)
    return np.asarray(
        np.sqrt(0.25 + 1.0 / stretches) / (1.5 * np.maximum(found.peak_snr, 1.0)), np.float64
    )


def _centre_inside(found: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a cut particle reaches into the image by at least half of its length along the cut."""
    high = found.bottom_px - found.top_px
    wide = found.right_px - found.left_px
    sides = cut_by_border(found, shape)
    cut_y, cut_x = sides[0] | sides[1], sides[2] | sides[3]
    return np.asarray((~cut_y | (high >= 0.5 * wide)) & (~cut_x | (wide >= 0.5 * high)))


def empty_table() -> dict[str, AnyArray]:
    """The table of an image without particles."""
    whole = {"id", "border", "overlap", "fitted"}
    return {name: np.zeros(0, np.int64 if name in whole else np.float64) for name in COLUMNS}
