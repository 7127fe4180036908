"""Finds circles, as footprints of particles, that reach into one another or nearly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled


def overlapping(
    y: NDArray[np.float64], x: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which circles reach into another one."""
    touches = np.zeros(len(y), bool)
    touches[meeting_pairs(y, x, radius, 1.0).ravel()] = True
    return touches


def meeting_pairs(
    y: NDArray[np.float64], x: NDArray[np.float64], radius: NDArray[np.float64], share: float
) -> NDArray[np.int64]:
    """Pairs (n, 2) of circles whose centres are less than ``share`` of the sum of their radii apart."""
    top = y - share * radius
    return np.asarray(_pairs_down(y, x, radius, share, np.argsort(top, kind="stable")), np.int64)


@compiled
def _pairs_down(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    radius: NDArray[np.float64],
    share: float,
    down: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Of circles in the order ``down`` of their tops, so that only few have to be looked at."""
    count = len(down)
    pairs = np.empty((max(count, 8), 2), np.int64)
    found = 0
    for i in range(count):
        a = down[i]
        bottom = y[a] + share * radius[a]
        for j in range(i + 1, count):
            b = down[j]
            if y[b] - share * radius[b] >= bottom:
                break
            dy, dx, apart = y[b] - y[a], x[b] - x[a], share * (radius[a] + radius[b])
            if dy * dy + dx * dx < apart * apart:
                if found == len(pairs):
                    more = np.empty((2 * found, 2), np.int64)
                    more[:found] = pairs
                    pairs = more
                pairs[found, 0], pairs[found, 1] = min(a, b), max(a, b)
                found += 1
    return pairs[:found]
