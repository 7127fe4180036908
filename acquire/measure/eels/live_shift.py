"""Follows the energy axis from pair to pair as it is measured, each by what came before it alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.shifts import ShiftNoise, core_shifts, estimate_shift_noise

Array = NDArray[np.float64]

_KEPT = 32
"""Pairs that a shift is filtered from: of older ones nothing is left beside the walk since."""
_POSITIONS = 256
_FIRST_LOOK = 16
"""Positions from which walk and jitter are estimated; again whenever there are twice as many."""
_JUMP_SIGMAS, _JUMP_EV = 8.0, 0.5
"""By so much, both, an axis does not walk: it was moved."""


class LiveShift:
    """Gives :func:`~acquire.measure.eels.shifts.core_shifts` at lag 0 of the newest pair.

    Walk and jitter are the published ones at first, then those of the positions themselves, estimated
    at 16, 32, … 256 of them and held afterwards, unless ``noise`` is given. After a jump, or a pair
    that lies before the last in time, all begins anew.

    Args:
        noise: of the axis, if it is known.
    """

    def __init__(self, noise: ShiftNoise | None = None) -> None:
        self._given = noise
        self.noise = noise or ShiftNoise()
        self.moved = False
        """Whether the axis jumped at the last pair."""
        self._pairs: tuple[Array, Array, Array, Array] | None = None
        """Positions, σ, spans of the reads and of the core losses, (pairs, …) each."""
        self._seen: list[tuple[float, float, float]] = []
        self._next_look = _FIRST_LOOK
        self._last: tuple[float, float] = (np.nan, np.nan)

    def follow(
        self, position_ev: Array, sigma_ev: Array, read_spans_s: Array, core_span_s: Array
    ) -> tuple[float, float]:
        """Shift of a core-loss exposure in eV and its σ; a pair without a position is bridged.

        Args:
            position_ev: (reads,) of the zero-loss peak; NaN where it was not found.
            sigma_ev: (reads,).
            read_spans_s: (reads, 2): begin and end of each low-loss read.
            core_span_s: (2,): begin and end of the core-loss exposure.
        """
        middle = float(core_span_s.mean())
        before = self._pairs
        if before is not None and (
            middle < float(before[3][-1].mean()) or before[0].shape[1] != len(position_ev)
        ):
            self._begin_anew()
        self.moved = self._jumped(position_ev, sigma_ev, middle)
        if self.moved:
            self._begin_anew()
        newest = position_ev, sigma_ev, read_spans_s, core_span_s
        self._pairs = _with(self._pairs, newest)
        self._learn(position_ev, sigma_ev, read_spans_s.mean(axis=1))
        found = core_shifts(*self._pairs, self.noise)
        self._last = float(found.shift_ev[-1]), float(found.sigma_ev[-1])
        return self._last

    def _begin_anew(self) -> None:
        self._pairs = None
        self._seen.clear()
        self._last = (np.nan, np.nan)

    def _jumped(self, position: Array, sigma: Array, middle_s: float) -> bool:
        known = np.isfinite(position) & np.isfinite(sigma)
        if self._pairs is None or not (known.any() and np.isfinite(self._last[0])):
            return False
        away = abs(float(position[known].mean()) - self._last[0])
        since_s = middle_s - float(self._pairs[3][-1].mean())
        noise = self.noise
        spread = np.sqrt(
            self._last[1] ** 2
            + noise.walk_ev_per_root_s**2 * since_s
            + noise.jitter_ev**2
            + float(np.square(sigma[known]).mean())
        )
        return bool(away > _JUMP_EV and away > _JUMP_SIGMAS * spread)

    def _learn(self, position: Array, sigma: Array, at_s: Array) -> None:
        if self._given is not None or len(self._seen) >= _POSITIONS:
            return
        self._seen += [
            (float(t), float(p), float(s))
            for t, p, s in zip(at_s, position, sigma, strict=True)
            if np.isfinite(p) and np.isfinite(s)
        ]
        if len(self._seen) >= self._next_look:
            times, positions, sigmas = np.array(sorted(self._seen)).T
            self.noise = estimate_shift_noise(times, positions, sigmas)
            self._next_look = 2 * self._next_look


def _with(
    pairs: tuple[Array, Array, Array, Array] | None, newest: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """The last pairs and one more."""
    if pairs is None:
        position, sigma, reads, core = (column[None] for column in newest)
    else:
        position, sigma, reads, core = (
            np.concatenate([old[-_KEPT + 1 :], new[None]])
            for old, new in zip(pairs, newest, strict=True)
        )
    return position, sigma, reads, core
