"""Links the particles of a frame to those of the frame before, so that ids persist."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

_FEWEST_VOTES = 5
"""Below this many agreeing displacements a shift of the view is not believed."""


def view_shift(
    before: NDArray[np.float64], now: NDArray[np.float64], reach_nm: float, bin_nm: float
) -> NDArray[np.float64]:
    """Common displacement (y, x) in nm of two sets of positions, by voting of all near pairs.

    Zero where fewer than five pairs agree, or hardly more than by chance.
    """
    if len(before) < _FEWEST_VOTES or len(now) < _FEWEST_VOTES:
        return np.zeros(2)
    apart = now[:, None, :] - before[None, :, :]
    moves = apart[np.hypot(apart[..., 0], apart[..., 1]) <= reach_nm]
    if len(moves) < _FEWEST_VOTES:
        return np.zeros(2)
    tree = KDTree(moves)
    votes = np.asarray(tree.query_ball_point(moves, bin_nm, return_length=True))
    best = int(np.argmax(votes))
    by_chance = len(moves) * (bin_nm / reach_nm) ** 2
    if votes[best] < max(_FEWEST_VOTES, 0.3 * min(len(before), len(now)), by_chance + 3):
        return np.zeros(2)
    near = np.hypot(*(moves - moves[best]).T) <= bin_nm
    return np.asarray(np.median(moves[near], axis=0))


def link(
    before: NDArray[np.float64],
    before_size: NDArray[np.float64],
    now: NDArray[np.float64],
    now_size: NDArray[np.float64],
    gate_nm: float,
    size_ratio: float = 1.6,
) -> NDArray[np.int64]:
    """For every particle of now the index of the same particle before, or -1.

    Positions are (n, 2) in nm. Greedy from the nearest pair on, within ``gate_nm`` and with sizes
    that differ by at most ``size_ratio``.
    """
    linked = np.full(len(now), -1, dtype=np.int64)
    if len(before) == 0 or len(now) == 0:
        return linked
    near = KDTree(now).sparse_distance_matrix(KDTree(before), gate_nm, output_type="coo_matrix")
    ratio = np.abs(np.log(now_size[near.row] / before_size[near.col]))
    used: set[int] = set()
    for k in np.lexsort((near.col, near.row, near.data)):
        i, j = int(near.row[k]), int(near.col[k])
        if linked[i] < 0 and j not in used and ratio[k] <= np.log(size_ratio):
            linked[i] = j
            used.add(j)
    return linked
