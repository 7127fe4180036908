"""Makes an image ready for registration: block means, level, contrast, window and spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from acquire.errors import MeasureError

SMALLEST_SIDE_PX = 32
SIDE_PX = 256
"""Block means bring the shorter side of an image down to this or a little more: what is finer carries noise only."""
_TAPER = 0.125
"""Share of a side that is faded out at each end."""
_SATURATED_SHARE = 1e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """What of an image is kept to be registered; ``contrast`` is empty if it cannot be."""

    contrast: Floats
    """Block means over their mean, less a plane; (rows, columns)."""
    block: int
    """Pixels that a block is wide."""
    pixel_size_nm: float
    """Of the image as it was."""
    shape: tuple[int, int]
    """Of the image as it was."""
    level: float
    """Mean of the image; NaN if a pixel is not a number."""
    flags: tuple[str, ...]
    """``nonfinite``, ``constant`` (neither can be registered), ``saturated``."""

    @property
    def usable(self) -> bool:
        """Whether there is anything to register."""
        return self.contrast.size > 0

    @property
    def step_nm(self) -> float:
        """Width of a block."""
        return self.block * self.pixel_size_nm


def prepare(image: NDArray[Any], pixel_size_nm: float) -> Prepared:
    """What of an image (y, x), of integers or floats, is needed to register it.

    Raises:
        MeasureError: not two-dimensional, below 32 pixels a side, no real numbers, or a pixel size
            that is not positive and finite.
    """
    _check(image, pixel_size_nm)
    block = max(1, min(image.shape) // SIDE_PX)
    reduced = block_means(image, block)
    level = float(reduced.mean(dtype=np.float64))
    flags: tuple[str, ...] = ()
    if not math.isfinite(level):
        flags = ("nonfinite",)
    elif level <= 0 or reduced.min() == reduced.max():
        flags = ("constant",)
    elif _saturated(image):
        flags = ("saturated",)
    if flags in (("nonfinite",), ("constant",)):
        reduced = np.zeros((0, 0), np.float32)
    else:
        reduced *= np.float32(1.0 / level)
        reduced = _without_plane(reduced)
    shape = (image.shape[0], image.shape[1])
    return Prepared(reduced, block, float(pixel_size_nm), shape, level, flags)


def block_means(image: NDArray[Any], block: int) -> Floats:
    """Means over square blocks of pixels; what is left over at the far edges is left out."""
    rows, columns = image.shape[0] // block, image.shape[1] // block
    total = np.zeros((rows, columns), np.float32)
    for i in range(block):
        for j in range(block):
            total += image[i : rows * block : block, j : columns * block : block]
    total *= np.float32(1.0 / block**2)
    return total


def spectrum(contrast: Floats, size: tuple[int, int]) -> NDArray[np.complex64]:
    """Half-plane Fourier transform of a windowed contrast image, padded to ``size``."""
    rows, columns = contrast.shape
    weighted = contrast * taper(rows)[:, None] * taper(columns)
    return np.asarray(fft.rfft2(weighted, size), dtype=np.complex64)


@lru_cache(maxsize=16)
def taper(length: int) -> Floats:
    """Tukey window: 1, faded out as a cosine over an eighth of the length at each end."""
    from_end = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
    place = np.clip(from_end / (_TAPER * length), 0.0, 1.0)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * place), dtype=np.float32)


def _without_plane(contrast: Floats) -> Floats:
    """Less mean and slopes, which say nothing about where the specimen lies."""
    contrast = contrast - contrast.mean(dtype=np.float64).astype(np.float32)
    for axis in (0, 1):
        length = contrast.shape[axis]
        along = np.arange(length, dtype=np.float64) - (length - 1) / 2
        profile = contrast.mean(axis=1 - axis, dtype=np.float64)
        slope = float(profile @ along / (along @ along))
        ramp = (slope * along).astype(np.float32)
        contrast -= ramp[:, None] if axis == 0 else ramp
    return contrast


def _saturated(image: NDArray[Any]) -> bool:
    if image.dtype.kind not in "ui":
        return False
    top = np.iinfo(image.dtype).max
    sample = image[::4, ::4]
    return bool(np.count_nonzero(sample == top) > _SATURATED_SHARE * sample.size)


def _check(image: NDArray[Any], pixel_size_nm: float) -> None:
    if image.ndim != 2 or min(image.shape) < SMALLEST_SIDE_PX:
        raise MeasureError(
            f"an image of shape {image.shape} cannot be registered: (y, x) with at least "
            f"{SMALLEST_SIDE_PX} pixels a side is needed. Pass one frame of one detector."
        )
    if image.dtype.kind not in "uif":
        raise MeasureError(
            f"an image of type {image.dtype} cannot be registered: integers or floats are needed."
        )
    if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise MeasureError(
            f"pixel_size_nm = {pixel_size_nm!r} cannot be used: it must be positive and finite. "
            "Calibrate the scan."
        )
