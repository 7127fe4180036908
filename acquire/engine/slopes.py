"""The rate at which something rises that is measured again and again: a straight line through the newest values."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from acquire.stream import Value

LEAST_SHARE = 0.5
"""Share of its window that the values must span before a rate is told."""
FEWEST = 4
"""Values that a rate takes."""


class Slope:
    """A line through the values of one window of time, by least squares with weights 1/σ².

    The variances of level and slope are those of the fit (Bevington, Data Reduction and Error Analysis,
    ch. 6), times the reduced χ² where values scatter by more than their σ say. Curvature within the
    window is not fitted: the slope is that in the middle of it, as a growth rate is averaged.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, Value]] = deque()

    def add(self, t_s: float, value: Value) -> None:
        """Take one finite value into account; times rise."""
        self._kept.append((t_s, value))
        while t_s - self._kept[0][0] > self._window_s:
            self._kept.popleft()

    def fitted(self) -> tuple[Value, Value]:
        """The level at the time of the newest value, and the rate per minute; NaN while too little is known."""
        unknown = Value(math.nan, math.nan)
        if len(self._kept) < FEWEST:
            return unknown, unknown
        newest_s = self._kept[-1][0]
        t_min = np.array([t_s - newest_s for t_s, _ in self._kept]) / 60
        if -t_min[0] * 60 < LEAST_SHARE * self._window_s:
            return unknown, unknown
        y = np.array([value.value for _, value in self._kept])
        sigma = np.array([value.sigma for _, value in self._kept])
        told = bool(np.all(np.isfinite(sigma) & (sigma > 0)))
        weight = 1 / sigma**2 if told else np.ones_like(y)
        total = weight.sum()
        middle = float((weight * t_min).sum() / total)
        spread = float((weight * (t_min - middle) ** 2).sum())
        level = float((weight * y).sum() / total)
        rate = float((weight * (t_min - middle) * y).sum() / spread)
        left = y - level - rate * (t_min - middle)
        scatter = float((weight * left**2).sum() / (len(y) - 2))
        scale = max(1.0, scatter) if told else scatter
        return (
            Value(level - rate * middle, math.sqrt(scale * (1 / total + middle**2 / spread))),
            Value(rate, math.sqrt(scale / spread)),
        )
