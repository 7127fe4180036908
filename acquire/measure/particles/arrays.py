"""Small robust statistics and reductions that every step of particle sizing shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean over blocks of ``factor`` × ``factor`` pixels; an incomplete last block is left out."""
    if factor == 1:
        return image
    rows, columns = (length // factor for length in image.shape)
    whole = image[: rows * factor, : columns * factor]
    # two sums along one axis each: three times faster than one reshape to four axes
    by_row = whole.reshape(rows, factor, columns * factor).sum(axis=1)
    by_both = by_row.reshape(rows, columns, factor).sum(axis=2)
    return np.asarray(by_both * np.float32(1.0 / factor**2))


def negative_side_sigma(values: NDArray[Any]) -> float:
    """Standard deviation of the noise from the values below zero alone.

    Particles lie above zero (after polarity), so whatever their coverage they do not widen it.
    """
    below = values[values < 0]
    if below.size == 0:
        return 0.0
    return float(1.4826 * np.median(np.abs(below)))
