"""Power spectra of many small round patches of one image, and the wave vectors they are told at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from acquire.measure.crystallinity.windows import Window

Image = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The half plane of wave vectors that a real transform of ``side`` pixels gives."""

    ky: Array
    """(side, 1) in 1/nm, as scipy orders them."""
    kx: Array
    """(1, side // 2 + 1) in 1/nm."""
    k: Array
    """(side, side // 2 + 1) lengths in 1/nm."""
    once: NDArray[np.bool_]
    """Which of them are no repetition of another."""
    step_per_nm: float

    def ring(self, low: float, high: float) -> NDArray[np.bool_]:
        """Wave vectors of a length from ``low`` to ``high`` in 1/nm, each once."""
        return np.asarray(self.once & (self.k >= low) & (self.k <= high))


@lru_cache(maxsize=32)
def plane(side: int, pixel_size_nm: float) -> Plane:
    """The wave vectors of a transform."""
    ky = fft.fftfreq(side, pixel_size_nm)[:, None]
    kx = fft.rfftfreq(side, pixel_size_nm)[None, :]
    once = (kx > 0) | (ky > 0)
    if side % 2 == 0:
        once = once & ((kx < kx[0, -1]) | (ky >= 0))
    return Plane(ky, kx, np.hypot(ky, kx), once, 1.0 / (side * pixel_size_nm))


def without_slow(
    image: NDArray[Any], pixel_size_nm: float, slowest_per_nm: float
) -> tuple[Image, Image]:
    """What varies faster than about half of ``slowest_per_nm``, and the rest; both float32 (y, x).

    The rest is a Gaussian mean that keeps less than 1 % of a wave of ``slowest_per_nm``: the smooth
    form of film and particles stays in it.
    """
    # exp(-2π²σ²k²) = 0.01
    sigma_nm = 0.483 / slowest_per_nm
    signal = image.astype(np.float32)
    slow = ndimage.gaussian_filter(signal, sigma_nm / pixel_size_nm, mode="nearest", truncate=3.5)
    return signal - slow, slow


def cut(image: Image, centres: NDArray[np.intp], half: int) -> Image:
    """Squares (n, 2 half + 1, 2 half + 1) about pixels (n, 2) as (y, x); 0 beyond the image's edge."""
    padded = np.pad(image, half)
    squares = np.lib.stride_tricks.sliding_window_view(padded, (2 * half + 1, 2 * half + 1))
    return np.asarray(squares[centres[:, 0], centres[:, 1]])


def power_spectra(fast: Image, centres: NDArray[np.intp], window: Window) -> Image:
    """|F(k)|² of windowed patches about pixels (n, 2) as (y, x); float32 (n, side, side // 2 + 1)."""
    patches = cut(fast, centres, window.half_px) * window.weights
    side = window.transform_px
    spectra = fft.rfft2(patches, s=(side, side))
    return np.asarray(spectra.real**2 + spectra.imag**2, dtype=np.float32)


@dataclass(frozen=True)
class FilmSpectrum:
    """The mean spectrum of the bare film: its noise, and where its own lattice stands above that."""

    noise: Image
    """(side, side // 2 + 1) smooth level of the noise."""
    level: Image
    """The higher one of noise and film."""
    clear: NDArray[np.bool_]
    """Where the film has no spots and no tails of them."""
    patches: int
    counts: float
    """Mean slow signal of these patches."""


def film_spectrum(
    fast: Image, slow: Image, centres: NDArray[np.intp], window: Window
) -> FilmSpectrum:
    """Mean power of patches of film (n ≥ 1, 2), split into smooth noise and what rises above it."""
    mean = np.zeros((window.transform_px, window.transform_px // 2 + 1), np.float32)
    for first in range(0, len(centres), 8):  # few at a time: the spectra then stay in the cache
        mean += power_spectra(fast, centres[first : first + 8], window).sum(axis=0)
    mean /= len(centres)
    # patches overlap by half, which leaves some two thirds of them independent
    spread = 1.0 / np.sqrt(max(1.0, 0.7 * len(centres)))
    noise = _smooth_floor(mean, spread)
    spots = mean > noise * np.float32(1.0 + 4.5 * spread)
    spots = ndimage.binary_dilation(spots, np.ones((3, 3), bool))
    counts = float(slow[centres[:, 0], centres[:, 1]].mean())
    return FilmSpectrum(noise, np.maximum(noise, mean), ~spots, len(centres), counts)


def _smooth_floor(mean: Image, spread: float) -> Image:
    """Two wide means of what is left when peaks are cut to just above the floor, until it settles."""
    floor = np.full_like(mean, np.median(mean[:, mean.shape[1] // 4 :]))
    size = max(5, mean.shape[0] // 12 | 1)
    for _ in range(4):
        held = np.minimum(mean, floor * np.float32(1.0 + 1.5 * spread))
        for _ in range(2):
            held = ndimage.uniform_filter(held, size, mode=("wrap", "mirror"))
        floor = held
    return floor


def film_centres(
    shape: tuple[int, ...], places_px: Array, radii_px: Array, half: int, most: int = 48
) -> NDArray[np.intp]:
    """Pixels (n, 2) whose patches of ``half`` lie on film: half-overlapping, clear of all particles."""
    axes = []
    for length in shape:
        free = length - 2 * half - 1
        steps = max(1, round(free / half) + 1) if free >= 0 else 0
        axes.append(np.rint(np.linspace(half, length - 1 - half, steps)).astype(np.intp))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    if len(places_px) and len(grid):
        apart = np.hypot(*np.moveaxis(grid[:, None, :] + 0.5 - places_px, -1, 0))
        grid = grid[(apart > half + radii_px).all(axis=1)]
    if len(grid) > most:
        grid = grid[np.linspace(0, len(grid) - 1, most).astype(np.intp)]
    return grid
