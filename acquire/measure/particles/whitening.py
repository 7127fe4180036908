"""Compiled Cholesky factors of small covariances, and vectors whitened with them.

Plain loops rather than LAPACK: the result is the same however many threads a library takes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled


@compiled
def factorise(upper: NDArray[np.float64], m: int, full: bool) -> None:
    """Replace the upper triangle of a covariance C (≥ m, ≥ m) by U with C = Uᵀ U, in place.

    Where it is not ``full`` but a diagonal, the rest is not looked at.
    """
    for a in range(m):
        pivot = np.sqrt(max(upper[a, a], 1e-30))
        upper[a, a] = pivot
        if not full:
            continue
        line = upper[a]
        for b in range(a + 1, m):
            line[b] /= pivot
        for b in range(a + 1, m):
            share, under = line[b], upper[b]
            if share != 0.0:
                for c in range(b, m):
                    under[c] -= share * line[c]


@compiled
def whiten(upper: NDArray[np.float64], vector: NDArray[np.float64], m: int, full: bool) -> None:
    """Solve Uᵀ w = vector in place; of a U that is not ``full`` the diagonal is taken."""
    for a in range(m):
        value = vector[a] / upper[a, a]
        vector[a] = value
        if full:
            line = upper[a]
            for b in range(a + 1, m):
                vector[b] -= line[b] * value
