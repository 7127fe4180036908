"""Finds particles again where the film's texture hides them, with filters matched to domes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.arrays import median_of_few
from acquire.measure.particles.detect import FALSE_SHARE, Detection
from acquire.measure.particles.islands import free_film
from acquire.measure.particles.matched import Discs, find_discs, gain_of_matching
from acquire.measure.particles.noise import film_noise
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.shapes import half_height_radius

_FEWEST = 5
"""Fewer particles do not say how steep the domes of this film are."""
_CLEAR_SNR = 15.0
"""Where half of the particles stand out as far there is little to gain."""
_GAIN = 1.2
"""Least gain in SNR that is worth the time."""
_REACH_PX = 24
_LARGER = 1.3


def find_textured(
    coarse: NDArray[np.float32], found: Detection, options: ParticleOptions, pixel_size_nm: float
) -> Detection:
    """The particles of a contrast image of blocks, once smoothing has ``found`` what it can.

    Where the measured spectrum of the film promises it, domes are looked for with filters matched to
    them (:mod:`.matched`). They replace what was found at their places, and bring their centre and
    radius along; what else was found stays, be it no dome. Otherwise ``found`` is given back.
    """
    if len(found) < _FEWEST or median_of_few(found.peak_snr) > _CLEAR_SNR:
        return found
    block_nm = pixel_size_nm * found.factor
    per_block = block_nm * options.diameter_per_radius
    noise = film_noise(coarse, free_film(found.labels, 2), 1, _REACH_PX)
    blur = float(np.hypot(options.probe_sigma_nm / block_nm, np.sqrt(1.0 / 12.0)))
    usual = options.expected_diameter_nm / per_block
    if gain_of_matching(noise, options.dome, blur, usual) < _GAIN:
        return found
    # islands are the cores of domes, at least: nothing much larger is to be looked for
    seen = float(np.sqrt(found.area_px.max() / np.pi)) / found.factor
    largest = min(_LARGER * seen + 2.0, options.largest_diameter_nm / per_block)
    discs = find_discs(
        coarse,
        noise,
        options.dome,
        blur,
        (options.smallest_diameter_nm / per_block, largest),
        options.false_islands,
        FALSE_SHARE,
    )
    return merged(found, discs, half_height_radius(options.dome.exponent)) if len(discs) else found


def merged(found: Detection, discs: Discs, core: float) -> Detection:
    """What was found, with ``discs`` (in blocks) in the place of the islands under them.

    ``core`` is the radius of half height over R.
    """
    circles = np.stack([discs.y, discs.x, discs.radius], axis=1)
    painted = paint(found.labels.shape[0], found.labels.shape[1], circles)
    rows = np.clip((found.y_px / found.factor).astype(np.intp), 0, painted.shape[0] - 1)
    columns = np.clip((found.x_px / found.factor).astype(np.intp), 0, painted.shape[1] - 1)
    total = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    under = np.bincount(found.labels[painted > 0], minlength=len(found) + 1)[1:]
    stays = (painted[rows, columns] == 0) & (under < 0.3 * total)
    renumbered = np.zeros(len(found) + 1, np.int32)
    renumbered[1:][stays] = len(discs) + 1 + np.arange(np.count_nonzero(stays))
    labels = np.where(painted > 0, painted, renumbered[found.labels]).astype(np.int32)
    radius = discs.radius * found.factor
    y, x = discs.y * found.factor, discs.x * found.factor
    high, wide = (side * found.factor for side in labels.shape)
    snr = discs.snr * (found.seed_snr / discs.seed_snr)

    def joined(new: NDArray[np.float64], old: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([new, old[stays]])

    return replace(
        found,
        labels=labels,
        y_px=joined(y, found.y_px),
        x_px=joined(x, found.x_px),
        area_px=joined(np.pi * radius**2, found.area_px),
        half_area_px=joined(
            np.pi * core**2 * (radius**2 + 1.5 * found.smoothing_px**2), found.half_area_px
        ),
        top_px=joined(np.clip(y - core * radius, 0.0, high), found.top_px),
        bottom_px=joined(np.clip(y + core * radius, 0.0, high), found.bottom_px),
        left_px=joined(np.clip(x - core * radius, 0.0, wide), found.left_px),
        right_px=joined(np.clip(x + core * radius, 0.0, wide), found.right_px),
        peak=joined(discs.height, found.peak),
        peak_snr=joined(snr, found.peak_snr),
        start_px=np.concatenate(
            [np.stack([y, x, radius], axis=1), np.full((len(found), 3), np.nan)[stays]]
        ),
    )


@compiled
def paint(rows: int, columns: int, circles: NDArray[np.float64]) -> NDArray[np.int32]:
    """Labels (y, x): i + 1 within circle i (y, x, radius); where several reach, the relatively nearest."""
    labels = np.zeros((rows, columns), np.int32)
    nearest = np.ones((rows, columns), np.float32)
    for p in range(len(circles)):
        y, x, radius = circles[p]
        for i in range(max(0, int(y - radius)), min(rows, int(y + radius) + 1)):
            for j in range(max(0, int(x - radius)), min(columns, int(x + radius) + 1)):
                dy, dx = i + 0.5 - y, j + 0.5 - x
                away = (dy * dy + dx * dx) / (radius * radius)
                if away < nearest[i, j]:
                    nearest[i, j] = away
                    labels[i, j] = p + 1
    return labels
