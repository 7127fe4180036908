"""Finds the displacement between two images by weighted cross-correlation, as exactly as their noise allows.

Every spatial frequency is weighted by what the two images have in common there, measured from their
own spectra: the maximum-likelihood weights of Knapp & Carter (IEEE Trans. ASSP 24, 320, 1976). The
peak is found between the pixels by Newton's method on the same sum of waves, so that no image is
ever resampled. The uncertainty follows from how much the waves disagree (a sandwich estimate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from acquire.measure.drift.prepared import Floats, spectrum, taper

_LOWEST_RING = 3
"""Cycles over the shorter side; slower changes are slope and shading, not structure."""
_WHITE_FROM = 0.4
"""Cycles per block beyond which a spectrum is taken to be noise."""
_AMBIGUOUS = 0.8
"""A second peak of so much of the first one's height leaves open which is right."""
_NEWTON_STEPS = 4
_CLOSE = 1e-4
_FAR = 2.5
"""Pixels that Newton's method may go from the highest point."""
_FLOOR = 0.01
"""Systematic uncertainty in blocks, for what window and discreteness do."""

Complex = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Correlated:
    """A displacement in blocks, and how well it is borne out."""

    place: tuple[float, float]
    """(y, x) by which the second image lies further down and to the right."""
    covariance: tuple[float, float]
    """Variances of y and x."""
    height: float
    """Height of the peak over the noise of the correlation."""
    needed: float
    """Height that noise alone reaches at the stated false rate."""
    match: float
    """Height of the peak over what it would be if the second image were the first, moved."""
    second: float
    """Height of the second highest peak over that of the first."""

    @property
    def ambiguous(self) -> bool:
        """Whether another displacement is nearly as good."""
        return self.second > _AMBIGUOUS


def correlate(
    before: Floats,
    now: Floats,
    expected: tuple[float, float],
    reach: float,
    false_rate: float,
) -> Correlated | None:
    """Displacement of ``now`` against ``before``, both of one shape, within ``reach`` of the expected.

    All lengths are in pixels of these arrays. None if they have no structure in common, or if
    nothing but the plainest noise is left to search.
    """
    size = _padded(before.shape)
    first, second = spectrum(before, size), spectrum(now, size)
    rings = _rings(size)
    noise, common = _powers(first, second, rings)
    if not common.any() or min(noise) <= 0:
        return None
    weights = common / (common * (noise[0] + noise[1]) + noise[0] * noise[1])
    weights[:_LOWEST_RING] = 0.0
    weight = weights.astype(np.float32)[rings.index]
    cross = np.conj(first) * second * weight
    expected_height = float((weights * common) @ rings.count)
    if expected_height <= 0:
        return None
    surface = fft.irfft2(cross, size) * np.float32(size[0] * size[1])
    width = _width(weights * common * rings.count, rings.radius)
    found = _search(surface, expected, reach, width)
    if found is None:
        return None
    place, peak, rest, noise_height, places = found
    exact = _refine(cross, size, place)
    if exact is None:
        return None
    exact_place, variances = exact
    overlap = _overlap(before.shape, exact_place)
    needed = -float(special.ndtri(min(false_rate / places, 0.5)))
    return Correlated(
        exact_place,
        variances,
        peak / noise_height if noise_height > 0 else math.inf,
        needed,
        peak / (expected_height * overlap),
        rest / peak if peak > 0 else 1.0,
    )


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = (fft.next_fast_len(length + length % 2, real=True) for length in shape[:2])
    return rows, columns + columns % 2


# --------------------------------------------------------------------------- what is common


@dataclass(frozen=True)
class _Rings:
    """Spatial frequencies of a half-plane transform in rings one cycle wide."""

    index: NDArray[np.intp]
    radius: NDArray[np.float64]
    """Mean frequency of each ring in cycles per pixel."""
    count: NDArray[np.float64]
    """Frequencies in each ring, both half-planes."""
    share: NDArray[np.float32]
    """2 for a frequency that stands for its mirror image too, else 1; (1, columns)."""


@lru_cache(maxsize=8)
def _rings(size: tuple[int, int]) -> _Rings:
    ky, kx = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    radius = np.hypot(ky[:, None], kx)
    index = np.rint(radius * min(size)).astype(np.intp)
    share = np.full(len(kx), 2.0)
    share[0] = share[-1] = 1.0
    weight = np.broadcast_to(share, radius.shape).ravel()
    count = np.bincount(index.ravel(), weight).astype(np.float64)
    mean = np.bincount(index.ravel(), weight * radius.ravel()) / np.maximum(count, 1.0)
    return _Rings(index, mean, count, share.astype(np.float32)[None, :])


def _powers(
    first: Complex, second: Complex, rings: _Rings
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """White power of both spectra, and per ring the power that they may have in common."""
    whites, powers = [], []
    for transform in (first, second):
        power = (np.square(transform.real) + np.square(transform.imag)) * rings.share
        ring = np.bincount(rings.index.ravel(), power.ravel()).astype(np.float64)
        high = rings.radius > _WHITE_FROM
        white = float(ring[high].sum() / max(rings.count[high].sum(), 1.0))
        ring /= np.maximum(rings.count, 1.0)
        # a ring that is hardly above its own scatter would weigh noise with noise
        above = ring - white * (1.0 + 2.0 / np.sqrt(np.maximum(rings.count / 2, 1.0)))
        powers.append(np.where(above > 0, ring - white, 0.0))
        whites.append(white)
    return (whites[0], whites[1]), np.sqrt(powers[0] * powers[1])


def _width(power: NDArray[np.float64], radius: NDArray[np.float64]) -> float:
    """Radius in pixels beyond which the correlation peak has fallen off."""
    mean_square = float(power @ np.square(radius) / power.sum())
    return max(2.0, 0.5 / math.sqrt(mean_square)) if mean_square > 0 else 2.0


# ------------------------------------------------------------------------------ the peak


def _search(
    surface: Floats, expected: tuple[float, float], reach: float, width: float
) -> tuple[tuple[int, int], float, float, float, float] | None:
    """Place, height, second height, noise of the highest point near the expected one, places searched."""
    axes = []
    for length, centre in zip(surface.shape, expected, strict=True):
        half = min(math.ceil(reach), length // 2 - 1)
        axes.append(round(centre) + np.arange(-half, half + 1))
    rows, columns = axes
    near = surface[np.ix_(rows % surface.shape[0], columns % surface.shape[1])]
    at = np.unravel_index(int(np.argmax(near)), near.shape)
    peak = float(near[at])
    if not peak > 0:
        return None
    place = int(rows[at[0]]), int(columns[at[1]])
    radius = math.ceil(width)
    others = near.copy()
    others[
        max(0, at[0] - radius) : at[0] + radius + 1, max(0, at[1] - radius) : at[1] + radius + 1
    ] = 0.0
    return place, peak, float(others.max()), _noise(surface, place, radius), float(near.size)


def _noise(surface: Floats, place: tuple[int, int], radius: int) -> float:
    """Rms of the correlation away from the peak."""
    around = np.ix_(
        (place[0] + np.arange(-radius, radius + 1)) % surface.shape[0],
        (place[1] + np.arange(-radius, radius + 1)) % surface.shape[1],
    )
    peak = surface[around]
    flat = surface.ravel()
    left = surface.size - peak.size
    if left <= 0:
        return 0.0
    total = float(np.dot(flat, flat)) - float(np.square(peak, dtype=np.float64).sum())
    return math.sqrt(max(total, 0.0) / left)


def _refine(
    cross: Complex, size: tuple[int, int], place: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Newton's method on the sum of waves; place and variances in pixels, None if there is no peak."""
    used_rows, used_columns = np.abs(cross).max(axis=1) > 0, np.abs(cross).max(axis=0) > 0
    ky = 2 * np.pi * np.fft.fftfreq(size[0])[used_rows]
    kx = 2 * np.pi * np.fft.rfftfreq(size[1])[used_columns]
    share = np.full(size[1] // 2 + 1, 2.0)
    share[0] = share[-1] = 1.0
    waves = cross[np.ix_(used_rows, used_columns)] * share[used_columns].astype(np.float32)
    at = np.array(place, dtype=np.float64)
    for _ in range(_NEWTON_STEPS):
        turned = _turned(waves, ky, kx, at)
        gradient, hessian = _slopes(turned, ky, kx)
        if not (hessian[0, 0] < 0 and np.linalg.det(hessian) > 0):
            return None
        step = np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
        at -= step
        if np.hypot(*(at - place)) > _FAR:
            return None
        if np.abs(step).max() < _CLOSE:
            break
    apart = np.square(turned.imag)
    mixed = float(ky @ (apart * kx).sum(axis=1))
    scores = np.array(
        [
            [np.square(ky) @ apart.sum(axis=1), mixed],
            [mixed, apart.sum(axis=0) @ np.square(kx)],
        ]
    )
    inverse = np.linalg.inv(hessian)
    covariance = inverse @ scores @ inverse * _window_factor(size)
    return (
        (float(at[0]), float(at[1])),
        (float(covariance[0, 0]) + _FLOOR**2, float(covariance[1, 1]) + _FLOOR**2),
    )


def _turned(
    waves: Complex, ky: NDArray[np.float64], kx: NDArray[np.float64], at: NDArray[np.float64]
) -> Complex:
    """The waves as they are at a place."""
    down, across = np.exp(1j * ky * at[0]), np.exp(1j * kx * at[1])
    return np.asarray(waves * down.astype(np.complex64)[:, None] * across.astype(np.complex64))


def _slopes(
    turned: Complex, ky: NDArray[np.float64], kx: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient (2,) and second derivatives (2, 2) of the sum of waves."""
    rows, columns = turned.sum(axis=1), turned.sum(axis=0)
    gradient = -np.array([ky @ rows.imag, kx @ columns.imag])
    mixed = -float(ky @ np.asarray(turned.real * kx).sum(axis=1))
    hessian = np.array(
        [
            [-float(np.square(ky) @ rows.real), mixed],
            [mixed, -float(np.square(kx) @ columns.real)],
        ]
    )
    return gradient, hessian


@lru_cache(maxsize=8)
def _window_factor(size: tuple[int, int]) -> float:
    """By how much the window makes neighbouring waves repeat each other."""
    factor = 1.0
    for length in size:
        squared = np.square(taper(length).astype(np.float64))
        factor *= length * float(np.square(squared).sum()) / float(squared.sum()) ** 2
    return factor


def _overlap(shape: tuple[int, ...], place: tuple[float, float]) -> float:
    """Share of the windows' product that is left at a displacement."""
    share = 1.0
    for length, moved in zip(shape, place, strict=True):
        window = taper(length).astype(np.float64)
        by = min(round(abs(moved)), length - 1)
        share *= float(window[by:] @ window[: length - by]) / float(window @ window)
    return max(share, 1e-3)
