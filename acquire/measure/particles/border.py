"""Fits the particles that the image's border cuts anew: centre, radius and height at once.

Rings see part of a circle there, and centre and radius trade against each other: found in turn they
stop short, with the centre too far inside. A count of centres inside needs them unbiased.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.arrays import median_of_few, negative_side_sigma
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.shapes import BlurredDome
from acquire.measure.particles.size import PIXEL_VARIANCE, Sizes
from acquire.measure.particles.starts import cut_by_border
from acquire.measure.particles.surface import fit_beside, neighbours

_FEWEST = 5
_SPREAD = 0.15
"""How far heights are taken to scatter about the common steepness, in their logarithm."""
_FARTHEST = 1.0
"""A centre that goes beyond the border by more than this share of its radius is not believed."""
_GROWS = 2.5


def fit_cut(
    coarse: NDArray[np.float32],
    shape: tuple[int, ...],
    found: Detection,
    sizes: Sizes,
    dome: BlurredDome,
    blur_px: float,
    shot: int,
) -> Sizes:
    """Sizes with y, x, radius and height of what touches the border fitted to its blocks.

    ``coarse`` holds the contrast's means over the detection's blocks, ``shape`` is the image's. The
    height is held near the steepness of the whole particles, without five of which nothing changes.
    """
    touching = np.nonzero(cut_by_border(found, shape).any(axis=0) & (sizes.height > 0))[0]
    if not len(touching) or dome.exponent == 0.0:
        return sizes
    steepness, sigma = _steepness(sizes, touching), negative_side_sigma(coarse)
    if steepness == 0.0 or sigma == 0.0:
        return sizes
    factor = found.factor
    blur = float(np.sqrt(blur_px**2 + PIXEL_VARIANCE * factor**2)) / factor
    domes = np.empty((len(found), 4))
    domes[:, 0], domes[:, 1] = sizes.y_px, sizes.x_px
    domes[:, 2] = sizes.radius_px
    domes[:, :3] /= factor
    domes[:, 3] = np.maximum(sizes.height, 1e-6)
    start = domes[touching]
    alive = sizes.height > 0
    steep = steepness * factor
    _fit_each(coarse, domes, touching, alive, dome.values, blur, sigma**2, shot, steep)
    cut = domes[touching]
    over = np.maximum(-cut[:, :2], cut[:, :2] - np.array(coarse.shape)).max(axis=1)
    sound = np.isfinite(cut).all(axis=1) & (over < _FARTHEST * cut[:, 2])
    ratio = cut[:, 2] / start[:, 2]
    sound &= (ratio < _GROWS) & (ratio > 1.0 / _GROWS)
    cut[~sound] = start[~sound]
    cut[:, :3] *= factor
    y, x, radius, height = (
        values.copy() for values in (sizes.y_px, sizes.x_px, sizes.radius_px, sizes.height)
    )
    y[touching], x[touching], radius[touching], height[touching] = cut.T
    return replace(sizes, y_px=y, x_px=x, radius_px=radius, height=height)


@compiled
def _fit_each(
    coarse: NDArray[np.float32],
    domes: NDArray[np.float64],
    which: NDArray[np.int64],
    alive: NDArray[np.bool_],
    values: NDArray[np.float64],
    blur: float,
    white: float,
    shot: int,
    steep: float,
) -> None:
    """Fit the domes ``which`` in turn, in place, each beside those around it."""
    for k in which:
        near = neighbours(domes, k, alive, blur)
        domes[k, 2] = max(domes[k, 2], domes[k, 3] / steep)
        fit_beside(coarse, domes, k, near, values, blur, white, shot, steep, _SPREAD)


def _steepness(sizes: Sizes, touching: NDArray[np.intp]) -> float:
    whole = np.ones(len(sizes.height), np.bool_)
    whole[touching] = False
    whole &= (sizes.height > 0) & (sizes.radius_sigma_px < 0.1 * sizes.radius_px)
    if np.count_nonzero(whole) < _FEWEST:
        return 0.0
    return median_of_few(sizes.height[whole] / sizes.radius_px[whole])
