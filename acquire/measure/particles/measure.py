"""Measures the particles of one image: film, detection, profile fits, table and summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.detect import Known
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.polarity import seems_inverted
from acquire.measure.particles.prepare import Segmenter, check_scale, prepare
from acquire.measure.particles.summary import SummaryContext, no_values, summarise
from acquire.measure.particles.tables import empty_table, tabulate
from acquire.stream.records import Value

__all__ = ["ParticleMeasurement", "ParticleOptions", "empty_table", "measure_particles"]

_KNOWN_REACH_NM = 2.0
_TRUSTED_SHARE = 0.8
"""Where places are known from earlier frames, particles this much fainter are found."""


@dataclass(frozen=True, slots=True)
class ParticleMeasurement:
    """What one image says of its particles."""

    table: Mapping[str, AnyArray]
    """Columns as in :data:`COLUMNS`; ``id`` counts from 0 in this image."""
    values: Mapping[str, Value]
    flags: tuple[str, ...]
    level: float
    """Median of the film in counts; NaN where it was not measured."""
    seed_snr: float = math.inf
    """SNR that a particle needed to be found in this image alone."""
    known_snr: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Highest SNR near each of the known places; NaN outside of the image."""
    candidates_nm: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """Places (n, 2) as (y, x) too faint for this frame alone, worth to be known in the next."""
    context: SummaryContext | None = None
    """What the values were condensed with; None where nothing was measured."""


def measure_particles(
    image: NDArray[Any],
    pixel_size_nm: float,
    options: ParticleOptions | None = None,
    known_nm: NDArray[np.float64] | None = None,
    trusted: NDArray[np.bool_] | None = None,
    *,
    segmenter: Segmenter | None = None,
) -> ParticleMeasurement:
    """Size every particle of a detector image (y, x) of integers or floats.

    ``known_nm`` (n, 2) are places (y, x) where earlier frames of the same film had particles: what
    is there now is told as ``known_snr``, and where ``trusted`` (n,) a fainter particle is accepted.
    A ``segmenter`` says where particles are in hotstage's stead.

    An image that cannot be measured (not finite, beam off, constant, ``incomplete``: rows repeat or
    are dark, as if the scan had not been recorded to its end) gives NaN values and a flag;
    an empty field gives count 0, NaN diameters and ``no_particles``. Flags that accompany numbers:
    ``saturated``, ``few_particles``, ``near_limit`` (many particles barely above the noise, or
    below the smallest diameter: small ones are missed and the mean is too high), ``many_unfitted``, ``crowded`` (so many overlap
    that others are hidden under them: the count is too low and the mean too high),
    ``polarity`` (the film has dips rather than rises: the polarity is probably wrong).

    Raises:
        MeasureError: the array is no image, the pixel size cannot be used, or the segmenter's
            answer is no label image.
    """
    options = options or ParticleOptions()
    image = plain_image(image)
    check_image(image, pixel_size_nm)
    check_scale(pixel_size_nm, options)
    flags = image_flags(image, options.dark_level)
    if UNMEASURABLE.intersection(flags):
        return ParticleMeasurement(empty_table(), no_values(), flags, float("nan"))
    known = None
    if known_nm is not None and len(known_nm):
        relied = np.ones(len(known_nm), bool) if trusted is None else trusted
        known = Known(known_nm / pixel_size_nm, relied, _KNOWN_REACH_NM / pixel_size_nm)
    ready = prepare(image, pixel_size_nm, options, known, segmenter)
    found = ready.found
    if seems_inverted(image, pixel_size_nm, options, found):
        flags = (*flags, "polarity")
    sized = tabulate(ready, options, pixel_size_nm, given=segmenter is not None)
    near = int(np.count_nonzero(sized.table["snr"] < 1.25 * found.seed_snr))
    relying = trusted is not None and bool(trusted.any())
    context = SummaryContext(
        height_nm=image.shape[0] * pixel_size_nm,
        width_nm=image.shape[1] * pixel_size_nm,
        inside=sized.inside,
        footprint_per_diameter=2.0 / options.diameter_per_radius,
        doubtful=near,
        smallest_nm=options.smallest_diameter_nm,
        seed_snr=found.seed_snr * (_TRUSTED_SHARE if relying else 1.0),
    )
    values, more = summarise(sized.table, context)
    if near > 0.25 * len(sized.inside) and "near_limit" not in more:
        more = (*more, "near_limit")
    return ParticleMeasurement(
        sized.table,
        values,
        (*flags, *more),
        float(np.median(ready.film.nodes)),
        found.seed_snr,
        found.known_snr,
        found.candidates_px * pixel_size_nm,
        context,
    )


def plain_image(image: NDArray[Any]) -> NDArray[Any]:
    """The image as the compiled loops take it: contiguous, in native byte order, of few types."""
    image = np.asarray(image)
    if image.dtype.kind not in "uif":
        return image
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        with np.errstate(over="ignore"):  # inf is then told as such
            image = image.astype(np.float32)
    return np.ascontiguousarray(image)
