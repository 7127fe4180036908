"""Measures the particles of one image: film, detection, profile fits, table and summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import AnyArray
from acquire.measure.particles.background import film_level
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.detect import Detection, Known, detect
from acquire.measure.particles.shapes import BlurredDome, Shape, blurred_dome
from acquire.measure.particles.size import Sizes, first_radius, fit_domes
from acquire.measure.particles.summary import COLUMNS, SummaryContext, no_values, summarise
from acquire.stream.records import Value

_MASK_SIGMA = 0.15
"""Relative σ of a diameter that comes from the mask alone."""
_KNOWN_REACH_NM = 2.0
_TRUSTED_SHARE = 0.8
"""Where places are known from earlier frames, particles this much fainter are found."""
_WORST_CHI2 = 4.0
_BUMP_MARGIN = 16.0


@dataclass(frozen=True, slots=True)
class ParticleOptions:
    """How an image is measured; every length in nm."""

    polarity: Literal["bright", "dark"] = "bright"
    """``bright`` for HAADF, ``dark`` for ABF and bright field."""
    shape: Shape = Shape.HEMISPHERE
    exponent: float | None = None
    """m of (1 - r²/R²)^m, calibrated and held; None takes the shape's own."""
    probe_sigma_nm: float = 0.2
    """Standard deviation of the probe along one axis (FWHM / 2.355), held."""
    expected_diameter_nm: float = 4.0
    """The size that detection is tuned for."""
    smallest_diameter_nm: float = 2.0
    largest_diameter_nm: float = 20.0
    false_islands: float = 0.002
    """How many islands of noise may pass for particles in one frame, on average."""
    dark_level: float = 0.0
    """Counts of the detector without beam."""

    @property
    def dome(self) -> BlurredDome:
        """The profile that is fitted."""
        return blurred_dome(self.shape.exponent if self.exponent is None else self.exponent)


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
) -> ParticleMeasurement:
    """Size every particle of a detector image (y, x) of integers or floats.

    ``known_nm`` (n, 2) are places (y, x) where earlier frames of the same film had particles: what
    is there now is told as ``known_snr``, and where ``trusted`` (n,) a fainter particle is accepted.

    An image that cannot be measured (not finite, beam off, constant) gives NaN values and a flag;
    an empty field gives count 0, NaN diameters and ``no_particles``. Flags that accompany numbers:
    ``saturated``, ``few_particles``, ``near_limit`` (many particles barely above the noise, or
    below the smallest diameter: small ones are missed and the mean is too high), ``many_unfitted``, ``polarity`` (the film has dips
    but no rises: the polarity is probably wrong).

    Raises:
        MeasureError: the array is no image, or the pixel size cannot be used.
    """
    options = options or ParticleOptions()
    image = np.asarray(image)
    check_image(image, pixel_size_nm)
    per_px = pixel_size_nm * options.shape.diameter_per_radius
    if options.largest_diameter_nm / per_px > min(image.shape) / 4:
        largest_px = min(image.shape) / 4
    else:
        largest_px = options.largest_diameter_nm / per_px
    if options.smallest_diameter_nm / per_px < 1.0:
        raise MeasureError(
            f"a pixel of {pixel_size_nm:g} nm is too coarse for particles of "
            f"{options.smallest_diameter_nm:g} nm: their footprint radius must be at least a pixel. "
            f"Use a smaller field of view, or raise smallest_diameter above {per_px:.3g} nm."
        )
    flags = image_flags(image, options.dark_level)
    if UNMEASURABLE.intersection(flags):
        return ParticleMeasurement(empty_table(), no_values(), flags, float("nan"))
    signal = image.astype(np.float32)
    if options.dark_level:
        signal -= np.float32(options.dark_level)
    sign = 1 if options.polarity == "bright" else -1
    film = film_level(signal, 3.0 * largest_px, polarity=sign)
    contrast = signal
    contrast /= film
    contrast -= 1.0
    if sign < 0:
        np.negative(contrast, out=contrast)
    known = None
    if known_nm is not None and len(known_nm):
        relied = np.ones(len(known_nm), bool) if trusted is None else trusted
        known = Known(known_nm / pixel_size_nm, relied, _KNOWN_REACH_NM / pixel_size_nm)
    found = detect(
        contrast,
        options.dome,
        film=film,
        expected_px=options.expected_diameter_nm / per_px,
        smallest_px=options.smallest_diameter_nm / per_px,
        false_islands=options.false_islands,
        known=known,
    )
    level = float(np.median(film[::8, ::8]))
    if found.dips > 4 * max(found.rises, 4):
        flags = (*flags, "polarity")
    table, inside = _measure(contrast, found, options, pixel_size_nm)
    near = int(np.count_nonzero(table["snr"] < 1.25 * found.seed_snr))
    relying = trusted is not None and bool(trusted.any())
    context = SummaryContext(
        height_nm=image.shape[0] * pixel_size_nm,
        width_nm=image.shape[1] * pixel_size_nm,
        inside=inside,
        footprint_per_diameter=2.0 / options.shape.diameter_per_radius,
        doubtful=near,
        smallest_nm=options.smallest_diameter_nm,
        seed_snr=found.seed_snr * (_TRUSTED_SHARE if relying else 1.0),
    )
    values, more = summarise(table, context)
    if near > 0.25 * len(inside) and "near_limit" not in more:
        more = (*more, "near_limit")
    return ParticleMeasurement(
        table,
        values,
        (*flags, *more),
        level,
        found.seed_snr,
        found.known_snr,
        found.candidates_px * pixel_size_nm,
        context,
    )


def _measure(
    contrast: NDArray[np.float32],
    found: Detection,
    options: ParticleOptions,
    pixel_size_nm: float,
) -> tuple[dict[str, AnyArray], NDArray[np.bool_]]:
    if len(found) == 0:
        return empty_table(), np.zeros(0, bool)
    dome, probe_px = options.dome, options.probe_sigma_nm / pixel_size_nm
    per_px = pixel_size_nm * options.shape.diameter_per_radius
    sizes = fit_domes(contrast, found, dome, probe_px)
    by_mask = first_radius(found, dome, probe_px)
    border = _touches(found, contrast.shape)
    reach = np.minimum.reduce(
        [sizes.y_px, sizes.x_px, contrast.shape[0] - sizes.y_px, contrast.shape[1] - sizes.x_px]
    )
    good = _good(sizes, by_mask) & ~border
    border |= np.where(good, sizes.radius_px, by_mask) > reach
    good &= ~border
    island = ~border & (sizes.bump_chi2 < -_BUMP_MARGIN)
    # at a known place a faint maximum that is no dome either is noise
    noise = ~border & ~good & (found.peak_snr < found.seed_snr)
    keep = ~(island | noise)
    radius = np.where(good, sizes.radius_px, by_mask)
    sigma = np.where(good, sizes.radius_sigma_px, _MASK_SIGMA * by_mask)
    table: dict[str, AnyArray] = {
        "id": np.arange(len(found), dtype=np.int64),
        "x_nm": np.where(border, found.x_px, sizes.x_px) * pixel_size_nm,
        "y_nm": np.where(border, found.y_px, sizes.y_px) * pixel_size_nm,
        "diameter_nm": radius * per_px,
        "diameter_sigma_nm": sigma * per_px,
        "mask_diameter_nm": 2.0 * np.sqrt(found.half_area_px / np.pi) * pixel_size_nm,
        "contrast": np.where(good, sizes.height, found.peak),
        "snr": found.peak_snr,
        "chi2": sizes.chi2,
        "border": border.astype(np.int64),
        "fitted": good.astype(np.int64),
    }
    inside = ~border | _centre_inside(found, contrast.shape)
    table = {name: column[keep] for name, column in table.items()}
    table["id"] = np.arange(int(keep.sum()), dtype=np.int64)
    return table, inside[keep]


def _good(sizes: Sizes, by_mask: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the dome fits and its radius is determined."""
    ratio = sizes.radius_px / by_mask
    return np.asarray(
        (sizes.chi2 < _WORST_CHI2)
        & (sizes.height > 0)
        & (sizes.radius_sigma_px < 0.5 * sizes.radius_px)
        & (ratio > 0.4)
        & (ratio < 2.3)
    )


def _touches(found: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    edge = found.factor
    return np.asarray(
        (found.top_px < edge)
        | (found.left_px < edge)
        | (found.bottom_px > shape[0] - edge)
        | (found.right_px > shape[1] - edge)
    )


def _centre_inside(found: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a cut particle reaches into the image by at least half of its length along the cut."""
    high = found.bottom_px - found.top_px
    wide = found.right_px - found.left_px
    edge = found.factor
    cut_y = (found.top_px < edge) | (found.bottom_px > shape[0] - edge)
    cut_x = (found.left_px < edge) | (found.right_px > shape[1] - edge)
    return np.asarray((~cut_y | (high >= 0.5 * wide)) & (~cut_x | (wide >= 0.5 * high)))


def empty_table() -> dict[str, AnyArray]:
    """The table of an image without particles."""
    whole = {"id", "border", "fitted"}
    return {name: np.zeros(0, np.int64 if name in whole else np.float64) for name in COLUMNS}
