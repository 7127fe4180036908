"""Remembers where particles were seen or suspected, so that faint ones are looked for again there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from acquire.measure.particles.measure import ParticleMeasurement

Array = NDArray[np.float64]

_FORGET_AFTER = 5
"""Frames for which a place where nothing is found is remembered."""
_TRUST = 0.85
"""Mean SNR over the finding threshold from which a particle may be fainter in single frames."""
_FEWEST_LOOKS = 3
_LONGEST_MEMORY = 10


class PlaceMemory:
    """Places worth a look in the next frame, with what was seen of them so far."""

    def __init__(self, gate_nm: float) -> None:
        """``gate_nm``: what is found within it of a place belongs to it."""
        self._gate_nm = gate_nm
        self.clear()

    def clear(self) -> None:
        """Forget all places."""
        self.places_nm: Array = np.zeros((0, 2))
        """(n, 2) as (y, x)."""
        self._unseen = np.zeros(0, np.int64)
        self._looks = np.zeros(0, np.int64)
        self._share = np.zeros(0)

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """Where repeated looks, not one lucky frame, say that there is a particle."""
        return np.asarray((self._looks >= _FEWEST_LOOKS) & (self._share > _TRUST))

    def learn(self, measured: ParticleMeasurement, found_nm: Array, shift_nm: Array) -> None:
        """Take a frame's measurement into account.

        Args:
            measured: what was found, at these places among others.
            found_nm: (m, 2) where particles were found.
            shift_nm: (2,) how far the view's content has moved since the last frame.
        """
        self._look(measured)
        expected = self.places_nm + shift_nm
        looks, share = np.zeros(len(found_nm), np.int64), np.zeros(len(found_nm))
        lost = self._unseen < _FORGET_AFTER
        if len(expected) and len(found_nm):
            distance, index = KDTree(expected).query(found_nm)
            here, nearest = np.asarray(distance) <= self._gate_nm, np.asarray(index)
            looks[here], share[here] = self._looks[nearest[here]], self._share[nearest[here]]
            lost[KDTree(found_nm).query(expected)[0] <= self._gate_nm] = False
        fresh = measured.candidates_nm
        if len(expected) and len(fresh):
            fresh = fresh[KDTree(expected).query(fresh)[0] > self._gate_nm]
        zero = np.zeros(len(fresh), np.int64)
        self.places_nm = np.concatenate([found_nm, expected[lost], fresh])
        self._unseen = np.concatenate(
            [np.zeros(len(found_nm), np.int64), self._unseen[lost] + 1, zero + 1]
        )
        self._looks = np.concatenate([looks, self._looks[lost], zero])
        self._share = np.concatenate([share, self._share[lost], np.zeros(len(fresh))])

    def _look(self, measured: ParticleMeasurement) -> None:
        """Running means over the looks at every place of SNR over the SNR that finding needs."""
        if len(measured.known_snr) != len(self.places_nm):
            return
        now = measured.known_snr / measured.seed_snr
        looked = np.isfinite(now)
        self._looks = self._looks + looked
        weight = 1.0 / np.clip(self._looks, 1, _LONGEST_MEMORY)
        self._share = np.where(looked, self._share + weight * (now - self._share), self._share)
