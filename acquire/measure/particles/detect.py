"""Finds particles in a contrast image: noise-aware smoothing, hysteresis threshold, splitting.

Detection only says where and roughly how large; sizes come from :mod:`..size`, because the area
above a threshold that follows the noise grows with dose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.measure.particles.arrays import negative_side_sigma
from acquire.measure.particles.background import Film
from acquire.measure.particles.filters import best_filter, even_noise, peak_rate, seed_threshold
from acquire.measure.particles.islands import count_beyond, find_peaks
from acquire.measure.particles.runs import describe, islands_of, runs_of, split_islands
from acquire.measure.particles.shapes import BlurredDome

_GROW_SNR = 2.5
_KNOWN_SNR = 3.2
_CANDIDATE_SNR = 4.3
FALSE_SHARE = 0.0007
"""Beside many particles, so many false ones per particle are allowed."""
_SURE = 4
_FAINT = 2.0
"""Particles of up to so many times the threshold tell of more that lie below it."""
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
    area_px: NDArray[np.float64]
    """Area of the label."""
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
    start_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    """(n, 3) y, x and footprint radius known better than by a centroid, NaN where not; or empty."""

    def __len__(self) -> int:
        return len(self.peak)


def detect(
    coarse: NDArray[np.float32],
    factor: int,
    dome: BlurredDome,
    *,
    film: Film | None = None,
    expected_px: float,
    false_islands: float = 0.001,
    known: Known | None = None,
    given: NDArray[np.int32] | None = None,
) -> Detection:
    """Find the particles of a contrast image (film 0, particles positive).

    ``coarse`` (y, x) holds its means over blocks of ``factor`` pixels, of which about four should
    lie across the smallest particle (:func:`coarseness`); all lengths are in pixels of the full
    image. ``film`` is the level that the contrast is relative to: where it is low, shot noise is high, and the filtered image is weighted by the power of the film that makes
    its noise even. The filter is the one, of several smoothings with and without a subtracted
    surround, in which a dome of footprint radius ``expected_px`` has the highest contrast over
    noise *after* filtering, since real noise and texture are correlated. A particle has a pixel
    above the seed threshold, which noise of the measured strength and correlation exceeds
    ``false_islands`` times per frame, and it extends down to 2.5 σ. At ``known`` places that
    earlier frames made trusted, 3.2 σ are enough: so few places hardly ever hold a maximum of the
    noise, and faint particles do not come and go.

    With ``given`` labels (y, x) of another segmenter, 1 … n, at the same blocks, these are the
    particles, and nothing is split or dropped.
    """
    smoothed, scale = best_filter(coarse, dome, expected_px / factor)
    if film is not None:
        smoothed = even_noise(smoothed, film, factor)
    sigma = negative_side_sigma(smoothed)
    rate = peak_rate(smoothed, sigma)
    half = max(1, round(scale))
    first = seed_threshold(rate, false_islands)
    high = first * sigma if sigma > 0 else np.inf
    easy, easy_high = np.zeros((0, 0), bool), high
    seen = np.zeros(0)
    if known is not None:
        places, reach = known.places_px / factor, known.reach_px / factor
        seen = _highest(smoothed, places, reach) / max(sigma, 1e-30)
        if known.trusted.any():
            easy = _near(places[known.trusted], reach, smoothed.shape)
            easy_high = _KNOWN_SNR * sigma
    ys, xs = find_peaks(smoothed, _CANDIDATE_SNR * max(sigma, 1e-30), easy, easy_high, half)
    seed_snr = _lenient(smoothed[ys, xs] / max(sigma, 1e-30), rate, first, false_islands)
    rises, dips = count_beyond(smoothed, high)
    candidates = np.zeros((0, 2))
    if given is not None:
        labels, count, runs = given, int(given.max(initial=0)), runs_of(given)
    else:
        labels, count, runs = np.zeros(coarse.shape, np.int32), 0, np.zeros((0, 4), np.int32)
        if sigma > 0:
            seed = smoothed[ys, xs] > seed_snr * sigma
            if easy.size:
                seed |= easy[ys, xs] & (smoothed[ys, xs] > easy_high)
            if seed.any():
                ys_seed, xs_seed = ys[seed], xs[seed]
                labels, runs, count = islands_of(smoothed, _GROW_SNR * sigma, ys_seed, xs_seed)
                runs, count = split_islands(
                    smoothed, labels, runs, count, ys_seed, xs_seed, _VALLEY, 3.0 * sigma
                )
            faint = (smoothed[ys, xs] > _CANDIDATE_SNR * sigma) & (labels[ys, xs] == 0)
            candidates = (np.stack([ys[faint], xs[faint]], axis=1) + 0.5) * factor
    found = describe(smoothed, runs, count)
    return Detection(
        labels=labels,
        factor=factor,
        y_px=found[:, 3] * factor,
        x_px=found[:, 4] * factor,
        area_px=found[:, 1] * factor**2,
        half_area_px=found[:, 2] * factor**2,
        top_px=found[:, 5] * factor,
        bottom_px=found[:, 6] * factor,
        left_px=found[:, 7] * factor,
        right_px=found[:, 8] * factor,
        peak=found[:, 0].copy(),
        peak_snr=found[:, 0] / max(sigma, 1e-30),
        smoothing_px=scale * factor,
        sigma=sigma,
        seed_snr=seed_snr,
        dips=dips,
        rises=rises,
        known_snr=seen,
        candidates_px=candidates,
    )


def _lenient(
    peaks_snr: NDArray[np.float32], rate: float, strict: float, false_islands: float
) -> float:
    """Seed threshold that lets pass a small share of the particles as false ones.

    A film full of faint particles gives more of them than ``false_islands`` away: as in
    the control of the false discovery rate (Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57:289).
    Where all stand out clearly nothing is gained by it. ``peaks_snr`` falls.
    """
    threshold = strict
    for _ in range(4):
        faint = (peaks_snr > threshold) & (peaks_snr < _FAINT * threshold)
        many = int(np.count_nonzero(faint)) - _SURE
        if many <= 0:
            break
        threshold = min(strict, seed_threshold(rate, max(false_islands, FALSE_SHARE * many)))
    return max(threshold, _CANDIDATE_SNR) if strict >= _CANDIDATE_SNR else strict


def coarseness(smallest_px: float) -> int:
    """Pixels per block on which particles down to this footprint radius can be detected."""
    return max(1, int(smallest_px / 2.0))


def _near(places: NDArray[np.float64], reach: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels within ``reach`` of any of the places (y, x)."""
    near = np.zeros(shape, bool)
    for y, x in places:
        box, disc = _disc(y, x, reach, shape)
        near[box] |= disc
    return near


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
