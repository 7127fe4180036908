"""Finds domes on a textured film: filters matched to each size, whitened for the film's own spectrum.

Where texture, not shot noise, hides particles, a smoothing filter cannot tell a dome from a bump of
the film. Texture is smooth and a dome has an edge: divided by the measured power spectrum, the
filter looks for the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from acquire.compiled import compiled
from acquire.measure.particles.filters import seed_threshold
from acquire.measure.particles.islands import find_peaks
from acquire.measure.particles.noise import FilmNoise
from acquire.measure.particles.shapes import BlurredDome

_STEP = 0.6
"""Radii tried lie this many pixels apart, but not closer than 4 %."""
_TABLE = 4096
_LEAST_SNR = 4.3
_TOO_FEW = 5
_CLEAR_SNR = 9.0
_STEEPNESS_SPREAD = 0.35
_APART = 0.85
"""Least distance of two domes over the sum of their radii."""
_SAME = 0.5
"""Templates next to each other see much of the same noise: so much of it is new."""


@dataclass(frozen=True)
class Discs:
    """Domes that stand out of the texture; lengths in pixels of the image that was searched."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    radius: NDArray[np.float64]
    snr: NDArray[np.float64]
    """Of the matched filter."""
    height: NDArray[np.float64]
    seed_snr: float
    """SNR that it took to be found."""

    def __len__(self) -> int:
        return len(self.y)


def find_discs(
    contrast: NDArray[np.float32],
    noise: FilmNoise,
    dome: BlurredDome,
    blur_px: float,
    radii: tuple[float, float],
    false_islands: float,
    false_share: float,
) -> Discs:
    """Domes of a contrast image (y, x), film 0, of footprint radii within ``radii`` (px).

    For every radius the image is filtered with dome / (power spectrum of the film), the filter of
    highest SNR (North 1943). Heights that do not go with the radius as those of the clear domes do
    count for less, and of domes that would overlap only the clearest is kept.
    """
    search = _Search(contrast, noise, blur_px)
    sizes = _sizes(*radii)
    found, rate = [], 0.0
    for radius in sizes:
        rows, many = search.maxima(dome, radius)
        found.append(rows)
        rate += _SAME * many
    every = np.concatenate(found)
    clear = every[every[:, 3] > _CLEAR_SNR]
    clear = clear[_greedy(clear, clear[:, 3])]
    if len(clear) < _TOO_FEW:
        none = np.zeros(0)
        return Discs(none, none, none, none, none, np.inf)
    steepness = float(np.median(clear[:, 4] / clear[:, 2]))
    unlike = np.log(every[:, 4] / (steepness * every[:, 2])) / _STEEPNESS_SPREAD
    score = np.square(every[:, 3]) - np.square(unlike)
    allowed = max(false_islands, false_share * len(clear))
    seed = seed_threshold(rate, allowed)
    sure = score > seed**2
    every, score = every[sure], score[sure]
    every = every[_greedy(every, score)]
    y, x, radius, snr, height = every.T.copy()
    return Discs(y, x, radius, snr, height, seed)


def gain_of_matching(noise: FilmNoise, dome: BlurredDome, blur_px: float, radius: float) -> float:
    """SNR of a dome after its matched filter over that after the best smoothing."""
    k = np.linspace(0.0, np.pi, 512)
    weight, power = k / noise.power(k), noise.power(k)
    shape = dome_spectrum(dome, k, radius) * np.exp(-0.5 * np.square(k * blur_px))
    best = 0.0
    for share in (0.2, 0.32, 0.5):
        narrow = np.exp(-0.5 * np.square(k * share * radius))
        for wide in (0.0, 1.0):
            kernel = narrow - wide * np.exp(-4.5 * np.square(k * share * radius))
            spread = float((k * kernel**2 * power).sum())
            best = max(best, float((k * kernel * shape).sum()) / np.sqrt(spread))
    return float(np.sqrt((weight * shape**2).sum())) / best


def dome_spectrum(dome: BlurredDome, k: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Fourier transform of (1 - r²/R²)^m at wavenumbers k (rad/px), px²; a Sonine integral."""
    m, at = dome.exponent, np.maximum(k * radius, 1e-3)
    scale = 2.0 * np.pi * radius**2 * 2.0**m * special.gamma(m + 1.0)
    return np.asarray(scale * special.jv(m + 1.0, at) / at ** (m + 1.0))


class _Search:
    """The spectrum of an image, mirrored at its edges, and of its film."""

    def __init__(self, contrast: NDArray[np.float32], noise: FilmNoise, blur_px: float) -> None:
        self._shape = contrast.shape
        self._pad = min(24, min(contrast.shape) // 2)
        wanted = [fft.next_fast_len(n + 2 * self._pad, real=True) for n in contrast.shape]
        ends = [
            (self._pad, full - n - self._pad)
            for full, n in zip(wanted, contrast.shape, strict=True)
        ]
        padded = np.pad(contrast, ends, mode="reflect")
        self._full = padded.shape
        self._spectrum = fft.rfft2(padded)
        ky = 2.0 * np.pi * fft.fftfreq(self._full[0])
        kx = 2.0 * np.pi * fft.rfftfreq(self._full[1])
        away = np.sqrt(np.square(ky)[:, None] + np.square(kx))
        self._line = np.linspace(0.0, float(away.max()), _TABLE)
        self._at = np.rint(away * ((_TABLE - 1) / away.max())).astype(np.int16)
        self._power = noise.power(self._line)
        self._blur = np.exp(-0.5 * np.square(self._line * blur_px))

    def maxima(self, dome: BlurredDome, radius: float) -> tuple[NDArray[np.float64], float]:
        """Maxima for a radius, (n, 5) of y, x, radius, SNR, height, and the rate of noise's."""
        k = self._line
        rough = k[:: _TABLE // 1024]
        shape = np.interp(k, rough, dome_spectrum(dome, rough, radius)) * self._blur
        filtered = shape / self._power
        inner = k <= np.pi
        weight = np.where(inner, k, 0.0) * (k[1] - k[0]) / (2.0 * np.pi)
        gain = float((weight * shape * filtered).sum())
        sigma = float(np.sqrt((weight * filtered**2 * self._power).sum()))
        bend = float((weight * k**2 * filtered**2 * self._power).sum()) / (2.0 * sigma**2)
        kernel = (np.where(inner, filtered, 0.0) / sigma).astype(np.float32)[self._at]
        seen = fft.irfft2(self._spectrum * kernel, self._full)
        rows, columns = self._shape
        seen = np.ascontiguousarray(
            seen[self._pad : self._pad + rows, self._pad : self._pad + columns], np.float32
        )
        # lobes of other particles widen it, a wrong spectrum does too
        excess = max(1.0, 1.4826 * float(np.median(-seen[::3, ::3][seen[::3, ::3] < 0])))
        excess = min(excess, 1.5)
        ys, xs = find_peaks(seen, _LEAST_SNR * excess, np.zeros((0, 0), bool), 0.0, 2)
        snr = seen[ys, xs].astype(np.float64)
        found = np.stack(
            [ys + 0.5, xs + 0.5, np.full(len(ys), radius), snr / excess, snr * sigma / gain], axis=1
        )
        return found, rows * columns * bend / (2 * np.pi) ** 1.5


def _sizes(least: float, most: float) -> NDArray[np.float64]:
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(sizes[-1] + max(_STEP, 0.04 * sizes[-1]))
    return np.array(sizes)


@compiled
def _greedy(discs: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the discs (n, ≥ 3) left when each removes those less clear that it overlaps."""
    order = np.argsort(-score, kind="mergesort")
    kept = np.empty(len(order), np.int64)
    count = 0
    for candidate in order:
        y, x, radius = discs[candidate, 0], discs[candidate, 1], discs[candidate, 2]
        free = True
        for k in kept[:count]:
            dy, dx, least = discs[k, 0] - y, discs[k, 1] - x, _APART * (discs[k, 2] + radius)
            if dy * dy + dx * dx <= least * least:
                free = False
                break
        if free:
            kept[count] = candidate
            count += 1
    return kept[:count].copy()
