"""The loop over channels that looks for what stands out more than the resolution allows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]


@compiled
def standing_out(
    rows: Array, ratios: Array, variance: float, least_sigma: float, out: NDArray[np.uint8]
) -> int:
    """Mark channels of rows (n, channels) that lie ``least_sigma`` above what their neighbours allow.

    ``ratios`` (distances,) is the least mean of the two neighbours at distances 1, 2, … over the
    channel between. ``out`` (n, channels) gets the sum of 2^k over the distances k + 1 that say so;
    returned is how many times one did.
    """
    n, channels = rows.shape
    found = 0
    for i in range(n):
        for k in range(len(ratios)):
            share = 1.0 / (1.0 + 2.0 * ratios[k])
            spread = least_sigma * math.sqrt(share * (1.0 - share))
            far = k + 1
            for c in range(far, channels - far):
                here = max(rows[i, c], 0.0) + variance
                total = here + max(rows[i, c - far] + rows[i, c + far], 0.0) + 2.0 * variance
                rest = here - share * total
                if rest > 1.0 and rest > spread * math.sqrt(total):
                    out[i, c] |= 1 << k
                    found += 1
    return found


@compiled
def look_through(rows: Array, block: int, facts: Array, columns: Array) -> None:
    """What a glance at rows (n, channels) tells.

    ``facts`` (n, 6) gets sum (not finite where a channel is not), lowest, highest, most in ``block``
    channels of a raster, sum of magnitudes, and whether the row repeats the one before. ``columns``
    (3, channels) gets the sum, lowest and highest of each channel over the rows that are finite,
    not constant and no repetition; they begin with what it holds.
    """
    n, channels = rows.shape
    for i in range(n):
        total = size = part = 0.0
        low, high, most = np.inf, -np.inf, -np.inf
        same = i > 0
        for c in range(channels):
            value = rows[i, c]
            total += value
            part += value
            size += abs(value)
            low = min(low, value)
            high = max(high, value)
            if (c + 1) % block == 0:
                most = max(most, part)
                part = 0.0
            if same and value != rows[i - 1, c]:
                same = False
        facts[i, 0] = total
        facts[i, 1] = low
        facts[i, 2] = high
        facts[i, 3] = most if channels >= block else total
        facts[i, 4] = size
        facts[i, 5] = 1.0 if same else 0.0
        if math.isfinite(size) and low < high and not same:
            for c in range(channels):
                value = rows[i, c]
                columns[0, c] += value
                columns[1, c] = min(columns[1, c], value)
                columns[2, c] = max(columns[2, c], value)
