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
    # unsigned places need no look at whether they count from the end, which here takes half the time
    one, count = np.uint64(1), np.uint64(m)
    for a in range(count):
        k = np.uint64(0) if full else a
        while k + one < a:
            share, other = upper[k, a], upper[k + one, a]
            for c in range(a, count):
                upper[a, c] -= share * upper[k, c] + other * upper[k + one, c]
            k += one + one
        if k < a:
            share = upper[k, a]
            for c in range(a, count):
                upper[a, c] -= share * upper[k, c]
        inverse = 1.0 / np.sqrt(max(upper[a, a], 1e-30))
        upper[a, a] = 1.0 / inverse
        if full:
            for c in range(a + one, count):
                upper[a, c] *= inverse


@compiled
def whiten(upper: NDArray[np.float64], vector: NDArray[np.float64], m: int, full: bool) -> None:
    """Solve Uᵀ w = vector in place; of a U that is not ``full`` the diagonal is taken."""
    one, count = np.uint64(1), np.uint64(m)
    for a in range(count):
        value = vector[a] / upper[a, a]
        vector[a] = value
        if full:
            for b in range(a + one, count):
                vector[b] -= upper[a, b] * value


@compiled
def whiten_three(
    upper: NDArray[np.float64], vectors: NDArray[np.float64], m: int, full: bool
) -> None:
    """:func:`whiten` of three vectors (3, ≥ m), in hardly more time than one takes."""
    one, count = np.uint64(1), np.uint64(m)
    zero, two = np.uint64(0), np.uint64(2)
    for a in range(count):
        inverse = 1.0 / upper[a, a]
        x, y, z = vectors[zero, a] * inverse, vectors[one, a] * inverse, vectors[two, a] * inverse
        vectors[zero, a], vectors[one, a], vectors[two, a] = x, y, z
        if full:
            for b in range(a + one, count):
                share = upper[a, b]
                vectors[zero, b] -= share * x
                vectors[one, b] -= share * y
                vectors[two, b] -= share * z
