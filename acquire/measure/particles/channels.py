"""Chooses the detector that shows the particles best, by contrast over noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.measure import plain_image
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import prepare

_BEST = 8
"""A channel is scored by the median of so many of its clearest particles."""


@dataclass(frozen=True, slots=True)
class ChannelScore:
    """How well one detector shows particles."""

    channel: str
    polarity: Literal["bright", "dark"]
    contrast_to_noise: float
    """Of the clearest particles, after the best filter; 0 where none is found."""
    particles: int


def score_channels(
    images: Mapping[str, NDArray[Any]], pixel_size_nm: float, options: ParticleOptions | None = None
) -> tuple[ChannelScore, ...]:
    """Every detector's image of the same place, in both polarities: the best first.

    An image that cannot be measured scores 0. Bright wins over dark, and the first name over later
    ones, where scores are equal.

    Raises:
        MeasureError: an array is no image, or the pixel size cannot be used.
    """
    options = options or ParticleOptions()
    scores = []
    for channel, array in images.items():
        image = plain_image(array)
        check_image(image, pixel_size_nm)
        useless = bool(UNMEASURABLE.intersection(image_flags(image, options.dark_level)))
        for polarity in ("bright", "dark"):
            chosen = replace(options, polarity=polarity)
            if useless:
                scores.append(ChannelScore(channel, chosen.polarity, 0.0, 0))
                continue
            snr = np.sort(prepare(image, pixel_size_nm, chosen).found.peak_snr)[::-1]
            clear = float(np.median(snr[:_BEST])) if len(snr) else 0.0
            scores.append(ChannelScore(channel, chosen.polarity, clear, len(snr)))
    return tuple(sorted(scores, key=lambda score: -score.contrast_to_noise))


def choose_channel(
    images: Mapping[str, NDArray[Any]], pixel_size_nm: float, options: ParticleOptions | None = None
) -> ChannelScore:
    """The detector, with its polarity, in which particles stand out most.

    Raises:
        MeasureError: no image shows any particle, or see :func:`score_channels`.
    """
    scores = score_channels(images, pixel_size_nm, options)
    if not scores or scores[0].contrast_to_noise == 0.0:
        names = ", ".join(images) or "none"
        raise MeasureError(
            f"none of the channels shows particles (looked at: {names}). Name the channel, or wait "
            "until there are particles."
        )
    return scores[0]
