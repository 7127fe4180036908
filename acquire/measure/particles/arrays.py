"""Small robust statistics that every step of particle sizing shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def negative_side_sigma(values: NDArray[Any], sample: int = 16384) -> float:
    """Standard deviation of the noise from the values below zero alone.

    Particles lie above zero (after polarity), so whatever their coverage they do not widen it. Of
    a large image about ``sample`` values on a regular grid are looked at.
    """
    if values.ndim == 2:
        step = max(1, int((values.size / sample) ** 0.5))
        values = values[::step, ::step]
    below = values[values < 0]
    if below.size == 0:
        return 0.0
    return float(1.4826 * np.median(-below))
