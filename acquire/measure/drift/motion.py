"""Follows a drifting place from measurement to measurement: where it is, how fast, where it will be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_UNSTEADY = 0.1
"""How a drift's rate changes by itself: nm/s per √s. A ramp that begins is met by `_SURPRISE`."""
_SURPRISE = 4.0
"""σ by which a measurement may miss the prediction before the rate is learned anew."""

Floats = NDArray[np.float64]


class Motion:
    """A Kalman filter of place and rate for two axes of like uncertainty; lengths in nm, times in s."""

    def __init__(self) -> None:
        self._t_s = math.nan
        self._place = np.zeros(2)
        self._rate = np.full(2, math.nan)
        self._covariance = np.zeros((2, 2))
        self._last = (math.nan, np.zeros(2), math.nan)

    @property
    def rate(self) -> Floats:
        """Rate (y, x) in nm/s; NaN before the second measurement."""
        return self._rate.copy()

    @property
    def rate_sigma(self) -> float:
        """Its uncertainty per axis."""
        return math.sqrt(self._covariance[1, 1]) if self.known else math.nan

    @property
    def known(self) -> bool:
        """Whether there is a rate."""
        return bool(np.isfinite(self._rate).all())

    def predict(self, t_s: float) -> Floats:
        """Place (y, x) at a time; where it was last while the rate is unknown."""
        if math.isnan(self._t_s) or not self.known:
            return self._place.copy()
        return np.asarray(self._place + self._rate * (t_s - self._t_s))

    def uncertainty(self, t_s: float) -> float:
        """σ per axis of :meth:`predict`; infinite while the rate is unknown."""
        if not self.known:
            return math.inf
        return math.sqrt(float(self._ahead(t_s - self._t_s)[0, 0]))

    def measure(self, t_s: float, place: Floats, sigma: float) -> None:
        """Take in a measured place (y, x) with its uncertainty per axis; times must rise."""
        if not math.isnan(self._t_s) and not t_s > self._t_s:
            return
        if self.known:
            ahead = self._ahead(t_s - self._t_s)
            missed = place - self.predict(t_s)
            spread = ahead[0, 0] + sigma**2
            if float(np.abs(missed).max()) > _SURPRISE * math.sqrt(spread):
                self._learn(t_s, place, sigma)
            else:
                gain = ahead[:, 0] / spread
                self._place = self.predict(t_s) + gain[0] * missed
                self._rate = self._rate + gain[1] * missed
                self._covariance = ahead - np.outer(gain, ahead[0])
                self._t_s = t_s
        else:
            self._learn(t_s, place, sigma)
        self._last = t_s, place.copy(), sigma

    def forget(self) -> None:
        """Know no rate any more, after a jump."""
        self._rate = np.full(2, math.nan)
        self._last = (math.nan, np.zeros(2), math.nan)

    def _learn(self, t_s: float, place: Floats, sigma: float) -> None:
        """Place and rate from this and the last measurement alone."""
        before_s, before, before_sigma = self._last
        self._t_s, self._place = t_s, place.astype(np.float64)
        if math.isnan(before_s):
            self._covariance = np.diag([sigma**2, math.inf])
            return
        elapsed_s = t_s - before_s
        self._rate = (place - before) / elapsed_s
        variance = (sigma**2 + before_sigma**2) / elapsed_s**2 + _UNSTEADY**2 * elapsed_s / 3
        shared = sigma**2 / elapsed_s
        self._covariance = np.array([[sigma**2, shared], [shared, variance]])

    def _ahead(self, by_s: float) -> Floats:
        """Covariance of place and rate a while later."""
        forward = np.array([[1.0, by_s], [0.0, 1.0]])
        grown = np.array([[by_s**3 / 3, by_s**2 / 2], [by_s**2 / 2, by_s]]) * _UNSTEADY**2
        return np.asarray(forward @ self._covariance @ forward.T + grown)
