"""Finds particles in a contrast image: noise-aware smoothing, hysteresis threshold, splitting.

Detection only says where and roughly how large; sizes come from :mod:`..size`, because the area
above a threshold that follows the noise grows with dose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.measure.particles.arrays import block_mean, negative_side_sigma
from acquire.measure.particles.filters import best_filter, even_noise, seed_threshold
from acquire.measure.particles.shapes import BlurredDome

_GROW_SNR = 2.5
_KNOWN_SNR = 3.2
_CANDIDATE_SNR = 4.3
_VALLEY = 0.25
"""A dip between two peaks of this share of the lower one is a neck."""


@dataclass(frozen=True)
class Known:
    """Places where earlier frames of the same film had particles."""

    places_px: NDArray[np.float64]
    """(n, 2) as (y, x)."""
    trusted: NDArray[np.bool_]
    """(n,) where a faint particle shall be accepted."""
    reach_px: float


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
    seed_snr: float
    """Threshold in σ that a particle's peak had to exceed."""
    dips: int
    """Pixels below minus the seed threshold: many of them mean a wrong polarity."""
    rises: int
    known_snr: NDArray[np.float64]
    """Highest filtered contrast over its noise at every known place."""
    candidates_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """Places (n, 2) as (y, x) worth another look: too faint for one frame."""

    def __len__(self) -> int:
        return len(self.peak)


def detect(
    contrast: NDArray[np.float32],
    dome: BlurredDome,
    *,
    film: NDArray[np.float32] | None = None,
    expected_px: float,
    smallest_px: float,
    false_islands: float = 0.002,
    known: Known | None = None,
) -> Detection:
    """Find the particles of a contrast image (y, x): film 0, particles positive.

    ``film`` is the level that the contrast is relative to: where it is low, shot noise is high, and
    the filtered image is weighted by the power of the film that makes its noise even.
    ``smallest_px`` is the footprint radius of the smallest particle wanted; it sets the coarse
    grid (at least four cells across its diameter). The filter is the one, of several smoothings
    with and without a subtracted surround, in which a dome of footprint radius ``expected_px``
    has the highest contrast over noise *after* filtering, since real noise and texture are
    correlated. A particle has a pixel above the seed threshold, which noise of the measured
    strength and correlation exceeds ``false_islands`` times per frame, and it extends down to
    2.5 σ. At ``known`` places that earlier frames made trusted, 3.2 σ are enough: so few places
    hardly ever hold a maximum of the noise, and faint particles do not come and go.
    """
    factor = max(1, int(smallest_px / 2.0))
    coarse = block_mean(contrast, factor)
    smoothed, scale, sigma = best_filter(coarse, dome, expected_px / factor)
    if film is not None:
        smoothed = even_noise(smoothed, block_mean(film, factor))
        sigma = negative_side_sigma(smoothed[::2, ::2])
    seed_snr = seed_threshold(smoothed, sigma, false_islands)
    high, low = seed_snr * sigma, _GROW_SNR * sigma
    seeds = smoothed > high
    seen = np.zeros(0)
    if known is not None:
        places, reach = known.places_px / factor, known.reach_px / factor
        seen = _highest(smoothed, places, reach) / max(sigma, 1e-30)
        near = _near(places[known.trusted], reach, smoothed.shape)
        seeds |= near & (smoothed > min(_KNOWN_SNR, seed_snr) * sigma)
    dips = int(np.count_nonzero(smoothed < -high))
    if sigma == 0.0 or not seeds.any():
        labels = np.zeros(coarse.shape, np.int32)
    else:
        islands: NDArray[np.int32] = np.zeros(coarse.shape, np.int32)
        ndimage.label(smoothed > low, output=islands)
        labels = _split(smoothed, islands, scale, seeds, 3.0 * sigma)
    rises = int(np.count_nonzero(smoothed > high))
    found = _describe(smoothed, labels, factor, scale, sigma, seed_snr, dips, rises, seen)
    return replace(found, candidates_px=_candidates(smoothed, labels, scale, sigma) * factor)


def _near(places: NDArray[np.float64], reach: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels within ``reach`` of any of the places (y, x)."""
    near = np.zeros(shape, bool)
    for y, x in places:
        box, disc = _disc(y, x, reach, shape)
        near[box] |= disc
    return near


def _candidates(
    smoothed: NDArray[np.float32], labels: NDArray[np.int32], scale: float, sigma: float
) -> NDArray[np.float64]:
    """Peaks (n, 2) outside of the particles that are nearly high enough."""
    high = (smoothed > _CANDIDATE_SNR * sigma) & (labels == 0)
    if sigma == 0.0 or not high.any():
        return np.zeros((0, 2))
    size = 2 * max(1, round(scale)) + 1
    top = high & (smoothed == ndimage.maximum_filter(smoothed, size, mode="nearest"))
    return np.asarray(np.argwhere(top) + 0.5, dtype=np.float64)


def _highest(
    image: NDArray[np.float32], places: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """Highest value within ``reach`` of each place (y, x); NaN outside of the image."""
    highest = np.full(len(places), np.nan)
    for i, (y, x) in enumerate(places):
        box, disc = _disc(y, x, reach, image.shape)
        if disc.any():
            highest[i] = float(image[box][disc].max())
    return highest


def _disc(
    y: float, x: float, reach: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    top, bottom = max(0, int(y - reach)), min(shape[0], max(0, int(y + reach) + 1))
    left, right = max(0, int(x - reach)), min(shape[1], max(0, int(x + reach) + 1))
    rows = np.square(np.arange(top, bottom) + 0.5 - y)
    columns = np.square(np.arange(left, right) + 0.5 - x)
    return (slice(top, bottom), slice(left, right)), rows[:, None] + columns < reach * reach


def _split(
    smoothed: NDArray[np.float32],
    grown: NDArray[np.int32],
    scale: float,
    seeds: NDArray[np.bool_],
    noise: float,
) -> NDArray[np.int32]:
    """Label every peak that a neck divides from the others of its island; drop seedless islands."""
    size = 2 * max(1, round(scale)) + 1
    peaks = (smoothed == ndimage.maximum_filter(smoothed, size, mode="nearest")) & seeds
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


def _line(smoothed: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int) -> NDArray[np.float32]:
    steps = int(max(abs(y1 - y0), abs(x1 - x0))) + 1
    y = np.rint(np.linspace(y0, y1, steps)).astype(np.intp)
    x = np.rint(np.linspace(x0, x1, steps)).astype(np.intp)
    return smoothed[y, x]


def _neck(smoothed: NDArray[np.float32], y0: int, x0: int, y1: int, x1: int, noise: float) -> bool:
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
    seed_snr: float,
    dips: int,
    rises: int,
    known_snr: NDArray[np.float64],
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
        seed_snr=seed_snr,
        dips=dips,
        rises=rises,
        known_snr=known_snr,
    )
