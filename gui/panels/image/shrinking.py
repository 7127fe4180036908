"""Makes an image smaller for the eye: every pixel counts, so no fringe is seen that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray


def averaged(image: AnyArray, step: int) -> AnyArray:
    """Means of blocks of ``step`` × ``step`` pixels of a (y, x) array; a rest at its ends is left out.

    Leaving pixels out instead would turn lattice fringes into others (moiré) and lose single bright
    ones. An image smaller than a block becomes one pixel of what it has.

    Returns:
        The array itself for a step of 1, else float32.
    """
    if step <= 1:
        return image
    height, width = image.shape
    down, across = max(1, height // step), max(1, width // step)
    rows, columns = min(step, height), min(step, width)
    # 16 bits and less: whole numbers add up faster, and 2**16 of them fit
    kind: Any = np.uint32 if image.dtype.kind == "u" and image.dtype.itemsize <= 2 else np.float32
    total = np.zeros((down, across), kind)
    for y in range(rows):
        for x in range(columns):
            block = image[
                y : y + (down - 1) * step + 1 : step, x : x + (across - 1) * step + 1 : step
            ]
            np.add(total, block, out=total, casting="unsafe")
    mean: NDArray[np.float32] = np.multiply(total, 1 / (rows * columns), dtype=np.float32)
    return mean
