"""Measures one frame of a stream as the live estimator does, in this process or in another one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import AnyArray, Frame
from acquire.measure.particles.measure import (
    ParticleMeasurement,
    ParticleOptions,
    measure_particles,
)
from acquire.measure.particles.prepare import Segmenter
from acquire.measure.particles.summary import no_values


def measure_declared(
    image: AnyArray,
    shape: tuple[int, ...],
    kind: np.dtype[np.generic],
    pixel_size_nm: float,
    options: ParticleOptions,
    segmenter: Segmenter | None = None,
    known_nm: NDArray[np.float64] | None = None,
    trusted: NDArray[np.bool_] | None = None,
) -> ParticleMeasurement:
    """As :func:`measure_particles`; ``unreadable`` where the image is not as it was declared.

    Args:
        image: what came.
        shape: that its stream declared.
        kind: type of the pixels that its stream declared.
        pixel_size_nm: side of a pixel.
        options: of the measurement.
        segmenter: finds the particles in hotstage's stead.
        known_nm: places (n, 2) as (y, x) of particles in earlier frames.
        trusted: (n,) where a fainter particle is accepted.
    """
    unreadable = ParticleMeasurement({}, no_values(), ("unreadable",), math.nan)
    if image.shape != shape or image.dtype != kind:
        return unreadable
    try:
        return measure_particles(
            image, pixel_size_nm, options, known_nm, trusted, segmenter=segmenter
        )
    except MeasureError:
        return unreadable


def measure_alone(
    channel: str,
    shape: tuple[int, ...],
    kind: np.dtype[np.generic],
    pixel_size_nm: float,
    options: ParticleOptions,
    segmenter: Segmenter | None,
    frame: Frame,
) -> ParticleMeasurement | None:
    """A channel of a frame, without anything that earlier frames have taught; None if it lacks it."""
    image = frame.data.get(channel)
    if image is None:
        return None
    return measure_declared(image, shape, kind, pixel_size_nm, options, segmenter)
