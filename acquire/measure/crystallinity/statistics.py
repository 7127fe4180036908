"""How high noise alone makes a power spectrum anywhere in a region, and how often a spot stands above that."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]


def false_alarm(
    power: float, area: float, half_perimeter: float, roughness: float, cells: float = math.inf
) -> float:
    """Chance that noise somewhere in a region of the spectrum exceeds ``power`` times its mean.

    The windowed transform of noise is a complex Gaussian field, its power over the mean is
    exponential at every point, and the expected Euler characteristic of the part above a height
    gives the chance that its highest point is above it (Worsley 1994, Adv. Appl. Prob. 26:13, χ²
    field of two degrees of freedom in two dimensions). It is accurate where it is small; it is
    held to at most 1.

    Args:
        power: height, in units of the mean power of the noise.
        area: of the region in 1/nm², half of the plane (the other half repeats it).
        half_perimeter: half of the length of its border in 1/nm.
        roughness: λ in nm², see :func:`~.windows.Window.roughness_nm2`.
        cells: independent values from which the mean of the noise was taken; few widen the tail.
    """
    if power <= 1.0:
        return 1.0
    tail = math.exp(-power) if math.isinf(cells) else (1.0 + power / cells) ** -cells
    surface = area * roughness / (2.0 * math.pi) * (2.0 * power - 1.0)
    border = half_perimeter * math.sqrt(roughness * power / math.pi)
    return min(1.0, tail * (1.0 + surface + border))


def threshold(
    rate: float, area: float, half_perimeter: float, roughness: float, cells: float = math.inf
) -> float:
    """Power over its mean that noise exceeds somewhere in a region with the chance ``rate``."""

    def excess(power: float) -> float:
        return math.log(
            max(false_alarm(power, area, half_perimeter, roughness, cells), 1e-300) / rate
        )

    high = 30.0
    while excess(high) > 0.0 and high < 1e6:
        high *= 2.0
    return float(optimize.brentq(excess, 1.0, high, xtol=1e-4))


def detection_power(expected: Array, threshold_power: Array) -> Array:
    """Chance that a spot of a mean power ``expected`` over the noise's is found above a threshold.

    A wave in Gaussian noise: its power is Rice-distributed, noncentral χ² of two degrees of freedom.
    """
    # here, because importing it takes a third of a second that most processes can do without
    from scipy import stats

    spot = 2.0 * np.maximum(np.asarray(expected, np.float64), 0.0)
    return np.asarray(stats.ncx2.sf(2.0 * np.asarray(threshold_power), 2, np.maximum(spot, 1e-9)))
