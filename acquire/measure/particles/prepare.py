"""Prepares an image for sizing: its film, its contrast over the film, and where particles are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.particles.background import Film, find_film
from acquire.measure.particles.detect import Detection, Known, coarseness, detect
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.pixels import contrast_over
from acquire.measure.particles.textured import find_textured

_SMALLEST_FIELDS = 3.0

Segmenter = Callable[[NDArray[Any]], NDArray[Any]]
"""Finds particles its own way: takes an image (y, x) as recorded, gives labels (y, x) of integers, 0
for film and another number for every particle. Sizes, flags and the summary stay hotstage's."""


@dataclass(frozen=True)
class Prepared:
    """An image ready to be sized."""

    contrast: NDArray[np.float32]
    """(y, x), film 0, particles positive."""
    coarse: NDArray[np.float32]
    """Its means over the detection's blocks."""
    film: Film
    found: Detection


def prepare(
    image: NDArray[Any],
    pixel_size_nm: float,
    options: ParticleOptions,
    known: Known | None = None,
    segmenter: Segmenter | None = None,
) -> Prepared:
    """Film, contrast and detection of a measurable image (y, x).

    Raises:
        MeasureError: the pixel is too coarse for the smallest diameter, the field too small for it,
            or the segmenter's answer is no label image.
    """
    check_scale(pixel_size_nm, options)
    field_nm = min(image.shape) * pixel_size_nm
    if field_nm < _SMALLEST_FIELDS * options.smallest_diameter_nm:
        raise MeasureError(
            f"a field of {field_nm:.3g} nm is too small for particles of "
            f"{options.smallest_diameter_nm:g} nm: the film around them must be seen, at least "
            f"{_SMALLEST_FIELDS:g} diameters across. Use a larger field of view, or check the pixel "
            f"size ({pixel_size_nm:g} nm)."
        )
    per_px = pixel_size_nm * options.diameter_per_radius
    largest_px = min(options.largest_diameter_nm / per_px, min(image.shape) / 4)
    film = find_film(
        image,
        3.0 * largest_px,
        polarity=options.shot,
        block_px=max(1, int(options.expected_diameter_nm / per_px)),
        dark_level=options.dark_level,
    )
    factor = 1 if segmenter else coarseness(options.smallest_diameter_nm / per_px)
    contrast, coarse = contrast_over(
        image, options.dark_level, film.nodes, film.cell_px, film.floor, options.shot, factor
    )
    found = detect(
        coarse,
        factor,
        options.dome,
        film=film,
        expected_px=options.expected_diameter_nm / per_px,
        false_islands=options.false_islands,
        known=known,
        given=_checked(segmenter(image), image.shape) if segmenter else None,
    )
    if segmenter is None:
        found = find_textured(coarse, found, options, pixel_size_nm)
    return Prepared(contrast, coarse, film, found)


def check_scale(pixel_size_nm: float, options: ParticleOptions) -> None:
    """Refuse a pixel that is too coarse for the smallest particles wanted.

    Raises:
        MeasureError: their footprint radius would be below a pixel.
    """
    per_px = pixel_size_nm * options.diameter_per_radius
    if options.smallest_diameter_nm / per_px < 1.0:
        raise MeasureError(
            f"a pixel of {pixel_size_nm:g} nm is too coarse for particles of "
            f"{options.smallest_diameter_nm:g} nm: their footprint radius must be at least a pixel. "
            f"Use a smaller field of view, or raise smallest_diameter above {per_px:.3g} nm."
        )


def _checked(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Labels numbered from 1 without gaps."""
    labels = np.asarray(labels)
    if labels.shape != shape or labels.dtype.kind not in "uib":
        raise MeasureError(
            f"a segmenter gave an array of shape {labels.shape} and type {labels.dtype}: integer "
            f"labels of the image's shape {shape} are needed, 0 for film."
        )
    names, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(shape).astype(np.int32)
    # 0 need not occur, and what lies below it is no particle
    film = int(np.searchsorted(names, 0, side="right"))
    return np.asarray(np.maximum(numbers - (film - 1), 0), dtype=np.int32)
