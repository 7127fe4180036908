"""Colour maps of the image, and the colours of outlines on it.

Maps rise evenly in lightness, so that equal steps of signal look equal and the colour-blind see
them too. Tracks take the six light colours of Okabe and Ito (2008) in turn.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray

from gui.panels.image.particles import Ints, Particles

MAPS = {
    "viridis": "viridis",
    "cividis": "cividis",
    "inferno": "inferno",
    "magma": "magma",
    "plasma": "plasma",
    "grey": "CET-L1",
    "grey inverted": "CET-L1",
}
PLAIN = "#FFFFFF"
TRACKS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#33C7A0", "#FF8A5C")
SIZES = ("#2C7FDB", "#56B4E9", "#A6D8F0", "#F4F1E6", "#F7CF6B", "#F09A1F", "#E0601B")
"""From small to large: blue over white to orange."""
BY = ("track", "size", "plain")


@cache
def lut(name: str) -> NDArray[np.uint8]:
    """(256, 3) RGB of a map in ``MAPS``."""
    table: NDArray[np.uint8] = pg.colormap.get(MAPS[name]).getLookupTable(0.0, 1.0, 256)[:, :3]
    return np.ascontiguousarray(table[::-1] if name == "grey inverted" else table)


def size_limits(particles: Particles) -> tuple[float, float]:
    """Between which diameters the colours run: nearly all whole particles, in round numbers of nm."""
    known = particles.diameter_nm[np.isfinite(particles.diameter_nm) & ~particles.cut]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, (2, 98)))
    step = 10.0 ** np.floor(np.log10(max(high, 1e-3))) / 2
    low, high = float(np.floor(low / step) * step), float(np.ceil(high / step) * step)
    return low, max(high, low + step)


def tint_of(particles: Particles, by: str, limits: tuple[float, float]) -> Ints:
    """(n,) index into :func:`palette` of every particle; white has no number, or no known size."""
    if by == "track":
        return np.where(particles.track >= 0, particles.track % len(TRACKS), len(TRACKS))
    if by == "size":
        share = (particles.diameter_nm - limits[0]) / (limits[1] - limits[0])
        known = np.isfinite(share)
        step = np.clip(np.floor(np.where(known, share, 0.0) * len(SIZES)), 0, len(SIZES) - 1)
        return np.where(known, step.astype(np.int64), len(SIZES))
    return np.zeros(len(particles), np.int64)


def palette(by: str) -> tuple[str, ...]:
    """The colours that :func:`tint_of` points to."""
    return {"track": (*TRACKS, PLAIN), "size": (*SIZES, PLAIN)}.get(by, (PLAIN,))


def shares(
    values: NDArray[Any],
    levels: tuple[float, float],
    scratch: NDArray[np.float32],
    into: NDArray[np.uint8],
) -> None:
    """Write where values lie between black (0) and white (255); what is not a number is black.

    All arrays have one shape. ``scratch`` is overwritten: 40 times a second, memory anew would cost
    more than the arithmetic.
    """
    low, high = levels
    np.subtract(values, low, out=scratch, dtype=np.float32, casting="unsafe")
    np.multiply(scratch, 255 / max(high - low, 1e-9), out=scratch)
    if values.dtype.kind == "f":
        np.nan_to_num(scratch, copy=False, nan=0.0)
    np.clip(scratch, 0, 255, out=scratch)
    into[...] = scratch


@cache
def colour_table(name: str) -> list[int]:
    """The 256 colours of a map as Qt takes them."""
    return [0xFF000000 | r << 16 | g << 8 | b for r, g, b in lut(name).tolist()]
