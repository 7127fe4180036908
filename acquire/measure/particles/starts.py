"""Says from which circles the fits of what was detected start, and what the image's border cuts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.shapes import BlurredDome, half_height_radius


def first_radius(detection: Detection, dome: BlurredDome, blur_px: float) -> NDArray[np.float64]:
    """Footprint radius (px) from the area above half height, less the smoothing."""
    half = np.sqrt(detection.half_area_px / np.pi) / half_height_radius(dome.exponent)
    smear = detection.smoothing_px**2 + blur_px**2
    return np.asarray(np.sqrt(np.maximum(half**2 - 1.5 * smear, 0.25 * half**2 + 0.5)))


def cut_by_border(detection: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Sides (4, n) of the image, top, bottom, left, right, that a particle's core touches."""
    edges = (detection.top_px, detection.bottom_px, detection.left_px, detection.right_px)
    return _cut_sides(*edges, detection.factor, shape[0], shape[1])


@compiled
def _cut_sides(
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    edge: int,
    rows: int,
    columns: int,
) -> NDArray[np.bool_]:
    cut = np.empty((4, len(top)), np.bool_)
    for p in range(len(top)):
        cut[0, p], cut[1, p] = top[p] < edge, bottom[p] > rows - edge
        cut[2, p], cut[3, p] = left[p] < edge, right[p] > columns - edge
    return cut


def starting_circles(
    detection: Detection, shape: tuple[int, ...], dome: BlurredDome, blur_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (n, 2) and radii to start from; of a cut particle the circle through its visible part.

    A circle whose centre lies beyond the border shows a chord w and a depth h < w/2, of which
    R = (w²/4 + h²) / 2h; otherwise it shows its whole width.
    """
    radius = first_radius(detection, dome, blur_px)
    places = np.stack([detection.y_px, detection.x_px], axis=1)
    cut = cut_by_border(detection, shape)
    high = detection.bottom_px - detection.top_px
    wide = detection.right_px - detection.left_px
    core = half_height_radius(dome.exponent)
    _complete(places, radius, cut, high, wide, core, shape[0], shape[1])
    return places, radius


@compiled
def _complete(
    places: NDArray[np.float64],
    radius: NDArray[np.float64],
    cut: NDArray[np.bool_],
    high: NDArray[np.float64],
    wide: NDArray[np.float64],
    core: float,
    rows: int,
    columns: int,
) -> None:
    """Place and radius, in place, of what one side of the image cuts."""
    for p in range(len(radius)):
        if cut[:, p].sum() != 1:
            continue
        side = int(np.argmax(cut[:, p]))
        depth, chord = (high[p], wide[p]) if side < 2 else (wide[p], high[p])
        circle = 0.5 * chord
        if depth < circle:
            circle = (circle * circle + depth * depth) / (2.0 * depth)
        away = depth - circle
        if side % 2:
            away = (rows if side < 2 else columns) - away
        places[p, 0 if side < 2 else 1] = away
        radius[p] = circle / core
