"""Where the zero-loss peak really is: offset, slow drift, random walk, and jitter, all processes in time.

Jitter has a Lorentzian spectrum with a correlation time of 5 ms, as hum and ripple of the supplies do:
two snapshots of a millisecond differ by what the published 60 meV say, while an exposure of half a
second averages a hundred correlation times and is blurred by what it averages. The process is a sum of
cosines whose frequencies divide that spectrum into equal shares, so that a mean over any time is exact
and never depends on who asked before.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulators.noise import generator
from simulators.spectra.zero_loss import FWHM_EV

Array = NDArray[np.float64]

_WAVES = 128
_AT_ONCE = 4096


class EnergyShift:
    """Shift of the energy axis in eV at any time. Safe for use by several threads.

    Args:
        seed: of everything.
        fwhm_ev: resolution; a monochromated filter is steadier by as much as it is finer.
    """

    JITTER_EV = 0.06
    JITTER_S = 0.005
    """Correlation time."""
    WALK_EV_PER_10_S = 0.075
    _BLOCK = 1024

    def __init__(self, seed: int, fwhm_ev: float = FWHM_EV) -> None:
        rng = generator(seed, "energy")
        self._seed = seed
        self.scale = fwhm_ev / FWHM_EV
        self._offset_ev = 0.4 * float(rng.standard_normal())
        self._drift_ev_per_s = 3e-5 * float(rng.standard_normal())
        rng = generator(seed, "energy jitter")
        shares = (np.arange(_WAVES) + rng.uniform(size=_WAVES)) / _WAVES
        self._omega = np.tan(math.pi / 2 * shares) / self.JITTER_S
        self._phase = rng.uniform(0, 2 * math.pi, _WAVES)
        self._lock = threading.Lock()
        self._walk = np.zeros(1)
        self._walked = np.zeros(1)

    def mean(self, start_s: ArrayLike, end_s: ArrayLike) -> Array:
        """Mean shift over spans of time; float64, as the arguments broadcast."""
        start, end = np.broadcast_arrays(
            np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
        )
        middle = (start + end) / 2
        drift_ev = self._offset_ev + self._drift_ev_per_s * middle
        jitter_ev = np.empty(middle.size)
        for first in range(0, middle.size, _AT_ONCE):
            piece = slice(first, first + _AT_ONCE)
            jitter_ev[piece] = self._jitter(middle.ravel()[piece], (end - start).ravel()[piece])
        moved = drift_ev + jitter_ev.reshape(middle.shape) + self._mean_walk(start, end)
        return np.asarray(self.scale * moved)

    def _jitter(self, middle_s: Array, duration_s: Array) -> Array:
        waves = np.cos(middle_s[:, None] * self._omega + self._phase)
        # the spans of a burst are of one length, but for rounding
        lengths, which = np.unique(np.round(duration_s, 9), return_inverse=True)
        kept = np.sinc(lengths[:, None] * self._omega / (2 * math.pi))
        # not a matrix product: that would wake the threads of BLAS
        sums = np.einsum("ij,ij->i", waves, kept[which])
        return np.asarray(self.JITTER_EV * math.sqrt(2 / _WAVES) * sums)

    def slow_at(self, t_s: float) -> float:
        """The shift without jitter: the random walk has a step every second, straight in between."""
        at = np.array(t_s)
        walk = float(self._mean_walk(at, at))
        return self.scale * (self._offset_ev + self._drift_ev_per_s * t_s + walk)

    def blur_ev(self, duration_s: float) -> float:
        """Standard deviation of the jitter within a span: what a spectrum of that dwell is blurred by."""
        kept = np.sinc(duration_s * self._omega / (2 * math.pi)) ** 2
        return self.scale * self.JITTER_EV * math.sqrt(max(0.0, 1 - float(kept.mean())))

    def _mean_walk(self, start_s: Array, end_s: Array) -> Array:
        start, end = np.maximum(start_s, 0.0), np.maximum(end_s, 0.0)
        walk, walked = self._steps(int(np.max(end, initial=0.0)) + 2)
        duration = end - start
        middle = _at(walk, (start + end) / 2)
        if not np.any(duration > 0.5):  # at most one bend, and integrals of long walks lose digits
            return middle
        long = np.where(duration > 0, duration, 1.0)
        mean = (_integral(walk, walked, end) - _integral(walk, walked, start)) / long
        return np.asarray(np.where(duration > 0.5, mean, middle))

    def _steps(self, count: int) -> tuple[Array, Array]:
        """The walk at whole seconds, at least ``count`` of them, and its integral up to each."""
        with self._lock:
            while len(self._walk) < count:
                block = generator(self._seed, "energy walk", len(self._walk) // self._BLOCK)
                steps = block.standard_normal(self._BLOCK) * self.WALK_EV_PER_10_S / math.sqrt(10)
                self._walk = np.concatenate([self._walk, self._walk[-1] + np.cumsum(steps)])
                halves = (self._walk[1:] + self._walk[:-1]) / 2
                self._walked = np.concatenate([np.zeros(1), np.cumsum(halves)])
            return self._walk, self._walked


def _at(walk: Array, t_s: Array) -> Array:
    first = t_s.astype(np.int64)
    return np.asarray(walk[first] + (walk[first + 1] - walk[first]) * (t_s - first))


def _integral(walk: Array, walked: Array, t_s: Array) -> Any:
    first = t_s.astype(np.int64)
    rest = t_s - first
    return walked[first] + walk[first] * rest + (walk[first + 1] - walk[first]) * rest**2 / 2
