"""Says whether particles are darker where they were taken for brighter than the film, or the reverse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from acquire.measure.particles.detect import Detection
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import prepare

_DIPS_PER_RISE = 2
_FEWEST_DIPS = 16
_FEW = 16
"""With so few particles the image is looked at the other way, too."""


def seems_inverted(
    image: NDArray[Any],
    pixel_size_nm: float,
    options: ParticleOptions,
    found: Detection,
) -> bool:
    """Whether an image (y, x), in which ``found`` was found, shows more particles of the other polarity.

    Sparse ones are dips below a film that is found all the same. Dense ones are taken for the film,
    and the film between them for noise: only looking the other way tells.
    """
    if found.dips > _DIPS_PER_RISE * found.rises and found.dips >= _FEWEST_DIPS:
        return True
    if len(found) >= _FEW:
        return False
    other = replace(options, polarity="dark" if options.polarity == "bright" else "bright")
    rises = prepare(image, pixel_size_nm, other).found.rises
    return rises > _DIPS_PER_RISE * found.rises and rises >= _FEWEST_DIPS
