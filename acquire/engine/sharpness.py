"""How sharp an image is, as a number that is largest in focus."""

from __future__ import annotations

import math

import numpy as np

from acquire.instruments import AnyArray

BIN = 2
"""Pixels are added up so many by so many first: shot noise of single pixels is no sharpness."""


def sharpness(image: AnyArray) -> float:
    """Mean squared gradient over the squared mean (normalised Tenengrad, Tenenbaum 1970), less the noise's.

    Args:
        image: (y, x) counts.

    Returns:
        A number without unit; NaN for an image that is empty, dark or smaller than 4 × 4 pixels. It
        compares images of one field, detector and dwell time; contrast changes with each of them.
    """
    rows, columns = (size // BIN for size in image.shape)
    if min(rows, columns) < 2:
        return math.nan
    binned = (
        image[: rows * BIN, : columns * BIN]
        .reshape(rows, BIN, columns, BIN)
        .sum(axis=(1, 3), dtype=np.float64)
    )
    mean = float(binned.mean())
    if not mean > 0:
        return math.nan
    down, across = np.diff(binned, axis=0), np.diff(binned, axis=1)
    gradient = float(np.mean(down**2) + np.mean(across**2))
    # counts that are Poisson's have a variance of their mean: each difference of two brings it twice
    return (gradient - 4 * mean) / mean**2
