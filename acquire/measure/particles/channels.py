"""Chooses the detector that shows the particles best, by contrast over noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.measure import plain_image
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import prepare

Polarity = Literal["bright", "dark"]
_BOTH: tuple[Polarity, ...] = ("bright", "dark")

_USUAL: Mapping[str, Polarity] = {
    **dict.fromkeys(("haadf", "adf", "maadf", "laadf", "df", "dark_field"), "bright"),
    **dict.fromkeys(("abf", "bf", "bright_field"), "dark"),
}
_BEST = 8
"""A channel is scored by so many of its clearest particles."""
_UNFIT = UNMEASURABLE | {"saturated"}
"""Flags of an image whose sizes could not be trusted, whatever it shows."""
_OTHERS_PER_OWN = 2
_FEWEST_OTHERS = 16


@dataclass(frozen=True, slots=True)
class ChannelScore:
    """How well one detector shows particles."""

    channel: str
    polarity: Polarity
    contrast_to_noise: float
    """Median of the clearest particles, after the best filter; 0 where none is found."""
    particles: int
    evidence: float = 0.0
    """Root of the sum of their squared contrasts over noise, by which channels are ranked: one clear
    particle counts for less than many that are almost as clear."""
    flags: tuple[str, ...] = ()
    """Why the image is unfit to be sized, if it is; it then scores 0."""


def usual_polarity(channel: str) -> Polarity | None:
    """What nickel on the film looks like on a detector of this name; None if the name does not tell.

    Boundaries and holes of a film look the other way round, and last as particles do.
    """
    return _USUAL.get(channel.lower())


def score_channels(
    images: Mapping[str, NDArray[Any]], pixel_size_nm: float, options: ParticleOptions | None = None
) -> tuple[ChannelScore, ...]:
    """Every detector's image of the same place, in both polarities: the best first.

    An image that cannot be measured or is saturated scores 0, and so does a polarity in which the
    film between dense particles would pass for particles. Bright wins over dark, and the first name
    over later ones, where scores are equal.

    Raises:
        MeasureError: an array is no image, or the pixel size cannot be used.
    """
    options = options or ParticleOptions()
    scores: list[ChannelScore] = []
    for channel, array in images.items():
        image = plain_image(array)
        check_image(image, pixel_size_nm)
        flags = image_flags(image, options.dark_level)
        if _UNFIT.intersection(flags):
            scores += [ChannelScore(channel, polarity, 0.0, 0, 0.0, flags) for polarity in _BOTH]
            continue
        bright, dark = (
            prepare(image, pixel_size_nm, replace(options, polarity=polarity)).found
            for polarity in _BOTH
        )
        scores += [_score(channel, "bright", bright, dark), _score(channel, "dark", dark, bright)]
    return tuple(sorted(scores, key=lambda score: -score.evidence))


def _score(channel: str, polarity: Polarity, found: Detection, other: Detection) -> ChannelScore:
    clearest = np.sort(found.peak_snr)[::-1][:_BEST]
    if not len(clearest) or _inverted(found, other):
        return ChannelScore(channel, polarity, 0.0, 0)
    evidence = math.sqrt(float(np.sum(np.square(clearest, dtype=np.float64))))
    return ChannelScore(
        channel, polarity, float(np.median(clearest)), len(found.peak_snr), evidence
    )


def _inverted(found: Detection, other: Detection) -> bool:
    """Whether what was found is the film between particles of the other polarity."""
    others = max(found.dips, other.rises)
    return others >= _FEWEST_OTHERS and others > _OTHERS_PER_OWN * found.rises


def choose_channel(
    images: Mapping[str, NDArray[Any]], pixel_size_nm: float, options: ParticleOptions | None = None
) -> ChannelScore:
    """The detector, with its polarity, in which particles stand out most.

    Raises:
        MeasureError: no image shows any particle, or see :func:`score_channels`.
    """
    scores = score_channels(images, pixel_size_nm, options)
    if not scores or scores[0].evidence == 0.0:
        names = ", ".join(images) or "none"
        raise MeasureError(
            f"none of the channels shows particles (looked at: {names}). Name the channel, or wait "
            "until there are particles."
        )
    return scores[0]


def settle_channel(series: Sequence[Sequence[ChannelScore]]) -> ChannelScore | None:
    """The best over several frames, each scored by :func:`score_channels`.

    Only what shows particles in every frame counts: noise does not pass for one several times
    running. Numbers are means over the frames.

    Returns:
        None if no channel does, or there are no frames.
    """
    by_frame = [{(score.channel, score.polarity): score for score in frame} for frame in series]
    best: ChannelScore | None = None
    for key in by_frame[0] if by_frame else ():
        scores = [frame[key] for frame in by_frame if key in frame]
        if len(scores) < len(by_frame) or not all(score.evidence > 0 for score in scores):
            continue
        pooled = replace(
            scores[0],
            contrast_to_noise=float(np.mean([score.contrast_to_noise for score in scores])),
            particles=round(float(np.mean([score.particles for score in scores]))),
            evidence=float(np.mean([score.evidence for score in scores])),
        )
        # the order of the first frame decides between equals
        if best is None or pooled.evidence > best.evidence:
            best = pooled
    return best
