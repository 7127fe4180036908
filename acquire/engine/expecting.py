"""What stands in for the estimators in a preflight: what a perfect measurement would say."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from acquire.instruments import Frame, Simulation, StreamSpec
from acquire.recipe.regulate import GROWTH
from acquire.stream import Estimate, Estimator, Quantity, Value
from acquire.stream.shifting import Sums

LEAST_SHARE = 0.5
"""Share of its window from which a growth rate is told."""


class Expecting:
    """Stands in for an estimator: the simulation's expectation, averaged as the estimator would.

    A growth rate is late by half of the window that it is averaged over, which a feedback must bear;
    so it is here. Sums that will be stored are empty, but come as often, and are as large.
    """

    def __init__(
        self,
        name: str,
        inner: Estimator,
        simulation: Simulation,
        growth_window_s: float,
        frame_period_s: float = math.nan,
    ) -> None:
        self._name = name
        self._simulation = simulation
        self._window_s = growth_window_s
        self._growth: deque[tuple[float, float]] = deque()
        self.quantities: tuple[Quantity, ...] = inner.quantities
        self.columns: Mapping[str, str] = inner.columns
        sums = inner.sum_spec() if isinstance(inner, Sums) and inner.store_sums else None
        self._sums = _EmptySums.of(sums, frame_period_s)
        self._sum: Frame | None = None

    def update(self, frame: Frame) -> Estimate:
        """The simulation's expectation now."""
        if self._sums is not None:
            self._sum = self._sums.after(frame)
        expected = dict(self._simulation.expected())
        if GROWTH in expected:
            expected[GROWTH] = self._averaged(frame.t_end_s, expected[GROWTH])
        values = {q.name: Value(_known(expected, q.name), 0.0) for q in self.quantities}
        return Estimate(self._name, frame.stream, frame.index, frame.t_end_s, values)

    @property
    def store_sums(self) -> bool:
        """Whether sums are stored; those that are only shown are left out."""
        return self._sums is not None

    def sum_spec(self) -> StreamSpec | None:
        """What the stored sums look like; None if there are none."""
        return self._sums.spec if self._sums is not None else None

    def take_sum(self) -> Frame | None:
        """The sum that has just been completed, once."""
        done, self._sum = self._sum, None
        return done

    def _averaged(self, t_s: float, growth: float) -> float:
        kept = self._growth
        if math.isfinite(growth):
            kept.append((t_s, growth))
        while kept and kept[0][0] < t_s - self._window_s:
            kept.popleft()
        if not kept or t_s - kept[0][0] < LEAST_SHARE * self._window_s:
            return math.nan
        return sum(value for _, value in kept) / len(kept)


class _EmptySums:
    """Gives an empty sum after every so many frames."""

    def __init__(self, spec: StreamSpec, frames: int) -> None:
        self.spec = spec
        self._frames = frames
        self._added = self._done = 0
        self._begun_s = math.nan
        self._data = {
            name: np.zeros(channel.shape, channel.dtype) for name, channel in spec.channels.items()
        }

    @classmethod
    def of(cls, spec: StreamSpec | None, frame_period_s: float) -> _EmptySums | None:
        if spec is None or not frame_period_s > 0:
            return None
        return cls(spec, max(1, round(spec.frame_period_s / frame_period_s)))

    def after(self, frame: Frame) -> Frame | None:
        if not self._added:
            self._begun_s = frame.t_start_s
        self._added += 1
        if self._added < self._frames:
            return None
        self._added = 0
        self._done += 1
        return Frame(self.spec.name, self._done - 1, self._data, self._begun_s, frame.t_end_s)


def foretells(expected: Mapping[str, float], name: str) -> bool:
    """Whether a simulation's expectation says anything of a quantity, be it that it is not known yet."""
    return name in expected or any(name.endswith(f"_{key}") for key in expected)


def _known(expected: Mapping[str, float], name: str) -> float:
    """By a quantity's name, or by what it ends with: an estimator may put a word before it."""
    if name in expected:
        return expected[name]
    return next((value for key, value in expected.items() if name.endswith(f"_{key}")), math.nan)
