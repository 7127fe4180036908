"""Averages a contrast image over rings around particles, leaving out what belongs to others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Windows:
    """The pixels around every particle, one after the other, as flat arrays of equal length."""

    owner: NDArray[np.intp]
    """Number of the particle that a pixel is listed for."""
    y_px: NDArray[np.float64]
    """Pixel centres."""
    x_px: NDArray[np.float64]
    contrast: NDArray[np.float64]
    particles: int


def cut_windows(
    contrast: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    names: NDArray[np.intp],
    centres_px: NDArray[np.float64],
    reach_px: NDArray[np.float64],
) -> Windows:
    """Pixels within ``reach_px`` of each centre (y, x) that belong to no other particle.

    ``labels`` is ``factor`` times coarser than ``contrast``; particle i is called ``names[i]``.
    """
    rows, columns = contrast.shape
    owners, ys, xs, values = [], [], [], []
    for i, ((y, x), reach) in enumerate(zip(centres_px, reach_px, strict=True)):
        top, bottom = max(0, int(y - reach)), min(rows, int(y + reach) + 1)
        left, right = max(0, int(x - reach)), min(columns, int(x + reach) + 1)
        grid_y = np.arange(top, bottom)
        grid_x = np.arange(left, right)
        whose = labels[
            np.minimum(grid_y // factor, labels.shape[0] - 1)[:, None],
            np.minimum(grid_x // factor, labels.shape[1] - 1),
        ]
        near = np.square(grid_y + 0.5 - y)[:, None] + np.square(grid_x + 0.5 - x) < reach * reach
        at_y, at_x = np.nonzero(near & ((whose == 0) | (whose == names[i])))
        owners.append(np.full(len(at_y), i))
        ys.append(at_y + (top + 0.5))
        xs.append(at_x + (left + 0.5))
        values.append(contrast[top:bottom, left:right][at_y, at_x])
    return Windows(
        np.concatenate(owners),
        np.concatenate(ys),
        np.concatenate(xs),
        np.concatenate(values).astype(np.float64),
        len(names),
    )


@dataclass(frozen=True)
class Rings:
    """Ring averages, (particle, ring); rings without pixels have count 0."""

    mean: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    """Mean distance of a ring's pixels from the centre."""
    count: NDArray[np.float64]
    index: NDArray[np.intp]
    """Flat (particle, ring) index of every pixel of the windows."""
    cosine: NDArray[np.float64]
    sine: NDArray[np.float64]


def ring_means(
    windows: Windows, centres_px: NDArray[np.float64], rings: int, width_px: float
) -> Rings:
    """Average the windows over ``rings`` rings of ``width_px`` about the centres (y, x)."""
    dy = windows.y_px - centres_px[windows.owner, 0]
    dx = windows.x_px - centres_px[windows.owner, 1]
    radius = np.sqrt(dy * dy + dx * dx)
    ring = np.minimum((radius / width_px).astype(np.intp), rings - 1)
    index = windows.owner * rings + ring
    size = windows.particles * rings
    count = np.bincount(index, minlength=size)
    safe = np.maximum(count, 1)
    mean = np.bincount(index, windows.contrast, size) / safe
    distance = np.bincount(index, radius, size) / safe
    shape = (windows.particles, rings)
    safe_radius = np.maximum(radius, 1e-9)
    return Rings(
        mean.reshape(shape),
        distance.reshape(shape),
        count.reshape(shape).astype(np.float64),
        index,
        dx / safe_radius,
        dy / safe_radius,
    )
