"""Finds particles in a contrast image: noise-aware smoothing, hysteresis threshold, splitting.

Detection only says where and roughly how large; sizes come from :mod:`..size`, because the area
above a threshold that follows the noise grows with dose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.arrays import block_mean, negative_side_sigma

_SCALES = (0.22, 0.32, 0.45)
"""Smoothing tried, as standard deviation over the footprint diameter expected."""
_VALLEY = 0.25
"""A dip between two peaks of this share of the lower one is a neck."""


@dataclass(frozen=True)
class Detection:
    """Where particles are. Lengths are in pixels of the full image; one entry per particle."""

    labels: NDArray[np.int32]
    """(y, x) on a grid ``factor`` times coarser; 0 is film, i + 1 is particle i."""
    factor: int
    y_px: NDArray[np.float64]
    """Centroids; pixel i spans i … i + 1."""
    x_px: NDArray[np.float64]
    half_area_px: NDArray[np.float64]
    """Area above half of the particle's own peak: independent of noise and dose."""
    top_px: NDArray[np.float64]
    """Extent of that area: first and last edge along y and x."""
    bottom_px: NDArray[np.float64]
    left_px: NDArray[np.float64]
    right_px: NDArray[np.float64]
    peak: NDArray[np.float64]
    """Highest smoothed contrast."""
    peak_snr: NDArray[np.float64]
    smoothing_px: float
    sigma: float
    """Noise and texture of the smoothed contrast."""
    dips: int
    """Pixels below minus the seed threshold: many of them mean a wrong polarity."""
    rises: int

    def __len__(self) -> int:
        return len(self.peak)


def detect(
    contrast: NDArray[np.float32],
    *,
    expected_px: float,
    smallest_px: float,
    seed_snr: float = 4.7,
    grow_snr: float = 2.5,
) -> Detection:
    """Find the particles of a contrast image (y, x): film 0, particles positive.

    ``smallest_px`` is the footprint diameter of the smallest particle wanted; it sets the coarse
    grid (at least four cells across). The smoothing is chosen between that and ``expected_px`` by
    the contrast over noise *after* smoothing, since real noise and texture are correlated.
    A particle has a pixel above ``seed_snr`` σ and extends down to ``grow_snr`` σ.
    """
    factor = max(1, int(smallest_px / 4.0))
    coarse = block_mean(contrast, factor)
    smoothed, scale, sigma = _best_smoothing(coarse, expected_px / factor, smallest_px / factor)
    high, low = seed_snr * sigma, grow_snr * sigma
    seeds = smoothed > high
    dips = int(np.count_nonzero(smoothed < -high))
    empty = np.zeros(0)
    if sigma == 0.0 or not seeds.any():
        nothing = np.zeros(coarse.shape, np.int32)
        return Detection(
            nothing, factor, *(empty,) * 8, scale * factor, sigma, dips, int(seeds.sum())
        )
    grown, _ = ndimage.label(smoothed > low)
    labels = _split(smoothed, grown, scale, high, 3.0 * sigma)
    return _describe(smoothed, labels, factor, scale, sigma, dips, int(seeds.sum()))


def _best_smoothing(
    coarse: NDArray[np.float32], expected: float, smallest: float
) -> tuple[NDArray[np.float32], float, float]:
    best: tuple[float, NDArray[np.float32], float, float] | None = None
    scales = sorted({max(share * size, 0.5) for size in (expected,) for share in _SCALES})
    scales = [max(0.22 * smallest, 0.5), *[s for s in scales if s > 0.3 * smallest]]
    for scale in scales:
        smoothed = ndimage.gaussian_filter(coarse, scale, mode="nearest", truncate=3.0)
        sigma = negative_side_sigma(smoothed[::2, ::2])
        if sigma == 0.0:
            return smoothed, scale, 0.0
        # the strong tail of the field, not its single brightest pixel
        tail = np.partition(smoothed.ravel(), -max(4, smoothed.size // 400))
        score = float(tail[-max(4, smoothed.size // 400)]) / sigma
        if best is None or score > 1.1 * best[0]:
            best = (score, smoothed, scale, sigma)
    assert best is not None
    return best[1:]


def _split(
    smoothed: NDArray[np.float32],
    grown: NDArray[np.int32],
    scale: float,
    high: float,
    noise: float,
) -> NDArray[np.int32]:
    """Label every peak that a neck divides from the others of its island; drop seedless islands."""
    size = 2 * max(1, round(scale)) + 1
    peaks = (smoothed == ndimage.maximum_filter(smoothed, size, mode="nearest")) & (smoothed > high)
    ys, xs = np.nonzero(peaks)
    order = np.argsort(-smoothed[ys, xs], kind="stable")
    ys, xs = ys[order], xs[order]
    islands = grown[ys, xs]
    kept: dict[int, list[int]] = {}
    for i, island in enumerate(islands):
        rivals = kept.setdefault(int(island), [])
        if all(_neck(smoothed, ys[i], xs[i], ys[j], xs[j], noise) for j in rivals):
            rivals.append(i)
    relabel = np.zeros(int(grown.max()) + 1, np.int32)
    crowded = []
    number = 0
    for island, members in kept.items():
        number += 1
        relabel[island] = number
        if len(members) > 1:
            crowded.append((island, number, members))
            number += len(members) - 1
    labels = relabel[grown]
    places = ndimage.find_objects(grown)
    for island, first, members in crowded:
        box = places[island - 1]
        inside = grown[box] == island
        y, x = np.nonzero(inside)
        top, left = box[0].start, box[1].start
        distance = [np.hypot(y + top - ys[m], x + left - xs[m]) for m in members]
        reach = [max(_reach(smoothed, ys[m], xs[m], size), 1.0) for m in members]
        nearest = np.argmin([d / r for d, r in zip(distance, reach, strict=True)], axis=0)
        labels[box][inside] = first + nearest.astype(np.int32)
    return labels


def _line(
    smoothed: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int
) -> NDArray[np.float32]:
    steps = int(max(abs(y1 - y0), abs(x1 - x0))) + 1
    y = np.rint(np.linspace(y0, y1, steps)).astype(np.intp)
    x = np.rint(np.linspace(x0, x1, steps)).astype(np.intp)
    return smoothed[y, x]


def _neck(
    smoothed: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int, noise: float
) -> bool:
    """Whether the contrast between two peaks dips well below the lower one, beyond the noise."""
    lower = min(smoothed[y0, x0], smoothed[y1, x1])
    dip = lower - _line(smoothed, y0, x0, y1, x1).min()
    return bool(dip > max(_VALLEY * lower, noise))


def _reach(smoothed: NDArray[np.float32], y: int, x: int, size: int) -> float:
    """How far a peak stays above half of its height, on the shortest of four directions."""
    half = 0.5 * smoothed[y, x]
    reach = []
    for line in (smoothed[y, x:], smoothed[y, x::-1], smoothed[y:, x], smoothed[y::-1, x]):
        under = np.flatnonzero(line < half)
        reach.append(float(under[0]) if under.size else float(line.size))
    return float(np.median(reach)) if reach else float(size)


def _describe(
    smoothed: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    scale: float,
    sigma: float,
    dips: int,
    rises: int,
) -> Detection:
    count = int(labels.max())
    peak = np.zeros(count + 1, np.float32)
    at_y, at_x = np.nonzero(labels)
    owner = labels[at_y, at_x]
    value = smoothed[at_y, at_x]
    np.maximum.at(peak, owner, value)
    core = value > 0.5 * peak[owner]
    at_y, at_x, owner = at_y[core], at_x[core], owner[core]
    area = np.bincount(owner, minlength=count + 1)[1:].astype(np.float64)
    safe = np.maximum(area, 1.0)
    y_mean = np.bincount(owner, at_y, minlength=count + 1)[1:] / safe
    x_mean = np.bincount(owner, at_x, minlength=count + 1)[1:] / safe
    top = np.full(count + 1, np.iinfo(np.int64).max)
    left = top.copy()
    bottom = np.zeros(count + 1, np.int64)
    right = bottom.copy()
    np.minimum.at(top, owner, at_y)
    np.minimum.at(left, owner, at_x)
    np.maximum.at(bottom, owner, at_y + 1)
    np.maximum.at(right, owner, at_x + 1)
    return Detection(
        labels=labels,
        factor=factor,
        y_px=(y_mean + 0.5) * factor,
        x_px=(x_mean + 0.5) * factor,
        half_area_px=area * factor**2,
        top_px=top[1:].astype(np.float64) * factor,
        bottom_px=bottom[1:].astype(np.float64) * factor,
        left_px=left[1:].astype(np.float64) * factor,
        right_px=right[1:].astype(np.float64) * factor,
        peak=peak[1:].astype(np.float64),
        peak_snr=peak[1:].astype(np.float64) / sigma,
        smoothing_px=scale * factor,
        sigma=sigma,
        dips=dips,
        rises=rises,
    )
