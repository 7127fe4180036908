"""What stands in for the estimators in a preflight: what a perfect measurement would say."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from acquire.instruments import Frame, Simulation
from acquire.recipe.regulate import GROWTH
from acquire.stream import Estimate, Estimator, Quantity, Value

LEAST_SHARE = 0.5
"""Share of its window from which a growth rate is told."""


class Expecting:
    """Stands in for an estimator: the simulation's expectation, averaged as the estimator would.

    A growth rate is late by half of the window that it is averaged over, which a feedback must bear;
    so it is here.
    """

    def __init__(
        self, name: str, inner: Estimator, simulation: Simulation, growth_window_s: float
    ) -> None:
        self._name = name
        self._simulation = simulation
        self._window_s = growth_window_s
        self._growth: deque[tuple[float, float]] = deque()
        self.quantities: tuple[Quantity, ...] = inner.quantities
        self.columns: Mapping[str, str] = inner.columns

    def update(self, frame: Frame) -> Estimate:
        """The simulation's expectation now."""
        expected = dict(self._simulation.expected())
        if GROWTH in expected:
            expected[GROWTH] = self._averaged(frame.t_end_s, expected[GROWTH])
        values = {q.name: Value(_known(expected, q.name), 0.0) for q in self.quantities}
        return Estimate(self._name, frame.stream, frame.index, frame.t_end_s, values)

    def _averaged(self, t_s: float, growth: float) -> float:
        kept = self._growth
        if math.isfinite(growth):
            kept.append((t_s, growth))
        while kept and kept[0][0] < t_s - self._window_s:
            kept.popleft()
        if not kept or t_s - kept[0][0] < LEAST_SHARE * self._window_s:
            return math.nan
        return sum(value for _, value in kept) / len(kept)


def _known(expected: Mapping[str, float], name: str) -> float:
    """By a quantity's name, or by what it ends with: an estimator may put a word before it."""
    if name in expected:
        return expected[name]
    return next((value for key, value in expected.items() if name.endswith(f"_{key}")), math.nan)
