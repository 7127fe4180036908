"""Round windows for local spectra, and the moments on which their statistics rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A round Hann window cos²(πr/2R), which ends smoothly at the radius R."""

    radius_nm: float
    pixel_size_nm: float
    weights: Image
    """(2 half + 1, 2 half + 1)."""
    roughness_nm2: float
    """λ = (2π)² times the variance of a coordinate under the squared window: how fast noise varies in k."""
    spread_nm2: float
    """Variance of a coordinate under the window and a dome of its radius: the width of a spot."""

    @property
    def half_px(self) -> int:
        """Pixels from the centre to the edge of :attr:`weights`."""
        return int(self.weights.shape[0]) // 2

    @property
    def cell_per_nm2(self) -> float:
        """Area of an independent cell of the noise in k, the integral of its squared correlation."""
        squared = np.square(self.weights.astype(np.float64))
        share = float(np.square(squared).sum() / squared.sum() ** 2)
        return share / self.pixel_size_nm**2

    @property
    def transform_px(self) -> int:
        """Side of the padded transform: about three steps across a spot."""
        return int(fft.next_fast_len(2 * int(self.weights.shape[0]), real=True))


@lru_cache(maxsize=64)
def round_window(radius_nm: float, pixel_size_nm: float) -> Window:
    """The window of a radius; at least two pixels wide."""
    half = max(1, math.ceil(radius_nm / pixel_size_nm) - 1)
    along = np.arange(-half, half + 1) * pixel_size_nm
    r = np.hypot(along[:, None], along)
    weights = np.where(r < radius_nm, np.cos(0.5 * np.pi * r / radius_nm) ** 2, 0.0)
    squared = np.square(weights)
    second = float((squared * along**2).sum() / squared.sum())
    waves = weights * np.sqrt(np.clip(1.0 - np.square(r / radius_nm), 0.0, None))
    spread = float((waves * along**2).sum() / waves.sum())
    shown = weights.astype(np.float32)
    shown.setflags(write=False)
    return Window(radius_nm, pixel_size_nm, shown, (2 * np.pi) ** 2 * second, spread)


def size_class(radius_nm: float, step: float = 1.15) -> float:
    """The next smaller radius of a geometric series, so that patches of like size are done together."""
    return float(step ** math.floor(math.log(radius_nm) / math.log(step) + 1e-9))
