"""Curves over time, as they may honestly be drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAP = 6.0
"""So many typical intervals without a record are a gap."""


def break_at_gaps(
    t_s: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve with a NaN wherever nothing was recorded for long, so that no line crosses the gap.

    Args:
        t_s: (n,) rising times.
        values: (n,) the curve.

    Returns:
        Times and values, both (n + number of gaps,).
    """
    if len(t_s) < 3:
        return t_s, values
    steps = np.diff(t_s)
    after = np.flatnonzero(steps > _GAP * float(np.median(steps))) + 1
    middles = (t_s[after] + t_s[after - 1]) / 2
    return np.insert(t_s, after, middles), np.insert(values, after, np.nan)
