"""Finds which particle of now is which of before: a vote on their common displacement, then links."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import KDTree

Places = NDArray[np.float64]

FEWEST_VOTES = 3
"""Below this many agreeing displacements a shift of the view is not believed."""
_LEAST_SHARE = 0.3
"""Of the particles of the smaller set that must agree."""
_BY_CHANCE = 1e-3
"""How often a shift may be found between two sets that have nothing to do with each other."""


def view_shift(
    before: Places,
    now: Places,
    reach_nm: float,
    bin_nm: float,
    before_size: NDArray[np.float64] | None = None,
    now_size: NDArray[np.float64] | None = None,
    size_ratio: float = 1.6,
) -> Places | None:
    """Common displacement (y, x) in nm of two sets of positions, by voting of all near pairs.

    Args:
        before: (n, 2) as (y, x) in nm.
        now: (m, 2).
        reach_nm: longest displacement that is looked for.
        bin_nm: displacements that agree within it vote for each other.
        before_size: (n,) diameters; with ``now_size`` only pairs of like size vote.
        now_size: (m,).
        size_ratio: largest ratio of two like sizes.

    Returns:
        The median of the displacements that agree; None where fewer than three agree, fewer than
        three in ten of the smaller set, or no more than unrelated sets would give once in a
        thousand times (Poisson statistics of the pairs within reach).
    """
    smaller = min(len(before), len(now))
    if smaller < FEWEST_VOTES:
        return None
    near = KDTree(before).sparse_distance_matrix(KDTree(now), reach_nm, output_type="coo_matrix")
    row, col = near.row, near.col
    if before_size is not None and now_size is not None:
        like = np.abs(np.log(now_size[col] / before_size[row])) <= math.log(size_ratio)
        row, col = row[like], col[like]
    moves = now[col] - before[row]
    if len(moves) < FEWEST_VOTES:
        return None
    best, votes = _fullest(moves, reach_nm, bin_nm)
    expected = len(moves) * (2 * bin_nm) ** 2 / (math.pi * reach_nm**2)
    chance = math.pi * (reach_nm / bin_nm) ** 2 * float(special.gammainc(votes, expected))
    if votes < max(FEWEST_VOTES, _LEAST_SHARE * smaller) or chance > _BY_CHANCE:
        return None
    agree = np.hypot(*(moves - best).T) <= bin_nm
    return np.asarray(np.median(moves[agree], axis=0)) if agree.any() else None


def _fullest(moves: Places, reach_nm: float, bin_nm: float) -> tuple[Places, int]:
    """Where displacements lie densest, and how many in a square of two bins a side."""
    cells = int(2 * reach_nm / bin_nm) + 3
    at = np.floor((moves + reach_nm) / bin_nm).astype(np.intp) + 1
    flat = at[:, 0] * cells + at[:, 1]
    count = np.bincount(flat, minlength=cells * cells).reshape(cells, cells)
    four = count[:-1, :-1] + count[1:, :-1] + count[:-1, 1:] + count[1:, 1:]
    top, left = np.unravel_index(int(np.argmax(four)), four.shape)
    here = (np.abs(at[:, 0] - top - 0.5) < 1) & (np.abs(at[:, 1] - left - 0.5) < 1)
    return np.asarray(np.median(moves[here], axis=0)), int(four[top, left])


def link(
    before: Places,
    before_size: NDArray[np.float64],
    now: Places,
    now_size: NDArray[np.float64],
    gate_nm: float | NDArray[np.float64],
    size_ratio: float | NDArray[np.float64] = 1.6,
    handicap_nm: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """For every particle of now the index of the same particle before, or -1.

    Positions are (n, 2) in nm. Greedy from the nearest pair on, within ``gate_nm`` (one for all, or
    (m,) one for each particle of now) and with sizes that differ by at most ``size_ratio`` (likewise).
    ``handicap_nm`` (n,) counts as distance against those of before that are less likely to be seen.
    """
    linked = np.full(len(now), -1, dtype=np.int64)
    if len(before) == 0 or len(now) == 0:
        return linked
    gates = np.broadcast_to(np.asarray(gate_nm, np.float64), len(now))
    reach = float(gates.max())
    near = KDTree(now).sparse_distance_matrix(KDTree(before), reach, output_type="coo_matrix")
    row, col, apart = near.row, near.col, near.data
    limits = np.broadcast_to(np.log(size_ratio), len(now))
    like = np.abs(np.log(now_size[row] / before_size[col])) <= limits[row]
    like &= apart <= gates[row]
    row, col, apart = row[like], col[like], apart[like]
    if handicap_nm is not None:
        apart = apart + handicap_nm[col]
    order = np.lexsort((col, row, apart))
    taken = np.zeros(len(before), bool)
    for i, j in zip(row[order].tolist(), col[order].tolist(), strict=True):
        if linked[i] < 0 and not taken[j]:
            linked[i] = j
            taken[j] = True
    return linked
