"""The loop over spectra that takes the logarithm and the inverse of a power series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

Array = NDArray[np.float64]


@compiled
def logarithm(p: Array) -> tuple[Array, Array]:
    """S with exp(S) = 1 + p, both series in z from z¹ on (n, k), and 1 / (1 + p) from z⁰ on (n, k + 1).

    From the derivative of exp(S) = 1 + p: j S_j = j p_j - Σ i S_i p_{j-i} for i < j.
    """
    n, bins = p.shape
    single = np.zeros((n, bins))
    inverse = np.zeros((n, bins + 1))
    for row in range(n):
        inverse[row, 0] = 1.0
        for j in range(1, bins + 1):
            total = j * p[row, j - 1]
            back = p[row, j - 1]
            for i in range(1, j):
                total -= i * single[row, i - 1] * p[row, j - i - 1]
                back += p[row, j - i - 1] * inverse[row, i]
            single[row, j - 1] = total / j
            inverse[row, j] = -back
    return single, inverse
